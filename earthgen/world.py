"""Worlds as values: a root, a seed, a prompt and edits, with one canonical spelling and one id.

Two worlds with equal fields are the same world everywhere: the id is a hash of the canonical JSON,
so it can name cache entries, files and URLs on any machine.
"""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Literal, get_args

from earthgen.errors import AddressError, WorldError
from earthgen.pyramid import EQUATOR_GSD, LEVEL_ZOOMS, MAX_ZOOM, ROOT_ZOOM, check_zoom

Root = Literal["earth", "planet", "prompt"]
ROOTS: tuple[Root, ...] = get_args(Root)
Action = Literal["prompt", "reseed", "remove", "snow", "haze", "burn", "flood", "summer", "autumn"]
ACTIONS: tuple[Action, ...] = get_args(Action)
Quality = Literal["draft", "standard", "best"]
QUALITIES: tuple[Quality, ...] = get_args(Quality)
STANDARD: Quality = "standard"

MAX_SEED = 2**63 - 1
MAX_PROMPT_CHARACTERS = 512
MIN_GUIDANCE, MAX_GUIDANCE = 1.0, 20.0
MIN_GSD, MAX_GSD = 0.3, 1200.0
"""Metres per pixel that a world by prompt may be asked for; the nearest cascade levels are zooms 18 and 8."""
PROMPT_MEANS = 4
"""Zooms coarser than its root at which a world by prompt still has pixels."""
MAX_EDITS = 256
MAX_POLYGON_VERTICES = 1024
_ID_CHARACTERS = 20
_POLYGON_SHAPE = "edit polygon must be a list of [longitude, latitude] pairs of numbers"
_LINE_ENDS_AND_TABS = "\t\n\r"
_SEEDED: tuple[Action, ...] = ("prompt", "reseed", "remove")


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of a world: inside a polygon, from a date until a date, something else is there.

    Attributes:
        polygon: outer ring of (longitude, latitude) in degrees, at least three distinct vertices,
            closed implicitly. An edge takes the shorter way round, so a ring may cross 180 degrees.
        prompt: what is there instead; of action "prompt" only.
        valid_from: first ISO date on which the edit holds; None means always before `valid_until`.
        valid_until: first ISO date on which it no longer holds; None means for ever.
        action: "prompt" generates from the text, "reseed" the same place with another seed, "remove" fills in
            from the surroundings; the other actions are presets that change what is there.
        seed: 0 .. 2**63 - 1; of "reseed", and of "prompt" and "remove" to choose another outcome.

    Raises:
        WorldError: a value outside its range, or one that the action does not take.
    """

    polygon: tuple[tuple[float, float], ...]
    prompt: str = ""
    valid_from: str | None = None
    valid_until: str | None = None
    action: Action = "prompt"
    seed: int | None = None

    def __post_init__(self) -> None:
        # Equal numbers of other types (0, -0.0) must not give equal worlds of different spelling.
        object.__setattr__(self, "polygon", tuple(map(_vertex, _vertices(self.polygon))))
        object.__setattr__(self, "prompt", _text(self.prompt, "edit prompt"))
        self._check_polygon()
        self._check_action()
        for name, value in (("valid_from", self.valid_from), ("valid_until", self.valid_until)):
            if value is not None:
                _check_date(value, f"edit {name}")
        if self.valid_from and self.valid_until and self.valid_from >= self.valid_until:
            raise WorldError(f"edit valid_from {self.valid_from} is not before valid_until {self.valid_until}")

    def _check_polygon(self) -> None:
        if not 3 <= len(self.polygon) <= MAX_POLYGON_VERTICES:
            raise WorldError(f"edit polygon has {len(self.polygon)} vertices; 3 to {MAX_POLYGON_VERTICES} are allowed")
        if len(set(self.polygon)) < 3:
            raise WorldError("edit polygon needs three distinct vertices")
        for longitude, latitude in self.polygon:
            if not (math.isfinite(longitude) and math.isfinite(latitude)) or abs(longitude) > 180 or abs(latitude) > 90:
                raise WorldError(
                    f"edit vertex ({longitude}, {latitude}) is not a longitude in -180..180 and a latitude in -90..90"
                )

    def _check_action(self) -> None:
        if self.action not in ACTIONS:
            raise WorldError(f"edit action is {self.action!r}; allowed: {', '.join(ACTIONS)}")
        if self.action == "prompt" and not self.prompt:
            raise WorldError("edit prompt is empty; say what should be there, or choose another action")
        if self.action != "prompt" and self.prompt:
            raise WorldError(f"edit action {self.action!r} takes no prompt; action 'prompt' does")
        if self.seed is not None:
            _check_seed(self.seed, "edit seed")
            if self.action not in _SEEDED:
                raise WorldError(f"edit action {self.action!r} takes no seed; allowed with: {', '.join(_SEEDED)}")
        elif self.action == "reseed":
            raise WorldError("edit action 'reseed' lacks a seed; give the seed to take")

    @property
    def undated(self) -> Edit:
        """The same change without dates."""
        return replace(self, valid_from=None, valid_until=None) if self.valid_from or self.valid_until else self

    def holds_on(self, day: str | None) -> bool:
        """Whether the edit holds on an ISO date; None asks for the edits that never end."""
        if day is None:
            return self.valid_until is None
        return (self.valid_from or "") <= day and (self.valid_until is None or day < self.valid_until)

    def to_dict(self) -> dict[str, Any]:
        """The edit as plain JSON types; action "prompt" and an absent seed are not spelled."""
        value: dict[str, Any] = {
            "polygon": [list(vertex) for vertex in self.polygon],
            "prompt": self.prompt,
            "valid_from": self.valid_from,
            "valid_until": self.valid_until,
        }
        if self.action != "prompt":
            value["action"] = self.action
        if self.seed is not None:
            value["seed"] = self.seed
        return value

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Edit:
        """Read an edit from JSON types.

        Raises:
            WorldError: unknown keys, missing keys, or values of another type or range.
        """
        _check_keys(value, {"polygon", "prompt", "valid_from", "valid_until", "action", "seed"}, "edit")
        action: Action = "prompt" if value.get("action") is None else value["action"]
        missing = {"polygon", "prompt"} - value.keys() if action == "prompt" else {"polygon"} - value.keys()
        if missing:
            raise WorldError(
                f"edit lacks {', '.join(map(repr, sorted(missing)))}; it needs polygon, and prompt or action"
            )
        return cls(
            polygon=value["polygon"],
            prompt="" if value.get("prompt") is None else value["prompt"],
            valid_from=value.get("valid_from"),
            valid_until=value.get("valid_until"),
            action=action,
            seed=value.get("seed"),
        )


@dataclass(frozen=True, slots=True)
class World:
    """An immutable world.

    Attributes:
        root: where it starts: the real "earth", a generated "planet", or a "prompt".
        seed: 0 .. 2**63 - 1; chooses every detail that the root does not fix, and for other roots than the Earth
            the root too.
        prompt: text that guides generation; "" means none. One line: runs of white space count as one space.
        edits: changes, later ones on top of earlier ones.
        negative: text that generation is guided away from; "" means none.
        guidance: how strongly, 1 .. 20; 1 follows the prompt without amplifying it and ignores `negative`.
        gsd: metres per pixel that the prompt speaks of, 0.3 .. 1200; of root "prompt" only.
        quality: with how much work detail is made: "draft", "standard" or "best"; what that means is up to the
            weights, see `earthgen.weights`.

    Raises:
        WorldError: a value outside its range.
    """

    root: Root = "earth"
    seed: int = 0
    prompt: str = ""
    edits: tuple[Edit, ...] = ()
    negative: str = ""
    guidance: float = MIN_GUIDANCE
    gsd: float | None = None
    quality: Quality = STANDARD

    def __post_init__(self) -> None:
        object.__setattr__(self, "edits", tuple(self.edits))
        object.__setattr__(self, "prompt", _text(self.prompt, "prompt"))
        object.__setattr__(self, "negative", _text(self.negative, "negative"))
        if self.root not in ROOTS:
            raise WorldError(f"root is {self.root!r}; allowed: {', '.join(ROOTS)}")
        _check_seed(self.seed, "seed")
        object.__setattr__(self, "guidance", _number(self.guidance, MIN_GUIDANCE, MAX_GUIDANCE, "guidance"))
        if self.gsd is not None:
            object.__setattr__(self, "gsd", _number(self.gsd, MIN_GSD, MAX_GSD, "gsd"))
        if self.root == "prompt":
            if not self.prompt:
                raise WorldError("root 'prompt' needs a prompt; say what the world shows")
            if self.gsd is None:
                raise WorldError(f"root 'prompt' needs a gsd; {MIN_GSD} to {MAX_GSD:g} metres per pixel are allowed")
        elif self.gsd is not None:
            raise WorldError(
                f"gsd is {self.gsd}, but root {self.root!r} has pixels of every gsd; root 'prompt' takes one"
            )
        checked_quality(self.quality)
        if len(self.edits) > MAX_EDITS:
            raise WorldError(f"{len(self.edits)} edits; at most {MAX_EDITS} are allowed")

    @property
    def root_zoom(self) -> int:
        """The zoom at which the root lies.

        4 for the Earth and planets. For a prompt one cascade step above the level zoom whose GSD at the equator
        is nearest by ratio to the requested one: 6 to 16.
        """
        if self.gsd is None:
            return ROOT_ZOOM
        levels = round(math.log2(EQUATOR_GSD / self.gsd) / LEVEL_ZOOMS)
        return LEVEL_ZOOMS * levels - LEVEL_ZOOMS

    @property
    def min_zoom(self) -> int:
        """The coarsest zoom that the world has: 0, or for a prompt 4 zooms above its root."""
        return 0 if self.gsd is None else self.root_zoom - PROMPT_MEANS

    def check_zoom(self, zoom: int) -> None:
        """Raise AddressError unless the world has pixels at a zoom."""
        check_zoom(zoom)
        if zoom < self.min_zoom:
            raise AddressError(
                f"zoom {zoom} is coarser than this world, which begins at zoom {self.min_zoom};"
                f" {self.min_zoom}..{MAX_ZOOM} are allowed"
            )

    @property
    def canonical_json(self) -> str:
        """The one spelling of this value: `to_dict` with sorted keys, no spaces, shortest float forms."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)

    @property
    def id(self) -> str:
        """Content id: 20 hexadecimal characters of the SHA-256 of `canonical_json`."""
        return hashlib.sha256(self.canonical_json.encode()).hexdigest()[:_ID_CHARACTERS]

    def at(self, day: str | None = None) -> World:
        """The world whose edits hold on a day, without their dates.

        Args:
            day: an ISO date such as 2026-05-01; None keeps the edits that never end.

        Raises:
            WorldError: `day` is no ISO date.
        """
        if day is not None:
            _check_date(day, "date")
        if not any(edit.valid_from or edit.valid_until for edit in self.edits):
            return self
        return replace(self, edits=tuple(edit.undated for edit in self.edits if edit.holds_on(day)))

    def to_dict(self) -> dict[str, Any]:
        """The world as plain JSON types.

        Root, seed, prompt and edits are always spelled; negative, guidance, gsd and quality where they are not the
        default, so that the ids of worlds without them do not depend on their being possible.
        """
        value: dict[str, Any] = {
            "root": self.root,
            "seed": self.seed,
            "prompt": self.prompt,
            "edits": [edit.to_dict() for edit in self.edits],
        }
        if self.negative:
            value["negative"] = self.negative
        if self.guidance != MIN_GUIDANCE:
            value["guidance"] = self.guidance
        if self.gsd is not None:
            value["gsd"] = self.gsd
        if self.quality != STANDARD:
            value["quality"] = self.quality
        return value

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> World:
        """Read a world from JSON types; absent keys take their defaults.

        Raises:
            WorldError: unknown keys, or values of another type or range.
        """
        _check_keys(value, {"root", "seed", "prompt", "edits", "negative", "guidance", "gsd", "quality"}, "world")
        edits = value.get("edits")
        edits = () if edits is None else edits
        if not isinstance(edits, list | tuple) or not all(isinstance(edit, Mapping) for edit in edits):
            raise WorldError("edits must be a list of objects")
        return cls(
            root=value.get("root", "earth"),
            seed=value.get("seed", 0),
            prompt="" if value.get("prompt") is None else value["prompt"],
            edits=tuple(Edit.from_dict(edit) for edit in edits),
            negative="" if value.get("negative") is None else value["negative"],
            guidance=MIN_GUIDANCE if value.get("guidance") is None else value["guidance"],
            gsd=value.get("gsd"),
            quality=STANDARD if value.get("quality") is None else value["quality"],
        )


