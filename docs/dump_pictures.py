"""Make docs/pictures/dump-demo.jpg and dump-*.jpg: the first items of each task that `make dump-demo` wrote.

python docs/dump_pictures.py --demo runs/dump-demo
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from PIL import Image, ImageDraw, ImageFont

from trainingsets.demo import DEMOS

HEADER, ROW = 26, 187
"""Pixels of a title, and of a row of a dump's own sheet with its words (`trainingsets.sheet`)."""
ALONE = ("classification", "semantic-change", "change-caption", "referring", "multi-view", "time-series")
"""Tasks with a picture of their own on the page."""


def titled(title: str, picture: Image.Image, width: int) -> Image.Image:
    """A picture under its title, as wide as the others."""
    out = Image.new("RGB", (width, HEADER + picture.height), "white")
    ImageDraw.Draw(out).text((6, 5), title, fill="black", font=ImageFont.load_default(15))
    out.paste(picture, (0, HEADER))
    return out


def main(
    demo: Annotated[Path, typer.Option(metavar="DIR", help="what make dump-demo wrote")] = Path("runs/dump-demo"),
    out: Annotated[Path, typer.Option(metavar="DIR", help="folder of the pictures")] = Path("docs/pictures"),
    rows: Annotated[int, typer.Option(min=1, help="of each task's sheet")] = 1,
) -> None:
    """Draw the pictures; every item is one of the first, none was chosen."""
    sheets = {}
    for task, form in DEMOS:
        with Image.open(demo / task / "sheet.png") as opened:
            sheets[task] = f"{task} ({form})", opened.convert("RGB")
    for task in ALONE:
        sheets[task][1].save(out / f"dump-{task}.jpg", quality=85, optimize=True)
    width = max(picture.width for _, picture in sheets.values())
    parts = [
        titled(title, picture.crop((0, 0, picture.width, min(picture.height, rows * ROW))), width)
        for title, picture in sheets.values()
    ]
    whole = Image.new("RGB", (width, sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    whole.save(out / "dump-demo.jpg", quality=85, optimize=True)


if __name__ == "__main__":
    typer.run(main)
