"""Pictures of items side by side: what a dump looks like."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from earthgen.bands import Band
from trainingsets.sample import Bytes, Legend, Sample

PREVIEWS = 16
"""Items of a dump's picture: its first ones."""
_CELL = 144
_GAP = 6
_TEXT = 31
_MOST_CELLS = 8


def preview(sample: Sample, legends: Mapping[str, Legend]) -> bytes:
    """The pictures and masks of an item in a row, as PNG."""
    cells = [view.pixels[..., :3] for view in sample.views.values()]
    cells += [drawn(codes, legends[role]) for role, codes in sample.masks.items()]
    return png(row(cells, len(sample.views)))


def row(cells: Sequence[Bytes], views: int) -> Bytes:
    """Pictures (h, w, 3), the first `views` of which are no masks, beside each other.

    Of many masks only the last is shown; of many pictures the first ones and the first masks.
    """
    if views >= _MOST_CELLS:
        half = _MOST_CELLS // 2
        cells = [*cells[:half], *cells[views : views + half]]
    elif len(cells) > _MOST_CELLS:
        cells = [*cells[:views], cells[-1]]
    whole = np.full((_CELL, len(cells) * (_CELL + _GAP) - _GAP, 3), 255, dtype=np.uint8)
    for number, cell in enumerate(cells):
        left = number * (_CELL + _GAP)
        whole[:, left : left + _CELL] = _scaled(cell)
    return whole


def drawn(codes: Bytes, legend: Legend) -> Bytes:
    """A mask in the colours of its legend: uint8 (h, w, 3)."""
    return Band("", "", "classes", 0, tuple(legend)).render(codes)


def sheet(rows: Iterable[tuple[bytes, str]]) -> bytes:
    """Rows of pictures with up to two lines of words under each, in one PNG; short rows lie beside each other."""
    opened = [(Image.open(io.BytesIO(content)).convert("RGB"), words) for content, words in rows]
    width = max((picture.width for picture, _ in opened), default=_CELL)
    across = max(1, 1240 // (width + 2 * _GAP))
    height = _CELL + _TEXT + 2 * _GAP
    lines = -(-len(opened) // across)
    whole = Image.new("RGB", (across * (width + 2 * _GAP), max(1, lines) * height), "white")
    draw = ImageDraw.Draw(whole)
    font = ImageFont.load_default(11)
    for number, (picture, words) in enumerate(opened):
        down, right = divmod(number, across)
        left, top = right * (width + 2 * _GAP) + _GAP, down * height + _GAP
        whole.paste(picture, (left, top))
        for line, part in enumerate(words.split("\n")[:2]):
            at = (left, top + _CELL + 2 + 14 * line)
            draw.text(at, _fitted(part, width, font), fill=(40, 40, 40), font=font)
    return png(np.asarray(whole))


def png(pixels: Bytes) -> bytes:
    """Pixels (h, w, 3) or (h, w) as PNG; the same bytes for the same pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def _scaled(pixels: Bytes) -> Bytes:
    height, width = pixels.shape[:2]
    how = Image.Resampling.BOX if min(height, width) > _CELL else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(pixels).resize((_CELL, _CELL), how))


def _fitted(words: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    if font.getlength(words) <= width:
        return words
    while words and font.getlength(words + "…") > width:
        words = words[:-1]
    return words + "…"
