"""What goes wrong under a running server: none of it becomes a wrong byte, and the tags follow the pixels."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import obstore
import pytest
from starlette.testclient import TestClient

import earthgen.engine
import earthgen.shared_store
from benchmarks.load import windows_in
from earthgen.denoiser import DetailDenoiser
from earthgen.engine import Engine
from earthgen.errors import WeightsError
from earthgen.shared_store import SharedStore
from earthgen.store import PixelStore
from earthgen.world import STANDARD, World
from tests.test_service_live import eventually
from tests.tiny import open_tiny, ripple_root, save_tiny_weights
from tileserver import Settings, create_app
from tileserver.service import FINGERPRINT_VARIABLE, open_engine

Pixels = npt.NDArray[np.uint8]
WORLD = World(root="planet", seed=7)
TILE = (8, 130, 90)
ADDRESS = "/worlds/planet/tiles/WebMercatorQuad/8/130/90.png?seed=7"
NEXT = "/worlds/planet/tiles/WebMercatorQuad/8/134/90.png?seed=7"
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(autouse=True)
def ripples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(earthgen.engine, "open_root", ripple_root)


@pytest.fixture(scope="module")
def expected(weights: Path) -> Iterator[dict[str, bytes]]:
    """Two tiles of a server that nothing has happened to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(earthgen.engine, "open_root", ripple_root)
        with TestClient(create_app(Settings(), lambda _: open_tiny(weights))) as client:
            yield {address: client.get(address).content for address in (ADDRESS, NEXT)}


def content(key: str) -> Pixels:
    """What belongs under a key."""
    return np.random.default_rng(len(key)).integers(0, 256, (16, 16, 3), dtype=np.uint8)


# Worker killed


def test_whoever_waits_for_a_window_of_a_worker_that_is_killed_makes_it(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from earthgen.store import PixelStore\n"
        "def compute(): print('begun', flush=True); time.sleep(600)\n"
        "PixelStore(Path(sys.argv[1]), 0, 1 << 20).get_or_compute('a', compute)"
    )
    worker = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "begun\n"
        store = PixelStore(tmp_path, MEGABYTE, MEGABYTE)
        with ThreadPoolExecutor(1) as other:
            waiting = other.submit(store.get_or_compute, "a", lambda: content("a"))
            time.sleep(0.2)
            # It is being made already.
            assert not waiting.done()
            worker.send_signal(signal.SIGKILL)
            assert np.array_equal(waiting.result(30), content("a"))
    finally:
        worker.kill()
        worker.communicate()


# Store slow


