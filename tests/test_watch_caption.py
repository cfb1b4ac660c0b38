"""`earthgen watch caption`: one sentence about two pictures, or one about why there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import perception
import perception.registry
from earthgen.cli import main
from perception import mci, rscama, semantic_cc
from perception.captioner import ChangeCaptioner, ChangeInterpreter
from perception.checkpoint import FILE, save_network
from tests import test_perception_mci as of_mci
from tests import test_perception_rscama as of_rscama
from tests import test_perception_semantic_cc as of_semantic_cc

CAPTION = ["watch", "caption", "before.png", "after.png"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny random weights of each model, and a language model."""
    folder = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_network(folder / "rscama", "rscama", of_rscama.TINY, rscama.RSCaMa(of_rscama.TINY))
        save_network(folder / "mci", "mci", of_mci.TINY, mci.MCI(of_mci.TINY))
        semantic_cc.save(folder / "semantic-cc", semantic_cc.SemanticCC(of_semantic_cc.TINY, of_semantic_cc.language()))
    of_semantic_cc.language().save_pretrained(folder / "language")
    of_semantic_cc.tokenizer().save_pretrained(folder / "language")
    return folder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with two pictures; no weights ship."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(perception.registry, "_WEIGHTS", tmp_path / "none")
    for seed, name in enumerate(("before.png", "after.png")):
        random = np.random.default_rng(seed)
        Image.fromarray(random.integers(0, 256, (40, 56, 3), dtype=np.uint8)).save(name)
    return tmp_path


@pytest.mark.parametrize("model", ["rscama", "mci", "semantic-cc"])
def test_every_model_says_what_it_says_in_python(model: str, saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*CAPTION, "--model", model, "--weights", str(saved / model), "--beams", "2"]
    words += ["--language", str(saved / "language")] if model == "semantic-cc" else []
    pair = perception.read_pair("before.png", "after.png")
    opened = perception.load(model, saved / model, language=saved / "language" if model == "semantic-cc" else None)
    assert isinstance(opened, ChangeCaptioner)
    assert isinstance(opened, ChangeInterpreter) == (model != "rscama")
    expected = opened.caption(pair, beams=2)
    capsys.readouterr()
    assert main(words) == 0
    assert capsys.readouterr().out == expected.text + "\n"
    assert main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {
        "text": expected.text, "log_probability": expected.log_probability, "ended": expected.ended, "model": model
    }  # fmt: skip


@pytest.mark.parametrize("model", ["mci", "semantic-cc"])
def test_models_that_describe_and_find_make_change_maps_too(model: str, saved: Path) -> None:
    words = ["watch", "detect", "before.png", "after.png", "-o", "change.tif", "-q", "--tile", "64", "--overlap", "16"]
    assert main([*words, "--model", model, "--weights", str(saved / model)]) == 0
    assert Path("change.tif").is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "no weights of rscama ship with this version"),
        (["--model", "rscamo"], "no model is called 'rscamo'; there are rscama, mci, semantic-cc"),
        (["--model", "cdmamba"], "cdmamba is for binary change detection; models that describe changes: rscama, mci"),
        (["--weights", "SAVED/mci"], "holds weights of mci; rscama is needed"),
        (["--weights", "nowhere"], "no weights at nowhere"),
        (["--model", "semantic-cc", "--weights", "SAVED/semantic-cc"], "with a language model, and none was given"),
        (
            ["--model", "semantic-cc", "--weights", "SAVED/semantic-cc", "--language", "nowhere"],
            "no language model at nowhere",
        ),
    ],
)
def test_what_cannot_be_said_is_one_sentence(
    words: list[str], sentence: str, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*CAPTION, *(word.replace("SAVED", str(saved)) for word in words)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert sentence in said.err
    assert said.err.count("\n") == 1


def test_pictures_that_are_no_pair_and_beams_that_are_none_are_refused(
    saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.zeros((40, 57, 3), dtype=np.uint8)).save("after.png")
    assert main([*CAPTION, "--weights", str(saved / "rscama")]) == 2
    assert "differ in size" in capsys.readouterr().err
    assert main([*CAPTION, "--weights", str(saved / "rscama"), "--beams", "0"]) == 2


def test_a_damaged_file_is_one_sentence(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("weights").mkdir()
    Path("weights", FILE).write_bytes((saved / "rscama" / FILE).read_bytes()[:1000])
    assert main([*CAPTION, "--weights", "weights"]) == 2
    assert "cannot be loaded" in capsys.readouterr().err


def test_help_loads_no_torch() -> None:
    script = (
        "import sys; from earthgen.cli import main; main(['watch', 'caption', '--help']);"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--beams" in done.stdout
