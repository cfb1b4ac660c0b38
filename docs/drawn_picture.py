"""Make docs/pictures/drawn.jpg: what is drawn on the land, from 153 m to 0.6 m per pixel.

    python docs/drawn_picture.py

A row is a place of the real Earth (seed 7): a town, a river and a village that the plans name beside three points, the
shore nearest to another, and woods at a point that nobody chose by what it looks like.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from tqdm import tqdm

from earthgen import Engine, World
from earthgen.landmarks import landmarks
from earthgen.parcels import parcels
from earthgen.pyramid import Box, ground_sampling_distance, point_pixel

WORLD = World(root="earth", seed=7)
ZOOMS = (10, 12, 14, 16, 18)
CELL, GAP, HEADER = 256, 4, 22
AROUND = 1024
"""Pixels of zoom 14 around a point in which its village is sought."""
TOWN, RIVER, VILLAGE = (-93.6, 42.0), (2.5, 48.5), (31.5, 49.2)
SHORE, WOODS = (3.7, 43.4), (25.0, 62.0)
"""Longitude and latitude: Iowa, the Beauce, Ukraine; Languedoc, Finland."""

Place = tuple[float, float]
"""Row and column at zoom 14."""


def town_beside(longitude: float, latitude: float) -> Place:
    """The middle of the core of the town that covers most around a point, 150 km to each side."""
    row, column = point_pixel(longitude, latitude, 8)
    box = Box(8, row // 4 * 4 - 128, column // 4 * 4 - 128, 256, 256)
    drawn = landmarks(WORLD.seed, box)
    assert drawn is not None
    south, east = np.unravel_index(int(ndimage.uniform_filter(drawn.towns, 5).argmax()), drawn.towns.shape)
    return (box.row + int(south) + 0.5) * 64, (box.column + int(east) + 0.5) * 64


def river_beside(longitude: float, latitude: float) -> Place:
    """The pixel with most water within 10 km of a point."""
    row, column = point_pixel(longitude, latitude, 12)
    box = Box(12, row // 4 * 4 - 256, column // 4 * 4 - 256, 512, 512)
    drawn = landmarks(WORLD.seed, box)
    assert drawn is not None
    south, east = np.unravel_index(int(ndimage.uniform_filter(drawn.rivers, 5).argmax()), drawn.rivers.shape)
    return (box.row + int(south) + 0.5) * 4, (box.column + int(east) + 0.5) * 4


def village_beside(longitude: float, latitude: float) -> Place:
    """The middle of a large village: of all around, larger than three of four."""
    row, column = point_pixel(longitude, latitude, 14)
    box = Box(14, row - AROUND, column - AROUND, 2 * AROUND, 2 * AROUND)
    plan = parcels(WORLD.seed, box)
    villages, _ = ndimage.label(plan.village * plan.farmed > 0.5)
    sizes = np.bincount(villages.ravel())[1:]
    chosen = 1 + int(np.argsort(-sizes)[len(sizes) // 4])
    south, east = ndimage.center_of_mass(villages == chosen)
    return box.row + south, box.column + east


def shore_beside(engine: Engine, longitude: float, latitude: float) -> Place:
    """Where blue ends nearest to a point: looked for at zoom 8, and from there at each finer level."""
    row, column = (value / 1.0 for value in point_pixel(longitude, latitude, 14))
    for zoom in (8, 10, 12, 14):
        factor = 2.0 ** (zoom - 14)
        top, left = int(row * factor) - 128, int(column * factor) - 128
        pixels = engine.pixels(WORLD, Box(zoom, top, left, 256, 256)).astype(int)
        wet = pixels[..., 2] - pixels[..., 0] > 12
        south, east = np.nonzero(wet[1:, 1:] ^ wet[:-1, :-1])
        if len(south):
            nearest = int(np.argmin((south - 128) ** 2 + (east - 128) ** 2))
            row, column = (top + south[nearest] + 1) / factor, (left + east[nearest] + 1) / factor
    return row, column


def main(output: Annotated[Path, typer.Option(help="Picture to write.")] = Path("docs/pictures/drawn.jpg")) -> None:
    """Generate and draw."""
    places = {"town": town_beside(*TOWN), "river": river_beside(*RIVER), "village": village_beside(*VILLAGE)}
    places |= {"woods": point_pixel(*WOODS, 14)}
    width, height = len(ZOOMS) * (CELL + GAP) - GAP, HEADER + (1 + len(places)) * (CELL + GAP) - GAP
    sheet = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for index, zoom in enumerate(ZOOMS):
        text = f"zoom {zoom}, {ground_sampling_distance(zoom, 0):.1f} m at the equator"
        draw.text((index * (CELL + GAP) + 4, 3), text, fill="black", font=font)
    with Engine.open() as engine:
        places["shore"] = shore_beside(engine, *SHORE)
        for row, (south, east) in enumerate(tqdm(places.values())):
            for index, zoom in enumerate(ZOOMS):
                factor = 2.0 ** (zoom - 14)
                corner = int(south * factor) - CELL // 2, int(east * factor) - CELL // 2
                pixels = engine.pixels(WORLD, Box(zoom, *corner, CELL, CELL))
                sheet.paste(Image.fromarray(pixels), (index * (CELL + GAP), HEADER + row * (CELL + GAP)))
    sheet.save(output, quality=85)
    typer.echo(f"{output}: rows are {', '.join(places)}. Synthetic imagery, generated by earthgen")


if __name__ == "__main__":
    typer.run(main)
