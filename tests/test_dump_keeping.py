"""`earthgen dump --keep-if`: conditions are read and never run; the same items are kept whoever scores them."""

from __future__ import annotations

import json
import os
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earthgen.cli import main
from perception.detection import Detection
from tests.fake_dump import PaintingMaker, PaintingOpener
from trainingsets import scoring
from trainingsets.errors import DumpError, DumpSpecError
from trainingsets.folder import DumpFolder
from trainingsets.inspection import inspect_folder
from trainingsets.keeping import SCORES, Condition, parse, spelled
from trainingsets.making import EngineOpener
from trainingsets.planning import estimate
from trainingsets.records import made_item
from trainingsets.running import Limits, check, run
from trainingsets.scoring import is_kept, scored_by, scores_of
from trainingsets.spec import DumpSpec
from trainingsets.tasks import TASKS, item_of

COUNT = 8
MADE_BY = {"weights": "paint", "fingerprint": "paint-1"}

conditions = st.builds(
    Condition,
    st.sampled_from(sorted(SCORES)),
    st.sampled_from(["<", "<=", ">", ">="]),
    st.floats(allow_nan=False, allow_infinity=False),
)


def spec_of(task: str = "classification", form: str = "hf", count: int = COUNT, **other: Any) -> DumpSpec:
    options: dict[str, Any] = {"size": 128, "tiles_per_scene": 2, "gsds": TASKS[task].gsds, "date_effects": False}
    return DumpSpec(task=task, format=form, count=count, **(options | other))


def splitting(form: str = "hf", task: str = "classification") -> DumpSpec:
    """A dump of which some items are kept and some are not: the threshold is the median of what the items have."""
    spec = spec_of(task, form, keep_if="anomaly<1000000")
    maker = PaintingMaker()
    values = []
    for index in range(spec.count):
        item = item_of(spec, index)
        values.append(float(scores_of(item, TASKS[task].make(maker, item))["anomaly"] or 0))
    assert len(set(values)) > 2
    return spec_of(task, form, keep_if=f"anomaly<{sorted(values)[len(values) // 2]}")


def dump(path: Path, spec: DumpSpec, *, resume: bool = False, **options: Any) -> Any:
    folder = DumpFolder.create(path, spec, MADE_BY | scored_by(spec), resume=resume)
    return run(folder, PaintingOpener(), **options)


def content(path: Path) -> dict[str, bytes]:
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


@pytest.fixture(autouse=True)
def no_waiting_for_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


# --- Conditions ---


@given(st.lists(conditions, max_size=16))
def test_conditions_have_one_spelling_that_reads_back(some: list[Condition]) -> None:
    text = spelled(tuple(some))
    assert parse(text) == tuple(some)
    assert parse(re.sub(r"([<>]=?)", r"  \1 ", text).replace("and", " and  ")) == tuple(some)


@given(st.lists(conditions, min_size=1, max_size=4), st.data())
def test_items_are_kept_if_every_condition_holds(some: list[Condition], data: st.DataObject) -> None:
    scores = {name: data.draw(st.none() | st.floats(-10, 10)) for name in SCORES}
    signs = {"<": float.__lt__, "<=": float.__le__, ">": float.__gt__, ">=": float.__ge__}
    wanted = all(
        scores[each.name] is not None and signs[each.operator](float(scores[each.name] or 0), each.number)
        for each in some
    )
    assert is_kept(spec_of(keep_if=spelled(tuple(some))), scores) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "anomaly",
        "anomaly<",
        "<0.9",
        "anomaly=0.9",
        "anomaly==0.9",
        "anomaly<0.9 or clipped<1",
        "anomaly<0.9 and",
        "anomaly<0.9, clipped<1",
        "0.1<anomaly<0.9",
        "anomaly<1/2",
        "anomaly<nan",
        "anomaly<inf",
        "anomaly<1e999",
        "anomaly<(1)",
        "__import__('os').system('touch harm')<1",
        "anomaly<__import__('os').getpid()",
        "anomaly<0.9; import os",
        "anomaly<0.9\x00",
        "anomaly<٣",
        "not anomaly<1",
        " and ".join(["anomaly<1"] * 17),
        "anomaly<" + "9" * 100_000 + "x",
        "anomaly<" + "9" * 900 + "x",
    ],
)
def test_what_is_no_condition_is_refused_and_not_run(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DumpSpecError, match="keep-if") as caught:
        spec_of(keep_if=text)
    assert len(str(caught.value)) < 500
    assert list(tmp_path.iterdir()) == []


