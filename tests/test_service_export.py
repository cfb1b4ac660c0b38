"""Exports over HTTP: what they would cost, begin, follow, fetch and cancel, and what outlives a server."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate

from earthgen.pyramid import bounds_box
from earthgen.world import World
from tests.browser import serve
from tests.fake_engine import FakeEngine, colours
from tileserver import Settings, create_app

PLANET = World(root="planet", seed=7)
AREA = {"bbox": [11.3, 47.1, 11.7, 47.4], "zooms": [4, 10]}
KEY = "a-long-random-word-0123"


class Failing(FakeEngine):
    """Fails where it is told to."""

    error: BaseException | None = None

    def pixels(self, *args: Any, **options: Any) -> Any:
        if self.error is not None:
            raise self.error
        return super().pixels(*args, **options)


@contextmanager
def running(engine: FakeEngine | None = None, **settings: Any) -> Iterator[str]:
    with serve(create_app(Settings(**settings), lambda _: engine or FakeEngine())) as base:
        yield base


def begin(base: str, world: str = "planet?seed=7", headers: dict[str, str] | None = None, **asked: Any) -> Any:
    name, _, query = world.partition("?")
    return httpx.post(f"{base}/worlds/{name}/exports?{query}", json=AREA | asked, headers=headers)


def eventually(condition: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("it did not come to be")


def ended(address: str) -> dict[str, Any]:
    def over() -> dict[str, Any] | None:
        job: dict[str, Any] = httpx.get(address).json()
        return job if job["status"] in ("done", "failed") else None

    return dict(eventually(over))


def path_of(address: str) -> str:
    return address.split("/exports/")[1]


@pytest.mark.parametrize("kind", ["mbtiles", "pmtiles", "tif"])
def test_an_export_is_planned_begun_followed_and_fetched(kind: str, tmp_path: Path) -> None:
    if kind == "pmtiles":
        pytest.importorskip("pmtiles")
    with running(cache=tmp_path / "cache") as base:
        plan = httpx.post(f"{base}/worlds/planet/exports/plan?seed=7", json=AREA | {"file": kind}).json()
        assert plan["total"] == sum(plan["tiles"].values()) > 0
        assert plan["bytes"] > 0 and plan["seconds"] > 0 and plan["fits"] is True
        answer = begin(base, file=kind)
        assert answer.status_code == 202
        assert answer.headers["location"] == answer.json()["links"]["self"]
        job = ended(answer.headers["location"])
        assert job["status"] == "done", job
        assert job["done"] == job["total"] > 0
        assert job["world"] == PLANET.id and job["synthetic"] is True
        assert job["name"] == f"planet-{PLANET.id[:8]}-z4-10.{kind}"
        answer = httpx.get(job["links"]["file"])
        assert answer.status_code == 200
        assert len(answer.content) == job["bytes"] == int(answer.headers["content-length"])
        assert answer.headers["content-disposition"] == f'attachment; filename="{job["name"]}"'
        assert "synthetic" in answer.headers["x-earthgen"]
        part = httpx.get(job["links"]["file"], headers={"Range": "bytes=3-9", "Accept-Encoding": "gzip"})
        assert (part.status_code, part.content) == (206, answer.content[3:10])
    file = tmp_path / job["name"]
    file.write_bytes(answer.content)
    if kind == "mbtiles":
        assert job["total"] == plan["total"]
        with closing(sqlite3.connect(file)) as database:
            about = dict(database.execute("SELECT name, value FROM metadata"))
            assert database.execute("SELECT count(*) FROM tiles").fetchone() == (plan["total"],)
        assert about["earthgen:synthetic"] == "YES" and about["earthgen:world_id"] == PLANET.id
    if kind == "tif":
        assert cog_validate(file, strict=True, quiet=True)[0]
        with rasterio.open(file) as dataset:
            box = bounds_box((11.3, 47.1, 11.7, 47.4), 10)
            assert dataset.width >= box.width and dataset.height >= box.height
            assert dataset.tags()["EARTHGEN_WORLD_ID"] == PLANET.id
            window = rasterio.windows.from_bounds(*dataset.bounds, transform=dataset.transform)
            row = round((20037508.342789244 - dataset.bounds.top) / dataset.res[1])
            column = round((dataset.bounds.left + 20037508.342789244) / dataset.res[0])
            whole = box.__class__(10, row, column, round(window.height), round(window.width))
            np.testing.assert_array_equal(np.moveaxis(dataset.read(), 0, -1), colours(PLANET, whole))


def test_a_file_that_is_not_whole_is_not_given_out_and_a_cancelled_export_is_gone(tmp_path: Path) -> None:
    engine = FakeEngine()
    engine.gate.clear()
    with running(engine, cache=tmp_path) as base:
        address = begin(base, file="mbtiles").headers["location"]
        eventually(lambda: httpx.get(address).json()["status"] == "running")
        answer = httpx.get(address + "/file")
        assert answer.status_code == 409 and "running" in answer.json()["detail"]
        # While the gate is shut nothing else would end it.
        assert httpx.delete(address).status_code == 204
        assert httpx.get(address).status_code == 404
        eventually(lambda: engine.cancelled > 0)
        eventually(lambda: not (tmp_path / "exports" / path_of(address)).exists())
        assert httpx.delete(address).status_code == 404
        engine.gate.set()
        finished = begin(base, file="mbtiles").headers["location"]
        assert ended(finished)["status"] == "done"
        assert httpx.delete(finished).status_code == 204
        assert httpx.get(finished + "/file").status_code == 404
        assert not (tmp_path / "exports" / path_of(finished)).exists()


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({"zooms": [4, 18]}, 413, "at most 64"),
        ({"zooms": [4, 18], "file": "tif"}, 413, "at most"),
        ({"zooms": [10, 4]}, 400, "coarser zoom comes first"),
        ({"zooms": [4, 19]}, 422, "zooms"),
        ({"bbox": [11.7, 47.1, 11.3, 47.4]}, 400, ""),
        ({"bbox": [11.3, 47.1, 11.7]}, 422, "bbox"),
        ({"bbox": ["a", 1, 2, 3]}, 422, "bbox"),
        ({"file": "../../x.tif"}, 422, "file"),
        ({"image": "gif"}, 422, "image"),
        ({"quality": 0}, 422, "quality"),
        ({"band": "nothing"}, 422, "nothing"),
        ({"path": "/etc/passwd"}, 422, "Extra inputs are not permitted"),
    ],
)
@pytest.mark.parametrize("route", ["exports", "exports/plan"])
def test_what_makes_no_sense_or_is_too_much_is_refused(
    asked: dict[str, Any], status: int, said: str, route: str, tmp_path: Path
) -> None:
    with running(cache=tmp_path, export_tiles=64) as base:
        answer = httpx.post(f"{base}/worlds/planet/{route}", json=AREA | {"file": "mbtiles"} | asked)
        assert answer.status_code == status
        assert said in answer.json()["detail"]
        assert not list((tmp_path / "exports").glob("*")) or not (tmp_path / "exports").exists()


def test_no_id_leads_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    with running(cache=tmp_path) as base:
        for name in ("..%2F..%2Fsecret", "%2e%2e", "lock", "0" * 32, "0" * 31, "A" * 32):
            for end in ("", "/file"):
                answer = httpx.get(f"{base}/exports/{name}{end}")
                assert answer.status_code == 404
                assert "secret" not in answer.text.replace("..%2F..%2Fsecret", "").replace("../../secret", "")


def test_each_client_and_all_together_have_bounds(tmp_path: Path) -> None:
    engine = FakeEngine()
    engine.gate.clear()
    settings = {"client_exports": 1, "export_queue": 2, "trusted_proxies": ("127.0.0.1/32",)}
    with running(engine, cache=tmp_path, **settings) as base:
        mine, other, third = ({"X-Forwarded-For": f"10.0.0.{number}"} for number in (1, 2, 3))
        first = begin(base, headers=mine, file="mbtiles")
        assert first.status_code == 202
        refused = begin(base, headers=mine, file="mbtiles")
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) > 0
        assert "at most 1 of one client" in refused.json()["detail"]
        assert begin(base, headers=other, file="mbtiles").status_code == 202
        refused = begin(base, headers=third, file="mbtiles")
        assert refused.status_code == 503 and int(refused.headers["retry-after"]) > 0
        assert "at most 2 may be" in refused.json()["detail"]
        # Whoever gives one up may begin another.
        assert httpx.delete(first.headers["location"]).status_code == 204
        assert begin(base, headers=mine, file="mbtiles").status_code == 202
        engine.gate.set()


def test_a_file_that_grows_too_large_fails_with_one_sentence(tmp_path: Path) -> None:
    class Noisy(FakeEngine):
        def pixels(self, world: World, box: Any, **options: Any) -> Any:
            random = np.random.default_rng([box.row, box.column, box.zoom])
            return random.integers(0, 256, (box.height, box.width, 3), dtype=np.uint8)

    with running(Noisy(), cache=tmp_path, export_bytes=1 << 20) as base:
        plan = httpx.post(f"{base}/worlds/planet/exports/plan", json=AREA | {"file": "mbtiles"}).json()
        assert plan["fits"] is False and plan["bytes"] > plan["max_bytes"] == 1 << 20
        job = ended(begin(base, file="mbtiles").headers["location"])
        assert job["status"] == "failed"
        assert job["detail"] == "it would be larger than the 1048576 bytes that one export may have"
        assert httpx.get(job["links"]["file"]).status_code == 409
        # Nothing of it is left but what it says.
        assert sorted(os.listdir(tmp_path / "exports" / job["id"])) == ["job.json", "lock", "state.json"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "the server's disk is full"),
        (OSError(30, "Read-only file system"), "the file cannot be written here"),
        (RuntimeError("secret"), "internal error (RuntimeError); the server's log has more"),
    ],
)
def test_a_failure_is_said_without_naming_our_folders(error: Exception, said: str, tmp_path: Path) -> None:
    engine = Failing()
    engine.error = error
    with running(engine, cache=tmp_path) as base:
        job = ended(begin(base, file="mbtiles").headers["location"])
        assert (job["status"], job["detail"]) == ("failed", said)
        engine.error = None
        assert ended(begin(base, file="mbtiles").headers["location"])["status"] == "done"


def test_a_server_that_starts_goes_on_with_what_the_last_one_left(tmp_path: Path) -> None:
    engine = FakeEngine(delay=0.05)
    with running(engine, cache=tmp_path) as base:
        address = begin(base, file="mbtiles", zooms=[4, 11]).headers["location"]
        eventually(lambda: httpx.get(address).json()["done"] >= 3)
    made = engine.generated
    assert made > 0
    folder = tmp_path / "exports" / path_of(address)
    assert json.loads((folder / "state.json").read_text())["status"] == "waiting"
    second = FakeEngine()
    with running(second, cache=tmp_path) as base:
        job = ended(f"{base}/exports/{path_of(address)}")
        assert job["status"] == "done"
        content = httpx.get(job["links"]["file"]).content
        # What was finished was not made again.
        assert second.calls < job["total"] <= made + second.calls + 2
        undisturbed = ended(begin(base, file="mbtiles", zooms=[4, 11]).headers["location"])
        assert httpx.get(undisturbed["links"]["file"]).content == content


KILLED = """
import sys, uvicorn
from tests.fake_engine import FakeEngine
from tileserver import Settings, create_app
app = create_app(Settings(cache=sys.argv[1]), lambda _: FakeEngine(delay=0.05))
uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
"""


def test_a_worker_that_is_killed_leaves_its_export_to_another(tmp_path: Path) -> None:
    """Both run on one folder; the other takes it up without being told."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = Path(__file__).parents[1]
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), str(port)], cwd=root)
    try:
        base = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            try:
                return httpx.get(f"{base}/readyz").status_code == 200
            except httpx.TransportError:
                return False

        eventually(answers)
        address = begin(base, file="mbtiles", zooms=[4, 12]).headers["location"]
        eventually(lambda: httpx.get(address).json()["done"] >= 3)
        with running(cache=tmp_path) as other:
            job = httpx.get(f"{other}/exports/{path_of(address)}").json()
            assert job["status"] == "running"
            process.kill()
            process.wait()
            job = ended(f"{other}/exports/{path_of(address)}")
            assert job["status"] == "done"
            assert httpx.get(job["links"]["file"]).status_code == 200
    finally:
        process.kill()
        process.wait()


