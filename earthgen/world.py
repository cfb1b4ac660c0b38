"""Worlds as values: a root, a seed, a prompt and edits, with one canonical spelling and one id.

Two worlds with equal fields are the same world everywhere: the id is a hash of the canonical JSON,
so it can name cache entries, files and URLs on any machine.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, get_args

from earthgen.errors import WorldError

Root = Literal["earth", "planet"]
ROOTS: tuple[Root, ...] = get_args(Root)

MAX_SEED = 2**63 - 1
MAX_PROMPT_CHARACTERS = 512
MAX_EDITS = 256
MAX_POLYGON_VERTICES = 1024
_ID_CHARACTERS = 20
_POLYGON_SHAPE = "edit polygon must be a list of [longitude, latitude] pairs of numbers"


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of a world: inside a polygon, from a date until a date, something else is there.

    Attributes:
        polygon: outer ring of (longitude, latitude) in degrees, at least three distinct vertices,
            closed implicitly.
        prompt: what is there instead.
        valid_from: first ISO date on which the edit holds; None means always before `valid_until`.
        valid_until: first ISO date on which it no longer holds; None means for ever.
    """

    polygon: tuple[tuple[float, float], ...]
    prompt: str
    valid_from: str | None = None
    valid_until: str | None = None

    def __post_init__(self) -> None:
        # Equal numbers of other types (0, -0.0) must not give equal worlds of different spelling.
        object.__setattr__(self, "polygon", tuple(map(_vertex, _vertices(self.polygon))))
        if not 3 <= len(self.polygon) <= MAX_POLYGON_VERTICES:
            raise WorldError(f"edit polygon has {len(self.polygon)} vertices; 3 to {MAX_POLYGON_VERTICES} are allowed")
        if len(set(self.polygon)) < 3:
            raise WorldError("edit polygon needs three distinct vertices")
        for longitude, latitude in self.polygon:
            if not (math.isfinite(longitude) and math.isfinite(latitude)) or abs(longitude) > 180 or abs(latitude) > 90:
                raise WorldError(
                    f"edit vertex ({longitude}, {latitude}) is not a longitude in -180..180 and a latitude in -90..90"
                )
        _check_prompt(self.prompt, "edit prompt")
        if not self.prompt:
            raise WorldError("edit prompt is empty; say what should be there")
        for name, value in (("valid_from", self.valid_from), ("valid_until", self.valid_until)):
            if value is not None:
                _check_date(value, f"edit {name}")
        if self.valid_from and self.valid_until and self.valid_from >= self.valid_until:
            raise WorldError(f"edit valid_from {self.valid_from} is not before valid_until {self.valid_until}")

    def to_dict(self) -> dict[str, Any]:
        """The edit as plain JSON types."""
        return {
            "polygon": [list(vertex) for vertex in self.polygon],
            "prompt": self.prompt,
            "valid_from": self.valid_from,
            "valid_until": self.valid_until,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Edit:
        """Read an edit from JSON types.

        Raises:
            WorldError: unknown keys, missing keys, or values of another type or range.
        """
        _check_keys(value, {"polygon", "prompt", "valid_from", "valid_until"}, "edit")
        try:
            return cls(value["polygon"], value["prompt"], value.get("valid_from"), value.get("valid_until"))
        except KeyError as error:
            raise WorldError(f"edit lacks {error}; it needs polygon and prompt") from error


@dataclass(frozen=True, slots=True)
class World:
    """An immutable world.

    Attributes:
        root: where it starts: the real "earth", or a generated "planet".
        seed: 0 .. 2**63 - 1; chooses every detail that the root does not fix, and for a planet the root too.
        prompt: text that guides generation; "" means none.
        edits: changes, later ones on top of earlier ones.

    Raises:
        WorldError: a value outside its range.
    """

    root: Root = "earth"
    seed: int = 0
    prompt: str = ""
    edits: tuple[Edit, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "edits", tuple(self.edits))
        if self.root not in ROOTS:
            raise WorldError(f"root is {self.root!r}; allowed: {', '.join(ROOTS)}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed <= MAX_SEED:
            raise WorldError(f"seed is {self.seed!r}; an integer from 0 to {MAX_SEED} is allowed")
        _check_prompt(self.prompt, "prompt")
        if len(self.edits) > MAX_EDITS:
            raise WorldError(f"{len(self.edits)} edits; at most {MAX_EDITS} are allowed")

    @property
    def canonical_json(self) -> str:
        """The one spelling of this value: sorted keys, no spaces, shortest float forms, defaults included."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)

    @property
    def id(self) -> str:
        """Content id: 20 hexadecimal characters of the SHA-256 of `canonical_json`."""
        return hashlib.sha256(self.canonical_json.encode()).hexdigest()[:_ID_CHARACTERS]

    def to_dict(self) -> dict[str, Any]:
        """The world as plain JSON types."""
        return {
            "root": self.root,
            "seed": self.seed,
            "prompt": self.prompt,
            "edits": [edit.to_dict() for edit in self.edits],
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> World:
        """Read a world from JSON types; absent keys take their defaults.

        Raises:
            WorldError: unknown keys, or values of another type or range.
        """
        _check_keys(value, {"root", "seed", "prompt", "edits"}, "world")
        edits = value.get("edits")
        edits = () if edits is None else edits
        if not isinstance(edits, list | tuple) or not all(isinstance(edit, Mapping) for edit in edits):
            raise WorldError("edits must be a list of objects")
        return cls(
            root=value.get("root", "earth"),
            seed=value.get("seed", 0),
            prompt="" if value.get("prompt") is None else value["prompt"],
            edits=tuple(Edit.from_dict(edit) for edit in edits),
        )


def _check_keys(value: Mapping[str, Any], allowed: set[str], what: str) -> None:
    unknown = sorted(set(value) - allowed)
    if unknown:
        raise WorldError(
            f"{what} has unknown keys {', '.join(map(repr, unknown))}; allowed: {', '.join(sorted(allowed))}"
        )


def _check_prompt(prompt: object, what: str) -> None:
    if not isinstance(prompt, str):
        raise WorldError(f"{what} is {prompt!r}; text is allowed")
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise WorldError(f"{what} has {len(prompt)} characters; at most {MAX_PROMPT_CHARACTERS} are allowed")


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
