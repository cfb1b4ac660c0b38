"""`earthgen dump` and `earthgen inspect` as people run them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from earthgen.cli import main
from tests.fake_dump import PaintingMaker, PaintingOpener
from trainingsets import planning
from trainingsets.folder import DumpFolder
from trainingsets.inspection import fingerprint, inspect_folder
from trainingsets.making import EngineOpener
from trainingsets.running import run
from trainingsets.spec import DumpSpec

SMALL = ["--size", "64", "--tiles-per-scene", "1", "--same-day", "-q"]


@pytest.fixture(autouse=True)
def painted(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_(self: EngineOpener) -> AbstractContextManager[PaintingMaker]:
        return PaintingOpener().open()

    monkeypatch.setattr(EngineOpener, "open", open_)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def dump(*words: str) -> int:
    return main(["dump", *words, *SMALL])


def test_help_loads_nothing_heavy() -> None:
    script = """
import sys
from earthgen.cli import main
main(["dump", "--help"])
main(["inspect", "--help"])
main(["--help"])
heavy = {"torch", "scipy", "rasterio", "pyarrow", "numpy"} & {name.split(".")[0] for name in sys.modules}
print("HEAVY", sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    assert "--limit-bytes" in done.stdout and "change-caption" in done.stdout
    assert done.stdout.endswith("HEAVY []\n")


def test_the_contract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pairs"
    words = ["--task", "change-detection", "--format", "levir-cd", "--count", "6", "--seed", "1", "-o", str(path)]
    assert dump(*words) == 0
    assert capsys.readouterr().out == f"{path}: 6 items, complete; see {path / 'README.md'}\n"
    assert len(list((path / "A").iterdir())) == len(list((path / "label").iterdir())) == 6
    assert dump(*words) == 2
    assert "go on with it by --resume" in capsys.readouterr().err
    assert dump(*words, "--resume") == 0
    assert main(["inspect", str(path), "-q"]) == 0
    assert "no faults" in capsys.readouterr().out


def test_pairs_of_any_gsd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pairs"
    words = ["--task", "super-resolution", "--gsd", "1.5", "--low-gsd", "4,10", "--count", "4", "-o", str(path)]
    assert dump(*words) == 0
    assert "--gsd 1.5" in (path / "README.md").read_text() and "--low-gsd 4,10" in (path / "README.md").read_text()
    sides = set()
    for record in map(json.loads, (path / "manifest.jsonl").read_text().splitlines()):
        with Image.open(path / record["views"]["low"]["file"]) as low:
            sides.add(low.width)
        with Image.open(path / record["views"]["high"]["file"]) as high:
            assert high.size == (64, 64)
    assert sides == {24, 10}
    assert main(["inspect", str(path), "-q"]) == 0
    assert dump(*words, "--resume") == 0
    capsys.readouterr()
    assert dump(*words[:4], "-o", str(tmp_path / "none"), "--low-gsd", "coarse") == 2
    assert "low-gsd is 'coarse'" in capsys.readouterr().err


def test_shards_and_limits_say_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--task", "classification", "--format", "hf", "--count", "6", "-o", str(tmp_path / "dump")]
    assert dump(*words, "--shard", "1/2") == 0
    assert "3 of 6 items; the other shards are missing" in capsys.readouterr().out
    assert dump(*words, "--shard", "0/2", "--limit-time", "0") == 0
    assert "3 of 6 items; the limit of 0 seconds is reached; go on" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "dump"), "-q"]) == 2
    assert "is not complete: 3 of 6 items are missing" in capsys.readouterr().err
    assert dump(*words, "--resume", "--limit-bytes", "1k") == 0
    assert "limit of 1000 bytes" in capsys.readouterr().out
    assert dump(*words, "--resume", "--limit-bytes", "1G") == 0
    assert "6 items, complete" in capsys.readouterr().out