def checked_quality(name: object) -> Quality:
    """The quality of a name.

    Raises:
        WorldError: no such quality.
    """
    for quality in QUALITIES:
        if quality == name:
            return quality
    raise WorldError(f"quality is {name!r}; allowed: {', '.join(QUALITIES)}")


def _check_keys(value: Mapping[str, Any], allowed: set[str], what: str) -> None:
    unknown = sorted(set(value) - allowed)
    if unknown:
        raise WorldError(
            f"{what} has unknown keys {', '.join(map(repr, unknown))}; allowed: {', '.join(sorted(allowed))}"
        )


def _text(text: object, what: str) -> str:
    """Text as data: one line in Unicode's composed form (NFC), without control characters, of bounded length."""
    if not isinstance(text, str):
        raise WorldError(f"{what} is {text!r}; text is allowed")
    _check_length(text, what)
    for character in text:
        category = unicodedata.category(character)
        if category == "Cs" or (category == "Cc" and character not in _LINE_ENDS_AND_TABS):
            kind = "half of a surrogate pair" if category == "Cs" else "control character"
            raise WorldError(f"{what} holds the {kind} U+{ord(character):04X}; printable text is allowed")
    line = unicodedata.normalize("NFC", " ".join(text.split()))
    # Composing can lengthen: some characters are spelled apart even in this form.
    _check_length(line, what)
    return line


