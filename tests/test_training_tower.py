"""Training the image tower: it learns what captions say, keeps its features, and writes what the loader reads."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

import training.tower
from datasets.captions import CaptionBook
from datasets.pyramids import Level
from earthgen.tower import TowerHead, image_tower, save_tower, seen_log2_gsd
from training.tower import Examples, Settings, blurred, gather, report, train_head

COLOURS = {"Forest": (40, 70, 40), "River": (90, 110, 130), "SeaLake": (20, 50, 90), "Pasture": (120, 160, 90)}


class HashEncoder:
    """A direction of its own for each text."""

    id, width = "hash", 32

    def encode(self, text: str) -> npt.NDArray[np.float32]:
        vector = np.random.default_rng(zlib.crc32(text.encode())).normal(size=self.width).astype(np.float32)
        return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)

    def encode_batch(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.stack([self.encode(text) for text in texts])

    def tokens(self, text: str) -> npt.NDArray[np.float32]:
        return self.encode(text)[None]


def levels(seed: int) -> list[Level]:
    random = np.random.default_rng(seed)
    return [
        Level(
            "s2_eurosat_10m",
            f"s2_eurosat_10m/{name}/{name}_{number}.jpg",
            10.0,
            np.clip(np.array(colour) + random.normal(0, 20, (64, 64, 3)), 0, 255).astype(np.uint8),
        )
        for name, colour in COLOURS.items()
        for number in range(8)
    ]


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[TowerHead, Examples, CaptionBook, Path]:
    folder = tmp_path_factory.mktemp("run")
    settings = Settings(crops={64: 16}, eurosat=32, steps=80, batch=32)
    book = CaptionBook.build(levels(0), HashEncoder())
    head = train_head(gather(levels(0), book, settings, True, folder), book, settings)
    return head, gather(levels(1), book, settings, False, folder), book, folder


def test_held_out_pictures_find_their_words(learnt: tuple[TowerHead, Examples, CaptionBook, Path]) -> None:
    head, held_out, book, _ = learnt
    found = report(head, held_out, book, HashEncoder())
    assert found["pictures"] == 48
    assert found["text_recall@1"] > found["text_recall@1_shuffled"] + 0.3
    assert found["picture_recall@5"] >= found["picture_recall@1"] > 0.6
    assert found["eurosat_zero_shot"] > 0.8


def test_features_are_computed_once(
    learnt: tuple[TowerHead, Examples, CaptionBook, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, held_out, book, folder = learnt
    monkeypatch.delattr(training.tower, "describe")
    again = gather(levels(1), book, Settings(crops={64: 16}, eurosat=32), False, folder)
    assert torch.equal(again.features, held_out.features)


def test_the_written_tower_says_what_the_head_said(
    learnt: tuple[TowerHead, Examples, CaptionBook, Path], tmp_path: Path
) -> None:
    head, *_ = learnt
    save_tower(head, tmp_path, {"text_encoder": "minilm", "held_out": {"pictures": 48}})
    tower = image_tower(tmp_path)
    pixels = levels(1)[3].pixels
    with torch.inference_mode():
        features = training.tower.describe([pixels], None)
        said = head(features, torch.tensor([seen_log2_gsd(10.0, 64, 64)]))
    assert np.allclose(tower.embed([pixels], 10.0), said.numpy(), atol=0.03)


def test_a_third_of_the_pictures_is_blurred() -> None:
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    random = torch.Generator().manual_seed(1)
    spreads = torch.tensor([float(blurred(image, random).std()) for _ in range(300)])
    assert 70 < int((spreads < 0.9 * float(image.std())).sum()) < 130
    assert float(blurred(image, random).abs().max()) <= 1.0