def test_a_plan_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "dump"
    words = ["--task", "vqa", "--format", "parquet", "--count", "5000", "--backend", "process", "-o", str(path)]
    assert dump(*words, "--plan", "--price", "0.05") == 0
    out = capsys.readouterr().out
    assert not path.exists()
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert lines["items"].split()[1] == "5000"
    assert "with 2 workers" in lines["time"] and "at 0.05" in lines["price"]
    assert int(lines["bytes"].split()[1].replace(",", "")) > 5000 * 1000


def test_an_estimate_is_near_what_a_dump_has(tmp_path: Path) -> None:
    spec = DumpSpec(task="classification", format="hf", count=40, size=64, tiles_per_scene=4)
    guess = planning.estimate(spec, PaintingMaker(), {}, list(range(40)))
    folder = DumpFolder.create(tmp_path / "dump", spec, {"weights": "a", "fingerprint": "b"}, resume=False)
    assert run(folder, PaintingOpener()).complete
    size = sum(record["bytes"] for record in folder.records())
    assert guess.bytes == pytest.approx(size, rel=0.4)
    assert guess.items == 40 and guess.measured == 6


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--task", "painting"], "task is 'painting'; allowed: classification"),
        (["--task", "vqa", "--format", "coco"], "coco holds no vqa"),
        (["--task", "vqa", "--gsd", "fine"], "gsd is 'fine'"),
        (["--task", "vqa", "--roots", "mars"], "roots are mars"),
        (["--task", "vqa", "--shard", "2/2"], "shard is 2/2"),
        (["--task", "vqa", "--shard", "half"], "shard is 'half'"),
        (["--task", "vqa", "--limit-bytes", "much"], "limit of bytes is 'much'"),
        (["--task", "vqa", "--backend", "threads"], "backend is 'threads'; allowed: serial, process, ray"),
        (["--task", "vqa", "--count", "0"], "count is 0"),
        (["--task", "vqa", "--splits", "1,1"], "splits are (1.0, 1.0)"),
    ],
)
def test_mistakes_are_one_line(words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dump", *words, "-o", str(tmp_path / "dump"), "-q"]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not (tmp_path / "dump").exists()


# --- Reading back ---


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    base = tmp_path_factory.mktemp("whole")
    paths = {}
    for task, form in [("change-caption", "levir-mci"), ("semantic-change", "webdataset"), ("segmentation", "geotiff")]:
        spec = DumpSpec(
            task=task, format=form, count=6, size=64, tiles_per_scene=1, gsds=(0.6, 2.4), date_effects=False
        )
        folder = DumpFolder.create(base / form, spec, {"weights": "a", "fingerprint": "b"}, resume=False)
        assert run(folder, PaintingOpener()).complete
        paths[form] = base / form
    yield paths


@pytest.fixture
def copy(whole: dict[str, Path], tmp_path: Path) -> Any:
    return lambda form: Path(shutil.copytree(whole[form], tmp_path / form))


@pytest.mark.parametrize("form", ["levir-mci", "webdataset", "geotiff"])
def test_a_dump_has_no_faults_and_its_counts(whole: dict[str, Path], form: str, tmp_path: Path) -> None:
    report = inspect_folder(whole[form], tmp_path / "sheet.png")
    assert report.faults == []
    assert report.counts is not None and report.counts.items.total() == 6
    assert report.files >= 18
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert len(sheet.convert("RGB").getcolors(1 << 22) or []) > 50
    assert json.loads(json.dumps(report.to_dict()))["faults"] == []


def test_a_truncated_file_is_a_fault(copy: Any) -> None:
    path = copy("levir-mci")
    (file, *_) = sorted(path.rglob("A/*.png"))
    file.write_bytes(file.read_bytes()[:-200])
    (fault,) = inspect_folder(path).faults
    assert file.name in fault and "damaged" in fault


def test_a_missing_and_a_changed_file_are_faults(copy: Any) -> None:
    path = copy("levir-mci")
    missing, changed, *_ = sorted(path.rglob("B/*.png"))
    missing.unlink()
    Image.fromarray(np.asarray(Image.open(changed)) // 2).save(changed)
    faults = inspect_folder(path).faults
    assert len(faults) == 2
    assert any(missing.name in fault and "cannot be read" in fault for fault in faults)
    assert any(changed.name in fault and "SHA-256 differs" in fault for fault in faults)


def test_a_damaged_tiff_and_a_damaged_shard_are_faults(copy: Any) -> None:
    path = copy("geotiff")
    (file, *_) = sorted(path.rglob("image/*.tif"))
    file.write_bytes(b"II*\0" + bytes(100))
    assert any(file.name in fault and "damaged" in fault for fault in inspect_folder(path).faults)
    path = copy("webdataset")
    (shard, *_) = sorted(path.glob("train-*.tar"))
    shard.write_bytes(shard.read_bytes()[:5000])
    assert inspect_folder(path).faults


def test_a_picture_in_two_splits_is_leakage(copy: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy("levir-mci")
    train, test = (next(iter(sorted(path.glob(f"images/{split}/A/*.png")))) for split in ("train", "test"))
    shutil.copy(train, test)
    assert main(["inspect", str(path), "-q", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert any("hold the same picture" in fault and "leakage" in fault for fault in report["faults"])


def test_splits_that_are_near_each_other_are_leakage(copy: Any) -> None:
    path = copy("levir-mci")
    lines = (path / "manifest.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    train = next(record for record in records if record["split"] == "train")
    test = next(record for record in records if record["split"] == "test")
    for role in ("before", "after"):
        test["views"][role]["bounds"] = [value + 0.2 for value in train["views"][role]["bounds"]]
    (path / "manifest.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert any("degrees apart: leakage" in fault for fault in inspect_folder(path).faults)


def test_a_tile_twice_and_a_damaged_record_are_faults(copy: Any) -> None:
    path = copy("levir-mci")
    records = [json.loads(line) for line in (path / "manifest.jsonl").read_text().splitlines()]
    records[1]["views"], records[2]["views"] = records[0]["views"], {}
    (path / "manifest.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records[:5]))
    faults = inspect_folder(path).faults
    assert any("are the same tile" in fault for fault in faults)
    assert any("has 5 items, the dump has 6" in fault for fault in faults)


def test_a_folder_of_pictures_is_read_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chance = np.random.default_rng(0)
    for split in ("train", "test"):
        (tmp_path / "set" / split).mkdir(parents=True)
        for number in range(2):
            pixels = chance.integers(0, 255, (40, 40, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / split / f"{number}.png")
    shutil.copy(tmp_path / "set" / "train" / "0.png", tmp_path / "set" / "test" / "copy.png")
    (tmp_path / "set" / "test" / "broken.png").write_bytes(b"nothing")
    assert main(["inspect", str(tmp_path / "set"), "-q", "--sheet", str(tmp_path / "sheet.png")]) == 1
    out = capsys.readouterr().out
    assert "pictures: test 3, train 2" in out and "leakage" in out and "broken.png is damaged" in out
    assert (tmp_path / "sheet.png").exists()
    for nothing in (tmp_path / "nowhere", tmp_path / "empty"):
        if nothing.name == "empty":
            nothing.mkdir()
        assert main(["inspect", str(nothing), "-q"]) == 2
    assert main(["inspect", str(tmp_path / "set"), "-q", "--sheet", str(tmp_path / "sheet.jpg")]) == 2


def test_finger_prints_bear_noise_and_brightness_and_tell_pictures_apart() -> None:
    chance = np.random.default_rng(3)

    def picture() -> Any:
        small = Image.fromarray(chance.integers(0, 255, (9, 9, 3)).astype(np.uint8))
        return np.asarray(small.resize((90, 90), Image.Resampling.BICUBIC))

    one, other = picture(), picture()
    noisy = np.clip(one * 0.9 + chance.normal(0, 2, one.shape), 0, 255).astype(np.uint8)
    marks = [fingerprint(pixels) for pixels in (one, noisy, other)]
    assert all(mark is not None for mark in marks)
    assert ((marks[0] or 0) ^ (marks[1] or 0)).bit_count() <= 3
    assert ((marks[0] or 0) ^ (marks[2] or 0)).bit_count() > 12
    assert fingerprint(np.full((64, 64, 3), 90, dtype=np.uint8)) is None
