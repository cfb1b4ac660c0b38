"""The folder of a dump: items written whole, the rest made once all are there.

    DIR/.earthgen/dump.json        specification and what it is made by; never changes
    DIR/.earthgen/items/           one record an item, written after its files: the item is done
    DIR/.earthgen/parts/           items of formats that pack many in a file, until they are packed
    DIR/.earthgen/new/             files on their way; they get their names when they are whole
    DIR/manifest.jsonl             all records, when the dump is complete; items/ and parts/ are gone then
    DIR/dropped.jsonl              of a dump that keeps by scores, the records of the items that it did not keep

Nobody locks an item: two processes that make the same one write the same bytes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from trainingsets.errors import DumpError, DumpSpecError
from trainingsets.spec import DumpSpec

Record = dict[str, Any]
"""What is known of an item, as JSON types; see `trainingsets.records`."""

HIDDEN = ".earthgen"
MANIFEST = "manifest.jsonl"
DROPPED_LIST = "dropped.jsonl"
DROPPED = "dropped"
"""Key of a record whose item was made and not kept."""
_FAN = 1000
"""Items in one folder."""


class DumpFolder:
    """A dump on a disk.

    Args:
        path: its folder.
        spec: what it is.
        made_by: what its bytes depend on besides.
    """

    def __init__(self, path: Path, spec: DumpSpec, made_by: Mapping[str, str]) -> None:
        self.path, self.spec, self.made_by = path, spec, dict(made_by)
        self._hidden = path / HIDDEN

    @classmethod
    def create(cls, path: Path, spec: DumpSpec, made_by: Mapping[str, str], *, resume: bool) -> DumpFolder:
        """Begin a dump, or go on with one.

        Raises:
            DumpError: the folder holds something else, another dump, or this one although nobody said resume.
        """
        about = path / HIDDEN / "dump.json"
        if about.exists():
            cls._check_same(path, spec, made_by)
            if not resume:
                raise DumpError(f"{path} holds this dump already; go on with it by --resume, or name another folder")
        else:
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise DumpError(f"{path} holds something else; name a folder that is empty or new")
            with _plain_errors(path):
                about.parent.mkdir(parents=True, exist_ok=True)
            # Shards may begin together: the first one's file stays, and the others compare with it.
            text = json.dumps({"spec": spec.to_dict(), "made_by": dict(made_by)}, sort_keys=True, indent=1) + "\n"
            with _plain_errors(path):
                write_whole(about, text.encode(), about.parent / "new", replace=False)
            cls._check_same(path, spec, made_by)
        return cls(path, spec, made_by)

    @classmethod
    def open(cls, path: Path) -> DumpFolder:
        """A dump that was begun.

        Raises:
            DumpError: there is none, or it cannot be read.
        """
        spec, made_by = cls._read(path)
        return cls(path, spec, made_by)

    @staticmethod
    def _read(path: Path) -> tuple[DumpSpec, dict[str, str]]:
        about = path / HIDDEN / "dump.json"
        try:
            value = json.loads(about.read_bytes())
            return DumpSpec.from_dict(value["spec"]), dict(value["made_by"])
        except FileNotFoundError as error:
            raise DumpError(f"{path} holds no dump: {about} is missing") from error
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise DumpError(f"{about} cannot be read: {error}") from error

    @classmethod
    def _check_same(cls, path: Path, spec: DumpSpec, made_by: Mapping[str, str]) -> None:
        theirs, their_made_by = cls._read(path)
        ours, old = spec.to_dict(), theirs.to_dict()
        other = [f"{name} {old[name]} there, {ours[name]} here" for name in ours if ours[name] != old[name]]
        if not other:
            other = [
                f"{name} {their_made_by.get(name)} there, {made_by.get(name)} here"
                for name in sorted({*made_by, *their_made_by})
                if made_by.get(name) != their_made_by.get(name)
            ]
        if other:
            raise DumpSpecError(f"{path} holds another dump ({'; '.join(other)}); name another folder")

    # --- Items ---

    @property
    def manifest(self) -> Path:
        """The file that is there once the dump is complete."""
        return self.path / MANIFEST

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to be done."""
        return self.manifest.exists()

    def missing(self, first: int, end: int) -> list[int]:
        """Indices in first .. end - 1 of items that are not done."""
        if self.is_complete:
            return []
        done = {int(path.stem) for path in self._hidden.glob("items/*/*.json")}
        return [index for index in range(first, end) if index not in done]

    def used_bytes(self) -> int:
        """Bytes of the items that are done."""
        return sum(record["bytes"] for record in self.records())

    def write_item(self, record: Record, files: Mapping[str, bytes]) -> int:
        """Write an item's files, then its record, each whole; returns the bytes of the files.

        Raises:
            DumpError: the disk is full or cannot be written.
        """
        size = sum(map(len, files.values()))
        record = record | {"bytes": size}
        with _plain_errors(self.path):
            for name, content in files.items():
                self.write(name, content)
            self.write(self._record_name(record["index"]), line_of(record))
        return size

    def write(self, name: str, content: bytes) -> None:
        """Write a file of the folder whole."""
        write_whole(self.path / name, content, self._hidden / "new")

    def records(self) -> Iterator[Record]:
        """The records of the items that are done and kept, by index.

        Raises:
            DumpError: one is damaged.
        """
        return self._read_lines(MANIFEST) if self.is_complete else self._done(dropped=False)

    def dropped(self) -> Iterator[Record]:
        """The records of the items that are done and not kept, by index: key, split, scene and scores.

        Raises:
            DumpError: one is damaged, or there is no list of them.
        """
        if not self.spec.keep_if:
            return iter(())
        return self._read_lines(DROPPED_LIST) if self.is_complete else self._done(dropped=True)

    def _read_lines(self, name: str) -> Iterator[Record]:
        path = self.path / name
        try:
            with path.open("rb") as lines:
                for line in lines:
                    yield _parsed(line, path)
        except FileNotFoundError as error:
            raise DumpError(f"{path} is missing; delete {self.manifest} and make the dump again") from error

    def _done(self, *, dropped: bool) -> Iterator[Record]:
        for path in sorted(self._hidden.glob("items/*/*.json")):
            record = _parsed(path.read_bytes(), path)
            if record.get(DROPPED, False) == dropped:
                yield record

    def part_name(self, index: int) -> str:
        """The file of an item until it is packed."""
        return f"{HIDDEN}/parts/{index // _FAN:05d}/{index:08d}"

    def _record_name(self, index: int) -> str:
        return f"{HIDDEN}/items/{index // _FAN:05d}/{index:08d}.json"

    # --- The end ---

    @contextmanager
    def finishing(self) -> Iterator[bool]:
        """For the one process that makes what all items together make; says whether there is anything left to do."""
        lock = self._hidden / "finish.lock"
        with FileLock(lock):
            if self.is_complete:
                self.tidy()  # A run may have been stopped between the manifest and this.
            yield not self.is_complete
        lock.unlink(missing_ok=True)

    def complete(self, records: Iterable[Record]) -> None:
        """Write the manifest and remove what it replaces."""
        with _plain_errors(self.path):
            with tempfile.NamedTemporaryFile(dir=self._new(), delete=False) as file:
                for record in records:
                    file.write(line_of(record))
                file.flush()
                os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, self.manifest)
        self.tidy()

    def tidy(self) -> None:
        """Remove what a complete dump needs no more."""
        for name in ("items", "parts", "new", "previews"):
            shutil.rmtree(self._hidden / name, ignore_errors=True)

    def _new(self) -> Path:
        new = self._hidden / "new"
        new.mkdir(parents=True, exist_ok=True)
        return new


