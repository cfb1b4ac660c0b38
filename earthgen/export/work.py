"""The folder in which an unfinished export waits: held by one process, and of one job.

`<file>.part` beside the file to be written holds what is finished so far and `job.json`, which says of what. Another
job's leftovers are dropped; a folder that something else made is left alone.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from earthgen.errors import ExportError, ExportLimitError


@dataclass(frozen=True, slots=True)
class Limits:
    """Where an export stops, to be gone on with later.

    Attributes:
        bytes: of finished work, that of earlier runs included; None for no limit.
        seconds: of this run; None for no limit.
    """

    bytes: int | None = None
    seconds: float | None = None


class Allowance:
    """What one run may still do; its time runs from when it is made.

    Args:
        limits: where to stop.
        target: the file to be written.
        total: how many parts it has.
        what: they are called.
    """

    def __init__(self, limits: Limits, target: Path, total: int, what: str) -> None:
        self._limits, self._target, self._total, self._what = limits, target, total, what
        self._begun = time.monotonic()

    def check_room(self, used: int, done: int) -> None:
        """Stop the run before it keeps more than it may.

        Args:
            used: bytes of finished work, those that are about to be kept included.
            done: how many parts are kept already.

        Raises:
            ExportLimitError: the limit is reached; it says how to go on.
        """
        if self._limits.bytes is not None and used > self._limits.bytes:
            raise self._stop(f"{self._limits.bytes} bytes", done)

    def check_time(self, done: int) -> None:
        """Stop the run when its time is over and `done` parts are kept; errors as of `check_room`."""
        if self._limits.seconds is not None and time.monotonic() - self._begun >= self._limits.seconds:
            raise self._stop(f"{self._limits.seconds:g} seconds", done)

    def _stop(self, limit: str, done: int) -> ExportLimitError:
        return ExportLimitError(
            f"{self._target} is not finished: the limit of {limit} is reached; {done} of {self._total} {self._what}"
            f" wait in {self._target.name}.part, and the same command goes on from there"
        )


@contextmanager
def work_folder(
    target: Path, job: dict[str, Any], kept: str, failures: tuple[type[Exception], ...] = ()
) -> Iterator[Path]:
    """The folder of unfinished work for one job, held by this process alone; emptied if it was another job's.

    Args:
        target: the file to be written.
        job: JSON types; work that was done for an equal one is gone on with.
        kept: pattern of the files that are worth keeping when the work stops; without any, nothing is left behind.
        failures: exceptions that mean, as OSError does, that writing failed.

    Raises:
        ExportError: another process holds the folder, it is somebody else's, or writing failed.
    """
    expected: tuple[type[Exception], ...] = (OSError, *failures)
    try:
        with _held_folder(target, job, kept) as folder:
            yield folder
    except expected as error:
        reason = getattr(error, "strerror", None) or error
        raise ExportError(
            f"{target} cannot be written: {reason}; what is finished waits in {target.name}.part"
        ) from error


@contextmanager
def _held_folder(target: Path, job: dict[str, Any], kept: str) -> Iterator[Path]:
    folder = target.with_name(target.name + ".part")
    journal = folder / "job.json"
    if folder.exists() and any(folder.iterdir()) and not (journal.exists() or (folder / "lock").exists()):
        raise ExportError(f"{folder} is in the way: it holds something that is not an unfinished export")
    folder.mkdir(exist_ok=True)
    try:
        lock = FileLock(folder / "lock", blocking=False)
        lock.acquire()
    except Timeout as error:
        raise ExportError(f"another process is writing {target}") from error
    try:
        if _read_job(journal) != job:
            for leftover in folder.iterdir():
                if leftover.name != "lock":
                    leftover.unlink()
            write_whole(journal, json.dumps(job).encode())
        yield folder
    finally:
        lock.release()
        if folder.exists() and not any(folder.glob(kept)):
            # Nothing worth keeping: leave nothing behind.
            shutil.rmtree(folder, ignore_errors=True)


def check_target(path: Path, endings: tuple[str, ...]) -> None:
    """Refuse a file that could not be written, before any work.

    Raises:
        ExportError: another ending, a folder of that name, or no folder to write into.
    """
    if path.suffix.lower() not in endings:
        raise ExportError(f"{path} does not end in {' or '.join(endings)}")
    if path.is_dir():
        raise ExportError(f"{path} is a folder; name a file")
    if not path.parent.is_dir():
        raise ExportError(f"folder {path.parent} does not exist")


def publish(finished: Path, target: Path) -> None:
    """Give a finished file its name, so that it is there whole or not at all, and drop its folder of work."""
    sync_file(finished)
    os.replace(finished, target)
    _sync_folder(target.parent)
    shutil.rmtree(finished.parent)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    partial = path.with_name(path.name + ".tmp")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def sync_file(path: Path) -> None:
    """Make a file's content survive a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_job(journal: Path) -> object:
    try:
        return json.loads(journal.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
