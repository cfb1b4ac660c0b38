"""The package's face: its names, its models, and what it says when a model cannot be opened."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

import perception
from earthgen.errors import EarthgenError, WeightsError
from perception.cdmamba import CDMamba, CDMambaConfig
from perception.checkpoint import FILE, save_network
from perception.errors import UnknownModelError

METRES = Affine(0.5, 0.0, 600_000.0, 0.0, -0.5, 5_000_000.0)


def test_public_names_are_sorted_and_exist() -> None:
    assert perception.__all__ == sorted(perception.__all__, key=lambda name: (name != name.upper(), name))
    for name in perception.__all__:
        assert getattr(perception, name) is not None
        assert name in dir(perception)
    with pytest.raises(AttributeError, match="has no attribute 'Mars'"):
        _ = perception.Mars


def test_importing_perception_is_light() -> None:
    script = "import sys, perception; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "rasterio", "numba", "torchmetrics", "tileserver"}


def test_every_error_is_public_and_an_earthgen_error() -> None:
    errors = import_module("perception.errors")
    own = {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert own
    for name, value in own.items():
        assert getattr(perception, name) is value
        assert issubclass(value, EarthgenError)


def test_every_model_says_what_it_is_and_ships_weights_only_with_a_card() -> None:
    for name, model in perception.MODELS.items():
        assert model.name == name
        assert model.paper
        assert model.fidelity
        assert (model.weights is None) == (model.card is None)
        if model.card is not None:
            assert model.licence in model.card


def test_the_example_of_the_documentation_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[1] / "docs" / "perception.md").read_text(encoding="utf-8")
    example = page.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    config = CDMambaConfig(channels=8, blocks=(1, 0, 0, 0), states=4)
    save_network("weights/cdmamba", "cdmamba", config, CDMamba(config))
    for name in ("before.tif", "after.tif"):
        with rasterio.open(
            name, "w", driver="GTiff", height=24, width=32, count=3, dtype="uint8", crs="EPSG:32632", transform=METRES
        ) as file:
            file.write(np.random.default_rng(len(name)).integers(0, 256, (3, 24, 32), dtype=np.uint8))
    exec(example, {})
    with rasterio.open("change.tif") as file:
        assert file.transform == METRES
    assert json.loads(Path("change.geojson").read_text())["type"] == "FeatureCollection"


def test_a_model_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="no model is called 'cdmambo'; there are cdmamba"):
        perception.load("cdmambo")
    for name, model in perception.MODELS.items():
        with pytest.raises(WeightsError, match=f"a folder with {FILE}"):
            perception.load(name, tmp_path)
        if model.weights is None:
            with pytest.raises(WeightsError, match=f"no weights of {name} ship"):
                perception.load(name)
