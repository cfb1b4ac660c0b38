"""How far a picture lies from real imagery of its ground sampling distance.

A picture is cut into squares of 128 pixels. What the first stages of a frozen ImageNet EfficientNet-Lite0 say of the
texture of a square is standardised, projected onto its principal components over real crops, joined by the length of
what the projection leaves out, and whitened with the covariance of real crops of the same band of GSD (after Lee et
al. 2018, arXiv 1807.03888). Later stages know what is in a picture better than whether it is sound: with them in,
spoiled pictures are told from sound ones much less often (see the card). Two numbers come of it and three beside it:

    anomaly     mean distance to the 5 nearest real training crops, as a share of the distance below which 95 % of
                held-out real crops lie; so 1 is the threshold, whatever the band
    mahalanobis distance to the mean of the band's crops, as the same share
    slope       of the power spectrum, in standard deviations of real crops of the band
    clipped     part of the values that are 0 or 255
    saturation  mean of (max - min) / max of red, green and blue

The statistics ship (`perception/weights/anomaly`); training/anomaly.py makes them.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from earthgen.conditioning import one_thread
from earthgen.errors import InvalidRequestError, WeightsError
from earthgen.tower import SIDE as SEEN_SIDE
from earthgen.tower import LiteBackbone

Pixels = npt.NDArray[np.uint8]

SHIPPED = Path(__file__).parents[1] / "weights" / "anomaly"
"""The statistics that come with the package."""
FILE = "reference.safetensors"
SIDE = 128
"""Pixels along a side of the squares that are compared with real crops of the same side."""
TEXTURE = 2 * (3 + 24 + 40)
"""Numbers that tell a square's texture: mean and spread of the colours and of two early stages of the backbone."""
NEIGHBOURS = 5
"""Nearest real crops whose mean distance counts."""
QUANTILES = (0.5, 0.9, 0.95, 0.99)
"""Shares of held-out real crops that lie below the stored thresholds; the third is where `anomaly` is 1."""
THRESHOLD = QUANTILES.index(0.95)
_BATCH = 16
_TAPS = (2, 4)
_SLOPE_FREQUENCIES = np.geomspace(1 / 16, 1 / 2.5, 9)
"""Edges of the rings, in cycles per pixel, over which power is averaged."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What is said of a square or, as the mean over its squares, of a picture; see the module."""

    anomaly: float
    mahalanobis: float
    slope: float
    clipped: float
    saturation: float


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """Statistics of real imagery.

    Attributes:
        id: content id.
        band_gsds: metres per pixel in the middle of each band, (bands,).
        mean: of the features over training crops of all bands, (TEXTURE,).
        spread: their standard deviation, (TEXTURE,).
        basis: principal components, (TEXTURE, components).
        centre: mean of the projected crops of a band, (bands, components + 1).
        whiten: from projected to white, (bands, components + 1, components + 1).
        neighbours: white training crops, (bands, n, components + 1).
        distances: of held-out crops at QUANTILES: to the neighbours and to the mean, (bands, 2, quantiles).
        slopes: mean and standard deviation of the slope over real crops, (bands, 2).
        about: what is known of its making.
    """

    id: str
    band_gsds: torch.Tensor
    mean: torch.Tensor
    spread: torch.Tensor
    basis: torch.Tensor
    centre: torch.Tensor
    whiten: torch.Tensor
    neighbours: torch.Tensor
    distances: torch.Tensor
    slopes: torch.Tensor
    about: dict[str, Any]

    def band(self, gsd: float) -> int:
        """The band whose GSD is nearest by ratio to one in metres per pixel."""
        if not (math.isfinite(gsd) and gsd > 0):
            raise InvalidRequestError(f"GSD {gsd} is not a positive number of metres per pixel")
        return int((self.band_gsds.log() - math.log(gsd)).abs().argmin())

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """Features (n, TEXTURE) as (n, components + 1): principal components, and the root mean square of the rest."""
        return project(features, self.mean, self.spread, self.basis)

    def white(self, projected: torch.Tensor, band: int) -> torch.Tensor:
        """Projected crops (n, components + 1) in units of the band's own variation."""
        return (projected - self.centre[band]) @ self.whiten[band].T

    def nearest(self, white: torch.Tensor, band: int) -> torch.Tensor:
        """Mean distance (n,) of white crops to their nearest training crops of the band."""
        return nearest(white, self.neighbours[band])

    def threshold(self, band: int, quantile: int = THRESHOLD) -> tuple[float, float]:
        """Distances to the neighbours and to the mean below which a share of held-out crops lies."""
        near, far = self.distances[band, :, quantile].tolist()
        return near, far


