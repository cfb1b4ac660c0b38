"""`earthgen watch caption`: what changed between two pictures, in a sentence."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer


def caption(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="The earlier picture: GeoTIFF, PNG, JPEG, WebP.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="The later one, of the same size and place.")],
    model: Annotated[
        str, typer.Option(metavar="NAME", help="rscama, mci or semantic-cc; see `earthgen watch models`.")
    ] = "rscama",
    weights: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Folder or file of weights, or hf:OWNER/NAME.  [default: the ones that ship]"),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Language model for semantic-cc: a folder of transformers, or a .gguf file."),
    ] = None,
    beams: Annotated[int, typer.Option(min=1, max=32, help="Sentences that are followed at once.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say in a sentence what changed between two pictures.

    Example: earthgen watch caption before.tif after.tif --model mci
    """
    import perception
    from perception.registry import check_describes_change, load_captioner

    check_describes_change(model)
    pair = perception.read_pair(before, after)
    said = load_captioner(model, weights, language=language).caption(pair, beams=beams)
    typer.echo(json.dumps(dataclasses.asdict(said)) if as_json else said.text)
