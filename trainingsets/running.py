"""Running a dump: in this process, on processes of this machine, or on Ray; the bytes are the same.

Work is a list of indices. Whoever makes an item writes it; what comes back is its size. Neighbouring indices share a
scene, so they are handed out in order, and shards are runs of whole scenes.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal, get_args

from earthgen.errors import EarthgenError
from trainingsets.cards import write_cards
from trainingsets.errors import DumpError, DumpSpecError
from trainingsets.folder import DROPPED_LIST, DumpFolder, line_of
from trainingsets.formats import format_of
from trainingsets.making import Maker, Opener
from trainingsets.places import scene_number
from trainingsets.records import make_item
from trainingsets.spec import DumpSpec
from trainingsets.tasks import item_of, task_of

Backend = Literal["serial", "process", "ray"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
Progress = Callable[[int, int], None]

_AHEAD = 2
"""Items handed out for each worker."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop early; what is finished stays, and the run can be gone on with.

    Attributes:
        bytes: of all items of the folder; None for any.
        seconds: of this run; None for any.
        retries: further tries of an item that failed, and of lost workers without an item finished between.
    """

    bytes: int | None = None
    seconds: float | None = None
    retries: int = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did.

    Attributes:
        made: items.
        missing: items of the whole dump that nobody has made.
        complete: whether the dump is finished.
        stopped: why it stopped early; "" if it did not.
    """

    made: int
    missing: int
    complete: bool
    stopped: str = ""


def check(spec: DumpSpec) -> None:
    """Raise DumpSpecError unless such a dump can be made."""
    task_of(spec.task).check(spec)
    format_of(spec.format).check(spec)
    if spec.keep_if:
        from trainingsets.scoring import check_scores

        check_scores(spec)


