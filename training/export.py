"""Turn a checkpoint into a weights folder: averaged weights in bfloat16, safetensors and config.json.

python -m training.export runs/cascade/checkpoint.pt weights/
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from earthgen.denoiser import DetailDenoiser
from training.checkpoint import load_checkpoint


def main(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint.pt of a run")],
    folder: Annotated[Path, typer.Argument(help="weights folder to write")],
) -> None:
    """Write the averaged weights of a checkpoint. Example: python -m training.export runs/cascade/checkpoint.pt w/."""
    state = load_checkpoint(checkpoint)
    config = {name: value for name, value in state["config"].items() if not name.startswith("_")}
    net = DetailDenoiser.from_config(config)
    net.load_state_dict(state["ema"])
    net.to(torch.bfloat16).save_pretrained(folder)
    typer.echo(f"{folder}: {state['images']} images, {state['seconds'] / 3600:.2f} hours")


if __name__ == "__main__":
    typer.run(main)
