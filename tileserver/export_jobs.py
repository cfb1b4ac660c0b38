"""Exports that go on while nobody waits: each lies in a folder of its own until its file is too old.

    <folder>/<id>/job.json     what is exported
                  state.json   how far it is
                  lock         held by whoever works at it
                  cancelled    there once somebody has given it up
                  <name>       the file; <name>.part while it is made

Nothing is known of a job but what its folder says. So any worker of a server answers for it, a worker that dies
leaves its job to the others, and a server that starts goes on with what the last one left.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import secrets
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from earthgen.bands import BandView
from earthgen.errors import (
    EarthgenError,
    ExportError,
    ExportLimitError,
    OverloadedError,
    RequestCancelledError,
)
from earthgen.export.area import AreaExport, FileKind
from earthgen.export.image import ImageFormat
from earthgen.export.work import Limits, write_whole
from earthgen.pyramid import Bounds, Box
from earthgen.world import World
from tileserver.clients import ClientLimitError

Cancelled = Callable[[], bool]
Status = Literal["waiting", "running", "done", "failed"]

SCAN_S = 5.0
"""How often a worker looks for jobs that nobody has at hand: those of a worker that died."""
NEWS_S = 0.5
"""How often a job says how far it is."""
PATIENCE_S = 2.0
"""Longest that one tile of an export waits for people who look at the map."""
ABANDONED_S = 600.0
"""Age after which a folder that holds no job is thrown away."""
RETRY_AFTER_S = 60

_ID = re.compile(r"[0-9a-f]{32}")
_FORMAT = 1
_logger = logging.getLogger(__name__)


class Source(Protocol):
    """What pixels come from: the engine, or a band of it."""

    @property
    def weights_id(self) -> str:
        """Content id of the weights."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever pixels could change."""

    def tile(
        self, world: World, z: int, x: int, y: int, *, cancelled: Cancelled | None = None
    ) -> npt.NDArray[np.uint8]:
        """A tile."""

    def pixels(self, world: World, box: Box, *, cancelled: Cancelled | None = None) -> npt.NDArray[np.uint8]:
        """The pixels of a box."""


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody wants exported; JSON types, so that it can wait in a file.

    Attributes:
        world: its value, as `World.to_dict` gives it.
        bounds: west, south, east, north in degrees.
        zooms: the coarsest and the finest.
        file: kind of file.
        image: of its tiles or blocks.
        quality: of jpg and webp.
        band: its name; None for the colours.
    """

    world: dict[str, Any]
    bounds: Bounds
    zooms: tuple[int, int]
    file: FileKind
    image: ImageFormat
    quality: int
    band: str | None

    @property
    def name(self) -> str:
        """Of the file: made from what was checked, never from text that a client wrote."""
        world = World.from_dict(self.world)
        band = f"-{self.band}" if self.band else ""
        return f"{world.root}-{world.id[:8]}{band}-z{self.zooms[0]}-{self.zooms[1]}.{self.file}"


@dataclass(frozen=True, slots=True)
class State:
    """How far a job is.

    Attributes:
        status: of the job.
        done: parts that are made.
        total: parts in all; 0 before that is known.
        seconds_left: about; None where nothing was measured yet.
        detail: why it failed.
        ended: when it was done or failed, seconds since 1970.
        bytes: of the file.
    """

    status: Status = "waiting"
    done: int = 0
    total: int = 0
    seconds_left: float | None = None
    detail: str = ""
    ended: float | None = None
    bytes: int | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ("done", "failed")


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its folder says.

    Attributes:
        id: names it, and is all that one needs to see it, take its file and give it up.
        order: what is exported.
        client: who wants it; "" once it is over.
        created: seconds since 1970.
        state: how far it is.
    """

    id: str
    order: Order
    client: str
    created: float
    state: State


@dataclass(frozen=True, slots=True)
class Bounded:
    """How much may be exported.

    Attributes:
        threads: jobs of this process at work at a time.
        waiting: jobs that are not over, of all clients.
        of_one_client: of them, of one client.
        tiles: of one job; of a GeoTIFF, as many tiles' pixels.
        bytes: of one file.
        kept_bytes: of all finished files; the oldest make room.
        lifetime: seconds for which a finished file is kept.
    """

    threads: int
    waiting: int
    of_one_client: int
    tiles: int
    bytes: int
    kept_bytes: int
    lifetime: float