def shard_range(spec: DumpSpec, number: int, count: int) -> tuple[int, int]:
    """The items first .. end - 1 of a shard: whole scenes.

    Raises:
        DumpSpecError: the shard does not exist.
    """
    if count < 1 or not 0 <= number < count:
        raise DumpSpecError(f"shard is {number}/{count}; i/n with i from 0 to n - 1 is allowed")
    scenes = scene_number(spec, spec.count - 1) + 1
    first, end = (at * scenes // count * spec.tiles_per_scene for at in (number, number + 1))
    return first, min(end, spec.count)


def run(
    folder: DumpFolder,
    opener: Opener,
    *,
    backend: Backend = "serial",
    workers: int = 1,
    shard: tuple[int, int] = (0, 1),
    limits: Limits | None = None,
    progress: Progress | None = None,
    maker: Maker | None = None,
) -> Outcome:
    """Make the missing items of a shard, and finish the dump if that was all.

    Args:
        folder: the dump.
        opener: opens engines, in every worker one.
        backend: "serial", "process" or "ray".
        workers: processes or actors.
        shard: number and count.
        limits: when to stop early.
        progress: called with how many of the shard's items are done, and how many it has.
        maker: an open one for the serial backend, in place of the opener's.

    Raises:
        DumpError: the disk is full, an item fails again and again, or workers keep dying.
        DumpSpecError: no such shard or backend.
    """
    limits = limits or Limits()
    first, end = shard_range(folder.spec, *shard)
    todo = folder.missing(first, end)
    stopped = ""
    made = 0
    if todo:
        guard = _Guard(limits, folder)
        done = end - first - len(todo)
        if progress:
            progress(done, end - first)
        work = _backend(backend, folder, opener, workers, limits.retries, maker)
        for size in work(guard.allowed(todo)):
            made += 1
            guard.add(size)
            if progress:
                progress(done + made, end - first)
        stopped = guard.why
    missing = len(folder.missing(0, folder.spec.count))
    if missing == 0:
        finish(folder)
    return Outcome(made, missing, missing == 0, stopped)


def finish(folder: DumpFolder) -> None:
    """Write what all items together make, once; a second process waits for the first and does nothing.

    Raises:
        DumpError: the disk is full, or no item was kept.
    """
    with folder.finishing() as needed:
        if needed:
            try:
                if next(folder.records(), None) is None:
                    raise DumpError(
                        f"none of the {folder.spec.count} items of {folder.path} fulfils {folder.spec.keep_if}; name"
                        " another folder and conditions that more items fulfil, or make more"
                    )
                format_of(folder.spec.format).finish(folder, folder.records)
                write_cards(folder)
                if folder.spec.keep_if:
                    folder.write(DROPPED_LIST, b"".join(map(line_of, folder.dropped())))
                folder.complete(folder.records())
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise DumpError(
                        f"the disk of {folder.path} is full; all items are kept: make room and run the same command"
                        " with --resume"
                    ) from error
                raise


class _Guard:
    """Lets indices through until a limit is reached."""

    def __init__(self, limits: Limits, folder: DumpFolder) -> None:
        self.why = ""
        self._limits = limits
        self._begun = time.monotonic()
        self._bytes = folder.used_bytes() if limits.bytes is not None else 0
        self._largest = 0

    def add(self, size: int) -> None:
        self._bytes += size
        self._largest = max(self._largest, size)

    def allowed(self, todo: list[int]) -> Iterator[int]:
        for index in todo:
            if self._limits.seconds is not None and time.monotonic() - self._begun >= self._limits.seconds:
                self.why = f"the limit of {self._limits.seconds:g} seconds is reached"
            # One more item may be as large as the largest so far.
            if self._limits.bytes is not None and self._bytes + self._largest > self._limits.bytes:
                self.why = f"the limit of {self._limits.bytes} bytes is reached"
            if self.why:
                return
            yield index


Work = Callable[[Iterator[int]], Iterator[int]]


def _backend(
    name: Backend, folder: DumpFolder, opener: Opener, workers: int, retries: int, maker: Maker | None
) -> Work:
    if name == "serial":
        return lambda todo: _serial(todo, folder, opener, retries, maker)
    if name == "process":
        return lambda todo: _processes(todo, folder, opener, workers, retries)
    if name == "ray":
        from trainingsets.on_ray import on_ray

        return lambda todo: on_ray(todo, folder, opener, workers, retries)
    raise DumpSpecError(f"backend is {name!r}; allowed: {', '.join(BACKENDS)}")


def make_one(maker: Maker, folder: DumpFolder, index: int, retries: int) -> int:
    """Make and write an item; returns its bytes.

    Raises:
        DumpError: it failed more often than `retries`, or cannot be written.
    """
    item, form = item_of(folder.spec, index), format_of(folder.spec.format)
    for left in range(retries, -1, -1):
        try:
            return make_item(maker, folder, form, item)
        except EarthgenError:
            raise  # Trying again will not help.
        except Exception as error:
            if left == 0:
                raise DumpError(f"item {index} failed {retries + 1} times: {type(error).__name__}: {error}") from error
    raise AssertionError("unreachable")


def _serial(
    todo: Iterator[int], folder: DumpFolder, opener: Opener, retries: int, maker: Maker | None
) -> Iterator[int]:
    with ExitStack() as stack:
        for index in todo:
            if maker is None:
                maker = stack.enter_context(opener.open())
            yield make_one(maker, folder, index, retries)


# --- Processes ---


class _Worker:
    """What a worker process keeps."""

    open: ExitStack
    """Held, because what is in it is closed when nobody holds it."""
    maker: Maker
    failed: EarthgenError | None = None
    """Why there is no maker."""
    folder: DumpFolder
    retries: int


def _begin(folder: DumpFolder, opener: Opener, retries: int) -> None:
    """Open the engine of a new process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle.
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _Worker.open = ExitStack()
    try:
        _Worker.maker = _Worker.open.enter_context(opener.open())
    except EarthgenError as error:
        _Worker.failed = error  # The first item raises it: a worker that cannot begin would only be lost.
    _Worker.folder, _Worker.retries = folder, retries


def _leave_with_parent() -> None:
    """End with the parent: a worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(index: int) -> int:
    if _Worker.failed is not None:
        raise _Worker.failed
    return make_one(_Worker.maker, _Worker.folder, index, _Worker.retries)


def _processes(todo: Iterator[int], folder: DumpFolder, opener: Opener, workers: int, retries: int) -> Iterator[int]:
    # A clean process that has imported this module forks workers, so that lost ones are replaced quickly.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    waiting: list[int] = []
    losses = 0
    while True:
        waiting = waiting or [index for index in [next(todo, None)] if index is not None]
        if not waiting:
            return
        pool = ProcessPoolExecutor(
            workers,
            mp_context=context,
            initializer=_begin,
            initargs=(folder, opener, retries),
        )
        running: dict[Future[int], int] = {}
        try:
            while True:
                while len(running) < _AHEAD * workers:
                    index = waiting.pop(0) if waiting else next(todo, None)
                    if index is None:
                        break
                    running[pool.submit(_work, index)] = index
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    size = future.result()
                    del running[future]
                    losses = 0
                    yield size
        except BrokenProcessPool as error:
            losses += 1
            if losses > retries:
                raise DumpError(
                    f"workers died {losses} times and finished nothing between; finished items are kept: see whether"
                    " the memory suffices for as many workers, and run the same command with --resume"
                ) from error
            # What was handed out last may have been written: it is asked of the folder, not of the workers.
            waiting = sorted({*running.values(), *waiting} & set(folder.missing(0, folder.spec.count)))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
