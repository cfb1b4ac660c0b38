"""Turn a checkpoint into a weights folder: averaged weights in bfloat16, safetensors and config.json.

    python -m training.export runs/cascade/checkpoint.pt weights/

A chain of seven levels feeds on its own contrast. `--temper` corrects the unit of detail
(`DetailDenoiser.detail_scale`) for that: less where the chain runs hot, more where it runs cold, and less colour
than lightness. The numbers are chosen by looking at chains, and are written into the configuration.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from earthgen.denoiser import DetailDenoiser
from earthgen.detail import COEFFICIENTS
from training.checkpoint import load_checkpoint

CHROMA = 0.6
"""Factor on the two chroma axes."""
STRENGTH = (1.4, 1.4, 1.3, 1.2, 0.9, 0.6, 0.5)
"""Factor on all detail at ordinary contrast, for each band from 0.6 m to 2.4 km."""
LARGEST_SLOPE = 0.8
"""Below 1 a chain's contrast settles instead of growing."""
WATER_CALM = 1.8
"""Natural logarithm of how much fainter detail is over open water."""
ORDINARY_CONTRAST = -3.5
"""The local contrast of ordinary land, where a slope is turned."""


def tempered(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with the unit of detail corrected by the constants of this module."""
    std = [value * (CHROMA if index >= COEFFICIENTS else 1.0) for index, value in enumerate(config["detail_std"])]
    contrast = []
    for (log2_gsd, offset, slope), factor in zip(config["contrast"], STRENGTH, strict=True):
        flatter = min(slope, LARGEST_SLOPE)
        turned = offset + (slope - flatter) * ORDINARY_CONTRAST + math.log(factor)
        contrast.append((log2_gsd, round(turned, 4), flatter))
    std = [round(value, 5) for value in std]
    return config | {"detail_std": tuple(std), "contrast": tuple(contrast), "water_calm": WATER_CALM}


def main(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint.pt of a run")],
    folder: Annotated[Path, typer.Argument(help="weights folder to write")],
    temper: Annotated[bool, typer.Option(help="correct the unit of detail for chains")] = False,
) -> None:
    """Write the averaged weights of a checkpoint. Example: python -m training.export runs/cascade/checkpoint.pt w/."""
    state = load_checkpoint(checkpoint)
    config = {name: value for name, value in state["config"].items() if not name.startswith("_")}
    net = DetailDenoiser.from_config(tempered(config) if temper else config)
    net.load_state_dict(state["ema"])
    net.to(torch.bfloat16).save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    typer.echo(f"{folder}: {state['images']} images, {state['seconds'] / 3600:.2f} hours")


if __name__ == "__main__":
    typer.run(main)
