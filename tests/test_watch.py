"""`earthgen watch`: change maps from the command line, and one sentence for whatever cannot become one."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import torch
from affine import Affine
from PIL import Image
from safetensors.torch import load_file

import earthgen.cli_plugins
import perception
import perception.registry
from earthgen.cli import main
from perception import semantic_cd
from perception.cdmamba import CDMamba, CDMambaConfig
from perception.checkpoint import FILE, save_network
from perception.semantic_cd import SemanticCD
from tests.test_perception_semantic_cd import TINY, HashedText

METRES = Affine(0.5, 0.0, 600_000.0, 0.0, -0.5, 5_000_000.0)
UTM = "EPSG:32632"
DETECT = ["watch", "detect", "before.tif", "after.tif", "-o", "change.tif", "-q"]

Says = Callable[..., str]


def picture(seed: int, height: int = 40, width: int = 56) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8)


def write(name: str, pixels: npt.NDArray[Any], crs: str | None = UTM, transform: Affine = METRES) -> None:
    count, height, width = pixels.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": pixels.dtype.name}
    with rasterio.open(name, "w", crs=crs, transform=transform, **profile) as dataset:
        dataset.write(pixels)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small random weights of each model."""
    folder = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = CDMambaConfig(channels=8, blocks=(1, 0, 0, 0), states=4)
        save_network(folder / "cdmamba", "cdmamba", config, CDMamba(config))
        save_network(folder / "semantic-cd", "semantic-cd", TINY, SemanticCD(TINY))
    return folder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with two pictures and the weights; none ship, and words need no network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(perception.registry, "_WEIGHTS", tmp_path / "none")
    monkeypatch.setattr(semantic_cd, "text_encoder", lambda _: HashedText())
    shutil.copytree(saved, "weights")
    write("before.tif", picture(1))
    write("after.tif", picture(2))
    return tmp_path


@pytest.fixture
def says(capsys: pytest.CaptureFixture[str]) -> Says:
    """Run a command that must fail: exit code 2 and one line, which is returned; nothing is written."""

    def says(*words: str) -> str:
        before = sorted(os.listdir())
        capsys.readouterr()
        assert main(list(words)) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("earthgen: ")
        assert said.err.count("\n") == 1
        assert sorted(os.listdir()) == before
        return said.err

    return says


# --- Change maps ---


