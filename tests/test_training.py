"""Training: what it draws is addressed, what it saves is complete, and a resumed run is the same run."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import training.adversarial
import training.cascade
import training.distil
import training.evenness
import training.prompt
import training.prompt_denoiser
from datasets.packs import PACKS, DatasetNotFoundError, Picture, imagery_folder, read_pack
from datasets.pyramids import BAND_GSDS, CropSampler, Level, halved, picture_levels
from earthgen.denoiser import Condition, DetailDenoiser, Preconditioned
from earthgen.detail import split
from earthgen.roots import RootImage
from earthgen.roots.denoised import PromptDenoiser
from earthgen.roots.prompt import PromptGenerator
from earthgen.unet import ALIGNMENT
from earthgen.weights import load_qualities, load_weights
from tests.tiny import save_tiny_weights, tiny_net
from training.augment import regrade, stored_parent
from training.busyness import Busyness, busyness
from training.checkpoint import load_checkpoint
from training.depthwise import DepthwiseConv2d, learn_quickly
from training.export import main as export
from training.lattice import Lattice
from training.pool import ChildPool, RootCrops


def scene(seed: int, side: int) -> np.ndarray:
    """A picture with structure at every scale."""
    random = np.random.default_rng(seed)
    picture = np.zeros((side, side, 3))
    for factor in (1, 4, 16, 64):
        coarse = random.normal(size=(side // factor, side // factor, 3)) * factor**0.5 * 6
        picture += coarse.repeat(factor, axis=0).repeat(factor, axis=1)
    return np.clip(picture + 110, 0, 255).astype(np.uint8)


def scenes(folder: Path, split: str) -> list[Level]:
    names = [("a", 0.6), ("b", 2.4), ("c", 611.0)]
    levels = [Level(name, f"{name}/{split}", gsd, scene(index, 256)) for index, (name, gsd) in enumerate(names)]
    return [*levels, Level("d", f"d/{split}", 10.0, scene(9, 64))]


def test_halving_is_the_rounded_mean() -> None:
    pixels = scene(0, 64)[:63, :62]
    expected = np.floor(pixels[:62].reshape(31, 2, 31, 2, 3).mean(axis=(1, 3)) + 0.5)
    assert np.array_equal(halved(pixels), expected)


def test_levels_go_up_to_64_pixels_and_never_below_a_quarter_metre() -> None:
    levels = picture_levels(Picture("x/y", 0.132, scene(0, 512)))
    assert [(level.gsd, level.pixels.shape[0]) for level in levels] == [(0.264, 256), (0.528, 128), (1.056, 64)]


def test_bands_are_nearest_by_ratio() -> None:
    bands = [Level("p", "n", gsd, scene(0, 64)).band for gsd in (0.25, 0.6, 1.1, 1.3, 10.0, 153.0, 9000.0)]
    assert bands == [0, 0, 0, 1, 2, 4, 6]


def test_draws_are_addressed() -> None:
    sampler = CropSampler(scenes(Path(), "train"), 128, seed=3)
    again = CropSampler(scenes(Path(), "train"), 128, seed=3)
    assert np.array_equal(sampler.draw(5, 4).pixels, again.draw(5, 4).pixels)
    assert not np.array_equal(sampler.draw(5, 4).pixels, sampler.draw(6, 4).pixels)
    assert not np.array_equal(
        sampler.draw(5, 4).pixels, CropSampler(scenes(Path(), "train"), 128, seed=4).draw(5, 4).pixels
    )


def test_a_band_can_be_asked_for() -> None:
    sampler = CropSampler(scenes(Path(), "train"), 128, seed=3)
    assert sampler.bands == (0, 1, 5)
    assert set(sampler.draw(0, 8, band=5).gsd) == {611.0}
    with pytest.raises(ValueError, match="at least 512"):
        CropSampler(scenes(Path(), "train"), 512, seed=0)


def test_packs_are_read_and_their_absence_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EARTHGEN_DATA", raising=False)
    with pytest.raises(DatasetNotFoundError, match="EARTHGEN_DATA"):
        imagery_folder()
    with pytest.raises(DatasetNotFoundError, match="not a folder"):
        imagery_folder(tmp_path)
    pack = next(pack for pack in PACKS if pack.name == "mid_scenes2_20m-320m")
    folder = tmp_path / "imagery" / pack.name
    with pytest.raises(DatasetNotFoundError, match=pack.name):
        list(read_pack(imagery_folder_of(tmp_path), pack, "train"))
    folder.mkdir(parents=True)
    Image.fromarray(scene(0, 64)).save(folder / "train_s2_beijing_320m.jpg")
    Image.fromarray(scene(0, 64)).save(folder / "train_landsat_x_60-100m.jpg")
    Image.fromarray(scene(0, 64)).save(folder / "val_s2_tokyo_320m.jpg")
    pictures = list(read_pack(imagery_folder(tmp_path), pack, "train"))
    assert [(picture.name, picture.gsd) for picture in pictures] == [
        (f"{pack.name}/train_landsat_x_60-100m.jpg", 80.0),
        (f"{pack.name}/train_s2_beijing_320m.jpg", 320.0),
    ]
    Image.fromarray(scene(0, 64)).save(folder / "train_unnamed.jpg")
    with pytest.raises(ValueError, match="no ground sampling distance"):
        list(read_pack(imagery_folder(tmp_path), pack, "train"))


def imagery_folder_of(base: Path) -> Path:
    (base / "imagery").mkdir(exist_ok=True)
    return imagery_folder(base)


def test_a_regraded_parent_is_the_mean_of_regraded_children() -> None:
    image = torch.rand(3, 3, 32, 32) * 2 - 1
    regraded = regrade(image, torch.Generator().manual_seed(0))
    assert float(regraded.min()) >= -1
    assert float(regraded.max()) <= 1
    assert not torch.equal(regraded, image)
    bytes_ = (stored_parent(regraded) + 1) * 127.5
    assert torch.allclose(bytes_, bytes_.round(), atol=1e-3)
    assert (stored_parent(regraded) - split(regraded)[0]).abs().max() <= 0.5 / 127.5 + 1e-6


@pytest.mark.slow
def test_ten_steps_are_five_stop_resume_five(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imagery").mkdir()
    monkeypatch.setattr(training.cascade, "read_levels", described_scenes)
    settings = training.cascade.Settings(batch=2, warm_up=8)
    init = save_tiny_weights(tmp_path / "init")

    def run(out: str, images: int) -> None:
        training.cascade.train(tmp_path, tmp_path / out, 60.0, settings, 10, init, images, LetterCounts())

    run("whole", 20)
    run("parts", 10)
    run("parts", 20)
    whole, parts = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "parts"))
    assert whole["images"] == parts["images"] == 20
    for kind in ("model", "ema"):
        assert all(torch.allclose(whole[kind][name], value, atol=1e-6) for name, value in parts[kind].items())
    lines = [json.loads(line) for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [10, 20]
    assert set(lines[-1]["held_out"]) == {f"{BAND_GSDS[band]:g}m" for band in (2, 4, 5, 6)}
    assert len(list((tmp_path / "parts" / "sheets").glob("*.jpg"))) == 4
    export(tmp_path / "parts" / "checkpoint.pt", tmp_path / "weights")
    shipped = load_weights(tmp_path / "weights").net.state_dict()
    assert all(torch.allclose(shipped[name], value, rtol=1e-2, atol=1e-3) for name, value in parts["ema"].items())


class LetterCounts:
    """A text encoder for tests: how often each of 12 letters stands in the text, as a unit vector."""

    id = "letter-counts"
    width = 12

    def encode(self, text: str) -> np.ndarray:
        counts = np.array([1.0 + text.count(letter) for letter in "aeiouhnrstld"], dtype=np.float32)
        return counts / np.linalg.norm(counts)

    def encode_batch(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([self.encode(text) for text in texts])

    def tokens(self, text: str) -> np.ndarray:
        return self.encode(text)[None]


def described_scenes(folder: Path, split: str) -> list[Level]:
    """Scenes under names that have captions, the coarsest band and the one below it among them."""
    pack = "s2_eurosat_10m"
    sizes = [(10.0, 64), (153.0, 256), (611.0, 256), (2446.0, 256)]
    return [
        Level(pack, f"{pack}/Forest/{split}_{index}.jpg", gsd, scene(index, side))
        for index, (gsd, side) in enumerate(sizes)
    ]


@pytest.mark.slow
def test_the_prompt_roots_training_resumes_to_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imagery").mkdir()
    monkeypatch.setattr(training.prompt, "read_levels", described_scenes)
    settings = training.prompt.Settings(batch=2, warm_up=2)

    def run(out: str, images: int) -> None:
        net = PromptGenerator(
            channels=(8, 8, 8), blocks=(1, 1, 1, 1, 1), kernel=3, expansion=2, embedding=8, text_width=12
        )
        monkeypatch.setattr(training.prompt, "SHEET_PROMPTS", ("forest",))
        training.prompt.train(tmp_path, tmp_path / out, 60.0, settings, 4, images, LetterCounts(), net)

    torch.manual_seed(1)
    run("whole", 8)
    torch.manual_seed(1)
    run("parts", 4)
    run("parts", 8)
    whole, parts = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "parts"))
    for kind in ("net", "ema", "heads", "match"):
        assert all(torch.allclose(whole[kind][name], value, atol=1e-5) for name, value in parts[kind].items())
    assert any(value.any() for name, value in parts["net"].items() if name.endswith("leave.weight"))
    lines = [json.loads(line) for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [4, 8]


@pytest.mark.slow
def test_the_denoising_prompt_roots_training_resumes_to_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "imagery").mkdir()
    monkeypatch.setattr(training.prompt_denoiser, "read_levels", described_scenes)
    settings = training.prompt_denoiser.Settings(batch=2, warm_up=2)

    def run(out: str, images: int) -> None:
        net = PromptDenoiser(
            channels=(8, 8, 8), blocks=(1, 1, 1, 1, 1), kernel=3, expansion=2, embedding=8, text_width=12
        )
        monkeypatch.setattr(training.prompt_denoiser, "SHEET_PROMPTS", ("forest",))
        training.prompt_denoiser.train(tmp_path, tmp_path / out, 60.0, settings, 4, images, LetterCounts(), net)

    torch.manual_seed(1)
    run("whole", 8)
    torch.manual_seed(1)
    run("parts", 4)
    run("parts", 8)
    whole, parts = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "parts"))
    for kind in ("net", "ema"):
        assert all(torch.allclose(whole[kind][name], value, atol=1e-5) for name, value in parts[kind].items())
    assert any(value.any() for name, value in parts["net"].items() if name.endswith("leave.weight"))
    lines = [json.loads(line) for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [4, 8]


@pytest.mark.parametrize(("kernel", "side"), [(3, 9), (7, 16)])
def test_quick_depthwise_convolutions_learn_what_torch_would(kernel: int, side: int) -> None:
    random = torch.Generator().manual_seed(0)
    plain = torch.nn.Sequential(
        torch.nn.Conv2d(12, 12, kernel, padding=kernel // 2, groups=12), torch.nn.Conv2d(12, 3, 1)
    )
    quick = copy.deepcopy(plain)
    learn_quickly(quick)
    assert [type(layer) for layer in quick] == [DepthwiseConv2d, torch.nn.Conv2d]
    x = torch.randn(2, 12, side, side + 3, generator=random)
    gradients = []
    for net in (plain, quick):
        given = x.clone().requires_grad_(True)
        net(given).square().sum().backward()
        gradients.append([given.grad, *(parameter.grad for parameter in net.parameters())])
    for expected, found in zip(*gradients, strict=True):
        assert expected is not None and found is not None
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        assert quick(x).dtype == torch.bfloat16
        quick(x).float().square().sum().backward()


def test_a_regression_is_shown_noise_and_nothing_of_the_children() -> None:
    seen: list[torch.Tensor] = []

    class Spy(Preconditioned):
        def forward(self, x: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
            seen.append(x)
            return torch.zeros_like(x)

    model, sigma = Spy(tiny_net()), torch.full((2,), training.cascade.REGRESSION_SIGMA)
    condition = Condition(torch.zeros(2, 3, 8, 8), torch.zeros(2, 8), torch.zeros(2))
    states = torch.zeros(2, 45, 8, 8), torch.ones(2, 45, 8, 8)
    for regression in (True, False):
        settings = training.cascade.Settings(regression=regression)
        losses = [
            training.cascade.step_loss(model, state, condition, sigma, torch.Generator().manual_seed(0), settings)
            for state in states
        ]
        assert torch.equal(seen[-2], seen[-1]) == regression
        assert losses[0].tolist() == [0.0, 0.0] and bool((losses[1] > 0).all())


@pytest.mark.slow
def test_the_adversarial_tail_resumes_and_samples_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imagery").mkdir()
    monkeypatch.setattr(training.adversarial, "read_levels", described_scenes)
    # Parents are drawn from the pool as soon as it holds one.
    monkeypatch.setattr(training.adversarial, "_POOL_BEGINS", 1)
    settings = training.adversarial.Settings(batch=2, warm_up=4, own_share=0.5)
    init = save_tiny_weights(tmp_path / "init")

    def run(out: str, images: int) -> None:
        training.adversarial.train(tmp_path, init, tmp_path / out, 60.0, settings, 8, images, LetterCounts())

    run("whole", 16)
    run("parts", 8)
    run("parts", 16)
    whole, parts = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "parts"))
    for kind in ("net", "ema", "patches", "heads"):
        assert all(torch.allclose(whole[kind][name], value, atol=1e-5) for name, value in parts[kind].items())
    assert torch.equal(whole["pool"]["pixels"], parts["pool"]["pixels"])
    assert torch.allclose(whole["busy"]["known"]["fake"], parts["busy"]["known"]["fake"], atol=1e-4)
    assert tuple(parts["config"]["sigmas"]) == (settings.sigma, 0.0)
    start = load_weights(init).net.state_dict()
    assert any(not torch.equal(value, parts["net"][name]) for name, value in start.items())
    # A network that had no text has learnt to listen.
    assert "row_embedding.text.weight" not in start
    assert parts["net"]["row_embedding.text.weight"].any()
    last = json.loads((tmp_path / "parts" / "log.jsonl").read_text().splitlines()[-1])
    assert "2446m" in last["descent"]


@pytest.mark.slow
def test_distillation_resumes_and_its_student_ships_as_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imagery").mkdir()
    monkeypatch.setattr(training.distil, "read_levels", described_scenes)
    monkeypatch.setattr(training.distil, "_POOL_BEGINS", 1)
    settings = training.distil.Settings((1, 1, 1, 1, 1), batch=2, warm_up=4)
    teacher = tmp_path / "teacher"
    DetailDenoiser.from_config({**tiny_net().config, "blocks": (1, 1, 2, 1, 2)}).save_pretrained(teacher)

    def run(out: str, images: int) -> None:
        training.distil.train(tmp_path, teacher, tmp_path / out, 60.0, settings, 20, images)

    run("whole", 40)
    run("parts", 20)
    run("parts", 40)
    whole, parts = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "parts"))
    for kind in ("net", "ema", "patches"):
        assert all(torch.allclose(whole[kind][name], value, atol=1e-5) for name, value in parts[kind].items())
    # One step, whatever the teacher takes.
    assert tuple(parts["config"]["sigmas"]) == (3.0, 0.0)
    start = training.distil.student_of(DetailDenoiser.from_pretrained(teacher), settings).state_dict()
    assert any(not torch.equal(value, parts["net"][name]) for name, value in start.items())
    export(tmp_path / "whole" / "checkpoint.pt", teacher / "draft")
    assert load_qualities(teacher)["draft"].weights.id == load_weights(teacher / "draft").id


def green_root(water_columns: int = 0) -> RootCrops:
    """A root of grassy noise with some columns of water in the west."""
    picture = np.random.default_rng(0).integers(60, 120, (4096, 4096, 3), dtype=np.uint8)
    picture[:, :water_columns] = (20, 60, 110)
    return RootCrops(RootImage("green", lambda: picture))


def test_the_pool_gives_children_back_as_parents_of_the_next_band() -> None:
    random = torch.Generator().manual_seed(0)
    pool = ChildPool(green_root(), bands=3, capacity=2, side=32)
    children = torch.rand(3, 3, 32, 32, generator=random) * 2 - 1
    children[:, 2] = children[:, 0]
    pool.add([2, 2, 0], children, torch.tensor([9.0, 9.0, 5.0]), random)
    assert pool.bands(at_least=2) == [1, 2]
    assert pool.bands(at_least=3) == [2]
    parents = pool.draw([1, 1], 8, random)
    assert parents.pixels.shape == (2, 3, 8, 8)
    assert parents.log2_gsd.tolist() == [7.0, 7.0]
    kept = ((children[:2] + 1) * 127.5).round() / 127.5 - 1
    places = [
        kept[which, :, row : row + 8, column : column + 8]
        for which in range(2)
        for row in range(0, 28, ALIGNMENT)
        for column in range(0, 28, ALIGNMENT)
        if row + 8 <= 32 and column + 8 <= 32
    ]
    assert all(any(torch.allclose(parent, place, atol=1e-5) for place in places) for parent in parents.pixels)


def test_chains_begin_at_the_root_on_land() -> None:
    random = torch.Generator().manual_seed(0)
    pool = ChildPool(green_root(water_columns=2048), bands=3, capacity=2, side=32)
    drawn = pool.draw([2] * 8, 16, random)
    assert drawn.pixels.shape == (8, 3, 16, 16)
    blueness = (drawn.pixels[:, 2] - drawn.pixels[:, 0] > 38 / 127.5).float().mean(dim=(1, 2))
    assert float(blueness.max()) < 0.5
    # Children two zooms below the root: 2446 m at the equator, finer towards the poles.
    assert bool(((drawn.log2_gsd < math.log2(2447)) & (drawn.log2_gsd > math.log2(2446 * 0.3))).all())
    middle = green_root().around(10.0, 60.0, 16)
    assert float(middle.log2_gsd[0].exp2()) == pytest.approx(2446 * 0.5, rel=0.01)


def test_children_that_are_mostly_water_are_not_kept() -> None:
    random = torch.Generator().manual_seed(0)
    pool = ChildPool(green_root(), bands=2, capacity=2, side=32)
    sea = torch.tensor([-0.8, -0.5, 0.0])[None, :, None, None].expand(1, 3, 32, 32)
    pool.add([1], sea, torch.zeros(1), random)
    assert pool.bands(at_least=1) == [1]
    pool.add([1], sea.flip(1), torch.zeros(1), random)
    assert pool.bands(at_least=1) == [0, 1]


def test_a_faint_population_is_asked_to_be_busier_and_an_equal_one_to_stay() -> None:
    random = torch.Generator().manual_seed(0)
    strengths = torch.tensor([0.15, 0.2, 0.3, 0.5])[:, None, None, None]
    real = torch.randn(4, 3, 32, 32, generator=random).clamp(-2, 2) * strengths
    equal = torch.randn(4, 3, 32, 32, generator=random).clamp(-2, 2) * strengths
    faint = (equal * 0.2).requires_grad_()
    assert float(Busyness(1, 4, 4).distance(equal, real, [0] * 4)) < 0.1
    distance = Busyness(1, 4, 4).distance(faint, real, [0] * 4)
    # Two of the seven statistics are off, by ln 5; the ratios are as they should be, but for the floor.
    assert float(distance.detach()) > 2 / 7 * np.log(4)
    distance.backward()
    assert faint.grad is not None
    # A step down the gradient makes the population busier.
    stepped = faint.detach() - 0.02 * faint.grad
    lightness = slice(0, 2)
    before, after = busyness(faint.detach())[:, lightness], busyness(stepped)[:, lightness]
    assert float(after.mean()) > float(before.mean())


def test_evenness_is_of_the_mean_and_not_of_one_picture() -> None:
    random = torch.Generator().manual_seed(1)
    even, blocky = Lattice(1), Lattice(1)
    for _ in range(60):
        ground = torch.rand(2, 3, 64, 64, generator=random)
        evenly = even.unevenness(ground, [0, 0])
        in_blocks = F.interpolate(torch.rand(2, 3, 16, 16, generator=random), scale_factor=4) + 0.1 * ground
        unevenly = blocky.unevenness(in_blocks, [0, 0])
    assert abs(float(evenly)) < 0.02 and float(even.excess()) < 0.02
    assert float(unevenly) > 1 and float(blocky.excess()) > 0.5
    # The first of each four places is where blocks meet.
    assert min(blocky.shares_by_place()[0][::4]) > 2 > 1 > max(blocky.shares_by_place()[0][1::4])


@pytest.mark.slow
def test_the_lesson_in_evenness_resumes_and_leaves_the_rest_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "imagery").mkdir()
    monkeypatch.setattr(training.evenness, "read_levels", described_scenes)
    monkeypatch.setattr(training.evenness, "_POOL_BEGINS", 1)
    settings = training.evenness.Settings(batch=2)
    init = save_tiny_weights(tmp_path / "init")

    def run(out: str, images: int) -> None:
        training.evenness.train(tmp_path, init, tmp_path / out, 60.0, settings, 8, images)

    run("whole", 16)
    run("parts", 8)
    run("parts", 16)
    whole, parts = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "parts"))
    assert all(torch.allclose(whole["ema"][name], value, atol=1e-5) for name, value in parts["ema"].items())
    start = load_weights(init).net.state_dict()
    changed = {name for name, value in start.items() if not torch.equal(value, parts["ema"][name])}
    assert changed and all(name.startswith(("unet.from_middle", "unet.fine_out", "unet.leave")) for name in changed)
    assert tuple(parts["config"]["detail_std"]) == tuple(load_weights(init).net.config["detail_std"])
