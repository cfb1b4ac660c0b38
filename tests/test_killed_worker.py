"""A worker that is killed while it computes: its clients' connections break, and nothing else does.

The server is `earthgen serve --workers 2` as people start it, over a network that is small but not quick, with a cache
folder and a shared store.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.testclient import TestClient

from earthgen.entries import decode_entry
from tests.test_service_live import eventually
from tests.tiny import save_tiny_weights
from tileserver import Settings, create_app
from tileserver.serve import Supervisor, listen

psutil: Any = pytest.importorskip("psutil", reason="psutil is not installed")

WORKERS = 2
TILES = [
    f"/worlds/earth/tiles/WebMercatorQuad/10/{530 + 3 * x}/{340 + 3 * y}.png?seed=7" for x in range(4) for y in (0, 1)
]
PATIENCE_S = 240


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of which one window takes long enough to be caught at."""
    return save_tiny_weights(tmp_path_factory.mktemp("weights"), channels=(48, 48, 48))


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs, and its processes."""

    base: str
    process: Any
    log: Path

    def workers(self) -> list[Any]:
        """The processes that answer: those of its children that were begun by multiprocessing to run something."""
        return [child for child in self.process.children() if "spawn_main" in " ".join(command_of(child))]

    def is_ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.base}/readyz", timeout=PATIENCE_S).status_code == 200
        return False


def command_of(process: Any) -> list[str]:
    with contextlib.suppress(psutil.Error):
        command: list[str] = process.cmdline()
        return command
    return []


@contextlib.contextmanager
def serving(weights: Path, folder: Path) -> Iterator[Server]:
    """`earthgen serve` with two workers, a cache and a shared store in a folder."""
    folder.mkdir()
    arguments = {"--weights": weights, "--cache": folder / "cache", "--store": (folder / "shared").as_uri()}
    arguments |= {"--port": 0, "--workers": WORKERS, "--threads": 1}
    program = "import sys; from earthgen.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "serve", *(str(part) for item in arguments.items() for part in item)]
    log = folder / "log"
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+(?=/)", process.stdout.readline())
        assert found, log.read_text()
        server = Server(found[0], psutil.Process(process.pid), log)
        eventually(lambda: len(server.workers()) == WORKERS and server.is_ready(), PATIENCE_S)
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@dataclass(frozen=True, slots=True)
class Visitor:
    """A client with one connection, and the worker at its other end."""

    client: httpx.Client
    worker: int

    def ask(self, path: str) -> httpx.Response:
        return self.client.get(path)


@contextlib.contextmanager
def visitors(server: Server, each: int) -> Iterator[list[Visitor]]:
    """As many clients at each worker, once all workers answer; who takes a connection is nobody's choice."""
    found: dict[int, list[Visitor]] = {worker.pid: [] for worker in server.workers()}

    def all_have_some() -> bool:
        client = httpx.Client(base_url=server.base, timeout=PATIENCE_S)
        worker = worker_of(server, client)
        if worker in found and len(found[worker]) < each:
            found[worker].append(Visitor(client, worker))
        else:
            client.close()
        return all(len(some) == each for some in found.values())

    try:
        eventually(all_have_some, PATIENCE_S)
        yield [visitor for some in found.values() for visitor in some]
    finally:
        for visitor in (visitor for some in found.values() for visitor in some):
            visitor.client.close()


def has_members(group: int) -> bool:
    """Whether some process of a group lives."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, 0)
        return True
    return False


def worker_of(server: Server, client: httpx.Client) -> int | None:
    """The process at the other end of a client's connection."""
    port = client.get("/healthz").extensions["network_stream"].get_extra_info("client_addr")[1]
    for worker in server.workers():
        if any(connection.raddr and connection.raddr.port == port for connection in worker.net_connections("tcp")):
            pid: int = worker.pid
            return pid
    return None


