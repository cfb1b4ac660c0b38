"""What a frozen image encoder sees of views: SAM's, or EfficientNet-Lite0 in its place, since no weights of SAM ship.

Features of all views of a scene are brought to a few numbers a pixel by principal components, so that what is learned
of one scene stays small. Contrasting them between labelled and unlabelled views gives pseudo-labels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from earthgen.errors import WeightsError
from perception.checkpoint import State, read_public
from perception.errors import first_line
from perception.lite_pyramid import LiteLevels
from perception.optional import require

CHANNELS = 24
"""Principal components of the features that are kept."""
_LITE_SIDE = 256
"""Pixels along a side of what EfficientNet-Lite0 is shown: views are enlarged, or its maps would be too coarse."""
_SAM_MEAN, _SAM_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_TEMPERATURE = 0.07
_NEIGHBOURS = 16
"""Labelled pixels that an unlabelled one is contrasted with: the most similar ones."""
_BANK = 4096
"""Labelled pixels at most."""


class Encoder(ABC):
    """A frozen network from pictures to maps.

    Attributes:
        name: of it, for people and for checkpoints.
    """

    name: str

    @abstractmethod
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Pictures (b, 3, h, w) in 0..1 to features (b, c, h', w')."""


class LiteEncoder(Encoder):
    """EfficientNet-Lite0 with its ImageNet weights: the maps at 1/4, 1/8 and 1/16 of an enlarged view."""

    def __init__(self) -> None:
        self.name = "efficientnet-lite0"
        self._levels = LiteLevels()

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """See `Encoder.__call__`."""
        images = F.interpolate(images, (_LITE_SIDE, _LITE_SIDE), mode="bicubic", antialias=True).clamp(0, 1)
        levels = self._levels(2 * images - 1)[:3]
        side = levels[0].shape[-1]
        # Each level counts as much as the others, whatever its range, and no picture changes another's features.
        grown = [F.interpolate(level, (side, side), mode="bilinear") for level in levels]
        return torch.cat([F.normalize(level, dim=1) for level in grown], dim=1)


class SamEncoder(Encoder):
    """The image encoder of a checkpoint in segment-anything's layout, such as `sam_vit_b_01ec64.pth`, of any size.

    Args:
        source: the file.

    Raises:
        WeightsError: it is missing or damaged, or holds no such encoder.
        DependencyError: segment-anything is not installed.
    """

    def __init__(self, source: str | Path) -> None:
        modeling = require("segment_anything.modeling.image_encoder", "views")
        prefix = "image_encoder."
        state = {k.removeprefix(prefix): v for k, v in read_public(source).items() if k.startswith(prefix)}
        self.name = f"sam:{Path(source).name}"
        try:
            self._side, sizes = _sam_sizes(state)
            self._vit = modeling.ImageEncoderViT(img_size=self._side, **sizes)
            self._vit.load_state_dict(state)
        except (KeyError, ValueError, IndexError, RuntimeError, ZeroDivisionError) as error:
            raise WeightsError(
                f"{source} holds no image encoder in segment-anything's layout: {first_line(error)}"
            ) from error
        self._vit.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """See `Encoder.__call__`."""
        images = F.interpolate(images, (self._side, self._side), mode="bicubic", antialias=True).clamp(0, 1)
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (_SAM_MEAN, _SAM_STD))
        out: torch.Tensor = self._vit((images - mean) / std)
        return out


