"""Turn a checkpoint into a weights folder: averaged weights in bfloat16, safetensors and config.json.

    python -m training.export runs/cascade/checkpoint.pt weights/
    python -m training.export --kind prompt runs/prompt/checkpoint.pt earthgen/weights/prompt

A chain of seven levels feeds on its own contrast and colour: what is calm grows calmer and what is busy busier.
`--temper` turns the unit of detail (`DetailDenoiser.detail_scale`) so that it depends less on the parent's contrast,
makes that of colour smaller, and calms open water. The numbers were chosen by looking at chains; a folder written
with it is meant as the start of more training.
"""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from earthgen.denoiser import DetailDenoiser
from earthgen.detail import COEFFICIENTS, DETAIL_CHANNELS
from earthgen.roots.denoised import PromptDenoiser
from earthgen.roots.prompt import PromptGenerator
from training.checkpoint import load_checkpoint

LIGHT = 0.9
"""Factor on lightness detail."""
CHROMA = 0.4
"""Factor on the two chroma axes."""
STRENGTH = 1.15
"""Factor on all detail at ordinary contrast."""
LARGEST_SLOPE = 0.55
"""Below 1 a chain's contrast settles instead of growing or fading."""
ORDINARY_CONTRAST = -3.3
"""The local contrast around which slopes are turned."""
WATER_CALM = 2.5
"""Natural logarithm of how much fainter detail is over open water."""


def tempered(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with the unit of detail corrected by the constants of this module."""
    factors = [LIGHT] * COEFFICIENTS + [CHROMA] * (DETAIL_CHANNELS - COEFFICIENTS)
    std = tuple(round(value * factor, 5) for value, factor in zip(config["detail_std"], factors, strict=True))
    contrast = []
    for log2_gsd, offset, slope in config["contrast"]:
        flatter = min(slope, LARGEST_SLOPE)
        turned = offset + (slope - flatter) * ORDINARY_CONTRAST + math.log(STRENGTH)
        contrast.append((log2_gsd, round(turned, 4), flatter))
    return config | {"detail_std": std, "contrast": tuple(contrast), "water_calm": WATER_CALM}


class Kind(StrEnum):
    """What the checkpoint is of."""

    CASCADE = "cascade"
    PROMPT = "prompt"
    PROMPT_DENOISER = "prompt-denoiser"


_NETWORKS: dict[Kind, type[DetailDenoiser] | type[PromptGenerator] | type[PromptDenoiser]] = {
    Kind.CASCADE: DetailDenoiser,
    Kind.PROMPT: PromptGenerator,
    Kind.PROMPT_DENOISER: PromptDenoiser,
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
