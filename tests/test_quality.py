"""Draft, standard and best: which networks and levels they mean, and that each has bytes of its own."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient
from typer.testing import CliRunner

import earthgen.engine
from earthgen.cli import app
from earthgen.engine import Engine
from earthgen.errors import WeightsError, WorldError
from earthgen.pyramid import Box
from earthgen.sampler import karras_sigmas
from earthgen.weights import levels_of, load_qualities
from earthgen.world import QUALITIES, Quality, World
from tests.tiny import open_tiny, ripple_root, save_tiny_weights
from tileserver import Settings, create_app

BOX = Box(7, 9000, 12000, 130, 140)
TILE = "/worlds/planet/tiles/WebMercatorQuad/8/130/90.png"


def of_quality(quality: Quality) -> World:
    return World(root="planet", seed=7, quality=quality)


@pytest.fixture(scope="module", autouse=True)
def ripples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(earthgen.engine, "open_root", ripple_root)
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps, and a network of its own for drafts."""
    folder = save_tiny_weights(tmp_path_factory.mktemp("weights"))
    save_tiny_weights(folder / "draft", seed=1)
    return folder


@pytest.fixture(scope="module")
def engine(weights: Path) -> Iterator[Engine]:
    with open_tiny(weights) as engine:
        yield engine


@given(steps=st.integers(1, 40))
def test_levels_halve_and_double_over_the_same_range(steps: int) -> None:
    sigmas = karras_sigmas(steps)
    draft, best = levels_of("draft", sigmas), levels_of("best", sigmas)
    assert levels_of("standard", sigmas) == sigmas
    assert len(draft) - 1 == (steps + 1) // 2
    assert len(best) - 1 == (2 * steps if steps > 1 else 1)
    for levels in (draft, best):
        assert levels[0] == pytest.approx(sigmas[0]) and levels[-1] == 0.0
        assert all(a > b for a, b in itertools.pairwise(levels))


def test_each_quality_has_pixels_of_its_own_and_the_same_ones_again(weights: Path, engine: Engine) -> None:
    pixels = {quality: engine.pixels(of_quality(quality), BOX) for quality in QUALITIES}
    assert len({made.tobytes() for made in pixels.values()}) == len(QUALITIES)
    # Another engine, another order.
    with open_tiny(weights) as other:
        for quality in reversed(QUALITIES):
            assert np.array_equal(other.pixels(of_quality(quality), BOX), pixels[quality])


def test_a_folder_inside_the_weights_is_the_network_of_its_quality(weights: Path, tmp_path: Path) -> None:
    with open_tiny(save_tiny_weights(tmp_path, seed=1)) as alone, open_tiny(weights) as engine:
        drafted = engine.pixels(of_quality("draft"), BOX)
        assert np.array_equal(drafted, alone.pixels(of_quality("standard"), BOX))


def test_qualities_of_one_step_weights_share_their_pixels(tmp_path: Path) -> None:
    save_tiny_weights(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "sigmas": [5.0, 0.0]}))
    with open_tiny(tmp_path) as engine:
        assert engine.qualities == ("standard",)
        engine.pixels(of_quality("standard"), BOX)
        done = engine.activity().done
        for quality in QUALITIES:
            assert engine.is_ready(of_quality(quality), BOX)
            engine.pixels(of_quality(quality), BOX)
        assert engine.activity().done == done > 0


def test_every_quality_averages_to_the_root(engine: Engine) -> None:
    parents = engine.pixels(of_quality("standard"), Box(4, BOX.row // 8, BOX.column // 8, 16, 16))
    for quality in QUALITIES:
        assert np.array_equal(
            engine.pixels(of_quality(quality), Box(4, BOX.row // 8, BOX.column // 8, 16, 16)), parents
        )
        children = engine.pixels(of_quality(quality), Box(6, BOX.row // 8 * 4, BOX.column // 8 * 4, 64, 64))
        means = children.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
        assert np.abs(means - parents).max() <= 0.5


def test_damaged_weights_of_a_quality_are_refused_when_the_engine_opens(tmp_path: Path) -> None:
    save_tiny_weights(tmp_path)
    (tmp_path / "best").mkdir()
    with pytest.raises(WeightsError, match=r"best: config\.json is missing"):
        load_qualities(tmp_path)


def test_the_standard_quality_is_not_spelled_and_others_are() -> None:
    assert "quality" not in World().to_dict()
    assert World(quality="standard").id == World().id
    assert len({of_quality(quality).id for quality in QUALITIES}) == len(QUALITIES)
    for quality in QUALITIES:
        assert World.from_dict(json.loads(of_quality(quality).canonical_json)) == of_quality(quality)


@pytest.mark.parametrize("quality", ["", "Best", "ultra", 3, ["draft"]])
def test_other_qualities_are_refused(quality: object) -> None:
    with pytest.raises(WorldError, match="allowed: draft, standard, best"):
        World.from_dict({"quality": quality})


def test_over_http(engine: Engine, tmp_path: Path) -> None:
    with TestClient(create_app(Settings(cache=tmp_path), lambda _: engine)) as client:
        answers = {quality: client.get(f"{TILE}?seed=7&quality={quality}") for quality in QUALITIES}
        assert {answer.status_code for answer in answers.values()} == {200}
        assert len({answer.headers["etag"] for answer in answers.values()}) == len(QUALITIES)
        assert client.get(f"{TILE}?seed=7").content == answers["standard"].content
        for quality, answer in answers.items():
            shown = np.asarray(Image.open(BytesIO(answer.content)))
            assert np.array_equal(shown, engine.tile(of_quality(quality), 8, 130, 90))
        assert client.get("/worlds/planet").json()["qualities"] == list(QUALITIES)
        described = client.get("/worlds/planet/WebMercatorQuad/tilejson.json?seed=7&quality=draft").json()
        assert "quality=draft" in described["tiles"][0]
        refused = client.get(f"{TILE}?quality=ultra")
        assert refused.status_code == 422 and "quality" in json.dumps(refused.json()["detail"])
        # A registered world can be looked at in another quality.
        registered = client.post("/worlds", json={"root": "planet", "seed": 7}).json()["id"]
        drafted = client.get(f"/worlds/{registered}/tiles/WebMercatorQuad/8/130/90.png?quality=draft")
        assert drafted.content == answers["draft"].content


def test_on_the_command_line(weights: Path, engine: Engine, tmp_path: Path) -> None:
    run = CliRunner()
    for quality in QUALITIES:
        path = tmp_path / f"{quality}.png"
        command = ["tile", "8", "130", "90", "--root", "planet", "--seed", "7", "--no-cache", "--weights", str(weights)]
        result = run.invoke(app, [*command, "--quality", quality, "-o", str(path)])
        assert result.exit_code == 0, result.output
        assert np.array_equal(np.asarray(Image.open(path)), engine.tile(of_quality(quality), 8, 130, 90))