def _check_length(text: str, what: str) -> None:
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise WorldError(f"{what} has {len(text)} characters; at most {MAX_PROMPT_CHARACTERS} are allowed")


def _check_seed(seed: object, what: str) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise WorldError(f"{what} is {seed!r}; an integer from 0 to {MAX_SEED} is allowed")


def _number(value: object, least: float, most: float, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise WorldError(f"{what} is {value!r}; a number from {least:g} to {most:g} is allowed")
    return float(value)


def _check_date(value: object, what: str) -> None:
    """One spelling only: Python also reads 20260501 and 2026-W18-5, which do not sort as text."""
    try:
        if isinstance(value, str) and date.fromisoformat(value).isoformat() == value:
            return
    except ValueError:
        pass
    raise WorldError(f"{what} is {value!r}; an ISO date such as 2026-05-01 is allowed")


def _vertices(polygon: object) -> Iterable[object]:
    if not isinstance(polygon, list | tuple):
        raise WorldError(_POLYGON_SHAPE)
    return polygon


def _vertex(vertex: object) -> tuple[float, float]:
    if not isinstance(vertex, list | tuple) or len(vertex) != 2:
        raise WorldError(_POLYGON_SHAPE)
    for number in vertex:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise WorldError(_POLYGON_SHAPE)
    try:
        # Adding 0.0 turns -0.0 into 0.0.
        return float(vertex[0]) + 0.0, float(vertex[1]) + 0.0
    except OverflowError as error:
        raise WorldError(_POLYGON_SHAPE) from error