def _sam_sizes(state: State) -> tuple[int, dict[str, object]]:
    """Pixels along a side, and the other sizes of the encoder that a state dictionary is of."""
    _, grid, _, width = state["pos_embed"].shape
    patch = state["patch_embed.proj.weight"].shape[-1]
    depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
    # Relative positions of a block: 2 * side - 1 for its windows' side, the whole grid if it has none.
    lengths = [state[f"blocks.{index}.attn.rel_pos_h"].shape for index in range(depth)]
    sides = [(length + 1) // 2 for length, _ in lengths]
    windows = {side for side in sides if side != grid}
    if len(windows) > 1:
        raise ValueError(f"windows have {len(windows)} different sizes")
    return grid * patch, {
        "patch_size": patch,
        "embed_dim": width,
        "depth": depth,
        "num_heads": width // lengths[0][1],
        "out_chans": state["neck.0.weight"].shape[0],
        "use_rel_pos": True,
        "window_size": windows.pop() if windows else 0,
        "global_attn_indexes": tuple(index for index, side in enumerate(sides) if side == grid),
        "norm_layer": lambda channels: torch.nn.LayerNorm(channels, eps=1e-6),
    }


def encoder_of(sam: str | Path | None) -> Encoder:
    """SAM's encoder from a checkpoint, or the one that ships."""
    return LiteEncoder() if sam is None else SamEncoder(sam)


class Basis:
    """Principal components of a scene's features.

    Args:
        mean: (c,).
        axes: (c, CHANNELS or fewer).
        scale: standard deviation of each component.
    """

    def __init__(self, mean: torch.Tensor, axes: torch.Tensor, scale: torch.Tensor) -> None:
        self.mean, self.axes, self.scale = mean, axes, scale

    @classmethod
    def of(cls, maps: Sequence[torch.Tensor]) -> Basis:
        """Of features (b, c, h, w) of some views."""
        flat = torch.cat([one.permute(0, 2, 3, 1).flatten(0, 2) for one in maps]).double()
        mean = flat.mean(dim=0)
        values, axes = torch.linalg.eigh(torch.cov((flat - mean).t()))
        # Largest first; the sign of an axis is free, so that of its largest entry is made positive.
        count = min(CHANNELS, len(values))
        values, axes = values.flip(0)[:count], axes.flip(1)[:, :count]
        signs = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()
        return cls(mean.float(), (axes * signs).float(), values.clamp_min(1e-8).sqrt().float())

    def __call__(self, maps: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Features (b, c, h', w') at pixels, half whitened: (b, height, width, CHANNELS)."""
        flat = maps.permute(0, 2, 3, 1) - self.mean
        # Half of the differences in range stay, so that weak components, which are mostly noise, count less.
        found = (flat @ self.axes) / (self.scale * self.scale[0]).sqrt()
        grown = F.interpolate(found.permute(0, 3, 1, 2), (height, width), mode="bilinear", align_corners=False)
        return grown.permute(0, 2, 3, 1)


def contrasted(
    unlabelled: torch.Tensor, labelled: torch.Tensor, codes: torch.Tensor, chance: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes of unlabelled pixels by contrasting their features with those of labelled ones.

    Each class has a score: the mean, over the labelled pixels of it that are most similar, of exp(cosine / 0.07).

    Args:
        unlabelled: features (n, c).
        labelled: features (m, c).
        codes: classes of the labelled ones, 0 to k - 1, (m,).
        chance: draws the labelled pixels that are looked at, as many of each class.

    Returns:
        The class (n,) with the largest score, and by how much its share of all scores exceeds the next one's (n,).
    """
    classes = codes.unique()
    unlabelled = F.normalize(unlabelled, dim=1)
    scores = []
    for code in classes:
        of_class = torch.nonzero(codes == code)[:, 0]
        picked = of_class[torch.randperm(len(of_class), generator=chance)[: _BANK // len(classes)]]
        similar = unlabelled @ F.normalize(labelled[picked], dim=1).t()
        best = similar.topk(min(_NEIGHBOURS, len(picked)), dim=1).values
        scores.append(torch.exp(best / _TEMPERATURE).mean(dim=1))
    shares = torch.stack(scores, dim=1)
    shares = shares / shares.sum(dim=1, keepdim=True)
    top = shares.topk(min(2, len(classes)), dim=1)
    margin = top.values[:, 0] - (top.values[:, 1] if len(classes) > 1 else 0.0)
    return classes[top.indices[:, 0]], margin
