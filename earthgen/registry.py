"""Names of worlds: the built-in ones, and registered ones as one small file each.

A registered world is `<folder>/worlds/<id>.json` holding its canonical JSON and nothing else. The id is a hash
of that text, so files never change once written, any number of processes may register at once, and a file that
was damaged or edited shows itself.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import threading
from pathlib import Path

from earthgen.errors import RegistryError, UnknownWorldError, WorldError
from earthgen.world import World

BUILT_IN: dict[str, World] = {"earth": World(root="earth", seed=0), "planet": World(root="planet", seed=0)}
"""Names that always exist."""
MAX_WORLDS = 10_000
"""Registered worlds in one folder, so that strangers cannot fill a disk with them."""

_ID = re.compile(r"[0-9a-f]{20}")


class WorldRegistry:
    """The worlds that can be asked for by name.

    Safe to use from several threads, and from several processes on one folder.

    Args:
        folder: the cache folder shared by the command line and the service; None keeps worlds in memory.
        limit: most worlds that may be registered.
    """

    def __init__(self, folder: str | Path | None = None, *, limit: int = MAX_WORLDS) -> None:
        self._folder = None if folder is None else Path(folder) / "worlds"
        self._limit = limit
        self._lock = threading.Lock()
        self._known: dict[str, World] = {}

    def register(self, world: World) -> str:
        """Make a world known by its id.

        Returns:
            The world's id; equal worlds have equal ids, and registering one again changes nothing.

        Raises:
            RegistryError: the folder cannot be written, or holds as many worlds as it may.
        """
        name = world.id
        with self._lock:
            if name in self._known:
                return name
            if self._folder is not None:
                self._write(self._folder / f"{name}.json", world)
            elif len(self._known) >= self._limit:
                raise RegistryError(f"{len(self._known)} worlds are registered; at most {self._limit} are allowed")
            self._known[name] = world
        return name

    def get(self, name: str) -> World:
        """The world of a built-in name or a registered id.

        Raises:
            UnknownWorldError: nobody registered that name here.
            RegistryError: the world's file is damaged or cannot be read.
        """
        if name in BUILT_IN:
            return BUILT_IN[name]
        with self._lock:
            world = self._known.get(name)
            if world is None and self._folder is not None and _ID.fullmatch(name):
                world = self._read(self._folder / f"{name}.json")
                if world is not None:
                    self._known[name] = world
        if world is None:
            raise UnknownWorldError(
                f"world {name!r} is unknown; allowed: {', '.join(BUILT_IN)}, or the id of a registered world"
            )
        return world

    def names(self) -> tuple[str, ...]:
        """The built-in names, then the registered ids in order.

        Raises:
            RegistryError: the folder cannot be read.
        """
        with self._lock:
            registered = set(self._known) | self._stored()
        return (*BUILT_IN, *sorted(registered))

    def _stored(self) -> set[str]:
        if self._folder is None:
            return set()
        try:
            paths = [Path(name) for name in os.listdir(self._folder)]
            return {path.stem for path in paths if path.suffix == ".json" and _ID.fullmatch(path.stem)}
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise RegistryError(f"worlds in {self._folder} cannot be listed: {error.strerror or error}") from error

    def _read(self, path: Path) -> World | None:
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RegistryError(f"world file {path} cannot be read: {error.strerror or error}") from error
        try:
            value = json.loads(text)
            world = World.from_dict(value) if isinstance(value, dict) else None
        except (ValueError, WorldError, RecursionError):
            world = None
        if world is None or world.id != path.stem:
            raise RegistryError(f"world file {path} does not hold world {path.stem}; delete it and register again")
        return world

    def _write(self, path: Path, world: World) -> None:
        if self._is_intact(path):
            return
        stored = self._stored()
        if path.stem not in stored and len(stored) >= self._limit:
            raise RegistryError(f"{len(stored)} worlds are registered; at most {self._limit} are allowed")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # A name of its own for every writer: two processes may register the same world at once.
            descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=".tmp")
            try:
                with os.fdopen(descriptor, "w", encoding="ascii") as file:
                    file.write(world.canonical_json)
                    file.flush()
                    os.fsync(file.fileno())
                os.chmod(temporary, 0o644)
                os.replace(temporary, path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise RegistryError(f"world cannot be registered in {path.parent}: {error.strerror or error}") from error

    def _is_intact(self, path: Path) -> bool:
        try:
            return self._read(path) is not None
        except RegistryError:
            return False
