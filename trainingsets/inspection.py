"""Reading a dump back: what it holds, whether every file is whole, whether anything occurs twice or on both sides.

Nothing is taken from what was remembered while it was made: pictures are decoded again. Faults are what a training run
must not meet; remarks are what one should know. A folder without a manifest is read as pictures, with `train`, `val` or
`test` in their paths as their split.
"""

from __future__ import annotations

import io
import json
import tarfile
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from earthgen.errors import InvalidRequestError
from trainingsets.cards import CROISSANT, READER, Counts, caption_of
from trainingsets.errors import DumpError
from trainingsets.folder import DROPPED_LIST, HIDDEN, MANIFEST, DumpFolder, Record, digest
from trainingsets.formats import format_of
from trainingsets.places import BUFFER
from trainingsets.sample import Bytes
from trainingsets.sheet import PREVIEWS, drawn, png, sheet
from trainingsets.sheet import row as sheet_row
from trainingsets.spec import SPLITS
from trainingsets.tasks import legends

Progress = Callable[[int, int], None]

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
_SHOWN = 20
"""Faults that are printed one by one."""
_ALIKE_BITS = 3
"""Bits of 64 by which the finger prints of pictures that look alike differ at most."""
_FLAT = 6.0
"""Standard deviation of grey levels below which a picture has no structure to compare."""


@dataclass(slots=True)
class Report:
    """What was found.

    Attributes:
        folder: that was read.
        counts: of items, by split and class; None for a folder that is no dump.
        about: what the dump says of itself.
        files: that were opened.
        faults: one sentence each.
        remarks: the same.
    """

    folder: Path
    counts: Counts | None = None
    about: dict[str, Any] = field(default_factory=dict)
    files: int = 0
    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    pictures: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """For people."""
        lines = [f"{name}: {value}" for name, value in self.about.items()]
        if self.counts is not None:
            counts = self.counts
            lines.append("items: " + ", ".join(f"{split} {counts.items[split]}" for split in SPLITS))
            lines.append("scenes: " + ", ".join(f"{split} {len(counts.scenes.get(split, ()))}" for split in SPLITS))
            for title, table in (("labels", counts.labels), ("areas", counts.things)):
                names = sorted({name for name, _ in table})
                if names:
                    lines.append(f"{title}: " + ", ".join(f"{name} {_total(table, name)}" for name in names))
            for role in sorted({role for role, _ in counts.pixels}):
                mine = {name: count for (mask, name), count in counts.pixels.items() if mask == role}
                whole = sum(mine.values()) or 1
                lines.append(f"pixels of {role}: " + ", ".join(f"{name} {n / whole:.1%}" for name, n in mine.items()))
        else:
            lines.append("pictures: " + ", ".join(f"{split} {count}" for split, count in sorted(self.pictures.items())))
        lines.append(f"files opened: {self.files}")
        lines += [f"remark: {remark}" for remark in self.remarks]
        lines += [f"fault: {fault}" for fault in self.faults[:_SHOWN]]
        if len(self.faults) > _SHOWN:
            lines.append(f"... and {len(self.faults) - _SHOWN} more faults")
        return [*lines, "no faults" if not self.faults else f"{len(self.faults)} faults"]

    def to_dict(self) -> dict[str, Any]:
        """For programs."""
        value: dict[str, Any] = {"folder": str(self.folder), "about": self.about, "files": self.files}
        if self.counts is not None:
            value["items"] = dict(self.counts.items)
            value["labels"] = _nested(self.counts.labels)
            value["areas"] = _nested(self.counts.things)
            value["pixels"] = _nested(self.counts.pixels)
        else:
            value["pictures"] = dict(self.pictures)
        return value | {"faults": self.faults, "remarks": self.remarks}


