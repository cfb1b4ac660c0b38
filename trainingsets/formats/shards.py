"""WebDataset: tar files that are read from front to back."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainingsets.folder import HIDDEN, DumpFolder, Record
from trainingsets.formats.base import Format, Records, by_split, chunks, json_bytes, sample_json
from trainingsets.posed_views import labels_role, view_names
from trainingsets.sample import Sample
from trainingsets.spec import SPLITS, DumpSpec
from trainingsets.tasks import Item, task_of

if TYPE_CHECKING:
    from perception.multiview.posed import PosedSet

SAMPLES = 1000
"""Items in a tar file."""


class WebDataset(Format):
    """SPLIT-NNNNNN.tar with KEY.ROLE.png, KEY.json, and KEY.cls or KEY.txt where there is a class or a caption.

    Posed views also have KEY.transforms.json, as NeRF's readers have it, and KEY.depth.npy: uint16 (views, h, w), in
    its `depth_unit_scale_factor`.
    """

    name = "webdataset"
    title = "WebDataset shards"
    packed = True

    def view_file(self, item: Item, role: str, date: str) -> str:
        """KEY.ROLE.png."""
        return f"{item.key}.{role}.png"

    def mask_file(self, item: Item, role: str, date: str) -> str | None:
        """KEY.ROLE.png."""
        return f"{item.key}.{role}.png"

    def more_files(self, item: Item, record: Record, sample: Sample) -> dict[str, bytes]:
        """KEY.json, KEY.cls, KEY.txt, KEY.transforms.json, KEY.depth.npy."""
        files = {f"{item.key}.json": json_bytes(sample_json(record))}
        if record["label"]:
            files[f"{item.key}.cls"] = str(task_of(item.spec.task).classes.index(record["label"])).encode()
        if record["captions"]:
            files[f"{item.key}.txt"] = record["captions"][0].encode()
        if sample.posed is not None:
            files |= {f"{item.key}.{name}": content for name, content in _posed(sample.posed, item.spec).items()}
        return files

    def finish(self, folder: DumpFolder, records: Records) -> None:
        """The tar files: parts one behind the other, and a tar's end."""
        for split, mine in by_split(records):
            for number, run in enumerate(chunks(mine, SAMPLES)):
                new = folder.path / HIDDEN / "new"
                new.mkdir(parents=True, exist_ok=True)
                with tempfile.NamedTemporaryFile(dir=new, delete=False) as file:
                    for record in run:
                        file.write((folder.path / folder.part_name(record["index"])).read_bytes())
                    file.write(bytes(1024))
                    file.flush()
                    os.fsync(file.fileno())
                Path(file.name).chmod(0o644)
                os.replace(file.name, folder.path / f"{split}-{number:06d}.tar")

    def unpacked(self, folder: DumpFolder) -> dict[str, Iterator[tuple[str, bytes]]]:
        """Members of the tar files."""
        return {split: _members(sorted(folder.path.glob(f"{split}-*.tar"))) for split in SPLITS}

    def reading(self, spec: DumpSpec) -> str:
        """By webdataset."""
        return (
            "import webdataset\n\n"
            'samples = webdataset.WebDataset("DIR/train-000000.tar", shardshuffle=False).decode("rgb8")'
        )


def _posed(posed: PosedSet, spec: DumpSpec) -> dict[str, bytes]:
    """Poses, whose frames name the members of a sample, and depths."""
    from perception.multiview.posed import depth_codes, transforms

    value = transforms(posed)
    names = {frame["file_path"]: f"{view}.png" for frame, view in zip(value["frames"], view_names(spec), strict=True)}
    for frame, view in zip(value["frames"], view_names(spec), strict=True):
        frame |= {
            "file_path": f"{view}.png",
            "label_file_path": f"{labels_role(view)}.png",
            "depth_file_path": "depth.npy",
        }
    for key in ("train_filenames", "val_filenames", "test_filenames"):
        value[key] = [names[name] for name in value[key]]
    buffer = io.BytesIO()
    np.save(buffer, np.stack([depth_codes(view) for view in posed.views]), allow_pickle=False)
    return {"transforms.json": json_bytes(value), "depth.npy": buffer.getvalue()}


def _members(paths: list[Path]) -> Iterator[tuple[str, bytes]]:
    for path in paths:
        with tarfile.open(path) as tar:
            for entry in tar:
                file = tar.extractfile(entry)
                assert file is not None
                yield entry.name, file.read()
