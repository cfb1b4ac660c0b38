"""Windows that machines share: the second computes none, and no fault of the store becomes a wrong byte."""

from __future__ import annotations

import logging
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import obstore
import pytest
from hypothesis import given
from hypothesis import strategies as st

import earthgen.engine
from earthgen.cli import main
from earthgen.entries import decode_entry, encode_entry
from earthgen.errors import StoreError
from earthgen.shared_store import SharedStore
from earthgen.store import PixelStore
from earthgen.world import World
from tests import s3_server
from tests.tiny import open_tiny, ripple_root, save_tiny_weights
from tileserver.service import open_engine
from tileserver.settings import Settings

Pixels = npt.NDArray[np.uint8]
WORLD = World("planet", 7)
TILE = (8, 130, 90)
NOBODY = "http://127.0.0.1:9"


class Bucket:
    """A bucket of a server on this machine that speaks S3."""

    def __init__(self, client: Any, name: str) -> None:
        self.client = client
        self.name = name
        self.url = f"s3://{name}/some/prefix"

    def names(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def read(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return content

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=data)


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials that everybody has, and no settings from the environment."""
    s3_server.only_this_server(monkeypatch, NOBODY)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(earthgen.engine, "open_root", ripple_root)


@pytest.fixture
def bucket(s3_address: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Bucket:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_address)
    client = s3_server.client(s3_address)
    name = f"bucket-{abs(hash(request.node.name)) % 10**9}"
    client.create_bucket(Bucket=name)
    return Bucket(client, name)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_weights(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def expected(weights: Path) -> Pixels:
    """A tile of an engine that shares nothing."""
    with pytest.MonkeyPatch.context() as patch, open_tiny(weights) as engine:
        patch.setattr(earthgen.engine, "open_root", ripple_root)
        return engine.tile(WORLD, *TILE)


def content(key: str) -> Pixels:
    """What belongs under a key."""
    seed = int.from_bytes(key.encode(), "little") % 2**32
    return np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def never() -> Pixels:
    raise AssertionError("computed what is shared")


@given(name=st.text(min_size=1), other=st.text(), data=st.data())
def test_an_entry_is_valid_under_its_own_name_and_undamaged_only(name: str, other: str, data: st.DataObject) -> None:
    entry = encode_entry(content("a"), name)
    back = decode_entry(entry, name)
    assert back is not None
    assert np.array_equal(back, content("a"))
    if other != name:
        assert decode_entry(entry, other) is None
    damaged = bytearray(entry)
    damaged[data.draw(st.integers(0, len(entry) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert decode_entry(bytes(damaged), name) is None


@pytest.mark.parametrize("kind", ["s3", "file"])
def test_the_second_machine_computes_nothing(
    kind: str, bucket: Bucket, weights: Path, expected: Pixels, tmp_path: Path
) -> None:
    url = bucket.url if kind == "s3" else (tmp_path / "a folder").as_uri()
    with open_tiny(weights, tmp_path / "first", store=url) as first:
        assert np.array_equal(first.tile(WORLD, *TILE), expected)
        computed = first.counts.computed
    assert computed > 4
    assert first.counts.shared.written == computed
    with open_tiny(weights, tmp_path / "second", store=url) as second:
        assert np.array_equal(second.tile(WORLD, *TILE), expected)
        assert second.counts.computed == 0
        # Only the tile's own windows are fetched, not what they were made from.
        assert second.counts.shared.hits == 4
        assert second.counts.shared.written == 0
    # What was fetched is this machine's now.
    with open_tiny(weights, tmp_path / "second") as alone:
        assert np.array_equal(alone.tile(WORLD, *TILE), expected)
        assert alone.counts.computed == 0
    if kind == "s3":
        assert len(bucket.names()) == computed
        assert all(key.startswith("some/prefix/") for key in bucket.names())


def test_other_weights_share_nothing(bucket: Bucket, weights: Path, expected: Pixels, tmp_path: Path) -> None:
    others = save_tiny_weights(tmp_path / "others", seed=1)
    with open_tiny(others, store=bucket.url) as engine:
        assert not np.array_equal(engine.tile(WORLD, *TILE), expected)
    with open_tiny(weights, store=bucket.url) as engine:
        assert np.array_equal(engine.tile(WORLD, *TILE), expected)


def test_a_flipped_bit_a_cut_and_a_renamed_object_are_misses(
    bucket: Bucket, weights: Path, expected: Pixels, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_tiny(weights, store=bucket.url) as first:
        first.tile(WORLD, *TILE)
    whole = {key: bucket.read(key) for key in bucket.names()}
    finest = sorted(key for key in whole if f"/{TILE[0]}/" in key)
    flipped = bytearray(whole[finest[0]])
    flipped[-1] ^= 1
    bucket.put(finest[0], bytes(flipped))
    bucket.put(finest[1], whole[finest[1]][:-100])
    bucket.put(finest[2], whole[finest[3]])
    bucket.put(finest[3], b"")
    with open_tiny(weights, store=bucket.url) as second:
        assert np.array_equal(second.tile(WORLD, *TILE), expected)
        assert second.counts.computed == 4
        assert second.counts.shared.damaged == 4
    assert "damaged" in caplog.text
    # And healed for the next.
    assert {key: bucket.read(key) for key in bucket.names()} == whole


def test_what_another_machine_finished_meanwhile_is_not_computed(bucket: Bucket, tmp_path: Path) -> None:
    here = PixelStore(None, 1 << 20, 0, SharedStore(bucket.url))
    there = PixelStore(tmp_path / "there", 1 << 20, 1 << 20, SharedStore(bucket.url))
    here.get_or_compute("a/b", lambda: content("a/b"))
    here.close()
    assert np.array_equal(there.get_or_compute("a/b", never), content("a/b"))
    assert there.counts.shared.hits == 1
    there.close()


def test_many_are_read_side_by_side_and_misses_are_not_asked_for_again(bucket: Bucket) -> None:
    keys = [f"world/8/0-0/{row}-1" for row in range(40)]
    here = PixelStore(None, 1 << 20, 0, SharedStore(bucket.url))
    for key in keys[:30]:
        here.get_or_compute(key, lambda key=key: content(key))  # type: ignore[misc]
    here.close()
    shared = SharedStore(bucket.url)
    there = PixelStore(None, 1 << 20, 0, shared)
    found = there.get_many([*keys, keys[0]])
    assert list(found) == keys[:30]
    assert all(np.array_equal(pixels, content(key)) for key, pixels in found.items())
    bucket.put(f"some/prefix/{keys[30]}", encode_entry(content(keys[30]), keys[30]))
    assert shared.read(keys[30]) is None
    shared._missed.clear()
    assert shared.read(keys[30]) is not None
    there.close()


def test_a_store_that_fails_later_costs_speed_and_no_answer(
    weights: Path, expected: Pixels, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    server = ExitStack()
    address = server.enter_context(s3_server.serving())
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    s3_server.client(address).create_bucket(Bucket="windows")
    with open_tiny(weights, tmp_path / "cache", store="s3://windows") as engine:
        server.close()
        assert np.array_equal(engine.tile(WORLD, *TILE), expected)
        assert engine.counts.shared.errors >= 1
        assert engine.counts.shared.hits == engine.counts.shared.written == 0
    # Not those of libraries that other tests of this process have left threads of.
    own = [record for record in caplog.records if record.name.startswith("earthgen")]
    warnings = [record.getMessage() for record in own if record.levelno == logging.WARNING]
    assert len(warnings) == len(set(warnings)) <= 2
    assert "the shared store s3://windows cannot be read" in warnings[0]
    assert "\n" not in warnings[0]


def test_a_store_that_comes_back_is_used_again(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = SharedStore(bucket.url)
    real = obstore.get

    def refused(*_: object) -> None:
        raise OSError("connection reset")

    monkeypatch.setattr(obstore, "get", refused)
    assert shared.read("a") is None
    monkeypatch.setattr(obstore, "get", real)
    bucket.put("some/prefix/a", encode_entry(content("a"), "a"))
    assert shared.read("a") is None  # It rests.
    shared._reading._until = 0.0
    assert shared.read("a") is not None
    shared.close()


def test_a_store_that_cannot_be_written_is_still_read(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put("some/prefix/a", encode_entry(content("a"), "a"))

    def refused(*_: object) -> None:
        raise obstore.exceptions.PermissionDeniedError("403 Forbidden")

    monkeypatch.setattr(obstore, "put", refused)
    store = PixelStore(None, 1 << 20, 0, SharedStore(bucket.url))
    assert np.array_equal(store.get_or_compute("b", lambda: content("b")), content("b"))
    store.close()
    assert store.counts.shared.errors == 1
    assert np.array_equal(store.get_or_compute("a", never), content("a"))


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("s3://", "file:///folder and s3://bucket/prefix are allowed"),
        ("windows", "file:///folder and s3://bucket/prefix are allowed"),
        ("file://relative/folder", "file:///folder and s3://bucket/prefix are allowed"),
        ("ftp://somewhere/windows", "file:///folder and s3://bucket/prefix are allowed"),
        ("s3://windows/a?region=x", "file:///folder and s3://bucket/prefix are allowed"),
        ("s3://me:secret@windows/a", "must not hold credentials"),
        ("s3://no-such-bucket/a", "cannot be used"),
        ("file:///dev/null/windows", "cannot be used"),
    ],
)
def test_an_address_that_cannot_be_is_one_sentence(url: str, sentence: str, bucket: Bucket) -> None:
    with pytest.raises(StoreError, match=sentence) as caught:
        SharedStore(url)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("command", [["tile", "5", "1", "1", "-o", "a.png"], ["serve", "--port", "0"]])
def test_an_unreachable_store_is_one_line_and_exit_code_2(
    command: list[str],
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EARTHGEN_STORE", "s3://windows/shared")
    assert main([*command, "--weights", str(weights), "--no-cache"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("earthgen: the shared store s3://windows/shared cannot be used: ")
    assert not (tmp_path / "a.png").exists()


def test_the_service_shares_with_the_command_line(
    bucket: Bucket, weights: Path, expected: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["tile", *map(str, TILE), "--root", "planet", "--seed", "7", "-o", str(tmp_path / "a.png"), "--no-cache"]
    assert main([*words, "--weights", str(weights), "--store", bucket.url]) == 0
    monkeypatch.setenv("EARTHGEN_STORE", bucket.url)
    engine = open_engine(Settings(weights=str(weights)))
    assert isinstance(engine, earthgen.engine.Engine)
    with engine:
        assert np.array_equal(engine.tile(WORLD, *TILE), expected)
        assert engine.counts.computed == 0


def test_help_loads_no_store() -> None:
    code = "import sys, earthgen.cli; sys.exit('obstore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