def test_scores_that_there_are_not_are_named() -> None:
    with pytest.raises(DumpSpecError, match="keep-if names the score 'beauty'; allowed: anomaly, mahalanobis"):
        spec_of(keep_if="beauty>0.5")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (spec_of(size=64, keep_if="clipped<0.1"), "at least 128 pixels for clipped; size is 64"),
        (spec_of("super-resolution", roots=("earth",), keep_if="class_p<0.1"), "class_p, which worlds of root prompt"),
        (spec_of(keep_if="change_f1>0.1"), "change_f1, which task classification does not have"),
    ],
)
def test_scores_that_a_dump_cannot_have_are_refused(spec: DumpSpec, says: str) -> None:
    with pytest.raises(DumpSpecError, match=says):
        check(spec)


def test_a_specification_without_conditions_reads_as_before() -> None:
    value = spec_of().to_dict()
    assert value.pop("keep_if") == ""
    assert DumpSpec.from_dict(value) == spec_of()
    assert "--keep-if" not in spec_of().command
    kept = spec_of(keep_if=" anomaly < 0.90 and clipped<=.5")
    assert kept.command.endswith('--keep-if "anomaly<0.9 and clipped<=0.5" -o DIR')
    assert DumpSpec.from_dict(json.loads(kept.canonical_json)) == kept


# --- Dumps ---


def test_what_is_kept_is_kept_whole_and_the_rest_leaves_its_scores(tmp_path: Path) -> None:
    spec = splitting()
    everything = spec_of()
    dump(tmp_path / "all", everything)
    dump(tmp_path / "some", spec)
    folder = DumpFolder.open(tmp_path / "some")
    kept, dropped = list(folder.records()), list(folder.dropped())
    assert kept and dropped and len(kept) + len(dropped) == COUNT
    assert sorted(record["index"] for record in kept + dropped) == list(range(COUNT))
    limit = parse(spec.keep_if)[0].number
    assert all(record["scores"]["anomaly"] < limit for record in kept)
    assert all(record["scores"]["anomaly"] >= limit for record in dropped)
    whole = {record["index"]: record for record in DumpFolder.open(tmp_path / "all").records()}
    for record in kept:
        scores = record.pop("scores")
        assert record == whole[record["index"]] and set(scores) == {"anomaly"}
    files = content(tmp_path / "some")
    for record in dropped:
        assert set(record) == {"index", "key", "split", "scene", "dropped", "scores", "bytes"}
        assert not [name for name in files if record["key"] in name]
    readme = files["README.md"].decode()
    assert f"Of {COUNT} items that were made {len(kept)} are here: those with `{spec.keep_if}`" in readme


@pytest.mark.parametrize("form", ["hf", "parquet", "webdataset", "coco", "geotiff"])
def test_formats_hold_what_is_kept_without_faults(tmp_path: Path, form: str) -> None:
    spec = splitting(form, "referring" if form == "coco" else "classification")
    dump(tmp_path / "dump", spec)
    report = inspect_folder(tmp_path / "dump")
    assert report.faults == []
    assert report.about["kept"].endswith(f"of {COUNT} items, those with {spec.keep_if}")
    assert not [remark for remark in report.remarks if "dropped.jsonl" in remark]


def test_the_same_bytes_by_processes_shards_and_stopped_runs(tmp_path: Path) -> None:
    spec = splitting()
    dump(tmp_path / "serial", spec)
    expected = content(tmp_path / "serial")
    dump(tmp_path / "process", spec, backend="process", workers=2)
    assert content(tmp_path / "process") == expected
    for number in (2, 0, 1):
        dump(tmp_path / "shards", spec, resume=True, shard=(number, 3))
    assert content(tmp_path / "shards") == expected
    path = tmp_path / "stopped"
    DumpFolder.create(path, spec, MADE_BY | scored_by(spec), resume=False)
    for _ in range(50):
        folder = DumpFolder.open(path)
        if folder.is_complete:
            break
        first = folder.missing(0, spec.count)[:1]
        maker = PaintingMaker()
        if first:
            from trainingsets.formats import format_of
            from trainingsets.records import make_item

            make_item(maker, folder, format_of(spec.format), item_of(spec, first[0]))
        else:
            run(folder, PaintingOpener(), limits=Limits())
    assert content(path) == expected


def test_a_dump_that_other_statistics_scored_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(keep_if="anomaly<1000")
    dump(tmp_path / "dump", spec, limits=Limits(seconds=0))
    monkeypatch.setattr(scoring, "scored_by", lambda spec: {"scores": "anomaly-other"})
    with pytest.raises(DumpSpecError, match=r"scores anomaly-.* there, anomaly-other here"):
        DumpFolder.create(tmp_path / "dump", spec, MADE_BY | scoring.scored_by(spec), resume=True)
    with pytest.raises(DumpSpecError, match=r"keep_if anomaly<1000 there,  here"):
        DumpFolder.create(tmp_path / "dump", spec_of(), MADE_BY, resume=True)