def inspect_folder(path: Path, sheet_file: Path | None = None, progress: Progress | None = None) -> Report:
    """Read a folder back.

    Args:
        path: a dump, or a folder of pictures.
        sheet_file: where to draw the first items; None draws nothing.
        progress: called with items done and items in all.

    Raises:
        DumpError: the folder is not there, or is a dump that is not complete.
        InvalidRequestError: the picture's name does not end in .png.
    """
    if not path.is_dir():
        raise DumpError(f"{path} is no folder")
    if sheet_file is not None and sheet_file.suffix != ".png":
        raise InvalidRequestError(f"{sheet_file} ends in {sheet_file.suffix or 'nothing'!r}; allowed: .png")
    if (path / HIDDEN / "dump.json").exists():
        report, rows = _dump(path, progress)
    else:
        report, rows = _pictures(path, progress)
    if sheet_file is not None:
        sheet_file.write_bytes(sheet(rows))
    return report


def _dump(path: Path, progress: Progress | None) -> tuple[Report, list[tuple[bytes, str]]]:
    folder = DumpFolder.open(path)
    spec = folder.spec
    if not folder.is_complete:
        raise DumpError(
            f"{path} is not complete: {len(folder.missing(0, spec.count))} of {spec.count} items are missing;"
            " go on with its command and --resume"
        )
    about = {
        "task": spec.task,
        "format": spec.format,
        "weights": folder.made_by.get("weights"),
        "command": spec.command,
    }
    report = Report(path, Counts(), about)
    assert report.counts is not None
    read = _reader(folder)
    seen = _Seen(report)
    rows: list[tuple[bytes, str]] = []
    expected = {MANIFEST, "README.md", "sheet.png", READER, CROISSANT}
    tiles: dict[str, str] = {}
    extents: list[tuple[str, list[float]]] = []
    gone = {record["index"] for record in folder.dropped()}
    kept = [index for index in range(spec.count) if index not in gone]
    if spec.keep_if:
        about["kept"] = f"{len(kept)} of {spec.count} items, those with {spec.keep_if}"
        expected.add(DROPPED_LIST)
    number = 0
    for number, record in enumerate(folder.records(), 1):
        try:
            _check_index(record, kept, number - 1)
            report.counts.add(record)
            # A tile is a world's pixels; items that are the same at all dates are the same item.
            tile = json.dumps([[view["world"], view["box"]] for view in record["views"].values()])
            if tile in tiles:
                report.faults.append(f"{record['key']} and {tiles[tile]} are the same tile")
            tiles[tile] = record["key"]
            extents += [(record["split"], view["bounds"]) for view in record["views"].values()]
            decoded: dict[str, Bytes] = {}
            for name, expected_digest in record["files"].items():
                decoded |= _check_file(report, read, record, name, expected_digest)
                expected.add(name)
            for view in record["views"].values():
                if view["file"] in decoded:
                    seen.add(record["key"], record["split"], decoded[view["file"]])
            if len(rows) < PREVIEWS and all(part["file"] in decoded for part in record["views"].values()):
                rows.append((_row(folder, record, decoded), caption_of(record)))
        except (LookupError, TypeError, AttributeError) as error:
            report.faults.append(f"record {number - 1} of {MANIFEST} is damaged: {error!r}")
        if progress:
            progress(number, len(kept))
    if number != len(kept):
        report.faults.append(f"{MANIFEST} has {number} items, the dump has {len(kept)}")
    seen.compare()
    _check_apart(report, extents)
    _check_balance(report)
    return report, rows


def _check_index(record: Record, kept: list[int], place: int) -> None:
    if place >= len(kept):
        raise KeyError(f"index {record['index']} after the last item")
    if record["index"] != kept[place]:
        raise KeyError(f"index {record['index']} where {kept[place]} belongs")


Read = Callable[[Record, str], bytes]


