"""Captions of crops: what a picture is known to show, what can be measured on the crop, and how fine it is.

Some pictures have classes (EuroSAT), the others were looked at (`datasets.scenes`). A large picture shows many
things, so the words of a crop depend on its measured cover: water, forest, grass, bare ground, buildings, snow.
Around the noun, templates put its tone, its place and season, and its resolution in words. Nothing here is
learnt, and the same crop has the same captions on any machine. `python -m datasets.captions` prints the table of
docs/prompts.md.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from datasets.packs import PACKS
from datasets.scenes import SCENES, Cover, Scene, scene_of

if TYPE_CHECKING:
    from datasets.pyramids import Level
    from earthgen.conditioning import TextEncoder

Pixels = npt.NDArray[np.uint8]
Tone = Literal["", "green", "brown", "dark", "bright", "grey", "blue"]

MAX_CAPTIONS = 6000
"""Most captions of a book, so that encoding them stays a matter of a minute."""
COVERS: tuple[Cover, ...] = get_args(Cover)
TONES: tuple[Tone, ...] = get_args(Tone)

_MEASURED: tuple[Cover, ...] = ("water", "forest", "grass", "bare", "built", "white")
_GRID = 16
"""Blocks along a side of a crop; each block is one vote."""
_NEARLY_ALL, _MOSTLY, _SOME = 0.85, 0.55, 0.2
"""Shares of a crop from which on a cover is all of it, most of it, or a part that matters."""
_CALM = 0.02
"""Standard deviation of lightness in a block below which ground is smooth."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is measured on a crop.

    Attributes:
        shares: parts of the crop, 0..1, that look like each of water, forest, grass, bare ground, buildings and
            white (snow or cloud), in this order.
        calm: parts of the crop, 0..1, that are smooth and dark, by the class that they were counted for.
        tone: its colour as a whole.
    """

    shares: tuple[float, ...]
    calm: tuple[float, ...]
    tone: Tone

    def cover(self, scene: Scene) -> Cover:
        """What most of the crop looks like, of what the scene has words for; "shore" or "mixed" for two of them."""
        shares = dict(zip(_MEASURED, self.shares, strict=True))
        for name, other in scene.same.items():
            shares[other] += shares[name]
            shares[name] = 0.0
        if scene.calm is not None:
            for name, calm in zip(_MEASURED, self.calm, strict=True):
                shares[name] -= calm
                shares[scene.calm] += calm
        ranked = sorted(((share, name) for name, share in shares.items() if name in scene.nouns), reverse=True)
        if not ranked:
            return "any"
        share, name = ranked[0]
        second, other = ranked[1] if len(ranked) > 1 else (0.0, name)
        if share >= _MOSTLY and (second < _SOME or share >= _NEARLY_ALL):
            return name
        if second < _SOME:
            return "any"
        both: Cover = "shore" if "water" in (name, other) else "mixed"
        return both if both in scene.nouns else "any"


def measure(pixels: Pixels) -> Seen:
    """Look at a crop.

    Args:
        pixels: uint8 (h, w, 3), at least 16 pixels on each side.
    """
    step = max(1, min(pixels.shape[:2]) // (4 * _GRID))
    thin = pixels[::step, ::step].astype(np.float32) / 255.0
    block = min(thin.shape[:2]) // _GRID
    rows, columns = thin.shape[0] // block, thin.shape[1] // block
    thin = thin[: rows * block, : columns * block].transpose(2, 0, 1)
    luma = thin.mean(axis=0)
    values = np.stack([*thin, luma, luma * luma])
    # Rows first, columns second: reductions over the outer axis are the quick ones.
    means = values.reshape(5, rows, block, -1).mean(axis=2).reshape(5, rows, columns, block).mean(axis=3).reshape(5, -1)
    red, green, blue, light, square = means
    rough = np.sqrt(np.maximum(square - light * light, 0.0))
    total = 3 * light + 1e-3
    greenness = (2 * green - red - blue) / total
    warmth = (red - blue) / total

    # One class a block, the first that fits.
    shares, calm = np.zeros(len(_MEASURED)), np.zeros(len(_MEASURED))
    smooth = (rough < _CALM) & (light > 0.06) & (light < 0.5)
    left = np.ones(len(light), dtype=bool)
    for index, fits in (
        (5, (means[:3].min(axis=0) > 0.66) & (abs(warmth) < 0.06)),
        (0, (rough < 0.03) & (warmth < 0.02) & (light < 0.5) & (greenness < 0.12) & (blue > 0.9 * green)),
        (4, (rough > 0.07) & (abs(greenness) < 0.08) & (light > 0.2)),
        (1, (greenness > 0.02) & ((light < 0.3) | (rough > 0.06))),
        (2, (greenness > 0.02) & ((warmth < 0.15) | (greenness > 0.06))),
        (3, (warmth > 0.04) & (light > 0.15)),
        (4, rough > 0.04),
    ):
        shares[index] += float((left & fits).mean())
        calm[index] += float((left & fits & smooth).mean())
        left &= ~fits
    return Seen(tuple(shares.tolist()), tuple(calm.tolist()), _tone(means[:3].mean(axis=1)))


def _tone(colour: npt.NDArray[np.float32]) -> Tone:
    red, green, blue = (float(value) for value in colour)
    light, total = (red + green + blue) / 3, red + green + blue + 1e-3
    if light < 0.16:
        return "dark"
    if light > 0.66:
        return "bright"
    if (2 * green - red - blue) / total > 0.06:
        return "green"
    if (red - blue) / total > 0.08:
        return "brown"
    if (blue - red) / total > 0.08:
        return "blue"
    if max(red, green, blue) - min(red, green, blue) < 0.05:
        return "grey"
    return ""


_SCALES: tuple[tuple[float, str], ...] = (
    (0.3, "30 cm"),
    (0.5, "50 cm"),
    (1, "1 m"),
    (2, "2 m"),
    (5, "5 m"),
    (10, "10 m"),
    (20, "20 m"),
    (50, "50 m"),
    (100, "100 m"),
    (200, "200 m"),
    (500, "500 m"),
    (1_000, "1 km"),
    (2_000, "2 km"),
    (5_000, "5 km"),
    (10_000, "10 km"),
    (20_000, "20 km"),
    (50_000, "50 km"),
)
_VIEWS: tuple[tuple[float, tuple[str, ...]], ...] = (
    (1.5, ("aerial photograph", "very high resolution image", "bird's eye view")),
    (8.0, ("aerial view", "high resolution satellite image")),
    (60.0, ("satellite image", "Sentinel-2 image")),
    (800.0, ("view from space", "regional satellite image")),
    (math.inf, ("view from orbit", "coarse satellite image")),
)

_KIND_SHARES = (0.4, 0.22, 0.15, 0.15, 0.08)
"""How often a caption is the noun alone, noun and resolution, noun and tone, noun and place, or all together."""

_LIKELY_TONES: dict[Cover, tuple[Tone, ...]] = {
    "water": ("blue", "green", "dark"),
    "forest": ("green", "dark", "brown"),
    "grass": ("green", "brown", "bright"),
    "bare": ("brown", "bright", "grey"),
    "built": ("grey", "bright", "brown"),
    "white": ("bright", "grey"),
}
"""A tone that a cover hardly has is a fault of the measurement; nothing is said then."""
_FULL_NOUNS = 2
"""Nouns of a scene, from the first on, that are combined with every view and tone."""

Pool = tuple[tuple[str, ...], ...]


def captions(pack: str, name: str, gsd: float, pixels: Pixels | None = None) -> list[str]:
    """True captions of a picture, or of a crop of it, from the shortest form to the longest.

    Args:
        pack: folder of the pack; "global" for the Blue Marble.
        name: name of the picture, with or without the pack in front.
        gsd: metres per pixel of the crop.
        pixels: uint8 (h, w, 3) of the crop; None takes what is true of any crop.

    Raises:
        KeyError: a picture that no scene describes.
    """
    scene = scene_of(pack, name, gsd)
    seen = None if pixels is None else measure(pixels)
    pool = _pool(
        _index(scene), _scale(gsd), "any" if seen is None else seen.cover(scene), "" if seen is None else seen.tone
    )
    return list(dict.fromkeys(text for kind in pool for text in kind))


def phrases() -> dict[str, tuple[str, ...]]:
    """The nouns of each pack, in the order of `datasets.scenes`: what can be asked for with most success."""
    found: dict[str, dict[str, None]] = {}
    for scene in SCENES:
        nouns = found.setdefault(scene.pack, {})
        nouns.update(dict.fromkeys(noun for group in scene.nouns.values() for noun in group))
    return {pack: tuple(nouns) for pack, nouns in found.items()}


def phrases_table() -> str:
    """`phrases` as a table for docs/prompts.md: pack, finest resolution, nouns."""
    lines = ["| pack | finest, m | it shows |", "| --- | --- | --- |"]
    finest = {pack.name: "of each" if pack.gsd is None else f"{pack.gsd:g}" for pack in PACKS}
    for pack, nouns in phrases().items():
        lines.append(f"| `{pack}` | {finest.get(pack, '4,900')} | {', '.join(nouns)} |")
    return "\n".join(lines)


def _index(scene: Scene) -> int:
    return next(index for index, known in enumerate(SCENES) if known is scene)


def _scale(gsd: float) -> int:
    """Index into _SCALES of the nearest one, by ratio."""
    return min(range(len(_SCALES)), key=lambda index: abs(math.log(gsd / _SCALES[index][0])))


@cache
def _pool(scene_index: int, scale: int, cover: Cover, tone: Tone) -> Pool:
    """Captions by kind, in the order of _KIND_SHARES; a kind that has nothing to say is empty."""
    scene = SCENES[scene_index]
    nouns = scene.nouns.get(cover, scene.nouns["any"])
    metres, size = _SCALES[scale]
    views = next(views for coarsest, views in _VIEWS if metres < coarsest)
    at = f"at {size} per pixel"
    # Not every noun with everything: a bounded number of captions is encoded once.
    scaled = [f"{noun} {at}" for noun in nouns[: _FULL_NOUNS + 1]]
    scaled += [f"{views[turn % len(views)]} of {noun}" for turn, noun in enumerate(nouns[:_FULL_NOUNS])]
    likely = tone in _LIKELY_TONES.get(cover, TONES[1:])
    toned = [f"{tone} {noun}" for noun in nouns[:_FULL_NOUNS] if likely and tone not in noun.split()]
    where = [f"in {scene.place}"] if scene.place else []
    when = [scene.season] if scene.season else []
    placed = [f"{noun} {words}" for noun in nouns for words in (*where, *when)]
    whole = [" ".join([f"{view} of {nouns[0]}", *where, *when]) for view in views if where or when]
    return tuple(nouns), tuple(scaled), tuple(toned), tuple(placed), tuple(whole)


def caption_vectors(texts: Sequence[str], encoder: TextEncoder, folder: Path | None = None) -> npt.NDArray[np.float32]:
    """The vectors of texts, kept in a file of `folder` from one run to the next.

    Args:
        texts: captions.
        encoder: of texts.
        folder: where vectors are kept; None keeps nothing.

    Returns:
        Unit float32 (n, encoder.width).
    """
    if folder is None:
        return encoder.encode_batch(texts)
    digest = hashlib.sha256("\n".join((encoder.id, *texts)).encode()).hexdigest()[:20]
    path = folder / f"captions-{digest}.npy"
    if path.is_file():
        try:
            vectors = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            pass  # Half a file of a run that was cut off: made again.
        else:
            if vectors.shape == (len(texts), encoder.width):
                return np.asarray(vectors, dtype=np.float32)
    vectors = encoder.encode_batch(texts)
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, vectors)
    partial.replace(path)
    return vectors


class CaptionBook:
    """All captions of a set of levels with their vectors, and a quick draw of one for a crop.

        book = CaptionBook.build(levels, text_encoder(), Path("runs/captions"))
        index = book.draw(level, crop, np.random.default_rng(0))
        book.texts[index], book.vectors[index]

    Attributes:
        texts: the captions, sorted.
        vectors: unit float32 (n, width), one a caption.
    """

    def __init__(self, texts: Sequence[str], vectors: npt.NDArray[np.float32]) -> None:
        self.texts = tuple(texts)
        self.vectors = vectors
        self._numbers = {text: index for index, text in enumerate(self.texts)}
        self._scene_numbers: dict[tuple[str, str, float], int] = {}
        self._indices: dict[tuple[int, int, Cover, Tone], tuple[tuple[int, ...], ...]] = {}

    @classmethod
    def build(cls, levels: Iterable[Level], encoder: TextEncoder, cache_dir: Path | None = None) -> Self:
        """Collect every caption that a crop of the levels can have and encode them once.

        Args:
            levels: of `datasets.pyramids.read_levels`.
            encoder: of texts.
            cache_dir: folder that keeps the vectors between runs; None encodes each time.

        Raises:
            KeyError: a picture that no scene describes.
            ValueError: more than MAX_CAPTIONS captions.
        """
        pairs = {(_index(scene_of(level.pack, level.name, level.gsd)), _scale(level.gsd)) for level in levels}
        texts = {
            text
            for scene, scale in pairs
            for cover in _covers(SCENES[scene])
            for tone in TONES
            for kind in _pool(scene, scale, cover, tone)
            for text in kind
        }
        if len(texts) > MAX_CAPTIONS:
            raise ValueError(
                f"{len(texts)} captions; at most {MAX_CAPTIONS} are meant to be encoded: shorten the scenes"
            )
        ordered = sorted(texts)
        return cls(ordered, caption_vectors(ordered, encoder, cache_dir))

    def draw(self, level: Level, crop: Pixels, rng: np.random.Generator) -> int:
        """A caption of a crop of a level: index into `texts` and `vectors`.

        Args:
            level: one of those that the book was built from.
            crop: uint8 (h, w, 3), any symmetry of a part of the level.
            rng: source of chance; takes two numbers from it.
        """
        kinds = self.kinds(level, crop)
        shares = np.array([share if kind else 0.0 for kind, share in zip(kinds, _KIND_SHARES, strict=True)])
        kind, place = rng.random(2)
        chosen = kinds[int(np.searchsorted(np.cumsum(shares) / shares.sum(), kind, side="right"))]
        return chosen[int(place * len(chosen))]

    def kinds(self, level: Level, crop: Pixels) -> tuple[tuple[int, ...], ...]:
        """All captions of a crop by kind: noun, with resolution, with tone, with place, long form."""
        where = (level.pack, level.name, level.gsd)
        scene = self._scene_numbers.get(where)
        if scene is None:
            scene = self._scene_numbers[where] = _index(scene_of(*where))
        seen = measure(crop)
        key = (scene, _scale(level.gsd), seen.cover(SCENES[scene]), seen.tone)
        indices = self._indices.get(key)
        if indices is None:
            indices = tuple(tuple(self._numbers[text] for text in kind) for kind in _pool(*key))
            self._indices[key] = indices
        return indices


def _covers(scene: Scene) -> tuple[Cover, ...]:
    return tuple(cover for cover in COVERS if cover in scene.nouns)


if __name__ == "__main__":
    print(phrases_table())
