"""The adherence benchmark: it tells pictures that follow the prompt from pictures that do not."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch

import benchmarks.adherence
from benchmarks.adherence import (
    Generate,
    LinearProbe,
    fit_ruler,
    generated_classes,
    octave_errors,
    overall_accuracy,
    real_classes,
    report,
    similarity,
)
from datasets.pyramids import Level

Pixels = npt.NDArray[np.uint8]
NAMES = ("Forest", "River", "SeaLake")


def picture(prompt: str, gsd: float, seed: int, side: int = 64) -> Pixels:
    """A colour by prompt, stripes whose width is the resolution's, noise by seed."""
    random = np.random.default_rng(seed)
    colour = np.random.default_rng(zlib.crc32(prompt.encode())).integers(60, 196, 3)
    stripes = 40 * np.sin(np.arange(side) * 6.0 / (3 + gsd))[:, None, None]
    values = colour + stripes + random.normal(0, 6, (side, side, 3))
    return np.asarray(np.clip(values, 0, 255), dtype=np.uint8)


def deaf(prompt: str, gsd: float, seed: int) -> Pixels:
    return picture(f"{seed % 7}", 10.0 + seed % 5, seed)


def describe(pictures: Sequence[Pixels]) -> torch.Tensor:
    """Mean colour and how rough the rows or the columns are at a few scales."""
    rows = []
    for pixels in pictures:
        lines = [pixels.astype(np.float64).mean(axis=axes) for axes in ((1, 2), (0, 2))]
        rough = [
            np.log(max(np.abs(line[step:] - line[:-step]).mean() for line in lines) + 0.1) for step in (1, 2, 4, 8)
        ]
        rows.append([*pixels.reshape(-1, 3).mean(axis=0), *rough])
    return torch.tensor(rows, dtype=torch.float32)


class Colours:
    """A tower that knows by heart what colour each prompt has."""

    id, width = "colours", 3

    class text:
        id, width = "colours", 3

        @staticmethod
        def encode_batch(texts: Sequence[str]) -> npt.NDArray[np.float32]:
            return _units([picture(text, 10.0, 0) for text in texts])

    def embed(self, pictures: Sequence[Pixels], gsd: object = None) -> npt.NDArray[np.float32]:
        return _units(pictures)

    def features(self, pictures: Sequence[Pixels]) -> torch.Tensor:
        return describe(pictures)


def _units(pictures: Sequence[Pixels]) -> npt.NDArray[np.float32]:
    means = np.stack([pixels.reshape(-1, 3).mean(axis=0) - 128 for pixels in pictures]).astype(np.float32)
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), dtype=np.float32)


def levels(first_seed: int) -> list[Level]:
    chips = [
        Level(
            "s2_eurosat_10m", f"s2_eurosat_10m/{name}/{name}_{seed}.jpg", 10.0, picture(name, 10.0, first_seed + seed)
        )
        for name in NAMES
        for seed in range(6)
    ]
    return chips + [
        Level("made", f"made/{gsd}", gsd, picture("x", gsd, first_seed, 96)) for gsd in (0.6, 2.4, 10.0, 40.0)
    ]


@pytest.mark.parametrize(("generate", "least", "most"), [(picture, 0.95, 1.0), (deaf, 0.0, 0.7)])
def test_a_classifier_learns_from_pictures_that_follow_the_class_only(
    generate: Generate, least: float, most: float
) -> None:
    made = generated_classes(generate, describe, [[name] for name in NAMES], 10.0, 12)
    accuracy, by_class = overall_accuracy(made, real_classes(levels(100), describe, NAMES, None), len(NAMES))
    assert least <= accuracy <= most
    assert accuracy == pytest.approx(np.mean(by_class))


def test_similarity_is_above_its_null_where_the_prompt_is_followed() -> None:
    prompts = ["lake", "forest", "sand", "town"] * 3
    tower = Colours()
    followed = similarity(tower, prompts, [picture(p, 10.0, i) for i, p in enumerate(prompts)], [10.0] * 12)  # type: ignore[arg-type]
    ignored = similarity(tower, prompts, [picture("x", 10.0, i) for i, _ in enumerate(prompts)], [10.0] * 12)  # type: ignore[arg-type]
    assert followed.recall == 1.0 > followed.chance == 0.25
    assert followed.matched > followed.shuffled + 0.3
    assert ignored.recall == 0.25


def test_the_ruler_reads_the_resolution() -> None:
    ruler, features = fit_ruler(levels(0), describe, 64, 200)
    assert features.shape == (200, 7)
    asked = [0.6, 2.4, 10.0, 40.0]
    right = octave_errors(ruler, describe([picture("x", gsd, 5) for gsd in asked]), asked)
    wrong = octave_errors(ruler, describe([picture("x", 2.4, 5) for _ in asked]), asked)
    assert float(right.abs().mean()) < float(wrong.abs().mean()) / 2


def test_a_probe_fits_a_line_and_its_offset() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 5)
    y = x @ torch.tensor([[1.0], [2.0], [0.0], [-1.0], [0.5]]) + 7
    assert torch.allclose(LinearProbe.fit(x, y, ridge=1e-6)(x), y, atol=0.05)


def test_the_report_has_all_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks.adherence, "PROMPTS", (("lake", (0.6, 10.0)), ("sand", (2.4,))))
    text = report(picture, picture, Colours(), {"train": levels(0), "val": levels(50)}, 3, 2, 64, 64)  # type: ignore[arg-type]
    assert "tested on 18 real ones" in text
    assert "| learnt from | overall accuracy | Forest | River | SeaLake |" in text
    assert "6 pictures of 64 pixels: 2 prompts" in text
    assert "| generated | 0.6 m |" in text
    for table in text.split("\n\n"):
        rows = [line for line in table.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) <= 1
