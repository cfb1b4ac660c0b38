"""Words for the engine: what a prompt says, and the roots that turn it into pixels.

A world by prompt starts from windows that a `PromptRoot` makes from the words and the address alone. There are two:
the small local network that comes with the package, and latent-diffusion checkpoints of Stable Diffusion 2's
layout. Text encoders are loaded when the first words are spoken, so worlds without any load none.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache

from earthgen.errors import WeightsError
from earthgen.pyramid import Box, Window

if TYPE_CHECKING:
    from earthgen.cascade import CascadeStep
    from earthgen.conditioning import Guide
    from earthgen.drawn import Draw
    from earthgen.latent import LatentModel, LatentRoot
    from earthgen.roots.denoised import DenoisedStep
    from earthgen.roots.prompt import PromptStep

Pixels = npt.NDArray[np.uint8]

_HUB_PREFIX = "hf:"
_LATENT_INDEX = "model_index.json"
_KEPT_PLACES = 4
"""Latent roots kept with their finished windows; one a prompt, zoom and seed."""


@dataclass(frozen=True, slots=True)
class Words:
    """What generation is told.

    Attributes:
        prompt: what is there; "" says nothing.
        negative: what is not.
        guidance: how strongly, 1 .. 20; 1 is no guidance.
    """

    prompt: str = ""
    negative: str = ""
    guidance: float = 1.0

    def __bool__(self) -> bool:
        """Whether anything is said."""
        return bool(self.prompt or self.negative)

    def guide(self) -> Guide:
        """The words as vectors of the default text encoder, which is loaded on the first call."""
        from earthgen.conditioning import make_guide, text_encoder

        guide = make_guide(text_encoder(), self.prompt, self.negative, self.guidance)
        # The encoder keeps its vectors read-only, and torch warns of sharing those.
        text, negative = (None if vector is None else vector.copy() for vector in (guide.text, guide.negative))
        return replace(guide, text=text, negative=negative)


def encoder_id() -> str:
    """Content id of the default text encoder, which is loaded on the first call."""
    from earthgen.conditioning import text_encoder

    return text_encoder().id


class PromptRoot(Protocol):
    """Pixels from words and an address, on an unbounded plane at any even zoom from 6 to 18."""

    @property
    def weights_id(self) -> str:
        """Content id of the weights alone."""
        ...

    @property
    def id(self) -> str:
        """Content id of all that the pixels depend on besides the arguments; may load a text encoder."""
        ...

    def window(self, seed: int, window: Window, words: Words, step: CascadeStep) -> Pixels:
        """The pixels of a window, uint8 (WINDOW_SIZE, WINDOW_SIZE, 3): a pure function of the arguments.

        `step` is the cascade that goes on from there, for roots that have their texture from it.
        """
        ...

    def drawing(self, seed: int, words: Words, zoom: int) -> Draw | None:
        """What the words add to the cascade's detail below a root at `zoom`; None for nothing."""
        ...

    def cover(self, seed: int, words: Words, zoom: int, box: Box) -> Pixels | None:
        """What the words have put on the pixels of a box: codes of `bands.LAND_COVER`, (h, w); None if nobody knows."""
        ...


class LocalPromptRoot:
    """The prompt root of one of the package's own kinds: a local network."""

    def __init__(self, step: PromptStep | DenoisedStep) -> None:
        self._step = step

    @property
    def weights_id(self) -> str:
        """Content id of the network."""
        return self._step.id

    @property
    def id(self) -> str:
        """Content id of the network and the text encoder."""
        return f"{self._step.id}-{encoder_id()}"

    def drawing(self, seed: int, words: Words, zoom: int) -> Draw | None:
        """None: all that it knows is in the root."""
        return None

    def cover(self, seed: int, words: Words, zoom: int, box: Box) -> Pixels | None:
        """None: nobody knows what a network has made."""
        return None

    def window(self, seed: int, window: Window, words: Words, step: CascadeStep) -> Pixels:
        """See `PromptRoot`."""
        return self._step.window(seed, window, words.guide())


class LatentPromptRoot:
    """The prompt root of a latent-diffusion checkpoint, whose windows overlap and are blended."""

    def __init__(self, model: LatentModel) -> None:
        self._model = model
        self._lock = threading.Lock()
        self._places: LRUCache[Hashable, LatentRoot] = LRUCache(_KEPT_PLACES)

    @property
    def weights_id(self) -> str:
        """Content id of the checkpoint."""
        return self._model.id

    @property
    def id(self) -> str:
        """Content id of the checkpoint, its text encoder included, and of how it is sampled."""
        return f"latent-{self._model.id}"

    def drawing(self, seed: int, words: Words, zoom: int) -> Draw | None:
        """None: all that it knows is in the root."""
        return None

    def cover(self, seed: int, words: Words, zoom: int, box: Box) -> Pixels | None:
        """None: nobody knows what a network has made."""
        return None

    def window(self, seed: int, window: Window, words: Words, step: CascadeStep) -> Pixels:
        """See `PromptRoot`."""
        from earthgen.latent import LatentRoot

        key = (seed, window.zoom, words)
        with self._lock:
            place = self._places.get(key)
            if place is None:
                place = self._places[key] = LatentRoot(
                    self._model, words.prompt, words.negative, words.guidance, window.zoom, seed
                )
        return place.pixels(window.box)


def open_prompt_root(source: str | Path | None = None, device: str = "cpu") -> PromptRoot:
    """Load a prompt root.

    Args:
        source: None for the shipped network; a folder or `hf:OWNER/NAME` of a `PromptGenerator`, of a
            `PromptDenoiser`, or of a latent-diffusion checkpoint of Stable Diffusion 2's layout, such as
            Text2Earth's.
        device: torch device.

    Raises:
        WeightsError: nothing is there, or it cannot be loaded.
    """
    if source is None:
        from earthgen.scenery.root import SceneryRoot

        return SceneryRoot()
    import torch

    from earthgen.roots.denoised import DenoisedStep, PromptDenoiser
    from earthgen.roots.prompt import SHIPPED, PromptGenerator, PromptStep
    from earthgen.weights import load_model

    if source is not None and _is_latent(str(source)):
        from earthgen.latent import LatentModel

        return LatentPromptRoot(LatentModel.load(source, device))
    kinds: tuple[type[PromptDenoiser] | type[PromptGenerator], ...] = (PromptGenerator, PromptDenoiser)
    loaded = load_model(kinds, source, SHIPPED)
    where = torch.device(device)
    if isinstance(loaded.net, PromptGenerator):
        return LocalPromptRoot(PromptStep(loaded.net, loaded.id, where))
    return LocalPromptRoot(DenoisedStep(cast(PromptDenoiser, loaded.net), loaded.id, where))


def _is_latent(source: str) -> bool:
    """Whether a folder or hub repository holds a pipeline of several networks."""
    if not source.startswith(_HUB_PREFIX):
        return (Path(source) / _LATENT_INDEX).is_file()
    from huggingface_hub import file_exists
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    name = source.removeprefix(_HUB_PREFIX)
    try:
        return file_exists(name, _LATENT_INDEX)
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise WeightsError(f"hub weights {name!r} cannot be had: {str(error).splitlines()[0]}") from error
