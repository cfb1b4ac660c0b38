"""Searching over HTTP: findings come while the search goes on, and the search ends when nobody listens."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

import earthgen.finding
from earthgen.world import World
from tests.fake_engine import FakeEngine
from tests.test_finding import ColourTower
from tests.test_service_live import eventually, running, waiting
from tileserver import Settings, create_app

FIND = "/worlds/planet/find"
ALPS: dict[str, str | int] = {"west": 5, "south": 44, "east": 15, "north": 48}


@pytest.fixture(autouse=True)
def tower(monkeypatch: pytest.MonkeyPatch) -> ColourTower:
    """The tower that the service loads: it knows red, green and blue."""
    own = ColourTower()
    monkeypatch.setattr(earthgen.finding, "image_tower", lambda: own)
    return own


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(create_app(Settings(), lambda _: FakeEngine())) as client:
        yield client


def lines(text: str) -> list[dict[str, Any]]:
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_an_answer_has_a_line_for_each_tile_and_ends_with_what_the_engine_was_searched_for(client: TestClient) -> None:
    answer = client.get(FIND, params={"q": "red", "seed": 7, "zoom": 8, "count": 3, "limit": 10, **ALPS})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["cache-control"] == "no-store"
    world = World(root="planet", seed=7)
    assert world.id in answer.headers["x-earthgen"]
    found = lines(answer.text)
    assert [line["done"] for line in found] == list(range(1, 11))
    assert {line["total"] for line in found} == {10}
    assert set(found[0]["places"][0]) == {"longitude", "latitude", "zoom", "x", "y", "score"}
    places = earthgen.finding.find(
        FakeEngine(), world, "red", (5, 44, 15, 48), 8, count=3, limit=10, tower=ColourTower()
    )
    assert [(p["x"], p["y"], p["score"]) for p in found[-1]["places"]] == [(p.x, p.y, p.score) for p in places]


def test_without_an_area_the_whole_world_is_searched_64_tiles_of_it(client: TestClient) -> None:
    found = lines(client.get(FIND, params={"q": "blue", "west": "", "south": "", "east": "", "north": ""}).text)
    assert found[-1]["done"] == found[-1]["total"] == 64
    assert len(found[-1]["places"]) == 8
    assert found[-1]["places"][0]["zoom"] == 4


@pytest.mark.parametrize(
    ("path", "query", "status", "says"),
    [
        (FIND, {}, 422, "q is missing"),
        (FIND, {"q": ""}, 422, "q is ''"),
        (FIND, {"q": "  "}, 422, "empty"),
        (FIND, {"q": "x" * 600}, 422, "512"),
        (FIND, {"q": "red", "zoom": 19}, 422, "less than or equal to 18"),
        (FIND, {"q": "red", "count": 0}, 422, "count is '0'"),
        (FIND, {"q": "red", "limit": 5000}, 422, "1024"),
        (FIND, {"q": "red", "west": 5, "east": 7}, 422, "south, north missing"),
        (FIND, {"q": "red", **ALPS, "west": 20}, 400, "west must be less than east"),
        (FIND, {"q": "red", **ALPS, "west": "nan"}, 400, "not finite"),
        (FIND, {"q": "red", "seed": -1}, 422, "seed"),
        (FIND, {"q": "red", "prompt": "a forest"}, 422, "prompt must be empty"),
        ("/worlds/atlantis/find", {"q": "red"}, 404, "atlantis"),
        ("/worlds/prompt/find", {"q": "red", "prompt": "a town", "gsd": 1, "zoom": 2}, 400, "begins at zoom"),
    ],
)
def test_a_search_that_makes_no_sense_is_answered_with_one_sentence(
    client: TestClient, path: str, query: dict[str, Any], status: int, says: str
) -> None:
    answer = client.get(path, params=query)
    assert answer.status_code == status
    assert says in answer.json()["detail"]


def test_findings_arrive_while_the_search_goes_on_and_hanging_up_ends_it(tower: ColourTower) -> None:
    engine = FakeEngine(delay=0.02)
    query: dict[str, str | int] = {"q": "red", "zoom": 8, **ALPS}
    with running(engine) as base, httpx.stream("GET", base + FIND, params=query, timeout=60) as answer:
        arriving = answer.iter_lines()
        assert json.loads(next(arriving))["done"] == 1
        engine.gate.clear()
        time.sleep(0.2)
        calls = engine.calls
        answer.close()
        # The tile that was being made is given up, and no other is begun.
        eventually(lambda: engine.cancelled == 1)
        engine.gate.set()
        assert httpx.get(f"{base}/healthz").json() == {"status": "ok"}
        assert engine.calls == calls < 64
        assert lines(httpx.get(base + FIND, params={**query, "limit": 2}, timeout=60).text)[-1]["done"] == 2


def test_searches_have_a_bounded_queue_and_stand_in_nobodys_way(tower: ColourTower) -> None:
    engine = FakeEngine()
    engine.gate.clear()
    query: dict[str, str | int] = {"q": "red", "zoom": 8, "limit": 2, **ALPS}
    settings = {"search_threads": 1, "search_queue": 1, "region_threads": 1, "region_queue": 0}
    with running(engine, **settings) as base, ThreadPoolExecutor(2) as clients:
        held = [clients.submit(httpx.get, base + FIND, params=query, timeout=60)]
        eventually(lambda: engine.calls == 1)
        held.append(clients.submit(httpx.get, base + FIND, params=query, timeout=60))
        eventually(lambda: waiting(base, "searches") == 1)
        refused = httpx.get(base + FIND, params=query)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        assert "searches wait already" in refused.json()["detail"]
        assert httpx.get(f"{base}/worlds/planet/preview.png?max_size=16").status_code == 200
        engine.gate.set()
        assert [lines(answer.result().text)[-1]["done"] for answer in held] == [2, 2]


def test_a_failure_on_the_way_is_the_last_line(client: TestClient, tower: ColourTower) -> None:
    embed = tower.embed

    def failing(*arguments: Any) -> Any:
        if len(tower.told) == 2:
            raise OSError("no more")
        return embed(*arguments)

    tower.embed = failing  # type: ignore[assignment, method-assign]
    found = lines(client.get(FIND, params={"q": "red"}).text)
    assert [line.get("done") for line in found] == [1, 2, None]
    assert "OSError" in found[-1]["detail"]


INTERRUPTED = """
import sys, threading, types
import earthgen.finding
from tests.stand_in import CoordinateEngine
from tests.test_finding import ColourTower

class Hanging(CoordinateEngine):
    def tile(self, world, z, x, y, *, size=256, cancelled=None):
        if len(self.boxes) == 5:
            print("hanging", flush=True)
            threading.Event().wait()
        return super().tile(world, z, x, y, size=size)

earthgen.finding.image_tower = lambda: ColourTower()
sys.modules["earthgen.engine"] = types.SimpleNamespace(Engine=types.SimpleNamespace(open=lambda *_, **__: Hanging()))
from earthgen.cli import main
sys.exit(main())
"""


def test_ctrl_c_prints_what_the_command_has_found_so_far(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, "find", "red", "--zoom", "5", "-q", "--json"],
        cwd=Path(__file__).parents[1],
        env={"XDG_CACHE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "hanging\n"
    process.send_signal(2)
    said, complaint = process.communicate(timeout=60)
    assert json.loads(said)["done"] == 5
    assert len(json.loads(said)["places"]) >= 1
    assert (process.returncode, complaint) == (130, "earthgen: interrupted\n")