def write_whole(path: Path, content: bytes, beside: Path, *, replace: bool = True) -> None:
    """Write into a folder on the same disk, then give the file its name.

    Args:
        path: the name.
        content: all of it.
        beside: where it is until it is whole.
        replace: whether a file that has the name already is replaced; otherwise it stays.
    """
    beside.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=beside)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        if replace:
            os.replace(temporary, path)
            return
        with suppress(FileExistsError):
            os.link(temporary, path)
        os.unlink(temporary)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


@contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DumpError(
                f"the disk of {path} is full; finished items are kept: make room and run the same command with --resume"
            ) from error
        raise DumpError(
            f"{path} cannot be written: {error.strerror or error}; finished items are kept: mend it and run the same"
            " command with --resume"
        ) from error


def line_of(record: Record) -> bytes:
    """A record as a line of the manifest; the order of its keys is a part of it, that of views above all."""
    return (json.dumps(record, ensure_ascii=False) + "\n").encode()


def _parsed(text: bytes, path: Path) -> Record:
    try:
        record = json.loads(text)
    except ValueError as error:
        raise DumpError(f"{path} is damaged; delete it and run the dump's command with --resume") from error
    if not isinstance(record, dict):
        raise DumpError(f"{path} holds no record of an item; delete it and run the dump's command with --resume")
    return record
