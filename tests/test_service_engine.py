"""The service over the real engine with a tiny network: shared work and equal bytes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import earthgen.engine
from earthgen.engine import Engine
from earthgen.picture import frame_of
from earthgen.world import World
from tests.test_service_live import running
from tests.tiny import open_tiny, ripple_prompts, ripple_root, save_tiny_weights
from tileserver import Settings, create_app

ADDRESS = "/worlds/planet/tiles/WebMercatorQuad/10/530/360.png?seed=7"
WORLD = World(root="planet", seed=7)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def ripples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(earthgen.engine, "open_root", ripple_root)
    monkeypatch.setattr(earthgen.engine, "open_prompt_root", ripple_prompts)
    yield


@pytest.mark.usefixtures("ripples")
def test_64_clients_of_one_cold_tile_cause_each_window_to_be_computed_once(weights: Path) -> None:
    alone = open_tiny(weights)
    expected = alone.tile(WORLD, 10, 530, 360)
    windows = alone.activity().done
    alone.close()

    engine = open_tiny(weights)
    with running(engine) as base, ThreadPoolExecutor(64) as clients:
        answers = list(clients.map(lambda _: httpx.get(base + ADDRESS, timeout=120), range(64)))
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.content for answer in answers} == {answers[0].content}
        assert engine.activity().done == windows
    np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(answers[0].content))), expected)


@pytest.mark.usefixtures("ripples")
def test_a_restarted_server_answers_from_its_cache_with_the_same_tag_and_bytes(weights: Path, tmp_path: Path) -> None:
    engines: list[Engine] = []
    answers = []
    for _ in range(2):
        engines.append(open_tiny(weights, tmp_path))
        with TestClient(create_app(Settings(cache=tmp_path), lambda _: engines[-1])) as client:
            answers.append(client.get(ADDRESS))
    assert [answer.headers["x-cache"] for answer in answers] == ["MISS", "HIT"]
    assert engines[0].activity().done > 0
    assert engines[1].activity().done == 0
    assert answers[0].content == answers[1].content
    assert answers[0].headers["etag"] == answers[1].headers["etag"]


@pytest.mark.usefixtures("ripples")
def test_an_edited_world_shares_what_its_edit_does_not_touch(weights: Path, tmp_path: Path) -> None:
    engine = open_tiny(weights, tmp_path)
    with TestClient(create_app(Settings(cache=tmp_path), lambda _: engine)) as client:
        snow = {"action": "snow", "polygon": [[6.4, 46.9], [6.6, 46.9], [6.6, 47.1]], "valid_from": "2026-01-01"}
        name = client.post("/worlds", json={"root": "planet", "seed": 7, "edits": [snow]}).json()["id"]
        near = "tiles/WebMercatorQuad/10/530/360.png"
        far = "tiles/WebMercatorQuad/10/530/400.png"
        base = {path: client.get(f"/worlds/planet/{path}?seed=7") for path in (near, far)}
        made = engine.activity().done
        answer = client.get(f"/worlds/{name}/{far}")
        assert (answer.headers["x-cache"], answer.content) == ("HIT", base[far].content)
        assert engine.activity().done == made
        answer = client.get(f"/worlds/{name}/{near}")
        assert answer.headers["x-cache"] == "MISS"
        before, after = (np.asarray(Image.open(BytesIO(a.content))) for a in (base[near], answer))
        changed = (before != after).any(axis=-1)
        assert changed.any() and not changed.all()
        assert client.get(f"/worlds/{name}/{near}?date=2025-12-31").content == base[near].content


@pytest.mark.usefixtures("ripples")
def test_a_picture_from_a_prompt_is_the_worlds_own_pixels(weights: Path) -> None:
    engine = open_tiny(weights)
    with TestClient(create_app(Settings(), lambda _: engine)) as client:
        answer = client.post("/generate", json={"prompt": "a harbour", "gsd": 100, "size": 200, "seed": 3})
        assert answer.status_code == 200
        world = World("prompt", 3, "a harbour", gsd=100)
        expected = engine.pixels(world, frame_of(world, 200).box)
    np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(answer.content))), expected)
