"""Run the service with uvicorn: one process, or several workers that share a cache folder."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from earthgen.errors import EarthgenError
from tileserver.app import create_app
from tileserver.logs import log_config
from tileserver.metrics import FOLDER_VARIABLE
from tileserver.service import FINGERPRINT_VARIABLE, EngineFactory, open_engine
from tileserver.settings import Settings

GRACE_S = 10
"""Seconds that running requests get to finish when the server is told to stop."""
WORKER_SILENCE_S = 120
"""Seconds after which a silent worker is replaced; it is silent while it loads, for long on a busy machine."""


class AddressInUseError(EarthgenError):
    """The host and port cannot be listened on."""


def _print_address(address: str) -> None:
    print(f"earthgen: the map is at {address}", flush=True)


def serve(
    settings: Settings | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    announce: Callable[[str], None] = _print_address,
    engine_factory: EngineFactory = open_engine,
) -> None:
    """Serve until told to stop.

    Args:
        settings: of the server; read from the environment if absent.
        host: address to listen on.
        port: 0 takes any free one.
        workers: processes; each loads the network, all share `settings.cache`.
        announce: told the server's address, once the engine is open.
        engine_factory: opens the engine of a server with one worker; workers always open the real one.

    Raises:
        AddressInUseError: somebody else listens there, or the address is not this machine's.
        WeightsError: the weights cannot be loaded.
        StoreError: the shared store cannot be reached.
        ValueError: workers below 1, or a port that does not exist.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; a number from 1 on is allowed")
    if not 0 <= port <= 65535:
        raise ValueError(f"port is {port}; 0 to 65535 is allowed")
    settings = settings or Settings()
    with listen(host, port) as listener:
        port = listener.getsockname()[1]
        # Before the server starts: damaged weights are one sentence here, and a crashing worker there.
        engine = engine_factory(settings)
        announce(f"http://{f'[{host}]' if ':' in host else host}:{port}/")
        if workers == 1:
            app = create_app(settings, lambda _: engine)
            uvicorn.Server(uvicorn.Config(app, **_options(settings))).run(sockets=[listener])
            return
        engine.close()
        os.environ[FINGERPRINT_VARIABLE] = engine.fingerprint
        # Workers are fresh processes and read their settings from the environment, as any server does.
        os.environ.update(environment(settings, workers))
        config = uvicorn.Config(
            "tileserver.app:create_app",
            factory=True,
            workers=workers,
            timeout_worker_healthcheck=WORKER_SILENCE_S,
            **_options(settings),
        )
        with tempfile.TemporaryDirectory(prefix="earthgen-metrics-") as folder:
            # Read when a worker imports the library, which is after it was started.
            os.environ[FOLDER_VARIABLE] = folder
            Supervisor(config, sockets=[listener]).run()


class Supervisor(Multiprocess):
    """Uvicorn's supervisor of workers, which notices at once when one dies.

    It asks each worker over a pipe whether it lives and waits for the answer as long as a worker may be silent. While
    it holds the worker's end of that pipe as well, the death of a worker that was just asked does not end the wait.
    """

    def init_processes(self) -> None:
        """Start all workers."""
        super().init_processes()
        self._let_go()

    def keep_subprocess_alive(self) -> None:
        """Start others in place of those that are dead or silent."""
        super().keep_subprocess_alive()
        self._let_go()

    def _let_go(self) -> None:
        for process in self.processes:
            # The worker has its own copy since it was started; closing twice is allowed.
            process.child_conn.close()


def _options(settings: Settings) -> dict[str, Any]:
    return {
        "timeout_graceful_shutdown": GRACE_S,
        "server_header": False,
        # Where the settings name the proxies, the app looks at their headers itself: see tileserver.app.
        "proxy_headers": not settings.trusted_proxies,
        # A line of our own carries the request's id: see tileserver.middleware.Observed.
        "access_log": False,
        "log_config": log_config(settings.log_format),
    }


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        AddressInUseError: somebody else listens there, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's delay off (40 ms an answer) only where the protocol is said to be TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise AddressInUseError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; choose another --port or --host"
        ) from error
    return listener


def environment(settings: Settings, workers: int) -> dict[str, str]:
    """The settings as environment variables, with the processor's cores shared among the workers."""
    values = settings.model_dump(mode="json", exclude_none=True)
    values.setdefault("threads", max(1, (os.cpu_count() or 1) // workers))
    return {
        f"EARTHGEN_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
    }
