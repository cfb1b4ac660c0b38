"""The change transfer benchmark: a small network learns what is there to be learnt, and its table counts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.transfer_change import SETS, SmallSiamese, counts_of, loss_of, table, trained
from perception.metrics import binary_scores
from tests.fake_dump import PaintingOpener
from trainingsets.changes import ChangeSample, batch_of
from trainingsets.folder import DumpFolder
from trainingsets.running import run
from trainingsets.spec import DumpSpec


def pair(seed: int, side: int = 64) -> ChangeSample:
    """A square of another colour appears in one of two equal pictures."""
    random = np.random.default_rng(seed)
    before = np.full((side, side, 3), random.integers(90, 110, 3), dtype=np.uint8)
    after, change = before.copy(), np.zeros((side, side), dtype=np.bool_)
    top, left = random.integers(0, side - 24, 2)
    change[top : top + 24, left : left + 24] = True
    after[change] = (230, 40, 40)
    unknown = np.zeros(change.shape, dtype=np.uint8)
    # A source with dates of its own: no effects are added.
    return ChangeSample("dump", str(seed), str(seed), before, after, change, ~unknown.astype(bool), unknown, unknown)


def test_what_is_plain_to_see_is_learnt_and_found_elsewhere() -> None:
    net = trained([pair(seed) for seed in range(12)], 25, 0)
    counts = counts_of(net, [pair(seed) for seed in range(100, 106)])
    assert counts.shape == (6, 2, 2)
    assert binary_scores(counts.sum(axis=0)).f1 > 0.8


def test_the_same_seed_gives_the_same_network_and_the_order_of_dates_does_not_matter() -> None:
    some = [pair(seed) for seed in range(3)]
    before = torch.get_rng_state()
    one, two = trained(some, 2, 7), trained(some, 2, 7)
    assert torch.equal(torch.get_rng_state(), before)
    images = batch_of(some).images
    assert torch.equal(one(images), two(images))
    assert torch.equal(one(images), one(images.flip(1)))


def test_what_is_not_known_does_not_count() -> None:
    batch = batch_of([pair(1)])
    batch.known[:, :32] = False
    logits = torch.zeros(batch.change.shape)
    other = logits.clone()
    other[:, :32] = 9.0
    assert torch.equal(loss_of(logits, batch), loss_of(other, batch))
    assert not torch.equal(loss_of(logits, batch), loss_of(other.flip(1), batch))


def test_the_table_has_a_column_for_each_set_with_intervals() -> None:
    counts = counts_of(SmallSiamese().eval(), [pair(1), pair(2)])
    head, _, row = table({"nothing": dict.fromkeys(SETS, counts)})
    assert all(name in head for name in SETS)
    assert row.startswith("| nothing | ") and row.count("(") == len(SETS)


@pytest.mark.slow
def test_a_dump_is_read_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    spec = DumpSpec(task="change-detection", format="levir-cd", count=4, size=64, splits=(1, 0, 0), gsds=(2.4,))
    folder = DumpFolder.create(tmp_path / "pairs", spec, {"weights": "paint", "fingerprint": "paint-1"}, resume=False)
    assert run(folder, PaintingOpener()).complete
    # In a process of its own: torchgeo warns while it is imported.
    script = f"""
from pathlib import Path
from benchmarks.transfer_change import read_dump
for sample in read_dump(Path({str(folder.path)!r})):
    print(sample.before.shape, sample.before.dtype, int(sample.change.sum()))
"""
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr[-2000:]
    changed = sorted(record["masks"]["change"]["pixels"]["change"] for record in folder.records())
    lines = done.stdout.splitlines()
    assert sorted(int(line.split()[-1]) for line in lines) == changed
    assert all(line.startswith("(64, 64, 3) uint8 ") for line in lines)