def test_a_dump_that_keeps_nothing_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DumpError, match=r"none of the 8 items of .* fulfils anomaly<0"):
        dump(tmp_path / "dump", spec_of(keep_if="anomaly<0"))


def test_an_estimate_counts_what_is_kept() -> None:
    spec = spec_of(keep_if="anomaly<0")
    guess = estimate(spec, PaintingMaker(), MADE_BY, list(range(COUNT)))
    assert (guess.kept, guess.bytes) == (0, 0)
    assert guess.measured > 0


def test_a_missing_list_of_what_was_dropped_is_said(tmp_path: Path) -> None:
    dump(tmp_path / "dump", splitting())
    (tmp_path / "dump" / "dropped.jsonl").unlink()
    with pytest.raises(DumpError, match=r"dropped\.jsonl is missing"):
        inspect_folder(tmp_path / "dump")


# --- Scores ---


def test_a_score_is_that_of_the_worst_picture() -> None:
    spec = spec_of("change-detection", keep_if="anomaly<1 and clipped<1 and saturation>0")
    item = item_of(spec, 1)
    sample = TASKS["change-detection"].make(PaintingMaker(), item)
    from perception.validation.anomaly import shipped_scorer

    each = [shipped_scorer().score(view.pixels, item.metres) for view in sample.views.values()]
    found = scores_of(item, sample)
    assert list(found) == ["anomaly", "clipped", "saturation"]
    assert found["anomaly"] == round(max(score.anomaly for score in each), 4)


def test_the_coarse_picture_of_super_resolution_may_be_small() -> None:
    spec = spec_of("super-resolution", keep_if="slope<100")
    item = item_of(spec, 0)
    found = scores_of(item, TASKS["super-resolution"].make(PaintingMaker(), item))
    assert found["slope"] is not None and found["slope"] >= 0


def test_the_class_of_a_world_is_ranked() -> None:
    spec = spec_of(keep_if="class_p<=0.05")
    item = item_of(spec, 0)
    found = scores_of(item, TASKS["classification"].make(PaintingMaker(), item))
    assert found["class_p"] is not None and 0 < found["class_p"] <= 1
    assert scored_by(spec)["scores"].startswith("tower-")


def test_the_detector_of_a_pair_is_held_against_its_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    class Looking:
        def detect(self, pair: Any) -> Detection:
            mask = (pair.before != pair.after).any(axis=2)
            return Detection(mask, np.zeros((2, *mask.shape), np.float32), (), pair.transform, pair.crs)

    monkeypatch.setattr(scoring, "_detector", Looking)
    spec = spec_of("change-detection", keep_if="change_f1>0.5")
    values = []
    for index in range(COUNT):
        item = item_of(spec, index)
        sample = TASKS["change-detection"].make(PaintingMaker(), item)
        score = scores_of(item, sample)["change_f1"]
        assert score is not None
        differs = (sample.views["before"].pixels != sample.views["after"].pixels).any(axis=2)
        asked = sample.masks["change"] > 0
        if not asked.any():
            assert score == float(differs.mean() <= 0.01)
        else:
            both = (differs & asked).sum()
            precision, recall = both / differs.sum(), both / asked.sum()
            assert score == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-4)
        values.append(score)
    assert max(values) > 0.9


def test_a_record_without_files_is_made_for_what_is_dropped() -> None:
    from trainingsets.formats import format_of

    spec = spec_of(keep_if="anomaly<0")
    folder = DumpFolder(Path("nowhere"), spec, MADE_BY)
    record, files = made_item(PaintingMaker(), folder, format_of("hf"), item_of(spec, 0))
    assert files == {} and record["dropped"] is True


# --- The command ---


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def open_(self: EngineOpener) -> AbstractContextManager[PaintingMaker]:
        return PaintingOpener().open()

    monkeypatch.setattr(EngineOpener, "open", open_)
    keep = splitting().keep_if
    words = ["--task", "classification", "--count", str(COUNT), "--size", "128", "--tiles-per-scene", "2", "-q"]
    path = tmp_path / "dump"
    assert main(["dump", *words, "--keep-if", keep, "--plan", "-o", str(path)]) == 0
    assert not path.exists()
    capsys.readouterr()
    assert main(["dump", *words, "--keep-if", keep, "-o", str(path)]) == 0
    out = capsys.readouterr().out
    kept = sum(1 for _ in DumpFolder.open(path).records())
    assert out == f"{path}: {kept} of {COUNT} items kept, complete; see {path / 'README.md'}\n"
    assert main(["inspect", str(path), "-q"]) == 0
    assert main(["dump", *words, "--keep-if", "anomaly<", "-o", str(path)]) == 2
    assert "keep-if has the part 'anomaly<'" in capsys.readouterr().err
