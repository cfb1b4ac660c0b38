"""The cost model counts what the engine really computes."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.cost import inputs, moved_bytes, needed_windows, operations, positions
from earthgen.pyramid import ROOT_ZOOM, WINDOW_SIZE, Box
from earthgen.world import World
from tests.tiny import open_tiny, ripple_root, save_tiny_weights, tiny_net


@pytest.mark.parametrize("box", [Box(10, 70_000, 90_000, 256, 256), Box(12, 0, 0, 300, 200), Box(6, 130, 130, 10, 10)])
def test_windows_are_those_that_the_engine_computes(box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("earthgen.engine.open_root", ripple_root)
    with open_tiny(save_tiny_weights(tmp_path), threads=1) as engine:
        engine.pixels(World(seed=3), box)
        assert engine.activity().done == sum(needed_windows(box, tiny_net().config["margin"]).values())


def test_larger_windows_are_fewer() -> None:
    box = Box(12, 70_000, 90_000, 1024, 1024)
    small, large = (needed_windows(box, 8, size) for size in (WINDOW_SIZE, 2 * WINDOW_SIZE))
    assert set(small) == set(large) == set(range(ROOT_ZOOM + 2, 13, 2))
    assert large[12] < small[12]


def test_operations_grow_with_the_positions_and_bytes_hold_the_weights() -> None:
    net = tiny_net().eval()
    side = positions(net)
    assert side == WINDOW_SIZE // 4 + 2 * net.config["margin"]
    assert inputs(net, side)[0].shape[-1] == side
    # All but the row embedding, which is small, is done once a position.
    assert operations(net, 2 * side) / operations(net, side) == pytest.approx(4, rel=0.05)
    weights, moved = moved_bytes(net, side)
    assert weights == 4 * sum(parameter.numel() for parameter in net.parameters())
    assert moved > 4 * 45 * side * side * 2
