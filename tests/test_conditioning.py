"""Text encoders: meaning, determinism, and layouts that load through one door."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthgen.conditioning import (
    MAX_TEXT_CHARACTERS,
    Guide,
    TextEncoder,
    make_guide,
    text_encoder,
)
from earthgen.errors import InvalidRequestError, WeightsError
from tests.tiny_text import tiny_clip, tiny_open_clip

TEXTS = ["dense forest", "houses along the road", "a harbour town on a rocky coast, seen from above in summer"]


@pytest.fixture(scope="module")
def minilm() -> TextEncoder:
    return text_encoder()


def test_near_meanings_are_near_and_the_vectors_are_unit(minilm: TextEncoder) -> None:
    vectors = minilm.encode_batch(
        ["houses along the road", "a row of houses beside the street", "a forest", "dense trees", "an airport runway"]
    )
    assert vectors.dtype == np.float32
    assert vectors.shape == (5, minilm.width) == (5, 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    cosine = vectors @ vectors.T
    assert cosine[0, 1] > 0.7
    assert cosine[2, 3] > 0.5
    assert max(cosine[0, 4], cosine[3, 4]) < 0.3


def test_a_batch_is_its_texts_one_by_one(minilm: TextEncoder) -> None:
    alone = np.stack([minilm.encode(text) for text in TEXTS])
    assert np.allclose(minilm.encode_batch(TEXTS), alone, atol=1e-5)
    assert minilm.encode_batch([]).shape == (0, 384)


def test_bytes_do_not_depend_on_threads_or_process(minilm: TextEncoder) -> None:
    expected = [minilm.encode(text).tobytes() for text in TEXTS]
    script = (
        "import torch, sys; torch.set_num_threads(2)\n"
        "from earthgen.conditioning import text_encoder\n"
        f"for text in {TEXTS[::-1]!r}: print(text_encoder().encode(text).tobytes().hex())\n"
        "assert torch.get_num_threads() == 2"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert [bytes.fromhex(line) for line in elsewhere[::-1]] == expected
    with ThreadPoolExecutor(4) as pool:
        assert [vector.tobytes() for vector in pool.map(minilm.encode, TEXTS * 4)] == expected * 4


def test_an_encoder_is_loaded_once() -> None:
    with ThreadPoolExecutor(4) as pool:
        assert len({id(encoder) for encoder in pool.map(lambda name: text_encoder(name), [None, "minilm"] * 4)}) == 1


def test_token_states_pool_to_the_vector(minilm: TextEncoder) -> None:
    states = minilm.tokens("dense forest")
    assert states.shape == (4, 384)  # [CLS] dense forest [SEP]
    mean = states.mean(axis=0)
    assert np.allclose(mean / np.linalg.norm(mean), minilm.encode("dense forest"), atol=1e-5)


def test_returned_vectors_cannot_be_spoilt(minilm: TextEncoder) -> None:
    with pytest.raises(ValueError, match="read-only"):
        minilm.encode("dense forest")[0] = 1.0


@settings(max_examples=20)
@given(st.text(min_size=1, max_size=60))
def test_any_text_is_data(text: str) -> None:
    encoder = text_encoder()
    if not text.strip():
        with pytest.raises(InvalidRequestError, match="empty"):
            encoder.encode(text)
        return
    vector = encoder.encode(text)
    assert np.isfinite(vector).all()
    assert abs(float(np.linalg.norm(vector)) - 1.0) < 1e-4


@pytest.mark.parametrize(
    "text", ["\ud800 lonely", "<script>alert(1)</script>", "a\x00b", "森と川", "x" * MAX_TEXT_CHARACTERS]
)
def test_odd_text_has_a_vector(minilm: TextEncoder, text: str) -> None:
    assert np.isfinite(minilm.encode(text)).all()


@pytest.mark.parametrize(
    ("text", "says"), [(7, "a string is allowed"), ("  ", "empty"), ("x" * (MAX_TEXT_CHARACTERS + 1), "at most")]
)
def test_text_that_is_none_is_refused(minilm: TextEncoder, text: Any, says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        minilm.encode(text)


def test_a_clip_folder_gives_the_projected_end_state(tmp_path: Path) -> None:
    encoder = text_encoder(tiny_clip(tmp_path / "clip"))
    assert encoder.width == 12
    states = encoder.tokens("sea")
    assert states.shape == (5, 12)  # start, s, e, a, end
    assert np.allclose(states[-1] / np.linalg.norm(states[-1]), encoder.encode("sea"), atol=1e-5)
    assert not np.allclose(encoder.encode("sea"), encoder.encode("ice"), atol=1e-3)
    assert np.allclose(encoder.encode_batch(["sea", "a longer text"])[0], encoder.encode("sea"), atol=1e-5)


def test_a_latent_models_text_encoder_finds_its_tokenizer_beside_it(tmp_path: Path) -> None:
    folder = tiny_clip(tmp_path / "text_encoder", "CLIPTextModel")
    (tmp_path / "tokenizer").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).rename(tmp_path / "tokenizer" / name)
    encoder = text_encoder(folder)
    assert encoder.width == 24
    assert encoder.tokens("sea").shape == (5, 24)


def test_an_open_clip_folder_loads(tmp_path: Path) -> None:
    encoder = text_encoder(tiny_open_clip(tmp_path / "open"))
    assert encoder.width == 12
    states = encoder.tokens("sea ice")
    assert states.shape == (4, 12)  # start, sea, ice, end
    assert np.allclose(states[-1] / np.linalg.norm(states[-1]), encoder.encode("sea ice"), atol=1e-5)


def test_other_weights_are_another_id(tmp_path: Path) -> None:
    one = text_encoder(tiny_clip(tmp_path / "one"))
    two = text_encoder(tiny_clip(tmp_path / "two", "CLIPTextModel"))
    assert one.id != two.id != text_encoder().id
    assert one.id == text_encoder(tiny_clip(tmp_path / "three")).id


def test_what_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no text encoder 'nowhere'"):
        text_encoder("nowhere")
    with pytest.raises(WeightsError, match="names no file"):
        text_encoder("open_clip:ViT-B-32:nowhere.pt")
    damaged = tiny_clip(tmp_path / "damaged")
    tensors = damaged / "model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:100])
    with pytest.raises(WeightsError, match="damaged"):
        text_encoder(damaged)
    pickled = tiny_clip(tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="safetensors"):
        text_encoder(pickled)
    other = tiny_clip(tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(WeightsError, match="16 tensors missing or unknown"):
        text_encoder(other)


def test_a_guide_takes_empty_text_for_none(minilm: TextEncoder) -> None:
    guide = make_guide(minilm, " ", "clouds", 2)
    assert guide.text is None
    assert not guide.text_or_zero(384).any()
    assert np.array_equal(guide.negative_or_zero(384), minilm.encode("clouds"))
    assert make_guide(minilm).is_empty
    assert not guide.is_empty


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"scale": float("nan")}, "scale is nan"),
        ({"scale": 21.0}, "scale is 21"),
        ({"text": np.zeros((1, 4), np.float32)}, "guide text is float32"),
        ({"negative": np.zeros(4)}, "guide negative is float64"),
        ({"text": np.full(4, np.inf, np.float32)}, "finite"),
        ({"text": np.zeros(4, np.float32), "negative": np.zeros(5, np.float32)}, "must be as many"),
    ],
)
def test_a_guide_that_makes_no_sense_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        Guide(**fields)
    with pytest.raises(InvalidRequestError, match="these weights take 8"):
        Guide(text=np.zeros(4, np.float32)).text_or_zero(8)