def test_other_weights_do_not_mix_with_what_was_begun(tmp_path: Path) -> None:
    with running(FakeEngine(delay=0.05), cache=tmp_path) as base:
        address = begin(base, file="mbtiles", zooms=[4, 11]).headers["location"]
        eventually(lambda: httpx.get(address).json()["done"] >= 3)
    swapped = FakeEngine(fingerprint="other weights")
    with running(swapped, cache=tmp_path) as base:
        job = ended(f"{base}/exports/{path_of(address)}")
        assert job["status"] == "done"
        # Every tile is of the weights that the file names.
        assert swapped.calls >= job["total"]
        (tmp_path / "out.mbtiles").write_bytes(httpx.get(job["links"]["file"]).content)
    with closing(sqlite3.connect(tmp_path / "out.mbtiles")) as database:
        about = dict(database.execute("SELECT name, value FROM metadata"))
    assert about["earthgen:fingerprint"] == "other weights"


def test_files_are_kept_for_a_while_and_not_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(cache=tmp_path, export_lifetime=1000) as base:
        jobs = [ended(begin(base, file="mbtiles").headers["location"]) for _ in range(2)]
        assert jobs[0]["expires"] > jobs[0]["created"]
    folders = [tmp_path / "exports" / job["id"] for job in jobs]
    state = json.loads((folders[0] / "state.json").read_text())
    (folders[0] / "state.json").write_text(json.dumps(state | {"ended": time.time() - 1001}))
    # A clock that was ahead when it ended must not keep a file for ever.
    (folders[1] / "state.json").write_text(json.dumps(state | {"ended": time.time() + 1e9}))
    damaged = tmp_path / "exports" / ("ab" * 16)
    damaged.mkdir()
    (damaged / "job.json").write_text("{")
    os.utime(damaged, (0, 0))
    with running(cache=tmp_path, export_lifetime=1000) as base:
        eventually(lambda: not folders[0].exists() and not damaged.exists())
        eventually(lambda: json.loads((folders[1] / "state.json").read_text())["ended"] <= time.time())
        assert httpx.get(f"{base}/exports/{jobs[0]['id']}").status_code == 404
        assert httpx.get(f"{base}/exports/{jobs[1]['id']}/file").status_code == 200
    # Two are larger together than all may be: the older one makes room.
    large = json.loads((folders[1] / "state.json").read_text()) | {"bytes": 700_000}
    (folders[1] / "state.json").write_text(json.dumps(large | {"ended": time.time() - 5}))
    shutil.copytree(folders[1], folders[0])
    (folders[0] / "state.json").write_text(json.dumps(large | {"ended": time.time() - 50}))
    with running(cache=tmp_path, exports_bytes=1 << 20) as base:
        eventually(lambda: not folders[0].exists())
        assert httpx.get(f"{base}/exports/{jobs[1]['id']}").status_code == 200


