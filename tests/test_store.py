"""The store of finished windows: never a wrong byte, whatever happens to the folder or to the process."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import obstore
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from earthgen.entries import decode_entry, encode_entry
from earthgen.store import PixelStore

Pixels = npt.NDArray[np.uint8]
MEGABYTE = 1 << 20
keys = st.sampled_from([f"world/{zoom}/0-0/{row}-1" for zoom in (6, 8) for row in range(4)])


def content(key: str) -> Pixels:
    """What belongs under a key."""
    seed = int.from_bytes(key.encode(), "little") % 2**32
    return np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def files(folder: Path) -> list[Path]:
    return [path for path in (folder / "pixels").rglob("*") if path.is_file()]


@given(pixels=npst.arrays(np.uint8, npst.array_shapes(min_dims=3, max_dims=3, max_side=6)), data=st.data())
def test_an_entry_reads_back_and_any_damage_is_noticed(pixels: Pixels, data: st.DataObject) -> None:
    entry = encode_entry(pixels)
    back = decode_entry(entry)
    assert back is not None
    assert np.array_equal(back, pixels)
    position = data.draw(st.integers(0, len(entry) - 1))
    damaged = bytearray(entry)
    damaged[position] ^= data.draw(st.integers(1, 255))
    assert decode_entry(bytes(damaged)) is None
    assert decode_entry(entry[:position]) is None
    assert decode_entry(entry + b"x") is None


class StoreMachine(RuleBasedStateMachine):
    """Whatever is done to a store and its folder, a key gives its content."""

    def __init__(self) -> None:
        super().__init__()
        self.known: set[str] = set()

    @initialize(tmp=st.uuids())
    def open_first(self, tmp: object) -> None:
        self.folder = Path(os.environ["STORE_MACHINE_FOLDER"]) / str(tmp)
        self.reopen(MEGABYTE)

    @rule(memory=st.sampled_from([0, 2000, MEGABYTE]))
    def reopen(self, memory: int) -> None:
        self.store = PixelStore(self.folder, memory, 100 * MEGABYTE)

    @rule(key=keys)
    def compute(self, key: str) -> None:
        assert np.array_equal(self.store.get_or_compute(key, lambda: content(key)), content(key))
        self.known.add(key)

    @rule(key=keys)
    def get(self, key: str) -> None:
        pixels = self.store.get(key)
        assert pixels is None or np.array_equal(pixels, content(key))
        assert pixels is not None or key not in self.known

    @rule(key=keys, cut=st.booleans())
    def damage(self, key: str, cut: bool) -> None:
        path = self.folder / "pixels" / key
        if path.exists():
            data = path.read_bytes()
            path.write_bytes(data[: len(data) // 2] if cut else data[:-1] + bytes([data[-1] ^ 1]))
            self.known.discard(key)

    @rule(key=keys)
    def remove(self, key: str) -> None:
        (self.folder / "pixels" / key).unlink(missing_ok=True)
        self.known.discard(key)

    @invariant()
    def nothing_foreign(self) -> None:
        assert self.store.counts.write_errors == 0


def test_store_against_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_MACHINE_FOLDER", str(tmp_path))
    logging.getLogger("earthgen.store").setLevel(logging.ERROR)
    run_state_machine_as_test(StoreMachine, settings=settings(max_examples=30, stateful_step_count=20))


def test_threads_compute_an_entry_once(tmp_path: Path) -> None:
    store = PixelStore(tmp_path, MEGABYTE, MEGABYTE)
    calls = []

    def compute() -> Pixels:
        calls.append(1)
        time.sleep(0.05)
        return content("a")

    threads = [threading.Thread(target=store.get_or_compute, args=("a", compute)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_the_folder_stays_within_its_bound(tmp_path: Path) -> None:
    size = len(encode_entry(content("x")))
    store = PixelStore(tmp_path, 0, 40 * size)
    for index in range(200):
        store.get_or_compute(f"world/6/0-0/{index}-0", partial(content, str(index)))
        assert sum(path.stat().st_size for path in files(tmp_path)) <= 43 * size
    assert store.counts.evicted >= 150
    assert store.get("world/6/0-0/199-0") is not None
    assert store.get("world/6/0-0/0-0") is None


def test_memory_stays_within_its_bound() -> None:
    store = PixelStore(None, 10_000, 0)
    for index in range(100):
        store.get_or_compute(str(index), partial(content, str(index)))
    kept = sum(store.get(str(index)) is not None for index in range(100))
    assert kept == 10_000 // (content("0").nbytes + 256)


def test_an_entry_larger_than_memory_is_still_answered() -> None:
    store = PixelStore(None, 10, 0)
    assert np.array_equal(store.get_or_compute("a", lambda: content("a")), content("a"))


def no_space(*_: object, **__: object) -> None:
    raise obstore.exceptions.GenericError("No space left on device (os error 28)")


def test_a_full_disk_costs_speed_and_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PixelStore(tmp_path, MEGABYTE, MEGABYTE)
    monkeypatch.setattr(obstore, "put", no_space)
    for key in ("a", "b"):
        assert np.array_equal(store.get_or_compute(key, partial(content, key)), content(key))
    assert store.counts.write_errors == 2
    assert files(tmp_path) == []


def test_a_cache_that_cannot_be_a_folder_costs_speed_and_no_answer(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = PixelStore(tmp_path / "file" / "cache", MEGABYTE, MEGABYTE)
    assert np.array_equal(store.get_or_compute("a", lambda: content("a")), content("a"))
    assert store.counts.write_errors >= 1


def test_a_failed_computation_leaves_nothing(tmp_path: Path) -> None:
    store = PixelStore(tmp_path, MEGABYTE, MEGABYTE)
    with pytest.raises(ZeroDivisionError):
        store.get_or_compute("a", lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    assert store.get("a") is None
    assert np.array_equal(store.get_or_compute("a", lambda: content("a")), content("a"))


WRITER = """
import sys, json
from pathlib import Path
from tests.test_store import content
from earthgen.store import PixelStore
import os
print("ready", flush=True)
for line in sys.stdin:
    folder = Path(line.strip())
    child = os.fork()
    if child == 0:
        store = PixelStore(folder, 0, 1 << 30)
        index = 0
        while True:
            key = f"world/8/0-0/{index % 500}-0"
            store.get_or_compute(key, lambda: content(key))
            store._delete(key) if index % 3 == 0 else None
            index += 1
            if index == 2:  # It writes by now, however busy the machine is.
                print(json.dumps(os.getpid()), flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


def test_killed_50_times_while_writing_no_entry_is_wrong(tmp_path: Path) -> None:
    chance = random.Random(0)
    writer = subprocess.Popen([sys.executable, "-c", WRITER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdin is not None
    assert writer.stdout is not None
    read: Callable[[], str] = writer.stdout.readline
    try:
        assert read() == "ready\n"
        for _ in range(50):
            writer.stdin.write(f"{tmp_path}\n")
            writer.stdin.flush()
            child = json.loads(read())
            time.sleep(chance.uniform(0.0, 0.05))
            os.kill(child, signal.SIGKILL)
            assert read() == "dead\n"
    finally:
        writer.stdin.close()
        writer.wait(30)
        writer.stdout.close()
    store = PixelStore(tmp_path, 0, 1 << 30)
    found = 0
    for index in range(500):
        key = f"world/8/0-0/{index}-0"
        pixels = store.get(key)
        if pixels is not None:
            found += 1
            assert np.array_equal(pixels, content(key))
    assert found > 0
    assert store.counts.damaged == 0
    # No lock outlives its owner: everything can be computed now.
    for index in range(500):
        key = f"world/8/0-0/{index}-0"
        assert np.array_equal(store.get_or_compute(key, partial(content, key)), content(key))
