"""What one server process holds to look at its worlds: models, loaded when first asked for, and latest answers."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache

from earthgen.errors import EarthgenError, InvalidRequestError
from earthgen.pyramid import Bounds, Box, bounds_box, check_bounds, zoom_for_gsd

if TYPE_CHECKING:
    from perception.agent.scene import Scene
    from perception.captioner import ChangeCaptioner
    from perception.detector import ChangeDetector
    from perception.segmenter import ReferringSegmenter

_KEPT_BYTES = 16 << 20
_ID_CHARACTERS = 12
_KEPT_SCENES = 4
"""Pairs that were asked about lately: the next question about one makes no pictures and runs no detector."""
_logger = logging.getLogger(__name__)


def asked_box(bbox: Bounds, zoom: int | None, gsd: float | None) -> Box:
    """The whole pixels that cover a box in degrees, at the zoom or at the metres per pixel, of which one is given.

    Raises:
        AddressError: the box is none.
    """
    check_bounds(bbox)
    if gsd is None:
        assert zoom is not None
        return bounds_box(bbox, zoom)
    return bounds_box(bbox, zoom_for_gsd(gsd, (bbox[1] + bbox[3]) / 2))


@dataclass(frozen=True, slots=True)
class LoadedDetector:
    """A detector and the id of its weights."""

    detector: ChangeDetector
    id: str


@dataclass(frozen=True, slots=True)
class LoadedSegmenter:
    """A model that finds what a phrase names, and the id of its weights."""

    segmenter: ReferringSegmenter
    id: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One change map or mask in each of its formats; a change map is no picture."""

    geojson: bytes
    geotiff: bytes
    png: bytes = b""


@dataclass(frozen=True, slots=True)
class KeptScene:
    """A pair that was asked about, with what was seen in it; one question at a time looks at it."""

    scene: Scene
    lock: threading.Lock = field(default_factory=threading.Lock)


