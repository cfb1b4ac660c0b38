"""Worlds by prompt keep the promises of every world, from the zoom of their root on."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import earthgen.engine
from earthgen.cascade import CascadeStep
from earthgen.denoiser import DetailDenoiser
from earthgen.engine import Engine
from earthgen.errors import AddressError, RequestTooLargeError
from earthgen.latent import LatentModel
from earthgen.prompting import LatentPromptRoot, Words, open_prompt_root
from earthgen.pyramid import MAX_ZOOM, Box, Window, windows_of, world_size
from earthgen.roots.prompt import PromptGenerator
from earthgen.world import World
from tests.tiny import RipplePrompts, open_tiny, ripple_prompts, ripple_root, save_tiny_weights, tiny_net
from tests.tiny_latent import save_checkpoint

WORLD = World("prompt", 7, "a harbour town", gsd=100, negative="blurry", guidance=3)
ROOT = 8


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module", autouse=True)
def ripples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(earthgen.engine, "open_prompt_root", ripple_prompts)
        yield


@pytest.fixture(scope="module")
def engine(weights: Path) -> Iterator[Engine]:
    with open_tiny(weights) as engine:
        yield engine


def means(pixels: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.uint8]:
    """Rounded means of blocks, halves up, by another way than the engine's."""
    height, width, _ = pixels.shape
    total = pixels.astype(np.int64).reshape(height // factor, factor, width // factor, factor, 3).sum(axis=(1, 3))
    rounded: npt.NDArray[np.uint8] = np.floor(total / factor**2 + 0.5).astype(np.uint8)
    return rounded


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    zoom = draw(st.integers(WORLD.min_zoom, 13))
    size = world_size(zoom)
    largest = 140 if zoom >= ROOT else 20
    height, width = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    return Box(zoom, draw(st.integers(0, size - height)), draw(st.integers(-size, size)), height, width)


@settings(max_examples=12)
@given(box=boxes(), data=st.data())
def test_any_crop_is_the_crop_of_the_whole_and_columns_wrap(engine: Engine, box: Box, data: st.DataObject) -> None:
    top, left = data.draw(st.integers(0, box.height - 1)), data.draw(st.integers(0, box.width - 1))
    around = box.column + left + world_size(box.zoom)
    inner = Box(box.zoom, box.row + top, around, box.height - top, box.width - left)
    assert np.array_equal(engine.pixels(WORLD, box)[top:, left:], engine.pixels(WORLD, inner))


def test_the_root_is_the_prompts_own_windows(engine: Engine) -> None:
    assert WORLD.root_zoom == ROOT
    box = Box(ROOT, 30_000, 50_000, 200, 130)
    words = Words("a harbour town", "blurry", 3.0)
    pixels = engine.pixels(WORLD, box)
    step = CascadeStep(tiny_net(), torch.device("cpu"))
    for window in windows_of(box):
        expected = RipplePrompts().window(7, window, words, step)
        row, column = window.box.row - box.row, window.box.column - box.column
        seen = pixels[max(0, row) : row + 128, max(0, column) : column + 128]
        assert np.array_equal(seen, expected[max(0, -row) :, max(0, -column) :][: seen.shape[0], : seen.shape[1]])


def test_children_average_to_their_parents_down_to_zoom_18(engine: Engine) -> None:
    for zoom in range(ROOT, MAX_ZOOM, 2):
        size = world_size(zoom)
        parent = Box(zoom, int(0.3 * size), int(0.7 * size), 9, 7)
        children = engine.pixels(WORLD, Box(zoom + 2, 4 * parent.row, 4 * parent.column, 36, 28))
        assert np.array_equal(children.reshape(9, 4, 7, 4, 3).mean(axis=(1, 3)), engine.pixels(WORLD, parent))


def test_coarser_zooms_are_exact_means_of_the_root(engine: Engine) -> None:
    for zoom in range(WORLD.min_zoom, ROOT):
        factor = 1 << ROOT - zoom
        box = Box(zoom, 1203, 77, 9, 11)
        root = engine.pixels(WORLD, Box(ROOT, *(factor * v for v in (box.row, box.column, box.height, box.width))))
        assert np.array_equal(engine.pixels(WORLD, box), means(root, factor)), f"zoom {zoom}"


def test_the_world_begins_four_zooms_above_its_root(engine: Engine) -> None:
    assert WORLD.min_zoom == ROOT - 4
    with pytest.raises(AddressError, match=r"zoom 3 is coarser than this world, which begins at zoom 4; 4\.\.18"):
        engine.pixels(WORLD, Box(3, 0, 0, 1, 1))
    with pytest.raises(AddressError, match="begins at zoom 12"):
        engine.tile(World("prompt", 0, "a harbour", gsd=1), 11, 0, 0)
    # What is shown small is made large.
    with pytest.raises(RequestTooLargeError, match="made from 256 each"):
        engine.pixels(WORLD, Box(4, 0, 0, 600, 600))


def test_words_and_seed_choose_the_place(engine: Engine) -> None:
    box = Box(10, 100_000, 70_000, 40, 40)
    same = engine.pixels(WORLD, box)
    for other in (
        World("prompt", 8, "a harbour town", gsd=100, negative="blurry", guidance=3),
        World("prompt", 7, "a desert", gsd=100, negative="blurry", guidance=3),
        World("prompt", 7, "a harbour town", gsd=100, guidance=3),
        World("prompt", 7, "a harbour town", gsd=100, negative="blurry"),
    ):
        assert not np.array_equal(engine.pixels(other, box), same)


def test_gsds_with_one_root_zoom_share_their_pixels(weights: Path) -> None:
    box = Box(10, 100_000, 70_000, 40, 40)
    with open_tiny(weights) as engine:
        pixels = engine.pixels(WORLD, box)
        other = World("prompt", 7, "a harbour town", gsd=140.5, negative="blurry", guidance=3)
        assert other.root_zoom == ROOT
        assert engine.is_ready(other, box)
        assert np.array_equal(engine.pixels(other, box), pixels)


ADDRESSES = [(18, 137_000, 91_000), (9, 300, 17), (8, 255, 3), (7, 5, 60), (10, 1023, 512)]


def tiles(engine: Engine, order: list[tuple[int, int, int]]) -> dict[tuple[int, int, int], bytes]:
    return {address: engine.tile(WORLD, *address).tobytes() for address in order}


def tiles_in_new_process(weights: Path, cache: Path | None) -> dict[tuple[int, int, int], bytes]:
    setattr(earthgen.engine, "open_prompt_root", ripple_prompts)  # noqa: B010
    with open_tiny(weights, cache, threads=2) as engine:
        return tiles(engine, ADDRESSES)


def test_order_threads_processes_cache_and_restart_do_not_change_a_byte(weights: Path, tmp_path: Path) -> None:
    with open_tiny(weights, threads=1) as engine:
        expected = tiles(engine, ADDRESSES)
    with open_tiny(weights, tmp_path, threads=3, memory_bytes=1 << 16) as engine:
        assert tiles(engine, ADDRESSES[::-1]) == expected
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply_async(tiles_in_new_process, (weights, None)).get(600) == expected
    with open_tiny(weights, tmp_path) as engine:
        assert tiles(engine, ADDRESSES) == expected
        assert engine.counts.computed == 0


def test_is_ready_tells_whether_anything_is_left_to_generate(weights: Path) -> None:
    with open_tiny(weights) as engine:
        for box in (Box(7, 900, 900, 10, 10), Box(10, 9000, 9000, 10, 10)):
            assert not engine.is_ready(WORLD, box)
            engine.pixels(WORLD, box)
            assert engine.is_ready(WORLD, box)


@pytest.mark.slow
def test_the_packages_own_networks_hear_the_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(earthgen.engine, "open_prompt_root", open_prompt_root)
    monkeypatch.setattr(earthgen.engine, "open_root", ripple_root)
    sizes: dict[str, Any] = {"channels": (8, 8, 8), "blocks": (1, 1, 1, 1, 1), "kernel": 3, "embedding": 8}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        prompts: PromptGenerator = PromptGenerator(**sizes)
        cascade: DetailDenoiser = DetailDenoiser(**sizes, text_width=384, sigmas=(3.0, 0.0), margin=4)
        for net in (prompts, cascade):
            for parameter in net.parameters():
                if not parameter.any():
                    torch.nn.init.normal_(parameter, std=0.2)
    prompts.save_pretrained(tmp_path / "prompts")
    cascade.save_pretrained(tmp_path / "cascade")
    opened: dict[str, Any] = {"device": "cpu", "prompt_weights": tmp_path / "prompts"}
    box = Box(10, 100_000, 70_000, 60, 150)
    with Engine.open(tmp_path / "cascade", **opened) as engine:
        pixels = engine.pixels(WORLD, box)
        assert not np.array_equal(engine.pixels(replace(WORLD, prompt="a desert"), box), pixels)
        assert not np.array_equal(engine.pixels(replace(WORLD, guidance=1), box), pixels)
        # A cascade that takes text makes the Earth differ by a prompt, whose root stays what it is.
        parent, child = Box(4, 900, 1200, 6, 6), Box(6, 3600, 4800, 24, 24)
        plain, told = World(seed=7), World(seed=7, prompt="a desert")
        assert np.array_equal(engine.pixels(told, parent), engine.pixels(plain, parent))
        assert not np.array_equal(engine.pixels(told, child), engine.pixels(plain, child))
    with Engine.open(tmp_path / "cascade", threads=2, **opened) as engine:
        crop = Box(10, 100_020, 70_000 + world_size(10) + 100, 40, 50)
        assert np.array_equal(engine.pixels(WORLD, crop), pixels[20:, 100:])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")
def test_a_latent_checkpoint_can_be_what_prompts_start_from(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(earthgen.engine, "open_prompt_root", open_prompt_root)
    folder = save_checkpoint(tmp_path / "sd2")
    with open_tiny(weights, prompt_weights=folder) as engine:
        world = World("prompt", 7, "a harbour town", gsd=1)
        box = Box(18, 2**25, 2**25, 30, 40)
        pixels = engine.pixels(world, box)
        root = engine.pixels(world, Box(16, 2**23, 2**23, 10, 10))
        assert np.array_equal(pixels[:28].reshape(7, 4, 10, 4, 3).mean(axis=(1, 3)), root[:7])
        assert np.array_equal(
            LatentPromptRoot(LatentModel.load(folder, "cpu")).window(
                7, Window(16, 2**16, 2**16), Words("a harbour town"), CascadeStep(tiny_net(), torch.device("cpu"))
            )[:10, :10],
            root,
        )