def test_a_change_map_and_its_polygons_are_what_the_model_found(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["watch", "detect", "before.tif", "after.tif", "-o", "change.tif", "--geojson", "change.geojson"]
    assert main([*words, "--weights", "weights/cdmamba", "--tile", "32", "--overlap", "8"]) == 0
    pair = perception.read_pair("before.tif", "after.tif")
    found = perception.load("cdmamba", "weights/cdmamba").detect(pair, tile=32, overlap=8)
    assert found.mask.any()
    with rasterio.open("change.tif") as dataset:
        assert (dataset.crs.to_string(), dataset.transform) == (UTM, METRES)
        assert np.array_equal(dataset.read(1), found.mask)
        assert dataset.tags()["EARTHGEN_MODEL"] == "cdmamba"
    assert json.loads(Path("change.geojson").read_text()) == json.loads(json.dumps(found.geojson()))
    said = capsys.readouterr()
    changed = int(found.mask.sum())
    assert said.out == f"change.tif: {changed} of 2240 pixels changed ({changed / 2240:.2%})\n"
    assert "change.tif: 100%" in said.err
    assert sorted(os.listdir()) == ["after.tif", "before.tif", "change.geojson", "change.tif", "weights"]


def test_classes_are_the_models_own_or_any_others(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*DETECT, "--model", "semantic-cd", "--weights", "weights/semantic-cd"]
    for extra, classes in (([], list(TINY.classes)), (["--classes", "forest, a harbour,sand,ice"], None)):
        assert main([*words, *extra]) == 0
        with rasterio.open("change.tif") as dataset:
            assert dataset.count == 4
            tags = json.loads(dataset.tags()["EARTHGEN_CLASSES"])
            assert tags == (classes or ["forest", "a harbour", "sand", "ice"])
            assert dataset.read(3).max() <= len(tags)


def test_plain_pictures_have_a_change_map_without_a_place(says: Says) -> None:
    for index, name in enumerate(("a.png", "b.png")):
        Image.fromarray(np.moveaxis(picture(index), 0, -1)).save(name)
    words = ["watch", "detect", "a.png", "b.png", "-q", "--weights", "weights/cdmamba", "-o", "change.tif"]
    assert "no reference system" in says(*words, "--geojson", "change.geojson")
    assert main(words) == 0
    with rasterio.open("change.tif") as dataset:
        assert dataset.crs is None
        assert dataset.shape == (40, 56)


def test_weights_may_be_one_file_or_come_from_a_hub(monkeypatch: pytest.MonkeyPatch, says: Says) -> None:
    import huggingface_hub

    asked: list[tuple[str, list[str]]] = []

    def snapshot_download(name: str, *, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        if name != "somebody/changes":
            raise OSError("no route to the hub\nand more lines")
        return "weights/cdmamba"

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert main([*DETECT, "--weights", f"weights/cdmamba/{FILE}"]) == 0
    one = Path("change.tif").read_bytes()
    assert main([*DETECT, "--weights", "hf:somebody/changes"]) == 0
    assert Path("change.tif").read_bytes() == one
    assert asked == [("somebody/changes", [FILE, "README.md"])]
    assert "'nobody/changes' cannot be had: no route to the hub\n" in says(*DETECT, "--weights", "hf:nobody/changes")


# --- What cannot become a change map ---


def other_size() -> None:
    write("after.tif", picture(2, 41))


def other_system() -> None:
    write("after.tif", picture(2), "EPSG:32633")


def other_place() -> None:
    write("after.tif", picture(2), transform=METRES @ Affine.translation(3, 0))


def not_a_number() -> None:
    pixels = picture(2).astype(np.float32) / 255
    pixels[1, 5, 5] = np.nan
    write("after.tif", pixels)


def no_image() -> None:
    Path("after.tif").write_text("a letter")


def cut_image() -> None:
    content = Path("after.tif").read_bytes()
    Path("after.tif").write_bytes(content[: len(content) // 2])


def sixteen_bits() -> None:
    write("after.tif", picture(2).astype(np.uint16))


def grey() -> None:
    write("after.tif", picture(2)[:1])


def nothing_there() -> None:
    Path("after.tif").unlink()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (other_size, "differ in size: before.tif has 56 x 40 pixels, after.tif has 56 x 41"),
        (other_system, "before.tif is in EPSG:32632, after.tif is in EPSG:32633"),
        (other_place, "corners of before.tif and after.tif lie up to 3 pixels apart"),
        (not_a_number, "after.tif holds values that are not numbers (NaN or infinite)"),
        (no_image, "after.tif cannot be read as an image"),
        (cut_image, "after.tif cannot be read as an image"),
        (sixteen_bits, "after.tif holds uint16 pixels; 8-bit colour"),
        (grey, "after.tif has 1 band; three of them are needed"),
        (nothing_there, "after.tif does not exist"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_no_pair_is_one_sentence(spoil: Callable[[], None], sentence: str, says: Says) -> None:
    spoil()
    assert sentence in says(*DETECT, "--weights", "weights/cdmamba", "--geojson", "change.geojson")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--weights", "weights/cdmamba", "--classes", "a,b"], "cdmamba finds that something changed, not what"),
        (["--weights", "weights/cdmamba", "--tile", "100"], "tile is 100; a positive multiple of 8"),
        (["--weights", "weights/cdmamba", "--tile", "64", "--overlap", "64"], "overlap is 64; 0 to 63"),
        (["--weights", "weights/semantic-cd"], "holds weights of semantic-cd; cdmamba is needed"),
        (["--weights", "nowhere"], "no weights at nowhere; a folder with model.safetensors"),
        (["--weights", "hf:///"], "hub weights '///' cannot be had"),
        (["--model", "semantic-cd", "--weights", "weights/semantic-cd", "--classes", ""], "has an empty name"),
        (["--model", "semantic-cd", "--weights", "weights/semantic-cd", "--classes", "a,,b"], "has an empty name"),
        (["--model", "semantic-cd", "--weights", "weights/semantic-cd", "--classes", "a,b,a"], "'a' is listed twice"),
        (["--model", "semantic-cd", "--weights", "weights/semantic-cd", "--classes", "x," * 300], "301 classes"),
        (["--model", "cdmambo"], "no model is called 'cdmambo'; there are cdmamba, semantic-cd"),
        ([], "no weights of cdmamba ship with this version"),
        (["--geojson", "change.shp"], "ends in '.shp'; allowed: .geojson, .json"),
        (["-o", "change.png"], "ends in '.png'; allowed: .tif, .tiff"),
        (["-o", "missing/change.tif"], "folder missing does not exist"),
        (["-o", "./after.tif"], "after.tif is one of the pictures"),
    ],
)
def test_what_no_model_can_do_is_one_sentence(words: list[str], sentence: str, says: Says) -> None:
    assert sentence in says(*DETECT, *words)


class Bomb:
    """Runs code when it is unpickled the ordinary way."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("exploded",)


def test_damaged_and_dangerous_checkpoints_are_one_sentence(says: Says) -> None:
    weights = Path("weights/cdmamba", FILE)
    whole = weights.read_bytes()
    for length in (0, 5, len(whole) // 2, len(whole) - 1):
        weights.write_bytes(whole[:length])
        assert f"{weights} cannot be loaded" in says(*DETECT, "--weights", "weights/cdmamba")
    Path("bomb.pth").write_bytes(pickle.dumps({"convInit.conv.weight": Bomb()}, protocol=2))
    torch.save({"convInit.conv.weight": Bomb()}, "bomb.pt")
    for name in ("bomb.pth", "bomb.pt"):
        assert "was refused: it holds Python objects other than tensors" in says(*DETECT, "--weights", name)
    torch.save({"convInit.conv.weight": torch.zeros(8, 3, 3, 3)}, "cut.pth")
    Path("cut.pth").write_bytes(Path("cut.pth").read_bytes()[:-200])
    assert "cut.pth is truncated or damaged" in says(*DETECT, "--weights", "cut.pth")
    assert "cannot be loaded" in says(*DETECT, "--model", "semantic-cd", "--weights", "bomb.pth")


def test_weights_of_other_shapes_are_one_sentence(says: Says) -> None:
    weights = Path("weights/semantic-cd", FILE)
    state = load_file(weights)
    from safetensors.torch import save_file

    name = sorted(state)[0]
    save_file(state, weights, metadata={"model": "semantic-cd", "config": '{"wings": 2}'})
    words = [*DETECT, "--model", "semantic-cd", "--weights", "weights/semantic-cd"]
    assert "has a configuration that semantic-cd does not know" in says(*words)
    del state[name]
    save_network("weights/semantic-cd", "semantic-cd", TINY, SemanticCD(TINY))
    with_config = {"model": "semantic-cd", "config": _config(weights)}
    save_file(state, weights, metadata=with_config)
    assert f"1 tensors missing or unknown, first {name}" in says(*words)


def _config(path: Path) -> str:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return str(file.metadata()["config"])


# --- The list of models, and commands of other packages ---


def test_models_are_listed_with_their_classes(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["watch", "models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["cdmamba", "semantic-cd", "rscama", "mci", "semantic-cc", "rsrefseg"]
    assert all("no weights ship" in line for line in lines)
    monkeypatch.setattr(perception.registry, "_WEIGHTS", place / "weights")
    assert main(["watch", "models", "--json"]) == 0
    binary, semantic, *_ = json.loads(capsys.readouterr().out)
    assert (binary["available"], binary["classes"], binary["any_classes"]) == (True, [], False)
    assert (semantic["available"], semantic["classes"], semantic["any_classes"]) == (True, list(TINY.classes), True)
    assert "reconstruction" in semantic["fidelity"]


def test_models_for_other_tasks_find_no_changes(monkeypatch: pytest.MonkeyPatch, says: Says) -> None:
    speaking = dataclasses.replace(perception.MODELS["cdmamba"], name="speaking", task="captions")  # type: ignore[arg-type]
    monkeypatch.setitem(perception.MODELS, "speaking", speaking)
    sentence = "speaking is for captions; models that find changes: cdmamba, semantic-cd, mci, semantic-cc"
    assert sentence in says(*DETECT, "--model", "speaking")


def test_watch_is_among_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "\n  watch " in capsys.readouterr().out
    assert main(["watch"]) == 0
    assert "detect" in capsys.readouterr().out


def test_a_package_cannot_take_a_command_away_and_one_that_is_broken_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, says: Says, capsys: pytest.CaptureFixture[str]
) -> None:
    offered = {
        name: EntryPoint(name, "no_such_package:app", earthgen.cli_plugins.GROUP) for name in ("broken", "world")
    }
    monkeypatch.setattr(earthgen.cli_plugins, "_offered", lambda: offered)
    assert "the command broken cannot be loaded: No module named 'no_such_package'" in says("broken", "--help")
    assert main(["world", "make"]) == 0
    capsys.readouterr()
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert "\n  tile " in listed
    assert "\n  broken  " in listed
