"""What a format is: names and encodings of an item's files, and the files that all items together make."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from trainingsets.errors import DumpSpecError
from trainingsets.folder import DumpFolder, Record
from trainingsets.sample import Bytes, Legend, Sample, View
from trainingsets.sheet import png
from trainingsets.spec import SPLITS, DumpSpec
from trainingsets.tasks import Item, legends, task_of, view_roles

Records = Callable[[], Iterable[Record]]
"""All records of a dump by index, as often as they are asked for."""


class Format:
    """A folder layout. This one has PNG files by split and role; others change what they have to.

    Attributes:
        name: in commands.
        title: for people.
        tasks: whose dumps it can hold; None for all.
        needs: packages that it writes with, of the extra `dump`.
        packed: whether items wait in parts until many are packed in one file.
    """

    name = ""
    title = ""
    tasks: tuple[str, ...] | None = None
    needs: tuple[str, ...] = ()
    packed = False

    def check(self, spec: DumpSpec) -> None:
        """Raise DumpSpecError unless such a dump can be written here."""
        if self.tasks is not None and spec.task not in self.tasks:
            raise DumpSpecError(f"format {self.name} holds no {spec.task}; it holds: {', '.join(self.tasks)}")
        formats = task_of(spec.task).formats
        if formats is not None and self.name not in formats:
            raise DumpSpecError(f"format {self.name} holds no {spec.task}, which these hold: {', '.join(formats)}")
        absent = [name for name in self.needs if find_spec(name) is None]
        if absent:
            raise DumpSpecError(
                f'format {self.name} needs {", ".join(absent)}; install them: pip install "earthgen[dump]"'
            )

    # --- One item ---

    def view_file(self, item: Item, role: str, date: str) -> str:
        """Where a picture goes."""
        return f"{item.scene.split}/{role}/{item.key}.png"

    def mask_file(self, item: Item, role: str, date: str) -> str | None:
        """Where a mask goes; None if this format has no place for it."""
        return f"{item.scene.split}/{role}/{item.key}.png"

    def encode_view(self, view: View, record: Record) -> bytes:
        """A picture's file."""
        return png(view.pixels)

    def encode_mask(self, role: str, codes: Bytes, legend: Legend, sample: Sample) -> bytes:
        """A mask's file: its codes as grey values."""
        return png(codes)

    def more_files(self, item: Item, record: Record, sample: Sample) -> dict[str, bytes]:
        """Other files of the item."""
        return {}

    def files(self, item: Item, record: Record, sample: Sample, known: dict[str, Legend]) -> dict[str, bytes]:
        """All files of the item by name.

        Args:
            item: which.
            record: what is known of it; names the files of its pictures and masks.
            sample: what it holds.
            known: legends of its masks by role.
        """
        found = {record["views"][role]["file"]: self.encode_view(view, record) for role, view in sample.views.items()}
        for role, codes in sample.masks.items():
            if role in record["masks"]:
                found[record["masks"][role]["file"]] = self.encode_mask(role, codes, known[role], sample)
        return found | self.more_files(item, record, sample)

    def pack(self, files: dict[str, bytes]) -> bytes:
        """An item's files as one part: members of a tar file without its end, so that parts joined are a tar file."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for name, content in sorted(files.items()):
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o644
                tar.addfile(entry, io.BytesIO(content))
            end = tar.offset
        return buffer.getvalue()[:end]

    # --- All items ---

    def finish(self, folder: DumpFolder, records: Records) -> None:
        """Write what all items together make."""

    def unpacked(self, folder: DumpFolder) -> dict[str, Iterator[tuple[str, bytes]]]:
        """The files of packed items again, by split in the order of the items: names and contents.

        Formats that pack nothing have none. Streams raise OSError, TarError or ValueError where a file is damaged.
        """
        return {}

    def reading(self, spec: DumpSpec) -> str:
        """Lines of Python that open a dump in DIR."""
        return ""

    def fields(self, spec: DumpSpec) -> list[tuple[str, str]]:
        """Roles of pictures and masks, each with "view" or "mask"."""
        return [(role, "view") for role in view_roles(spec)] + [(role, "mask") for role in legends(spec)]


def by_split(records: Records) -> Iterator[tuple[str, Iterator[Record]]]:
    """The splits that have items, each with its records."""
    present = {record["split"] for record in records()}
    for split in SPLITS:
        if split in present:
            yield split, (record for record in records() if record["split"] == split)


def json_bytes(value: Any) -> bytes:
    """JSON, readable and the same for the same value."""
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def chunks(records: Iterable[Record], size: int) -> Iterator[Sequence[Record]]:
    """Records in runs of at most `size`."""
    run: list[Record] = []
    for record in records:
        run.append(record)
        if len(run) == size:
            yield run
            run = []
    if run:
        yield run


def sample_json(record: Record) -> dict[str, Any]:
    """What loaders are told of an item besides its files: flat, with the same keys in every item of a dump."""
    last = list(record["views"].values())[-1]
    return {
        "key": record["key"],
        "split": record["split"],
        "scene": record["scene"],
        "metres": record["metres"],
        "bounds": last["bounds"],
        "dates": [view["date"] for view in record["views"].values()],
        "worlds": [json.dumps(record["worlds"][view["world"]], sort_keys=True) for view in record["views"].values()],
        "label": record["label"] or "",
        "captions": record["captions"],
        "questions": record["questions"],
        "things": [{name: value for name, value in thing.items() if name != "rle"} for thing in record["things"]],
        "about": json.dumps(record["about"], sort_keys=True),
    }
