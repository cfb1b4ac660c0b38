"""Turn a checkpoint into a weights folder: averaged weights in bfloat16, safetensors and config.json.

    python -m training.export runs/cascade/checkpoint.pt weights/
    python -m training.export --kind prompt runs/prompt/checkpoint.pt earthgen/weights/prompt

A chain of seven levels feeds on its own contrast and colour. `--temper` makes the unit of detail
(`DetailDenoiser.detail_scale`) a little smaller, that of colour much smaller, and calms open water. The factors were
chosen by looking at chains; a folder written with it can be the start of more training.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from earthgen.denoiser import DetailDenoiser
from earthgen.detail import COEFFICIENTS, DETAIL_CHANNELS
from earthgen.roots.prompt import PromptGenerator
from training.checkpoint import load_checkpoint

LIGHT = 0.9
"""Factor on lightness."""
CHROMA = 0.5
"""Factor on the two chroma axes."""
WATER_CALM = 2.5
"""Natural logarithm of how much fainter detail is over open water."""


def tempered(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with the unit of detail corrected by the constants of this module."""
    factors = [LIGHT] * COEFFICIENTS + [CHROMA] * (DETAIL_CHANNELS - COEFFICIENTS)
    std = tuple(round(value * factor, 5) for value, factor in zip(config["detail_std"], factors, strict=True))
    return config | {"detail_std": std, "water_calm": WATER_CALM}


class Kind(StrEnum):
    """What the checkpoint is of."""

    CASCADE = "cascade"
    PROMPT = "prompt"


_NETWORKS: dict[Kind, type[DetailDenoiser] | type[PromptGenerator]] = {
    Kind.CASCADE: DetailDenoiser,
    Kind.PROMPT: PromptGenerator,
}


def main(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint.pt of a run")],
    folder: Annotated[Path, typer.Argument(help="weights folder to write")],
    kind: Annotated[Kind, typer.Option(help="what the run trained")] = Kind.CASCADE,
    temper: Annotated[bool, typer.Option(help="correct the unit of detail for chains; cascade only")] = False,
) -> None:
    """Write the averaged weights of a checkpoint. Example: python -m training.export runs/cascade/checkpoint.pt w/."""
    if temper and kind is not Kind.CASCADE:
        raise typer.BadParameter("--temper is for the cascade's weights")
    state = load_checkpoint(checkpoint)
    config = {name: value for name, value in state["config"].items() if not name.startswith("_")}
    net: Any = _NETWORKS[kind].from_config(tempered(config) if temper else config)
    net.load_state_dict(state["ema"])
    net.to(torch.bfloat16).save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    typer.echo(f"{folder}: {state['images']} images, {state['seconds'] / 3600:.2f} hours")


if __name__ == "__main__":
    typer.run(main)