def _reader(folder: DumpFolder) -> Read:
    """How a format's files are read: as files, or out of what they are packed in."""
    form = format_of(folder.spec.format)
    if not form.packed:
        return lambda record, name: (folder.path / name).read_bytes()
    packed = form.unpacked(folder)
    held: dict[str, bytes] = {}

    def read(record: Record, name: str) -> bytes:
        # Packed items come in the order of each split; what came early is kept until it is asked for.
        stream = packed[record["split"]]
        while name not in held:
            key, content = next(stream, ("", b""))
            if not key:
                raise FileNotFoundError(2, "is in no file of the dump", name)
            held[key] = content
        return held.pop(name)

    return read


def _check_file(report: Report, read: Read, record: Record, name: str, expected: str) -> dict[str, Bytes]:
    """Open a file; its pixels by name if it is a picture."""
    try:
        content = read(record, name)
    except (OSError, tarfile.TarError, ValueError) as error:
        report.faults.append(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}")
        return {}
    report.files += 1
    try:
        pixels = _decoded(name, content)
    except (OSError, ValueError, SyntaxError) as error:
        report.faults.append(f"{name} is damaged: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
        return {}
    if digest(content) != expected:
        report.faults.append(f"{name} is not the file that was written: its SHA-256 differs")
    return {} if pixels is None else {name: pixels}


def _decoded(name: str, content: bytes) -> Bytes | None:
    """Pixels of a picture; None of something else that is whole."""
    ending = Path(name).suffix.lower()
    if ending in (".json", ".geojson"):
        json.loads(content)
        return None
    if ending in (".tif", ".tiff"):
        from rasterio.errors import NotGeoreferencedWarning, RasterioError
        from rasterio.io import MemoryFile

        try:
            with warnings.catch_warnings(), MemoryFile(content) as memory, memory.open() as file:
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                bands = file.read()
        except RasterioError as error:
            raise ValueError(str(error)) from error
        return np.ascontiguousarray(np.moveaxis(bands, 0, -1) if len(bands) > 1 else bands[0])
    if ending == ".npy":
        np.load(io.BytesIO(content), allow_pickle=False)
        return None
    if ending in _PICTURES:
        with Image.open(io.BytesIO(content)) as picture:
            return np.asarray(picture)
    return None


class _Seen:
    """Pictures that were met, to find those that occur twice or look alike."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._whole: dict[str, tuple[str, str]] = {}
        self._prints: dict[str, list[tuple[int, str]]] = {}

    def add(self, key: str, split: str, pixels: Bytes) -> None:
        name = digest(pixels.tobytes() + str(pixels.shape).encode())
        if name in self._whole and self._whole[name][0] != key:
            other, other_split = self._whole[name]
            where = "" if other_split == split else f", in {other_split} and {split}: leakage"
            self._report.faults.append(f"{key} and {other} hold the same picture{where}")
        self._whole.setdefault(name, (key, split))
        mark = fingerprint(pixels)
        if mark is not None:
            self._prints.setdefault(split, []).append((mark, key))

    def compare(self) -> None:
        """Look for pictures of different splits that look alike."""
        splits = sorted(self._prints)
        for number, split in enumerate(splits):
            for other in splits[number + 1 :]:
                theirs = np.array([mark for mark, _ in self._prints[other]], dtype=np.uint64)
                alike = []
                for mark, key in self._prints[split]:
                    near = np.flatnonzero(np.bitwise_count(theirs ^ np.uint64(mark)) <= _ALIKE_BITS)
                    alike += [(key, self._prints[other][int(at)][1]) for at in near[:1]]
                if alike:
                    self._report.remarks.append(
                        f"{len(alike)} pictures of {split} look like one of {other}, {alike[0][0]} like {alike[0][1]}"
                    )


def fingerprint(pixels: Bytes) -> int | None:
    """64 bits that pictures which look alike share but for a few; None of a picture without structure.

    The signs of differences between neighbours of a 9 x 8 thumbnail ("dHash").
    """
    grey = Image.fromarray(pixels).convert("L")
    if float(np.asarray(grey, dtype=np.float64).std()) < _FLAT:
        return None
    small = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), dtype=np.int64)
    bits = (small[:, 1:] > small[:, :-1]).ravel()
    return int("".join("1" if bit else "0" for bit in bits), 2)


def _check_apart(report: Report, extents: list[tuple[str, list[float]]]) -> None:
    """Splits keep their distance on the ground."""
    import shapely

    boxes = {split: [shapely.box(*bounds) for name, bounds in extents if name == split] for split in SPLITS}
    for number, split in enumerate(SPLITS):
        for other in SPLITS[number + 1 :]:
            if not boxes[split] or not boxes[other]:
                continue
            tree = shapely.STRtree(boxes[other])
            _, distances = tree.query_nearest(boxes[split], return_distance=True)
            nearest = float(np.min(distances))
            if nearest < 2 * BUFFER - 1e-6:
                report.faults.append(f"tiles of {split} and {other} are {nearest:.3f} degrees apart: leakage")
            else:
                report.remarks.append(f"tiles of {split} and {other} are at least {nearest:.2f} degrees apart")


def _check_balance(report: Report) -> None:
    counts = report.counts
    assert counts is not None
    totals: Counter[str] = Counter()
    for (name, _), count in counts.labels.items():
        totals[name] += count
    if totals and max(totals.values()) > 2 * min(totals.values()):
        (most, many), (least, few) = totals.most_common()[0], totals.most_common()[-1]
        report.remarks.append(f"classes are not balanced: {most} has {many} items, {least} has {few}")
    for split in SPLITS:
        if not counts.items[split]:
            report.remarks.append(f"split {split} has no items")


def _row(folder: DumpFolder, record: Record, decoded: dict[str, Bytes]) -> bytes:
    known = legends(folder.spec)
    cells = [_colours(decoded[view["file"]]) for view in record["views"].values()]
    for role, mask in record["masks"].items():
        codes = decoded.get(mask["file"])
        if codes is not None:
            # Some formats have grey levels of their own, which are shown as they are.
            own = codes.ndim == 2 and set(np.unique(codes)) <= {part.code for part in known[role]}
            cells.append(drawn(codes, known[role]) if own else _colours(codes))
    return png(sheet_row(cells, len(record["views"])))


def _colours(pixels: Bytes) -> Bytes:
    return pixels[..., :3] if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=-1)


def _pictures(path: Path, progress: Progress | None) -> tuple[Report, list[tuple[bytes, str]]]:
    """A folder of pictures that nobody described."""
    report = Report(path)
    seen = _Seen(report)
    rows: list[tuple[bytes, str]] = []
    paths = sorted(file for file in path.rglob("*") if file.suffix.lower() in _PICTURES and file.is_file())
    if not paths:
        raise DumpError(f"{path} holds neither a dump nor pictures ({', '.join(_PICTURES)})")
    for number, file in enumerate(paths, 1):
        name = file.relative_to(path).as_posix()
        try:
            pixels = _decoded(name, file.read_bytes())
        except (OSError, ValueError, SyntaxError) as error:
            report.faults.append(f"{name} is damaged: {error}")
            continue
        report.files += 1
        assert pixels is not None
        split = _split_of(name)
        report.pictures[split] += 1
        # Masks are often equal, and mean no harm then.
        if pixels.ndim == 3:
            seen.add(name, split, pixels)
            if len(rows) < PREVIEWS:
                rows.append((png(sheet_row([_colours(pixels)], 1)), name))
        if progress:
            progress(number, len(paths))
    seen.compare()
    return report, rows


def _split_of(name: str) -> str:
    words = name.lower().replace("_", "/").replace("-", "/").split("/")
    return next((split for split in SPLITS if split in words), "no split")


def _total(table: Counter[tuple[str, str]], name: str) -> int:
    return sum(count for (mine, _), count in table.items() if mine == name)


def _nested(table: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {}
    for (first, second), count in sorted(table.items()):
        nested.setdefault(first, {})[second] = count
    return nested
