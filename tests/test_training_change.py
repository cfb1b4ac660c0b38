"""Training of change detectors and its benchmark: crops, losses, resuming, counting and tables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from typer import Typer
from typer.testing import CliRunner

from benchmarks import change as benchmark
from datasets.packs import DatasetNotFoundError
from perception.cdmamba import CDMambaConfig
from perception.metrics import binary_scores
from perception.registry import load_detector
from perception.semantic_cd import SemanticCDConfig, SemanticChange, semantic_change_losses
from training import change
from training.change import SHARES, SYNONYMS, Settings, pair_of, read_pairs, train
from trainingsets.changes import CLASSES, ChangeSample, ChangeSampler, generator

TINY = CDMambaConfig(channels=2, groups=1, blocks=(1, 1), states=2)
FEW = Settings(batch=2, crop=32, half_life=10)


def samples(count: int = 3, source: str = "engine", side: int = 40) -> list[ChangeSample]:
    """Grey ground on which a white square appears."""
    made = []
    for number in range(count):
        random = generator(11, number)
        before = random.integers(80, 100, (side, side, 3), dtype=np.uint8)
        top, left = (int(value) for value in random.integers(0, side - 14, 2))
        change = np.zeros((side, side), dtype=np.bool_)
        change[top : top + 14, left : left + 14] = True
        after = np.where(change[..., None], 240, before).astype(np.uint8)
        cover = np.full((side, side), 2, dtype=np.uint8)
        later = np.where(change, 5, cover).astype(np.uint8)
        known = np.ones_like(change)
        made.append(ChangeSample(source, str(number), str(number), before, after, change, known, cover, later))
    return made


def trained(out: Path, images: int, config: Any = TINY, name: change.Name = "cdmamba") -> dict[str, Any]:
    train(name, config, samples(), samples(2), out, FEW, images, 10.0, 4, "engine")
    state: dict[str, Any] = torch.load(out / "checkpoint.pt", weights_only=True)
    return state


def test_a_pair_names_classes_where_something_changed() -> None:
    (sample,) = samples(1)
    pair = pair_of(sample)
    assert pair.labels is not None
    assert pair.labels.before is not None
    assert pair.labels.after is not None
    assert pair.labels.classes[pair.labels.after.max() - 1] == "building"
    assert ((pair.labels.before > 0) == sample.change).all()


def test_six_steps_are_three_and_three(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", 12)
    trained(tmp_path / "parts", 6)
    parts = trained(tmp_path / "parts", 12)
    assert whole["images"] == parts["images"] == 12
    for name, tensor in whole["ema"].items():
        torch.testing.assert_close(parts["ema"][name], tensor, msg=name)


def test_a_run_logs_a_line_a_tick_and_leaves_weights_that_load(tmp_path: Path) -> None:
    trained(tmp_path, 6)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [4, 6]
    assert {"change", "held_out_f1", "cpu_minutes", "hours"} <= lines[0].keys()
    found = load_detector("cdmamba", tmp_path / "weights").detect(pair_of(samples(1)[0]))
    assert found.mask.shape == (40, 40)


def test_semantic_runs_hear_another_word_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = tuple(torch.randn(3, 10, generator=torch.Generator().manual_seed(index)) for index in range(6))
    monkeypatch.setattr(change, "_word_vectors", lambda: vectors)
    config = SemanticCDConfig(
        tower="small",
        tower_widths=(8, 8, 8),
        joint_width=12,
        text_width=10,
        width=8,
        rounds=1,
        heads=2,
        window=4,
        guidance=6,
        decoder=(8, 8),
        decoder_guidance=(4, 4),
        classes=CLASSES,
    )
    trained(tmp_path, 6, config, "semantic-cd")
    line = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert {"change", "semantics", "consistency", "alignment"} <= line.keys()
    words = [change.draw_words(vectors, np.random.default_rng((0, step))) for step in range(20)]
    assert len({tuple(one[:, 0].tolist()) for one in words}) > 5


def test_every_class_has_words_and_each_word_one_class() -> None:
    assert tuple(SYNONYMS) == CLASSES
    said = [word for words in SYNONYMS.values() for word in words]
    assert len(said) == len(set(said))


def test_unknown_pixels_do_not_count_in_semantic_losses() -> None:
    random = torch.Generator().manual_seed(0)
    known = torch.rand(2, 8, 8, generator=random) > 0.5
    change_map = torch.rand(2, 8, 8, generator=random) > 0.5
    cover = torch.zeros(2, 8, 8, dtype=torch.uint8)
    found = [
        SemanticChange(torch.randn(2, 1, 8, 8, generator=random), torch.randn(2, 2, 3, 8, 8, generator=random))
        for _ in range(2)
    ]
    # What is said of unknown pixels is exchanged.
    mixed = SemanticChange(
        torch.where(known[:, None], found[0].change, found[1].change),
        torch.where(known[:, None, None], found[0].semantics, found[1].semantics),
    )
    one, other = (semantic_change_losses(some, change_map, cover, cover, known) for some in (found[0], mixed))
    torch.testing.assert_close(one.total, other.total)
    assert not torch.isclose(one.total, semantic_change_losses(found[0], change_map, cover, cover).total)


def test_alignment_brings_a_patch_to_its_word() -> None:
    text = torch.eye(3)
    cover = torch.zeros(1, 16, 16, dtype=torch.uint8)
    cover[:, :8], cover[:, 8:, :8] = 1, 3
    right = torch.zeros(1, 3, 2, 2)
    right[0, 0, 0], right[0, 2, 1, 0] = 1, 1
    right[0, 1, 1, 1] = 1  # nobody knows what is there
    wrong = right.roll(1, dims=1)
    assert float(change.alignment_loss(right, text, cover)) < 1e-3
    assert float(change.alignment_loss(wrong, text, cover)) > 9


def test_half_of_the_mix_is_from_the_engine() -> None:
    some = [replace(one, source=source) for source in SHARES for one in samples(2)]
    random_sources = ChangeSampler(some, 32, 0, (), SHARES)
    drawn = [random_sources._one(generator(0, number, 0)).source for number in range(300)]
    assert 0.4 < drawn.count("engine") / 300 < 0.6
    assert set(drawn) == set(SHARES)


def test_a_mix_says_which_folder_it_needs(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match="pass --pairs DIR"):
        read_pairs("both", "train", None, tmp_path)
    with pytest.raises(DatasetNotFoundError, match="EARTHGEN_DATA"):
        read_pairs("real", "train", None, None)


def test_an_unknown_model_is_one_sentence(tmp_path: Path) -> None:
    app = Typer()
    app.command()(change.main)
    done = CliRunner().invoke(app, ["--model", "yolo", "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "none of cdmamba, semantic-cd, fc-siam" in " ".join(done.output.split()).replace("│ ", "")


# --- The benchmark ---


@given(arrays(np.float64, st.integers(2, 60), elements=st.floats(0, 500)))
@settings(max_examples=60, deadline=None)
def test_otsu_has_the_largest_variance_between_classes(values: np.ndarray) -> None:
    """Against a search over all thresholds, on values that are bin middles already."""
    if np.ptp(values) < 1e-3:
        return
    _, edges = np.histogram(values, 16)
    middles = (edges[:-1] + edges[1:]) / 2
    binned = middles[np.clip(np.digitize(values, edges[1:-1]), 0, 15)]

    def between(threshold: float) -> float:
        low, high = binned[binned <= threshold], binned[binned > threshold]
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2 if len(low) and len(high) else 0.0

    best = max(between(threshold) for threshold in edges[1:-1])
    assert between(benchmark.otsu(binned, 16)) == pytest.approx(best, rel=1e-6)


def test_change_vectors_find_a_white_square_in_another_light() -> None:
    (sample,) = samples(1)
    darker = (sample.after * 0.7).astype(np.uint8)
    found = benchmark.change_vectors(sample.before, darker)
    assert (found == sample.change).mean() > 0.99


def test_classes_are_counted_only_where_both_are_known() -> None:
    (sample,) = samples(1)
    hole = sample.cover_after.copy()
    hole[sample.change & (np.arange(40) % 2 == 0)] = 0
    truth, known = benchmark.classes_of(replace(sample, cover_after=hole))
    assert truth.shape == known.shape == (2, 40, 40)
    assert (known[0] == (~sample.change | (hole > 0))).all()
    assert set(np.unique(truth[:, known[0]])) == {0, 2, 5}


def test_counts_are_kept_by_what_was_counted(tmp_path: Path) -> None:
    calls = []

    def make() -> dict[str, Any]:
        calls.append(1)
        return {"binary": [[[1, 0], [0, 1]]]}

    kept = benchmark.Kept(tmp_path / "counts")
    assert kept.of("a", make) == kept.of("a", make)
    assert benchmark.Kept(tmp_path / "counts").of("a", make) == make()
    assert len(calls) == 2  # once counted, once called above
    assert benchmark.digest(samples(2)) != benchmark.digest(samples(3))


def test_large_pairs_are_scored_in_windows_with_labels() -> None:
    (large,) = samples(1, side=600)
    known = np.zeros_like(large.known)
    known[300:, :280] = True
    parts = benchmark.windows(replace(large, known=known))
    assert [part.change.shape for part in parts] == [(256, 256), (256, 256), (88, 256), (88, 256)]
    assert all(part.known.any() for part in parts)
    (small,) = samples(1)
    assert benchmark.windows(small) == [small]


def test_tables_hold_the_scores_of_the_sum(tmp_path: Path) -> None:
    out = tmp_path / "cdmamba-engine"
    trained(out, 4)
    sets = {"engine": samples(3), "chesapeake": samples(1)}
    entries = [
        *benchmark.untrained(sets),
        *benchmark.trained(tmp_path, benchmark.Kept(tmp_path / "counts"), sets),
    ]
    assert [(one.title, one.mix, one.images) for one in entries] == [
        ("nothing changes", "", 0),
        ("CVA and Otsu", "", 0),
        ("CDMamba, tiny", "engine", 4),
    ]
    made = benchmark.page(entries, [], sets)
    counts = entries[1].confusions(("engine",), "binary")
    assert counts is not None
    assert f"| CVA and Otsu |  |  | {100 * binary_scores(counts.sum(axis=0)).f1:.1f} (" in made
    assert "| nothing changes |  |  | 0.0 (0.0-0.0) |" in made


def test_a_page_keeps_its_words_around_the_tables() -> None:
    page = "# Change\n\n<!-- results: python -m benchmarks.change -->\nold\n<!-- end of results -->\n\nWhy.\n"
    once = benchmark.replaced(page, "new")
    assert once == benchmark.replaced(once, "new")
    assert "old" not in once
    assert once.startswith("# Change")
    assert once.endswith("Why.\n")
    with pytest.raises(ValueError, match="has no lines"):
        benchmark.replaced("# Change\n", "new")