def test_a_slow_store_is_left_alone(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with open_tiny(weights) as engine:
        pixels = engine.tile(WORLD, *TILE)
    url = (tmp_path / "shared").as_uri()
    real: dict[str, Any] = {"get": obstore.get, "put": obstore.put}
    calls = {"get": 0, "put": 0}

    def slowly(name: str) -> Any:
        def call(*arguments: Any) -> Any:
            calls[name] += 1
            time.sleep(0.3)
            return real[name](*arguments)

        return call

    monkeypatch.setattr(earthgen.shared_store, "_SLOW_S", 0.2)
    monkeypatch.setattr(obstore, "get", slowly("get"))
    monkeypatch.setattr(obstore, "put", slowly("put"))
    with open_tiny(weights, store=url) as engine:
        assert np.array_equal(engine.tile(WORLD, *TILE), pixels)
        made = engine.activity().done
        # One round of questions, side by side, and what the writers had begun; not one of each for every window.
        assert calls["get"] <= 5 < made
        assert np.array_equal(engine.tile(WORLD, 8, 134, 90), engine.tile(WORLD, 8, 134, 90))
        assert calls["get"] <= 5
    assert calls["put"] <= 2 * earthgen.shared_store._WRITERS
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == len(set(warnings)) == 2
    assert "cannot be read (an answer took 0." in warnings[0]


# Store full


def test_a_full_cache_costs_speed_and_no_tile(
    weights: Path, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object, **__: object) -> None:
        raise obstore.exceptions.GenericError("No space left on device (os error 28)")

    engine = open_tiny(weights, tmp_path, memory_bytes=0)
    with TestClient(create_app(Settings(cache=tmp_path, encoded_bytes=0), lambda _: engine)) as client:
        monkeypatch.setattr(obstore, "put", no_space)
        for address in (ADDRESS, NEXT, ADDRESS):
            answer = client.get(address)
            assert (answer.status_code, answer.content) == (200, expected[address])
        assert client.get("/readyz").status_code == 200
    assert engine.counts.write_errors > 0
    assert windows_in(tmp_path) == 0


# Store corrupted


def test_flipped_bits_in_every_cached_window_are_found_and_the_windows_made_again(
    weights: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    with TestClient(create_app(Settings(cache=tmp_path), lambda _: open_tiny(weights, tmp_path))) as client:
        assert client.get(ADDRESS).content == expected[ADDRESS]
    files = [path for path in (tmp_path / "pixels").rglob("*") if path.is_file()]
    whole = {path: path.read_bytes() for path in files}
    for number, path in enumerate(files):
        data = bytearray(whole[path])
        # Magic, checksum, shape, and pixels near both ends and in the middle.
        data[(0, 7, 21, 40, len(data) // 2, len(data) - 1)[number % 6]] ^= 1 << number % 8
        path.write_bytes(data)
    engine = open_tiny(weights, tmp_path)
    with TestClient(create_app(Settings(cache=tmp_path), lambda _: engine)) as client:
        answer = client.get(ADDRESS)
        assert (answer.headers["x-cache"], answer.content) == ("MISS", expected[ADDRESS])
    assert engine.counts.damaged == len(files) > 6
    assert {path: path.read_bytes() for path in files} == whole


# Clock jump


def test_a_clock_that_jumps_does_not_keep_a_store_at_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, wall = [1000.0], [1.7e9]
    clock = SimpleNamespace(monotonic=lambda: now[0], time=lambda: wall[0])
    monkeypatch.setattr(earthgen.shared_store, "time", clock)
    shared = SharedStore((tmp_path / "shared").as_uri())
    real = obstore.get

    def refused(*_: object) -> None:
        raise OSError("connection reset")

    shared.write("a", content("a"))
    eventually(lambda: shared.counts.written == 1)
    monkeypatch.setattr(obstore, "get", refused)
    assert shared.read("a") is None
    monkeypatch.setattr(obstore, "get", real)
    wall[0] += 86400
    assert shared.read("a") is None, "it rests still"
    wall[0] -= 2 * 86400
    now[0] += earthgen.shared_store._PAUSE_S + 1
    assert shared.read("a") is not None
    shared.close()


def test_entries_of_a_clock_that_was_ahead_go_first(tmp_path: Path) -> None:
    size = content("x").nbytes + 32
    store = PixelStore(tmp_path, 0, 40 * size)
    for index in range(38):
        store.get_or_compute(f"ahead/{index}", lambda: content("x"))
    for path in (tmp_path / "pixels" / "ahead").iterdir():
        os.utime(path, (4e9, 4e9))
    for index in range(30):
        store.get_or_compute(f"now/{index}", lambda: content("x"))
    assert all(store.get(f"now/{index}") is not None for index in range(30))
    assert sum(store.get(f"ahead/{index}") is not None for index in range(38)) <= 13


# Weights swapped


def overwrite(folder: Path, others: Path) -> None:
    """New weights in the same files, as `cp` writes them: whoever has a file mapped sees the new bytes."""
    for file in others.iterdir():
        if file.is_file():
            with (folder / file.name).open("r+b") as target:
                target.write(file.read_bytes())
                target.truncate()


def test_weights_swapped_under_a_running_server_change_nothing_until_it_is_restarted(
    weights: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(weights, folder)
    others = save_tiny_weights(tmp_path / "others", seed=1)
    cache = tmp_path / "cache"
    settings = Settings(weights=str(folder), cache=cache)
    with TestClient(create_app(settings, lambda _: open_tiny(folder, cache))) as client:
        first = client.get(ADDRESS)
        version = client.get("/readyz").json()["version"]
        overwrite(folder, others)
        # Not made yet when the weights were swapped.
        later = client.get(NEXT)
        assert [first.content, later.content] == [expected[ADDRESS], expected[NEXT]]
        assert later.headers["x-earthgen"] == first.headers["x-earthgen"]
        assert client.get("/readyz").json()["version"] == version
        tag = client.get(NEXT).headers["etag"]
        assert tag == later.headers["etag"]
    with TestClient(create_app(settings, lambda _: open_tiny(folder, cache))) as client:
        assert client.get("/readyz").json()["version"] != version
        new = client.get(NEXT, headers={"If-None-Match": tag})
        assert new.status_code == 200
        assert new.headers["etag"] != tag
        assert new.headers["x-cache"] == "MISS"
        assert new.headers["x-earthgen"] != first.headers["x-earthgen"]
        with open_tiny(others) as alone, TestClient(create_app(Settings(), lambda _: alone)) as other:
            assert new.content == other.get(NEXT).content != expected[NEXT]


def test_weights_that_change_while_they_are_loaded_are_refused(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(weights, folder)
    others = save_tiny_weights(tmp_path / "others", seed=1)
    kind = DetailDenoiser
    real = kind.from_pretrained

    def load(*arguments: Any, **options: Any) -> Any:
        loaded = real(*arguments, **options)
        overwrite(folder, others)
        return loaded

    monkeypatch.setattr(kind, "from_pretrained", load)
    with pytest.raises(WeightsError, match="changed while they were loaded"):
        open_tiny(folder)


def test_a_worker_that_finds_other_weights_than_the_rest_does_not_serve(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = save_tiny_weights(tmp_path / "others", seed=1)
    with open_tiny(weights) as engine:
        monkeypatch.setenv(FINGERPRINT_VARIABLE, engine.fingerprint)
    same = open_engine(Settings(weights=str(weights)))
    same.close()
    with pytest.raises(WeightsError, match="since the server was started; restart it"):
        open_engine(Settings(weights=str(others)))


# What is counted


def test_a_window_that_another_worker_makes_is_counted_there_alone(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_tiny(weights, tmp_path) as one, open_tiny(weights, tmp_path) as two, ThreadPoolExecutor(2) as clients:
        step = one._kits[STANDARD].step
        compute, begun, go_on = step.window, threading.Event(), threading.Event()

        def slow(*arguments: Any) -> Pixels:
            begun.set()
            assert go_on.wait(30)
            return compute(*arguments)

        monkeypatch.setattr(step, "window", slow)
        first = clients.submit(one.tile, WORLD, *TILE)
        assert begun.wait(30)
        second = clients.submit(two.tile, WORLD, *TILE)
        eventually(lambda: bool(two.activity().running))
        go_on.set()
        assert np.array_equal(first.result(60), second.result(60))
        assert computed(one) + computed(two) == windows_in(tmp_path)


def computed(engine: Engine) -> int:
    return engine.activity().done