def entries(folder: Path) -> dict[str, bytes]:
    """Whatever lies in a store that has the name of an entry, by name; what is being written has another."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "#" not in path.name
    }


@pytest.fixture(scope="module")
def undisturbed(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The tiles of a server that nothing happens to, and what it leaves in the shared store."""
    store = tmp_path_factory.mktemp("undisturbed")
    with TestClient(create_app(Settings(weights=str(weights), store=store.as_uri(), threads=1))) as client:
        answers = {path: client.get(path) for path in TILES}
    assert {answer.status_code for answer in answers.values()} == {200}
    return {path: answer.content for path, answer in answers.items()}, entries(store)


@pytest.mark.slow
def test_a_worker_killed_at_its_work_breaks_its_own_connections_and_no_byte(
    weights: Path, tmp_path: Path, undisturbed: tuple[dict[str, bytes], dict[str, bytes]]
) -> None:
    tiles, windows = undisturbed
    folder = tmp_path / "server"
    half = len(TILES) // WORKERS
    with serving(weights, folder) as server:
        with visitors(server, half) as those, ThreadPoolExecutor(len(TILES)) as threads:
            victim = next(worker for worker in server.workers() if worker.pid == those[0].worker)
            rested = victim.cpu_times().user
            waiting = [threads.submit(visitor.ask, path) for visitor, path in zip(those, TILES, strict=True)]
            # At its work, with all of its clients waiting.
            eventually(lambda: victim.cpu_times().user > rested + 0.5, PATIENCE_S)
            victim.send_signal(signal.SIGKILL)
            broken = []
            for visitor, path, answer in zip(those, TILES, waiting, strict=True):
                try:
                    content = answer.result(PATIENCE_S).raise_for_status().content
                except httpx.TransportError:
                    broken.append(visitor)
                else:
                    assert content == tiles[path]
        assert broken, "it was killed while it made something for somebody"
        assert {visitor.worker for visitor in broken} == {victim.pid}, "the other worker's clients notice nothing"

        # There is another worker in its place, and whoever comes back gets what an undisturbed server makes.
        eventually(lambda: len({worker.pid for worker in server.workers()} - {victim.pid}) == WORKERS, PATIENCE_S)
        with visitors(server, half) as those:
            again = [visitor.ask(path) for visitor, path in zip(those, TILES, strict=True)]
        assert {answer.status_code for answer in again} == {200}
        assert [answer.content for answer in again] == [tiles[path] for path in TILES]
        assert len({answer.headers["etag"] for answer in again}) == len(TILES)
        # All workers say the same of one tile, and stop together.
        with visitors(server, half) as those:
            same = [visitor.ask(TILES[0]) for visitor in those]
        assert {(answer.content, answer.headers["etag"]) for answer in same} == {
            (tiles[TILES[0]], again[0].headers["etag"])
        }
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(PATIENCE_S)
        eventually(lambda: not has_members(server.process.pid), PATIENCE_S)

    shared, own = entries(folder / "shared"), entries(folder / "cache" / "pixels")
    # What the killed worker had made and not yet passed on is in the cache alone.
    assert shared and {name: windows[name] for name in shared} == shared
    assert set(own) == set(windows)
    assert all(decode_entry(data) is not None for data in own.values())


def test_a_worker_that_dies_while_it_is_asked_whether_it_lives_is_missed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The signals of the process that runs the tests stay its own.
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with listen("127.0.0.1", 0) as listener, ThreadPoolExecutor(1) as asking:
        config = uvicorn.Config("nobody:app", workers=1, timeout_worker_healthcheck=120)
        supervisor = Supervisor(config, sockets=[listener])
        supervisor.init_processes()
        (worker,) = supervisor.processes
        assert worker.pid is not None
        try:
            os.kill(worker.pid, signal.SIGSTOP)
            lives = asking.submit(worker.is_alive, 120)
            with pytest.raises(TimeoutError):
                # It is silent, not dead: that may take its time.
                lives.result(0.5)
            os.kill(worker.pid, signal.SIGKILL)
            assert lives.result(60) is False
        finally:
            worker.kill()
            worker.join()
