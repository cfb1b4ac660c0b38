"""Draw the sheet of docs/prompts.md: 30 prompts at three resolutions with two seeds, from the weights that ship.

    python docs/prompt_sheet.py --out docs/pictures/prompts.jpg

A row a prompt: two seeds at 10 m, two at 2 m, two at 0.5 m per pixel. Same weights, same sheet.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from earthgen import Engine, World
from earthgen.picture import frame_of, make_picture

PROMPTS = (
    "dense forest",
    "rain forest",
    "coniferous forest",
    "farmland with fields",
    "patchwork of fields",
    "meadow",
    "orchard",
    "desert",
    "sand dunes",
    "bare rock",
    "mountains with snow",
    "glacier",
    "open sea",
    "lake",
    "river",
    "a river mouth",
    "coast",
    "beach",
    "harbour",
    "village",
    "suburb with streets and houses",
    "dense city",
    "industrial area",
    "airport runway",
    "car park",
    "a village by a lake in the mountains",
    "vineyards and villages along a river",
    "islands with sandy beaches",
    "a road through the desert",
    "a town with a harbour",
)
GSDS = (10.0, 2.0, 0.5)
SEEDS = (1, 2)
_SIDE = 128
_LABEL = 250
_LINE = 18


def main(
    out: Annotated[Path, typer.Option(metavar="FILE", help="JPEG to write")] = Path("docs/pictures/prompts.jpg"),
    weights: Annotated[str | None, typer.Option(help="cascade weights; default: the shipped ones")] = None,
    prompt_weights: Annotated[str | None, typer.Option(help="root weights; default: the shipped ones")] = None,
    guidance: Annotated[float, typer.Option(min=1, help="how strongly the text guides")] = 1.0,
) -> None:
    """Write the sheet."""
    columns = [(gsd, seed) for gsd in GSDS for seed in SEEDS]
    sheet = Image.new("RGB", (_LABEL + _SIDE * len(columns), _LINE + _SIDE * len(PROMPTS)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for column, (gsd, seed) in enumerate(columns):
        pen.text((_LABEL + _SIDE * column + 4, 2), f"{gsd:g} m, seed {seed}", "black", font)
    with Engine.open(weights, prompt_weights=prompt_weights) as engine:
        for row, prompt in enumerate(tqdm(PROMPTS)):
            top = _LINE + _SIDE * row
            pen.text((4, top + _SIDE // 2 - 8), prompt, "black", font)
            for column, (gsd, seed) in enumerate(columns):
                world = World(root="prompt", prompt=prompt, gsd=gsd, seed=seed, guidance=guidance)
                pixels = make_picture(engine, world, frame_of(world, _SIDE))
                sheet.paste(Image.fromarray(pixels), (_LABEL + _SIDE * column, top))
    sheet.save(out, quality=88)


if __name__ == "__main__":
    typer.run(main)
