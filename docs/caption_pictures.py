"""Make docs/pictures/captions.jpg: held-out pairs of the engine, masks, and what the shipped captioners say.

    python docs/caption_pictures.py --pairs runs/pairs

A row is a pair: before, after, the truth, the masks of MCI and Semantic-CC, and sentences. In maps white is found and
there, red is found and not there, blue is there and not found, grey is not known. A sentence that the grammar can say
of the pair's masks is green.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Annotated

import typer
from change_pictures import CELL, GAP, HEADER, change_map
from PIL import Image, ImageDraw, ImageFont

from benchmarks.captioning import truths
from perception.registry import load
from training.caption_deck import Described
from training.change import pair_of
from training.change_caption import held_out_pairs

COLUMNS = ("before", "after", "truth", "MCI")
TEXT = 400
MODELS = {"rscama": "RSCaMa", "mci": "MCI"}
TRUE, OTHER, PLAIN = (20, 120, 40), (170, 40, 30), (0, 0, 0)


def sheet(described: list[Described]) -> Image.Image:
    """Rows of pairs, maps and sentences under a header."""
    rscama, mci = load("rscama"), load("mci")
    width = len(COLUMNS) * (CELL + GAP) + TEXT
    out = Image.new("RGB", (width, HEADER + len(described) * (CELL + GAP)), "white")
    draw, font, bold = ImageDraw.Draw(out), ImageFont.load_default(14), ImageFont.load_default(15)
    for column, title in enumerate(COLUMNS):
        draw.text((column * (CELL + GAP) + 4, 4), title, fill="black", font=font)
    for row, one in enumerate(described):
        sample, pair, top = one.sample, pair_of(one.sample), HEADER + row * (CELL + GAP)
        cells = [
            sample.before,
            sample.after,
            change_map(sample.change, sample),
            change_map(mci.detect(pair).mask, sample),
        ]
        for column, pixels in enumerate(cells):
            how = Image.Resampling.LANCZOS if column < 2 else Image.Resampling.NEAREST
            out.paste(Image.fromarray(pixels).resize((CELL, CELL), how), (column * (CELL + GAP), top))
        true, y = truths(one), top
        said = {"a true sentence": one.captions[0]}
        said |= {MODELS[model.name]: model.caption(pair).text for model in (rscama, mci)}
        for title, text in said.items():
            x = len(COLUMNS) * (CELL + GAP) + 4
            draw.text((x, y), title, fill=(110, 110, 110), font=font)
            y += 17
            colour = PLAIN if title not in MODELS.values() else TRUE if text in true else OTHER
            for line in textwrap.wrap(text, 48):
                draw.text((x, y), line, fill=colour, font=bold)
                y += 18
            y += 3
    return out


def main(
    pairs: Annotated[Path, typer.Option(metavar="DIR", help="the engine's pairs")],
    out: Annotated[Path, typer.Option(metavar="FILE")] = Path(__file__).parent / "pictures" / "captions.jpg",
    rows: Annotated[int, typer.Option(min=1)] = 6,
) -> None:
    """Make the sheet. Example: python docs/caption_pictures.py --pairs runs/pairs."""
    held = held_out_pairs(pairs)
    # As they come, but with enough change to see something, and one without.
    chosen = [one for one in held if one.sample.change.mean() > 0.03][: rows - 1]
    chosen += [one for one in held if not one.sample.change.any()][:1]
    sheet(chosen).save(out, quality=85, optimize=True)


if __name__ == "__main__":
    typer.run(main)
