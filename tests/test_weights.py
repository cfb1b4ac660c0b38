"""Weights: the shipped ones, a folder, a hub name; and clear words about what is wrong with a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from earthgen.errors import WeightsError
from earthgen.weights import SHIPPED, load_weights, weights_id
from tests.tiny import save_tiny_weights


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny_weights(tmp_path / "weights")


def test_a_folder_loads_and_its_id_is_its_content(folder: Path, tmp_path: Path) -> None:
    loaded = load_weights(folder)
    assert loaded.id == weights_id(folder) == load_weights(str(folder)).id
    assert load_weights(save_tiny_weights(tmp_path / "other", seed=1)).id != loaded.id


def test_the_shipped_weights_load_are_small_bfloat16_and_have_a_card() -> None:
    assert load_weights().source == "shipped"
    tensors = SHIPPED / "diffusion_pytorch_model.safetensors"
    assert tensors.stat().st_size < 40e6
    with safe_open(tensors, "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118
    card = (SHIPPED / "README.md").read_text()
    for part in ("license:", "Data", "images", "hours", "Held-out", "bad at"):
        assert part in card


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip_header(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[20] ^= 0xFF
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("diffusion_pytorch_model.safetensors", cut, "cannot be loaded"),
        ("diffusion_pytorch_model.safetensors", flip_header, "cannot be loaded"),
        ("diffusion_pytorch_model.safetensors", Path.unlink, "is missing"),
        ("config.json", Path.unlink, "is missing"),
        ("config.json", lambda path: path.write_text("{"), "not a JSON object"),
        ("config.json", lambda path: path.write_text("[]"), "not a JSON object"),
        ("config.json", lambda path: path.write_text('{"_class_name": "UNet2DModel"}'), "UNet2DModel"),
    ],
)
def test_damaged_weights_are_named(folder: Path, name: str, damage: object, words: str) -> None:
    damage(folder / name)  # type: ignore[operator]
    with pytest.raises(WeightsError, match=words):
        load_weights(folder)


def test_a_network_of_another_layout_is_one_sentence(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["blocks"] = [1, 1, 2, 1, 1]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"does not fit its config\.json: 8 tensors missing or unknown"):
        load_weights(folder)
    assert capfd.readouterr() == ("", "")


def test_tensors_of_another_size_are_named(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["channels"] = [8, 8, 16]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError):
        load_weights(folder)


def test_tensors_that_are_missing_are_named(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["blocks"] = [2, 1, 1, 1, 1]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="does not fit"):
        load_weights(folder)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"config\.json is missing"):
        load_weights(tmp_path)


def test_hub_names_go_to_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def snapshot_download(name: str, **_: object) -> str:
        asked.append(name)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert load_weights("hf:someone/earth").id == weights_id(folder)
    assert asked == ["someone/earth"]


def test_a_hub_that_does_not_answer_is_an_error_of_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(name: str, **_: object) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(WeightsError, match="no route to host"):
        load_weights("hf:someone/earth")