def test_a_read_only_server_begins_none_and_a_key_is_asked_for(tmp_path: Path) -> None:
    with running(cache=tmp_path) as base:
        assert httpx.get(f"{base}/exports").json()["may_start"] == "anybody"
        job = ended(begin(base, file="mbtiles").headers["location"])
    with running(cache=tmp_path, read_only=True, export_lifetime=0.001) as base:
        assert httpx.get(f"{base}/exports").json()["may_start"] == "nobody"
        answer = begin(base, file="mbtiles")
        assert answer.status_code == 403 and "read-only" in answer.json()["detail"]
        # What it would cost may be asked, and what is there is given out and left alone.
        assert httpx.post(f"{base}/worlds/planet/exports/plan", json=AREA | {"file": "tif"}).status_code == 200
        assert httpx.delete(f"{base}/exports/{job['id']}").status_code == 403
        assert httpx.get(f"{base}/exports/{job['id']}/file").status_code == 200
    with running(cache=tmp_path, api_keys=[KEY]) as base:
        assert httpx.get(f"{base}/exports").json()["may_start"] == "key"
        assert begin(base, file="mbtiles").status_code == 401
        answer = begin(base, file="mbtiles", headers={"Authorization": f"Bearer {KEY}"})
        assert answer.status_code == 202
        assert httpx.delete(answer.headers["location"]).status_code == 401
        assert ended(answer.headers["location"])["status"] == "done"
        assert httpx.delete(answer.headers["location"], headers={"X-API-Key": KEY}).status_code == 204


def test_without_a_cache_folder_files_go_with_the_server() -> None:
    with serve(app := create_app(Settings(), lambda _: FakeEngine())) as base:
        job = ended(begin(base, file="mbtiles").headers["location"])
        folder = app.state.service.exports.file(app.state.service.exports.get(job["id"])).parent
        assert folder.exists()
    eventually(lambda: not folder.exists())


def test_people_on_the_map_go_first(tmp_path: Path) -> None:
    """While a tile waits for its turn, an export begins no further one."""
    from tileserver.export_jobs import _Patient

    engine = FakeEngine()
    waiting = [True]
    source = _Patient(engine, lambda: False, lambda: waiting[0])
    import threading

    made = threading.Thread(target=source.tile, args=(PLANET, 9, 261, 180))
    made.start()
    time.sleep(0.2)
    assert engine.calls == 0
    waiting[0] = False
    made.join(10)
    assert engine.calls == 1
