"""Dumps whose windows go through a store that machines share, and dumps of other qualities."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import earthgen.engine
from earthgen.cli import main
from earthgen.engine import Engine
from earthgen.errors import StoreError
from tests import s3_server
from tests.fake_dump import PaintingMaker, PaintingOpener
from tests.tiny import ripple_root, save_tiny_weights
from trainingsets.folder import DumpFolder
from trainingsets.making import EngineMaker, EngineOpener
from trainingsets.running import run
from trainingsets.spec import DumpSpec
from trainingsets.tasks import TASKS, item_of

WORDS = ["--task", "super-resolution", "--roots", "planet", "--size", "64", "--gsd", "2.4", "--splits", "1,0,0"]
COUNT = 3


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch, s3_address: str) -> None:
    """Credentials that everybody has, and no settings from the environment."""
    s3_server.only_this_server(monkeypatch, s3_address)
    monkeypatch.delenv("EARTHGEN_CACHE", raising=False)
    monkeypatch.setattr(earthgen.engine, "open_root", ripple_root)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_weights(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    """The engines that dumps open from now on."""
    opened: list[Engine] = []
    open_ = EngineOpener.open

    @contextmanager
    def noted(self: EngineOpener) -> Iterator[EngineMaker]:
        with open_(self) as maker:
            assert isinstance(maker.engine, Engine)
            opened.append(maker.engine)
            yield maker

    monkeypatch.setattr(EngineOpener, "open", noted)
    return opened


def dump(path: Path, weights: Path, *words: str) -> int:
    return main(["dump", *WORDS, "--count", str(COUNT), "--weights", str(weights), "-q", "-o", str(path), *words])


def contents(path: Path) -> dict[str, bytes]:
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_the_second_machine_takes_finished_windows_from_the_store(
    tmp_path: Path, weights: Path, s3_address: str, engines: list[Engine]
) -> None:
    s3_server.client(s3_address).create_bucket(Bucket="windows")
    for name in ("first", "second"):
        assert (
            dump(tmp_path / name, weights, "--store", "s3://windows/dumps", "--cache", str(tmp_path / f"c{name}")) == 0
        )
    first, second = engines
    assert first.counts.computed > COUNT and first.counts.shared.written == first.counts.computed
    assert second.counts.computed == 0 and second.counts.shared.hits > 0
    assert dump(tmp_path / "alone", weights, "--cache", str(tmp_path / "calone")) == 0
    # A store decides about speed and not about bytes, so nothing in the dump speaks of it.
    assert contents(tmp_path / "first") == contents(tmp_path / "second") == contents(tmp_path / "alone")


def test_an_unreachable_store_is_one_sentence_and_what_is_finished_stays(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, cache = tmp_path / "dump", ("--cache", str(tmp_path / "cache"))
    assert dump(path, weights, *cache, "--limit-bytes", "1") == 0
    assert dump(path, weights, *cache, "--resume", "--limit-time", "0") == 0
    before = contents(path)
    capsys.readouterr()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert dump(path, weights, *cache, "--resume", "--store", "s3://windows/dumps") == 2
    says = capsys.readouterr().err
    assert says.startswith("earthgen: the shared store s3://windows/dumps cannot be used: ") and says.count("\n") == 1
    assert contents(path) == before
    assert dump(path, weights, *cache, "--resume") == 0
    assert dump(tmp_path / "undisturbed", weights, *cache) == 0
    assert contents(path) == contents(tmp_path / "undisturbed")


@dataclass(frozen=True)
class LostStore(PaintingOpener):
    """A store that is gone when a worker begins."""

    @contextmanager
    def open(self) -> Iterator[PaintingMaker]:
        raise StoreError("the shared store s3://windows cannot be used: nobody answers")
        yield


def test_workers_that_cannot_reach_the_store_say_so(tmp_path: Path) -> None:
    spec = DumpSpec(task="classification", format="hf", count=4, size=64)
    folder = DumpFolder.create(tmp_path / "dump", spec, {"weights": "paint", "fingerprint": "paint-1"}, resume=False)
    with pytest.raises(StoreError, match="s3://windows cannot be used: nobody answers"):
        run(folder, LostStore(), backend="process", workers=2)
    assert folder.missing(0, 4) == [0, 1, 2, 3]
    assert run(folder, PaintingOpener(), backend="process", workers=2).complete


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_world_of_a_dump_is_of_its_quality(task: str) -> None:
    for quality in ("draft", "best"):
        spec = DumpSpec(task=task, format="hf", count=4, size=64, gsds=(0.6,), quality=quality)
        sample = TASKS[task].make(PaintingMaker(), item_of(spec, 1))
        assert {view.world.quality for view in sample.views.values()} == {quality}


def test_the_quality_is_in_the_manifest_the_datasheet_and_the_command(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {}
    for quality in ("draft", "standard"):
        path = tmp_path / quality
        assert dump(path, weights, "--quality", quality, "--cache", str(tmp_path / "cache")) == 0
        made[quality] = contents(path)
        lines = [json.loads(line) for line in (path / "manifest.jsonl").read_text().splitlines()]
        assert {world.get("quality", "standard") for line in lines for world in line["worlds"].values()} == {quality}
        text = (path / "README.md").read_text()
        assert f"Detail is of quality `{quality}`." in text
        assert (f"--quality {quality}" in text) == (quality != "standard")
    pictures = [name for name in made["draft"] if name.startswith("train/high/")]
    assert len(pictures) == COUNT
    assert all(made["draft"][name] != made["standard"][name] for name in pictures)
    capsys.readouterr()
    assert dump(tmp_path / "draft", weights, "--quality", "best", "--resume") == 2
    assert "quality draft there, best here" in capsys.readouterr().err
    assert dump(tmp_path / "none", weights, "--quality", "fine") == 2
    assert "quality is 'fine'; allowed: draft, standard, best" in capsys.readouterr().err