class ExportJobs:
    """The jobs of a folder, and threads that work at them.

    Args:
        folder: where they lie; None makes one that goes with the process.
        source: gives the engine, or the band of a name.
        bounded: how much.
        charge: counts a job for a client, and refuses one that had too much.
        busy: whether somebody waits for a tile of a map; exports then wait a little.
        working: False looks after nothing: no job is begun, gone on with or thrown away.
    """

    def __init__(
        self,
        folder: Path | None,
        source: Callable[[str | None], Source],
        bounded: Bounded,
        *,
        charge: Callable[[str], None] = lambda client: None,
        busy: Callable[[], bool] = lambda: False,
        working: bool = True,
    ) -> None:
        self.bounded = bounded
        self._own = folder is None
        self._folder = folder
        self._source = source
        self._charge = charge
        self._busy = busy
        self._working = working
        self._condition = threading.Condition()
        self._closing = threading.Event()
        self._running = 0
        self._resting: dict[str, float] = {}
        self._threads: list[threading.Thread] = []
        if folder is not None and working:
            self._begin()

    @property
    def unfinished(self) -> int:
        """Jobs that are not over, of all workers."""
        return sum(not job.state.over for job in self._jobs())

    @property
    def idle(self) -> bool:
        """Whether this process works at none."""
        return not self._running

    def start(self, order: Order, client: str) -> Job:
        """Put a job down; it is worked at when its turn comes.

        Args:
            order: that can be carried out, as `Order.name` and `area_of` find.
            client: who wants it.

        Raises:
            ClientLimitError: that one has as many as one may.
            OverloadedError: there are as many as there may be.
        """
        folder = self._ready_folder()
        with _held(folder / "lock"):
            unfinished = [job for job in self._jobs() if not job.state.over]
            own = sum(job.client == client for job in unfinished)
            if own >= self.bounded.of_one_client:
                raise ClientLimitError(
                    f"{own} of your exports are not finished, and at most {self.bounded.of_one_client} of one client"
                    f" may be; cancel one, or try again in {RETRY_AFTER_S} s",
                    RETRY_AFTER_S,
                )
            if len(unfinished) >= self.bounded.waiting:
                raise OverloadedError(
                    f"{len(unfinished)} exports are not finished, and at most {self.bounded.waiting} may be; try again"
                    f" in {RETRY_AFTER_S} s",
                    RETRY_AFTER_S,
                )
            self._charge(client)
            job = Job(secrets.token_hex(16), order, client, time.time(), State())
            unseen = folder / f"{job.id}.new"
            unseen.mkdir()
            try:
                write_whole(unseen / "job.json", _written(job))
                write_whole(unseen / "state.json", json.dumps(asdict(job.state)).encode())
                # Whole or not at all: what lies under an id is a job.
                unseen.rename(folder / job.id)
            except OSError:
                shutil.rmtree(unseen, ignore_errors=True)
                raise
        with self._condition:
            self._condition.notify()
        return job

    def get(self, name: str) -> Job | None:
        """A job by its id; None: there is none, or it has been given up."""
        if self._folder is None or not _ID.fullmatch(name):
            return None
        return _read(self._folder / name)

    def file(self, job: Job) -> Path:
        """Where the file of a finished job is."""
        assert self._folder is not None
        return self._folder / job.id / job.order.name

    def expires(self, job: Job) -> float | None:
        """When the file of a finished job may be thrown away, seconds since 1970."""
        return None if job.state.ended is None else job.state.ended + self.bounded.lifetime

    def cancel(self, job: Job) -> None:
        """Give a job up, or throw its file away."""
        assert self._folder is not None
        folder = self._folder / job.id
        # Whoever works at it looks for this.
        (folder / "cancelled").touch()
        self._throw_away(folder)

    def close(self) -> None:
        """Stop working; jobs that are not over wait for the next process that comes."""
        self._closing.set()
        with self._condition:
            self._condition.notify_all()
        for thread in self._threads:
            thread.join()
        if self._own and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def tidy(self) -> None:
        """Throw away what is too old, too much, given up or no job."""
        if self._folder is None:
            return
        now, kept = time.time(), 0
        for folder in _folders(self._folder):
            if _ID.fullmatch(folder.name) and (job := _read(folder)) is not None:
                if job.state.ended is not None and job.state.ended > now:
                    # The clock was ahead when it ended: its time begins now.
                    _say(folder, replace(job.state, ended=now))
            elif (folder / "cancelled").exists() or now - folder.stat().st_mtime > ABANDONED_S:
                self._throw_away(folder)
        over = [job for job in self._jobs() if job.state.ended is not None]
        for job in sorted(over, key=lambda job: -(job.state.ended or 0.0)):
            kept += job.state.bytes or 0
            if now > (self.expires(job) or now) or kept > self.bounded.kept_bytes:
                self._throw_away(self._folder / job.id)

    def _ready_folder(self) -> Path:
        with self._condition:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="earthgen-exports-"))
            self._folder.mkdir(parents=True, exist_ok=True)
            if not self._threads:
                self._begin()
            return self._folder

    def _begin(self) -> None:
        for number in range(self.bounded.threads):
            thread = threading.Thread(target=self._serve, name=f"exports-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _jobs(self) -> list[Job]:
        """All jobs, the oldest first."""
        if self._folder is None:
            return []
        names = (folder for folder in _folders(self._folder) if _ID.fullmatch(folder.name))
        found = [job for folder in names if (job := _read(folder)) is not None]
        return sorted(found, key=lambda job: (job.created, job.id))

    def _serve(self) -> None:
        while not self._closing.is_set():
            worked = False
            try:
                self.tidy()
                worked = self._work()
            except Exception as error:
                _logger.error("exports cannot be looked after", exc_info=error)
            if not worked and not self._closing.is_set():
                with self._condition:
                    self._condition.wait(SCAN_S)

    def _work(self) -> bool:
        """Work at the oldest job that nobody has at hand; False: there is none."""
        assert self._folder is not None
        for job in self._jobs():
            if job.state.over or self._resting.get(job.id, 0.0) > time.monotonic():
                continue
            folder = self._folder / job.id
            try:
                with _held(folder / "lock", wait=False):
                    now = _read(folder)
                    if now is None or now.state.over:
                        continue
                    with self._condition:
                        self._running += 1
                    try:
                        self._carry_out(now, folder)
                    finally:
                        with self._condition:
                            self._running -= 1
            except (Timeout, FileNotFoundError):
                continue
            except OSError as error:
                # Such as a full disk, on which not even the failure can be written down: not again at once.
                self._resting[job.id] = time.monotonic() + RETRY_AFTER_S
                _logger.error("export %s cannot be worked at", job.id, exc_info=error)
                continue
            if (folder / "cancelled").exists():
                self._throw_away(folder)
            return True
        return False

    def _carry_out(self, job: Job, folder: Path) -> None:
        """Make the file and write down what came of it; the job's lock is held."""
        given_up = (folder / "cancelled").exists
        path = folder / job.order.name
        _say(folder, replace(job.state, status="running", seconds_left=None))
        news = _News(folder, replace(job.state, status="running"))
        try:
            view = self._source(job.order.band)
            source = _Patient(view, lambda: self._closing.is_set() or given_up(), self._busy)
            area = area_of(job.order, view, self.bounded.tiles)
            world = World.from_dict(job.order.world)
            area.check_world(world)
            area.write(source, world, path, news, limits=Limits(bytes=self.bounded.bytes), workers=1)
        except RequestCancelledError:
            if not given_up():
                _say(folder, replace(news.state, status="waiting", seconds_left=None))
            return
        except Exception as error:
            if not isinstance(error, EarthgenError) or (isinstance(error, ExportError) and not _foreseen(error)):
                _logger.error("export %s failed", job.id, exc_info=error)
            shutil.rmtree(path.with_name(f"{path.name}.part"), ignore_errors=True)
            self._end(job, folder, State("failed", news.state.done, news.state.total, detail=self._reason(error)))
            return
        self._end(job, folder, State("done", news.state.total, news.state.total, bytes=path.stat().st_size))

    def _end(self, job: Job, folder: Path, state: State) -> None:
        # Whose it was matters only while it is counted.
        write_whole(folder / "job.json", _written(replace(job, client="")))
        _say(folder, replace(state, ended=time.time()))

    def _reason(self, error: Exception) -> str:
        """Why it failed, for whoever wanted it; paths of this machine are nobody's business."""
        if isinstance(error, ExportLimitError):
            return f"it would be larger than the {self.bounded.bytes} bytes that one export may have"
        if isinstance(error, ExportError):
            return "the server's disk is full" if _disk_is_full(error) else "the file cannot be written here"
        if isinstance(error, EarthgenError):
            return str(error)
        return f"internal error ({type(error).__name__}); the server's log has more"

    def _throw_away(self, folder: Path) -> None:
        """Remove a job's folder unless somebody works at it, who will."""
        try:
            with _held(folder / "lock", wait=False):
                shutil.rmtree(folder, ignore_errors=True)
        except (Timeout, OSError):
            pass


def area_of(order: Order, source: Source, max_tiles: int) -> AreaExport:
    """An order as the library knows it.

    Args:
        order: of a job.
        source: of the order's band.
        max_tiles: refuse more.
    """
    band = source.band if isinstance(source, BandView) else None
    return AreaExport(order.bounds, order.zooms, order.image, order.quality, max_tiles, band)


class _Patient:
    """A source that lets people on the map go first, and stops when nobody wants the export any more."""

    def __init__(self, source: Source, stopped: Cancelled, busy: Callable[[], bool]) -> None:
        self._source = source
        self._stopped = stopped
        self._busy = busy

    @property
    def weights_id(self) -> str:
        return self._source.weights_id

    @property
    def fingerprint(self) -> str:
        return self._source.fingerprint

    def tile(
        self, world: World, z: int, x: int, y: int, *, cancelled: Cancelled | None = None
    ) -> npt.NDArray[np.uint8]:
        self._wait()
        return self._source.tile(world, z, x, y, cancelled=lambda: self._stopped() or bool(cancelled and cancelled()))

    def pixels(self, world: World, box: Box, *, cancelled: Cancelled | None = None) -> npt.NDArray[np.uint8]:
        self._wait()
        return self._source.pixels(world, box, cancelled=lambda: self._stopped() or bool(cancelled and cancelled()))

    def _wait(self) -> None:
        latest = time.monotonic() + PATIENCE_S
        while True:
            if self._stopped():
                raise RequestCancelledError("nobody waits for this export")
            if not self._busy() or time.monotonic() >= latest:
                return
            time.sleep(0.05)


def patient(source: Source, stopped: Cancelled) -> _Patient:
    """A source that stops when a client is gone; for estimates."""
    return _Patient(source, stopped, lambda: False)


class _News:
    """Writes down how far a job is, not too often."""

    def __init__(self, folder: Path, state: State) -> None:
        self.state = state
        self._folder = folder
        self._begun = time.monotonic()
        self._first: int | None = None
        self._said = -NEWS_S

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = done
        made = done - self._first
        left = (now - self._begun) / made * (total - done) if made else None
        self.state = replace(self.state, done=done, total=total, seconds_left=left)
        if now - self._said >= NEWS_S or done == total:
            self._said = now
            _say(self._folder, self.state)


def _say(folder: Path, state: State) -> None:
    """Write a job's state, whole; after a power cut an older one will do."""
    partial = folder / "state.json.tmp"
    partial.write_text(json.dumps(asdict(state)))
    os.replace(partial, folder / "state.json")


def _written(job: Job) -> bytes:
    about = {"format": _FORMAT, "order": asdict(job.order), "client": job.client, "created": job.created}
    return json.dumps(about).encode()


def _read(folder: Path) -> Job | None:
    """The job of a folder; None: there is none, it is damaged, or it has been given up."""
    try:
        if (folder / "cancelled").exists():
            return None
        about = json.loads((folder / "job.json").read_bytes())
        if about["format"] != _FORMAT:
            return None
        order = about["order"]
        order = Order(**order | {"bounds": tuple(order["bounds"]), "zooms": tuple(order["zooms"])})
        state = State(**json.loads((folder / "state.json").read_bytes()))
        return Job(folder.name, order, about["client"], float(about["created"]), state)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _folders(folder: Path) -> list[Path]:
    try:
        return [entry for entry in folder.iterdir() if entry.is_dir()]
    except FileNotFoundError:
        return []


@contextmanager
def _held(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock that other threads and processes respect, and that goes with whoever holds it."""
    lock = FileLock(path, timeout=10 if wait else 0, is_singleton=False)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _foreseen(error: ExportError) -> bool:
    return isinstance(error, ExportLimitError)


def _disk_is_full(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if isinstance(cause, sqlite3.OperationalError) and "full" in str(cause):
            return True
        cause = cause.__cause__
    return False
