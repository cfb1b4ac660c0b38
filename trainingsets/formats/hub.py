"""Hugging Face: a folder of pictures with metadata.jsonl, and Parquet files with the pictures inside."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainingsets.folder import DumpFolder, Record
from trainingsets.formats.base import Format, Records, by_split, chunks, sample_json
from trainingsets.spec import SPLITS, DumpSpec
from trainingsets.tasks import Item

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 1000
"""Items in a Parquet file."""


class HubFolder(Format):
    """SPLIT/ROLE/KEY.png and SPLIT/metadata.jsonl, whose `ROLE_file_name` columns load as pictures."""

    name = "hf"
    title = "Hugging Face image folder"

    def finish(self, folder: DumpFolder, records: Records) -> None:
        """SPLIT/metadata.jsonl."""
        for split, mine in by_split(records):
            lines = []
            for record in mine:
                files = {role: part["file"] for role, part in (record["views"] | record["masks"]).items()}
                named = {
                    "file_name" if role == "image" else f"{role}_file_name": name.removeprefix(f"{split}/")
                    for role, name in files.items()
                }
                about = sample_json(record)
                # The reader guesses types file by file, and lists that are empty in one of them would have none.
                about["things"] = json.dumps(about["things"])
                about = {name: value for name, value in about.items() if value != []}
                lines.append(json.dumps(named | about, ensure_ascii=False))
            folder.write(f"{split}/metadata.jsonl", ("\n".join(lines) + "\n").encode())

    def reading(self, spec: DumpSpec) -> str:
        """By datasets."""
        return 'from datasets import load_dataset\n\npairs = load_dataset("imagefolder", data_dir="DIR")'


class Parquet(Format):
    """data/SPLIT-NNNNN-of-NNNNN.parquet, pictures inside as Hugging Face's Image has them."""

    name = "parquet"
    title = "Parquet files with pictures inside"
    needs = ("pyarrow",)
    packed = True

    def view_file(self, item: Item, role: str, date: str) -> str:
        """KEY.ROLE.png: the path inside."""
        return f"{item.key}.{role}.png"

    def mask_file(self, item: Item, role: str, date: str) -> str | None:
        """KEY.ROLE.png: the path inside."""
        return f"{item.key}.{role}.png"

    def finish(self, folder: DumpFolder, records: Records) -> None:
        """The files of each split."""
        import pyarrow.parquet as pq

        counts: dict[str, int] = {}
        for record in records():
            counts[record["split"]] = counts.get(record["split"], 0) + 1
        schema = _schema([role for role, _ in self.fields(folder.spec)])
        for split, mine in by_split(records):
            files = -(-counts[split] // ROWS)
            for number, run in enumerate(chunks(mine, ROWS)):
                buffer = io.BytesIO()
                pq.write_table(_table(folder, run, schema), buffer, compression="zstd")
                folder.write(f"data/{split}-{number:05d}-of-{files:05d}.parquet", buffer.getvalue())

    def unpacked(self, folder: DumpFolder) -> dict[str, Iterator[tuple[str, bytes]]]:
        """Pictures out of the rows."""
        roles = [role for role, _ in self.fields(folder.spec)]
        return {split: _pictures(sorted(folder.path.glob(f"data/{split}-*.parquet")), roles) for split in SPLITS}

    def reading(self, spec: DumpSpec) -> str:
        """By datasets."""
        return 'from datasets import load_dataset\n\npairs = load_dataset("parquet", data_dir="DIR/data")'


def read_part(path: Path) -> dict[str, bytes]:
    """The files of an item's part."""
    with tarfile.open(fileobj=io.BytesIO(path.read_bytes() + bytes(1024))) as tar:
        return {entry.name: _content(tar, entry) for entry in tar}


def _pictures(paths: list[Path], roles: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    import pyarrow.parquet as pq

    for path in paths:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=16, columns=list(roles)):
            for row in batch.to_pylist():
                for role in roles:
                    yield row[role]["path"], row[role]["bytes"]


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(entry)
    assert file is not None
    return file.read()


def _schema(roles: Sequence[str]) -> pa.Schema:
    import pyarrow as pa

    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    question = pa.struct([(name, pa.string()) for name in ("kind", "question", "answer")])
    thing = pa.struct(
        [
            ("category", pa.string()),
            ("bbox", pa.list_(pa.int64())),
            ("area", pa.int64()),
            ("polygons", pa.list_(pa.list_(pa.float64()))),
            ("phrase", pa.string()),
            ("before", pa.string()),
        ]
    )
    columns = [(role, picture) for role in roles] + [
        ("key", pa.string()),
        ("split", pa.string()),
        ("scene", pa.int64()),
        ("metres", pa.float64()),
        ("bounds", pa.list_(pa.float64())),
        ("dates", pa.list_(pa.string())),
        ("worlds", pa.list_(pa.string())),
        ("label", pa.string()),
        ("captions", pa.list_(pa.string())),
        ("questions", pa.list_(question)),
        ("things", pa.list_(thing)),
        ("about", pa.string()),
    ]
    # Hugging Face's reader takes the columns of pictures for pictures because of this.
    features: dict[str, Any] = {name: _feature(kind) for name, kind in columns if name not in roles}
    features = {role: {"_type": "Image"} for role in roles} | features
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema(columns, metadata=about)


def _feature(kind: pa.DataType) -> Any:
    """A type as Hugging Face spells it."""
    import pyarrow as pa

    if pa.types.is_list(kind):
        return {"_type": "List", "feature": _feature(kind.value_type)}
    if pa.types.is_struct(kind):
        return {part.name: _feature(part.type) for part in kind}
    names = {pa.string(): "string", pa.int64(): "int64", pa.float64(): "float64"}
    return {"_type": "Value", "dtype": names[kind]}


def _table(folder: DumpFolder, records: Sequence[Record], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    rows = []
    for record in records:
        files = read_part(folder.path / folder.part_name(record["index"]))
        parts = record["views"] | record["masks"]
        pictures = {role: {"bytes": files[part["file"]], "path": part["file"]} for role, part in parts.items()}
        rows.append(pictures | sample_json(record))
    return pa.Table.from_pylist(rows, schema=schema)