def project(features: torch.Tensor, mean: torch.Tensor, spread: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """See `Reference.project`."""
    standard = ((features - mean) / spread).clamp(-6, 6)
    inside = standard @ basis
    rest = (standard - inside @ basis.T).square().mean(dim=1, keepdim=True).sqrt()
    return torch.cat([inside, rest], dim=1)


def nearest(white: torch.Tensor, neighbours: torch.Tensor) -> torch.Tensor:
    """Mean distance (n,) of white crops (n, d) to the NEIGHBOURS nearest of (m, d)."""
    # The squares are summed one by one: a matrix product would lose the small distances.
    distances = torch.stack([(neighbours - one).square().sum(dim=1).sqrt() for one in white])
    return distances.topk(NEIGHBOURS, dim=1, largest=False).values.mean(dim=1)


def save_reference(folder: Path, tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> Path:
    """Write statistics; the basis and the neighbours, which are most of the numbers, in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    small = {"basis": torch.float16, "neighbours": torch.float16}
    path = folder / FILE
    stored = {name: value.to(small.get(name, torch.float32)).contiguous() for name, value in tensors.items()}
    save_file(stored, path, {"about": json.dumps(about, sort_keys=True)})
    return path


def read_reference(folder: str | Path | None = None) -> Reference:
    """Read statistics.

    Args:
        folder: that holds them; None for the shipped ones.

    Raises:
        WeightsError: nothing is there, or it is damaged or of another layout.
    """
    path = (SHIPPED if folder is None else Path(folder)) / FILE
    if not path.is_file():
        raise WeightsError(f"no statistics of real imagery at {path.parent}: {FILE} is missing")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["about"])
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        reference = Reference(hashlib.sha256(path.read_bytes()).hexdigest()[:12], about=about, **tensors)
        _check_layout(reference)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, IndexError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path} holds no statistics of real imagery: {first}") from error
    return reference


def _check_layout(reference: Reference) -> None:
    bands, size = len(reference.band_gsds), reference.basis.shape[1] + 1
    shapes = {
        "mean": (TEXTURE,),
        "spread": (TEXTURE,),
        "basis": (TEXTURE, size - 1),
        "centre": (bands, size),
        "whiten": (bands, size, size),
        "neighbours": (bands, reference.neighbours.shape[1], size),
        "distances": (bands, 2, len(QUANTILES)),
        "slopes": (bands, 2),
    }
    for name, shape in shapes.items():
        found = tuple(getattr(reference, name).shape)
        if found != shape:
            raise ValueError(f"{name} has shape {found}; {shape} is needed")


class AnomalyScorer:
    """Scores pictures; one square of a batch does not change what is said of another.

    Args:
        reference: None for the shipped statistics.
    """

    def __init__(self, reference: Reference | None = None) -> None:
        self.reference = reference or read_reference()
        self._backbone = LiteBackbone()

    def squares(self, pictures: Sequence[Pixels], gsd: float) -> list[Scores]:
        """Scores of squares of SIDE pixels.

        Args:
            pictures: uint8 (SIDE, SIDE, 3) each.
            gsd: metres per pixel of all.
        """
        if not pictures:
            return []
        reference = self.reference
        band = reference.band(gsd)
        near, far = reference.threshold(band)
        mean_slope, slope_spread = reference.slopes[band].tolist()
        with one_thread(), torch.inference_mode():
            white = reference.white(reference.project(texture(self._backbone, pictures)), band)
            close = (reference.nearest(white, band) / near).tolist()
            away = (white.norm(dim=1) / far).tolist()
        return [
            Scores(
                close[index],
                away[index],
                (spectral_slope(square) - mean_slope) / slope_spread,
                clipped(square),
                saturation(square),
            )
            for index, square in enumerate(pictures)
        ]

    def score(self, picture: Pixels, gsd: float) -> Scores:
        """Scores of a picture: means over its squares.

        Args:
            picture: uint8 (h, w, 3), at least SIDE pixels on each side.
            gsd: metres per pixel.

        Raises:
            InvalidRequestError: a picture that is too small or no picture, or a GSD that is none.
        """
        found = self.squares(cut_squares(picture), gsd)
        return mean_scores(found)


def mean_scores(scores: Sequence[Scores]) -> Scores:
    """Means of at least one."""
    names = Scores.__slots__
    return Scores(*(float(np.mean([getattr(each, name) for each in scores])) for name in names))


def texture(backbone: LiteBackbone, squares: Sequence[Pixels]) -> torch.Tensor:
    """What the first stages of the backbone say of pictures of one size: float32 (n, TEXTURE).

    These are the first numbers of `LiteBackbone`; its later stages, which take most of its time, are left out.
    """
    parts = [torch.empty(0, TEXTURE)]
    for start in range(0, len(squares), _BATCH):
        images = torch.from_numpy(np.stack(squares[start : start + _BATCH])).permute(0, 3, 1, 2).float()
        with one_thread(), torch.inference_mode():
            x = (images - 127.0) / 128.0
            said = [x.mean(dim=(2, 3)), x.std(dim=(2, 3))]
            x = F.interpolate(x, (SEEN_SIDE, SEEN_SIDE), mode="bilinear", align_corners=False, antialias=True)
            x = backbone.stem(x.contiguous(memory_format=torch.channels_last))
            for index in range(_TAPS[-1] + 1):
                x = backbone.blocks[index](x)
                if index in _TAPS:
                    said += [x.mean(dim=(2, 3)), x.std(dim=(2, 3))]
            parts.append(torch.cat(said, dim=1))
    return torch.cat(parts)


def cut_squares(picture: Pixels) -> list[Pixels]:
    """Squares of SIDE pixels that cover a picture; where it is no whole number of them, the last ones overlap.

    Raises:
        InvalidRequestError: a picture that is too small or no picture.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or min(picture.shape[:2]) < SIDE:
        raise InvalidRequestError(
            f"picture is {picture.dtype} {picture.shape}; uint8 (h, w, 3) of at least {SIDE} x {SIDE} pixels is allowed"
        )
    tops, lefts = ([*range(0, size - SIDE, SIDE), size - SIDE] for size in picture.shape[:2])
    return [picture[top : top + SIDE, left : left + SIDE] for top in tops for left in lefts]


def spectral_slope(picture: Pixels) -> float:
    """Slope of log power over log frequency of the mean of the colours, between 1/16 and 1/2.5 cycles a pixel.

    A picture without any contrast has no power; its slope is that of white noise of a thousandth of a grey level: 0.
    """
    luma = picture.astype(np.float64).mean(axis=2)
    luma -= luma.mean()
    height, width = luma.shape
    window = np.hanning(height)[:, None] * np.hanning(width)[None, :]
    power = np.abs(np.fft.rfft2(luma * window)) ** 2 + 1e-6 * (window**2).sum()
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    rings = np.digitize(frequency, _SLOPE_FREQUENCIES)
    numbers = range(1, len(_SLOPE_FREQUENCIES))
    middles = np.log(np.sqrt(_SLOPE_FREQUENCIES[:-1] * _SLOPE_FREQUENCIES[1:]))
    return float(np.polyfit(middles, [np.log(power[rings == number].mean()) for number in numbers], 1)[0])


def clipped(picture: Pixels) -> float:
    """Part of the values that are 0 or 255."""
    return float(((picture == 0) | (picture == 255)).mean())


def saturation(picture: Pixels) -> float:
    """Mean saturation of hue, saturation and value; 0 is grey."""
    values = picture.astype(np.float32)
    most = values.max(axis=2)
    return float(((most - values.min(axis=2)) / np.maximum(most, 1)).mean())


_loading = threading.Lock()
_loaded: list[AnomalyScorer] = []


def shipped_scorer() -> AnomalyScorer:
    """A scorer with the shipped statistics, loaded once in a process."""
    with _loading:
        if not _loaded:
            _loaded.append(AnomalyScorer())
        return _loaded[0]
