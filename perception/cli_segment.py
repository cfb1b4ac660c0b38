"""`earthgen watch segment`: what a phrase names, or what is clicked or boxed, in one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from earthgen.cli_options import checked_ending
from earthgen.errors import InvalidRequestError

ENDINGS = (".tif", ".tiff", ".png", ".geojson", ".json")


def segment(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture: GeoTIFF, PNG, JPEG, WebP.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Mask to write: .tif, .png or .geojson.")
    ],
    phrase: Annotated[str | None, typer.Argument(metavar="PHRASE", help='What to look for: "the river".')] = None,
    click: Annotated[
        list[str] | None,
        typer.Option(metavar="X,Y", help="Column and row of a pixel of the thing; may be given again."),
    ] = None,
    away: Annotated[
        list[str] | None,
        typer.Option("--not", metavar="X,Y", help="Column and row of a pixel beside it; beside --click."),
    ] = None,
    box: Annotated[
        str | None, typer.Option(metavar="X0,Y0,X1,Y1", help="Columns and rows of two corners around the thing.")
    ] = None,
    model: Annotated[str, typer.Option(metavar="NAME", help="See `earthgen watch models`.")] = "rsrefseg",
    weights: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Folder or file of weights, or hf:OWNER/NAME.  [default: the ones that ship]"),
    ] = None,
    encoders: Annotated[
        str | None, typer.Option(metavar="DIR", help="SigLIP or CLIP that the weights sit on, if they do.")
    ] = None,
) -> None:
    """Write a mask of what a phrase names, or of what is clicked or boxed.

    Bands of a GeoTIFF: the mask (0 or 1) and its probability (0 to 255).
    Example: earthgen watch segment picture.tif "the largest building left of the road" -o mask.tif
    """
    checked_ending(output, ENDINGS)
    if output.resolve() == image.resolve():
        raise InvalidRequestError(f"{output} is the picture; give the mask another name")
    if [phrase is not None, bool(click), box is not None].count(True) != 1:
        raise InvalidRequestError('give one of a phrase ("the river"), --click and --box')
    if away and not click:
        raise InvalidRequestError("--not says where the thing is not; a --click must say where it is")
    import perception
    from perception.phrase_encoders import checked_phrase
    from perception.registry import load_segmenter

    if phrase is not None:
        checked_phrase(phrase)
    corners = None if box is None else _numbers(box, 4, "--box", "two corners: X0,Y0,X1,Y1")
    points = [_numbers(text, 2, "--click", "column and row: X,Y") for text in click or ()]
    beside = [_numbers(text, 2, "--not", "column and row: X,Y") for text in away or ()]
    picture = perception.read_image(image)
    if output.suffix.lower() in (".geojson", ".json") and picture.crs is None:
        raise InvalidRequestError(
            f"{image} has no reference system, so its areas have no coordinates; write a .tif or a .png"
        )
    segmenter = load_segmenter(model, weights, encoders=encoders)
    if phrase is not None:
        found = segmenter.segment(picture, phrase)
    elif corners is not None:
        found = segmenter.segment_box(picture, corners)
    else:
        places = [(column, row) for column, row in (*points, *beside)]
        found = segmenter.segment_click(picture, places, [1] * len(points) + [0] * len(beside))
    found.write(output)
    many = int(found.mask.sum())
    typer.echo(f"{output}: {many} of {found.mask.size} pixels ({many / found.mask.size:.2%}), {found.asked}")


def _numbers(text: str, count: int, option: str, meaning: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count:
        raise InvalidRequestError(f"{option} is {text!r}; {meaning} is needed, in pixels")
    return values
