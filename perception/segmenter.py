"""RSRefSeg behind the calls that users make: a picture and a phrase, clicks or a box in, a mask out.

A picture of any size is looked at as a whole, brought to the network's square: "the largest" makes no sense in pieces.
So what is smaller than some pixels of that square (256 of what ships) is not seen: ask about a smaller area.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from earthgen.errors import InvalidRequestError
from perception.errors import PromptError
from perception.pair import Image
from perception.phrase_encoders import checked_phrase
from perception.rsrefseg import NAME, RSRefSeg, Seen, view_of
from perception.segmentation import Segmentation

Pixels = npt.NDArray[np.uint8]

MOST_CLICKS = 64


class ReferringSegmenter:
    """What `perception.load("rsrefseg")` returns.

    Args:
        net: the network; it is put into evaluation mode.
        device: where it runs.
    """

    name = NAME

    def __init__(self, net: RSRefSeg, device: str | torch.device = "cpu") -> None:
        self.net = net.eval().to(device)
        self.device = torch.device(device)
        self._view = view_of(net.config)
        self._lock = threading.Lock()

    def segment(self, image: Pixels | Image, phrase: str) -> Segmentation:
        """Find what a phrase names.

        Args:
            image: uint8 (h, w, 3), or what `perception.read_image` gives.
            phrase: in English, such as "the largest building left of the road".

        Returns:
            A mask on the picture's grid; an empty one where the model finds nothing of the kind.

        Raises:
            PhraseError: empty, too long, without a word, or in another script than Latin.
            InvalidRequestError: no picture of at least 8 x 8 pixels.
        """
        text = checked_phrase(phrase)
        pixels, _ = _pixels(image)
        with self._computing():
            heard = self.net.encoders.hear([text]).to(self.device)
            logits, _ = self.net(self._seen(pixels), heard)
        return self._answer(image, logits[0], text, None)

    def segment_click(
        self, image: Pixels | Image, points: Sequence[tuple[float, float]], labels: Sequence[int] | None = None
    ) -> Segmentation:
        """Find what is clicked.

        Args:
            image: see `segment`.
            points: column and row of each click, in the picture's pixels.
            labels: of each, 1 where the thing is and 0 where it is not; None for 1 everywhere.

        Raises:
            PromptError: no click, more than MOST_CLICKS, none that says where the thing is, labels that are no labels,
                or a click outside the picture.
            InvalidRequestError: see `segment`.
        """
        pixels, size = _pixels(image)
        said = [1] * len(points) if labels is None else list(labels)
        if not 1 <= len(points) <= MOST_CLICKS:
            raise PromptError(f"there are {len(points)} clicks; 1 to {MOST_CLICKS} are allowed")
        if len(said) != len(points) or any(label not in (0, 1) for label in said):
            raise PromptError(f"labels of clicks are {said}; a 1 or a 0 for each of {len(points)} clicks is needed")
        if 1 not in said:
            raise PromptError("every click says where the thing is not; one must say where it is")
        for point in points:
            _check_inside(point, size, "click")
        asked = ", ".join(
            f"{'' if label else 'not '}{column:g},{row:g}" for (column, row), label in zip(points, said, strict=True)
        )
        with self._computing():
            places = self._scaled(torch.tensor(points, dtype=torch.float32), size)
            marks = torch.tensor(said, dtype=torch.float32, device=self.device)
            logits, quality = self.net.clicked(self._seen(pixels), places[None], marks[None])
        return self._answer(image, logits[0], f"click {asked}", float(quality[0]))

    def segment_box(self, image: Pixels | Image, box: Sequence[float]) -> Segmentation:
        """Find the thing that a box is drawn around.

        Args:
            image: see `segment`.
            box: left, top, right, bottom in the picture's pixels.

        Raises:
            PromptError: not four numbers, nothing inside, or outside the picture.
            InvalidRequestError: see `segment`.
        """
        pixels, size = _pixels(image)
        if len(box) != 4:
            raise PromptError(f"the box has {len(box)} numbers; left, top, right and bottom are needed")
        left, top, right, bottom = (float(value) for value in box)
        if not (left < right and top < bottom):
            raise PromptError(f"the box {_numbers(box)} is empty; left < right and top < bottom are needed")
        for corner in ((left, top), (right, bottom)):
            _check_inside(corner, size, "box's corner")
        with self._computing():
            corners = self._scaled(torch.tensor([[left, top], [right, bottom]]), size)
            logits, quality = self.net.boxed(self._seen(pixels), corners.reshape(1, 4))
        return self._answer(image, logits[0], f"box {_numbers(box)}", float(quality[0]))

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """One computation at a time, without gradients."""
        with self._lock, torch.inference_mode():
            yield

    def _seen(self, pixels: Pixels) -> Seen:
        # A copy: pixels that come from a store cannot be written to, which torch minds.
        images = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float()
        side = self.net.config.image
        if images.shape[-2:] != (side, side):
            images = F.interpolate(images, (side, side), mode="bilinear", align_corners=False, antialias=True)
        images = images.to(self.device) / 127.5 - 1
        return self.net.see(images, None if self._view is None else self._view(images))

    def _scaled(self, points: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Columns and rows (n, 2) of the picture in the network's pixels."""
        height, width = size
        side = self.net.config.image
        return (points * torch.tensor([side / width, side / height])).clamp(0, side - 1).to(self.device)

    def _answer(self, image: Pixels | Image, logits: torch.Tensor, asked: str, quality: float | None) -> Segmentation:
        _, (height, width) = _pixels(image)
        logits = F.interpolate(logits[None, None].float().cpu(), (height, width), mode="bilinear", align_corners=False)[
            0, 0
        ]
        mask = (logits > 0).numpy()
        transform, crs = None, None
        if not isinstance(image, np.ndarray):
            transform, crs = image.transform, image.crs
            mask &= image.valid
        guess = None if quality is None else min(1.0, max(0.0, quality))
        return Segmentation(mask, torch.sigmoid(logits).numpy(), asked, guess, transform, crs, self.name)


def _pixels(image: Pixels | Image) -> tuple[Pixels, tuple[int, int]]:
    pixels = image if isinstance(image, np.ndarray) else image.pixels
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or min(pixels.shape[:2]) < 8:
        raise InvalidRequestError(
            f"the picture is {pixels.dtype} {pixels.shape}; uint8 (h, w, 3) of at least 8 x 8 pixels is allowed"
        )
    return pixels, (pixels.shape[0], pixels.shape[1])


def _check_inside(point: Sequence[float], size: tuple[int, int], what: str) -> None:
    height, width = size
    inside = (
        len(point) == 2
        and all(math.isfinite(value) for value in point)
        and 0 <= point[0] <= width
        and 0 <= point[1] <= height
    )
    if not inside:
        raise PromptError(f"the {what} {_numbers(point)} is outside the picture of {width} x {height} pixels")


def _numbers(values: Sequence[float]) -> str:
    return ",".join(f"{float(value):g}" for value in values)