class Watcher:
    """Detectors by name; perception, and with it torch, is imported when the first one is asked for.

    Args:
        weights: folder with a folder of weights for each model, before those that ship; None for the latter alone.
    """

    def __init__(self, weights: Path | None) -> None:
        self._weights = weights
        self._loading = threading.Lock()
        self._loaded: dict[str, LoadedDetector] = {}
        self._segmenters: dict[str, LoadedSegmenter] = {}
        self._keeping = threading.Lock()
        self._kept: LRUCache[str, Answer] = LRUCache(_KEPT_BYTES, getsizeof=_size)
        self._scenes: LRUCache[str, KeptScene] = LRUCache(_KEPT_SCENES)
        self._captioners: list[ChangeCaptioner] | None = None

    def models(self) -> list[dict[str, Any]]:
        """Every model as JSON; see `perception.registry.describe`. `absent` says why one is not available."""
        from earthgen.errors import WeightsError
        from perception.registry import MODELS, describe

        described = []
        for model in MODELS.values():
            folder = self._folder(model.name)
            try:
                item = describe(model, folder)
            except WeightsError:
                item = describe(model, None) | {"absent": "its weights are damaged"}
            if folder is None:
                item["absent"] = "its weights are not installed"
            described.append(item)
        return described

    def detector(self, name: str) -> LoadedDetector:
        """A model, loaded once.

        Raises:
            UnknownModelError: no model of that name.
            InvalidRequestError: one without weights, or for another task.
            WeightsError: its weights cannot be used.
        """
        with self._loading:
            loaded = self._loaded.get(name)
            if loaded is None:
                loaded = self._loaded[name] = self._load(name)
            return loaded

    def segmenter(self, name: str) -> LoadedSegmenter:
        """A model that finds what a phrase names, loaded once; raises what `detector` raises."""
        from perception.registry import check_segments, load_segmenter

        with self._loading:
            loaded = self._segmenters.get(name)
            if loaded is None:
                check_segments(name)
                folder, id = self._weights_of(name)
                loaded = self._segmenters[name] = LoadedSegmenter(load_segmenter(name, folder), id)
            return loaded

    def chosen(self, name: str | None) -> str:
        """The detector that answers questions: the one that is named, or the best that there is.

        Raises:
            UnknownModelError: no model of that name.
            InvalidRequestError: it has another task, or none has weights.
        """
        from earthgen.errors import WeightsError
        from perception.agent.opening import chosen_detector

        try:
            return chosen_detector(self._folder, name)
        except WeightsError as error:
            raise InvalidRequestError(str(error)) from error

    def naming(self, name: str) -> LoadedDetector:
        """A detector as `detector` gives it; if it names no classes, with another that does, where there is one."""
        from perception.agent.opening import namer_of
        from perception.naming import NamedChanges

        found, other = self.detector(name), namer_of(self._folder, name)
        if other is None:
            return found
        try:
            namer = self.detector(other)
        except EarthgenError as error:
            _logger.warning("changes that %s finds have no names: %s", name, error)
            return found
        return LoadedDetector(NamedChanges(found.detector, namer.detector), f"{found.id}+{namer.id}")

    def second(self, first: str) -> ChangeDetector | None:
        """Another detector, for a second opinion; None if there is none that can be used."""
        from perception.agent.opening import second_detector

        name = second_detector(self._folder, first)
        try:
            return None if name is None else self.detector(name).detector
        except EarthgenError as error:
            _logger.warning("no second opinion: %s", error)
            return None

    def captioners(self) -> list[ChangeCaptioner]:
        """The captioners that have weights; those that cannot be used are left out and logged."""
        from perception.agent.opening import captioner_names
        from perception.registry import load_captioner

        with self._loading:
            if self._captioners is None:
                self._captioners = []
                for name in captioner_names(self._folder):
                    try:
                        self._captioners.append(load_captioner(name, self._folder(name)))
                    except EarthgenError as error:
                        _logger.warning("no captions by %s: %s", name, error)
            return self._captioners

    def scene(self, key: str, make: Callable[[], Scene]) -> KeptScene:
        """A scene that was asked about not long ago, or a new one, which is kept for a while."""
        with self._keeping:
            kept = self._scenes.get(key)
        if kept is None:
            kept = KeptScene(make())
            with self._keeping:
                self._scenes[key] = kept
        return kept

    def answer(self, key: str, make: Callable[[], Answer]) -> tuple[Answer, bool]:
        """The answer under a key, and whether it was there already.

        Whoever has seen a change map may want it in the other format too, so answers are kept for a while. Two that
        ask for one at the same time may both have it made, to the same bytes.
        """
        with self._keeping:
            kept = self._kept.get(key)
        if kept is not None:
            return kept, True
        made = make()
        with self._keeping:
            if _size(made) <= self._kept.maxsize:
                self._kept[key] = made
        return made, False

    def _load(self, name: str) -> LoadedDetector:
        from perception.registry import check_finds_change, load_detector

        check_finds_change(name)
        folder, id = self._weights_of(name)
        return LoadedDetector(load_detector(name, folder), id)

    def _weights_of(self, name: str) -> tuple[Path, str]:
        """Folder and id of a model's weights.

        Raises:
            InvalidRequestError: there are none.
        """
        from perception.checkpoint import FILE
        from perception.registry import MODELS

        folder = self._folder(name)
        if folder is None:
            with_weights = ", ".join(one for one in MODELS if self._folder(one) is not None) or "none"
            raise InvalidRequestError(
                f"model {name} has no weights on this server; models with weights: {with_weights}"
            )
        digest = hashlib.sha256((folder / FILE).read_bytes()).hexdigest()
        return folder, digest[:_ID_CHARACTERS]

    def _folder(self, name: str) -> Path | None:
        from perception.checkpoint import FILE
        from perception.registry import MODELS

        own = self._weights and self._weights / name
        return own if own and (own / FILE).is_file() else MODELS[name].weights


def _size(answer: Answer) -> int:
    return len(answer.geojson) + len(answer.geotiff) + len(answer.png)
