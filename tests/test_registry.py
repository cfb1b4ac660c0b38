"""Names of worlds, in memory and in a folder that several processes share."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from earthgen.errors import RegistryError, UnknownWorldError
from earthgen.registry import WorldRegistry
from earthgen.world import World
from tests.strategies import worlds

WORLD = World("planet", 7)


def world_file(folder: Path, world: World = WORLD) -> Path:
    return folder / "worlds" / f"{world.id}.json"


@pytest.fixture
def blocked_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in which nothing can be made, for root too: a file stands where `worlds` should be."""
    (tmp_path / "worlds").write_text("in the way")
    yield tmp_path


@pytest.mark.parametrize("in_memory", [True, False])
def test_the_built_in_worlds_are_always_there(in_memory: bool, tmp_path: Path) -> None:
    registry = WorldRegistry(None if in_memory else tmp_path)
    assert registry.names() == ("earth", "planet")
    assert registry.get("earth") == World("earth", 0)
    assert registry.get("planet") == World("planet", 0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(world=worlds())
def test_a_registered_world_is_found_by_another_registry(world: World, tmp_path: Path) -> None:
    name = WorldRegistry(tmp_path).register(world)
    assert name == world.id
    other = WorldRegistry(tmp_path)
    assert other.get(name) == world
    assert name in other.names()
    assert world_file(tmp_path, world).read_text() == world.canonical_json


def test_a_world_in_memory_is_found_again_and_only_there() -> None:
    registry = WorldRegistry()
    assert registry.get(registry.register(WORLD)) == WORLD
    assert registry.names() == ("earth", "planet", WORLD.id)
    with pytest.raises(UnknownWorldError):
        WorldRegistry().get(WORLD.id)


def test_registering_again_changes_nothing(tmp_path: Path) -> None:
    WorldRegistry(tmp_path).register(WORLD)
    before = world_file(tmp_path).stat().st_mtime_ns
    assert WorldRegistry(tmp_path).register(WORLD) == WORLD.id
    assert world_file(tmp_path).stat().st_mtime_ns == before
    assert os.listdir(tmp_path / "worlds") == [f"{WORLD.id}.json"]


def test_an_unwritten_folder_is_not_made_by_looking(tmp_path: Path) -> None:
    registry = WorldRegistry(tmp_path / "cache")
    registry.names()
    with pytest.raises(UnknownWorldError):
        registry.get(WORLD.id)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["", "mars", "EARTH", "../../etc/passwd", "0" * 19, "0" * 20, "\0", "a/b", "é" * 20])
def test_an_unknown_name_is_refused_with_what_is_allowed(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownWorldError, match="allowed: earth, planet, or the id of a registered world"):
        WorldRegistry(tmp_path).get(name)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"root":"mars"}',
        World("planet", 8).canonical_json.encode(),
        b"[" * 100_000,
        WORLD.canonical_json.encode()[:-1],
    ],
)
def test_a_damaged_or_foreign_file_is_named_and_replaced_by_registering(content: bytes, tmp_path: Path) -> None:
    WorldRegistry(tmp_path).register(WORLD)
    world_file(tmp_path).write_bytes(content)
    registry = WorldRegistry(tmp_path)
    with pytest.raises(RegistryError, match=f"{WORLD.id}.json does not hold world {WORLD.id}; delete it"):
        registry.get(WORLD.id)
    registry.register(WORLD)
    assert WorldRegistry(tmp_path).get(WORLD.id) == WORLD


def test_files_that_are_no_worlds_are_not_listed(tmp_path: Path) -> None:
    WorldRegistry(tmp_path).register(WORLD)
    for name in ("README", "x.json", f".{WORLD.id}.abc.tmp", f"{WORLD.id}.json.bak"):
        (tmp_path / "worlds" / name).write_text("{}")
    assert WorldRegistry(tmp_path).names() == ("earth", "planet", WORLD.id)


@pytest.mark.parametrize("in_memory", [True, False])
def test_the_number_of_worlds_is_bounded(in_memory: bool, tmp_path: Path) -> None:
    registry = WorldRegistry(None if in_memory else tmp_path, limit=2)
    registry.register(World(seed=1))
    registry.register(World(seed=2))
    with pytest.raises(RegistryError, match="2 worlds are registered; at most 2 are allowed"):
        registry.register(World(seed=3))
    assert registry.register(World(seed=2)) == World(seed=2).id
    assert len(registry.names()) == 4


def test_a_folder_that_cannot_be_written_is_a_clear_error(blocked_folder: Path) -> None:
    with pytest.raises(RegistryError, match="cannot be"):
        WorldRegistry(blocked_folder).register(WORLD)
    assert os.listdir(blocked_folder) == ["worlds"]


def test_a_read_only_folder_still_gives_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    WorldRegistry(tmp_path).register(WORLD)
    # Permissions would not stop a test that runs as root.
    monkeypatch.setattr(tempfile, "mkstemp", read_only)
    registry = WorldRegistry(tmp_path)
    assert registry.get(WORLD.id) == WORLD
    assert registry.register(WORLD) == WORLD.id
    with pytest.raises(RegistryError, match=r"cannot be registered in .*: Read-only file system"):
        registry.register(World(seed=9))


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RegistryError, match="No space left on device"):
        WorldRegistry(tmp_path).register(WORLD)
    assert os.listdir(tmp_path / "worlds") == []


def test_many_threads_may_register_at_once(tmp_path: Path) -> None:
    registries = [WorldRegistry(tmp_path) for _ in range(4)]
    everything = [World(seed=seed) for seed in range(20)]
    threads = [threading.Thread(target=lambda r=r: [r.register(w) for w in everything]) for r in registries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fresh = WorldRegistry(tmp_path)
    assert set(fresh.names()) == {"earth", "planet", *(world.id for world in everything)}
    assert all(fresh.get(world.id) == world for world in everything)
    assert len(os.listdir(tmp_path / "worlds")) == 20
