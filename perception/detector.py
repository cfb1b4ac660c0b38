"""A network behind the call that users make: a pair in, a change map out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import nn

from perception.detection import Detection
from perception.errors import ClassListError
from perception.pair import Pair
from perception.tiling import tiled

Progress = Callable[[int, int], None]


class ChangeDetector(Protocol):
    """What `perception.load` returns for change detection."""

    @property
    def name(self) -> str:
        """The registry's name of the model."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes that are looked for unless others are asked for; none for a binary detector."""

    def detect(
        self,
        pair: Pair,
        *,
        classes: Sequence[str] | None = None,
        tile: int = 256,
        overlap: int = 64,
        progress: Progress | None = None,
    ) -> Detection:
        """Find what changed.

        Args:
            pair: two images of any size.
            classes: names to look for; None for the model's own.
            tile: pixels along the side of the tiles in which a larger image is worked through.
            overlap: pixels that neighbouring tiles share.
            progress: called with (tiles done, tiles in all).

        Raises:
            ClassListError: the model cannot look for these classes.
            InvalidRequestError: tile and overlap do not go together.
        """


class BinaryDetector:
    """A network from (b, 2, 3, h, w) to logits of unchanged and changed, (b, 2, h, w).

    Args:
        name: the registry's name.
        net: the network; it is put into evaluation mode.
        multiple: heights and widths that it takes are multiples of this.
        device: where it runs.
    """

    classes: tuple[str, ...] = ()

    def __init__(self, name: str, net: nn.Module, multiple: int, device: torch.device | str = "cpu") -> None:
        self.name = name
        self.net = net.eval().to(device)
        self.multiple = multiple
        self.device = torch.device(device)

    def detect(
        self,
        pair: Pair,
        *,
        classes: Sequence[str] | None = None,
        tile: int = 256,
        overlap: int = 64,
        progress: Progress | None = None,
    ) -> Detection:
        """See `ChangeDetector.detect`."""
        if classes is not None:
            raise ClassListError(f"{self.name} finds that something changed, not what; leave the classes out")
        images = pair.tensor().to(self.device)
        logits = tiled(self.net, images, tile=tile, overlap=overlap, multiple=self.multiple, progress=progress).cpu()
        mask = (logits[1] > logits[0]).numpy()
        if pair.valid is not None:
            mask &= pair.valid
        return Detection(mask, logits.numpy(), (), pair.transform, pair.crs, model=self.name)
