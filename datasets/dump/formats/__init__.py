"""Formats of dumps: folders that the field's loaders open without glue."""

from __future__ import annotations

from datasets.dump.errors import DumpSpecError
from datasets.dump.formats.base import Format
from datasets.dump.formats.coco import Coco
from datasets.dump.formats.geotiff import GeoTiff
from datasets.dump.formats.hub import HubFolder, Parquet
from datasets.dump.formats.pairs import LevirCd, LevirMci, Second
from datasets.dump.formats.shards import WebDataset

FORMATS: dict[str, Format] = {
    form.name: form
    for form in (GeoTiff(), Coco(), WebDataset(), HubFolder(), Parquet(), LevirCd(), LevirMci(), Second())
}
"""Every format by name."""


def format_of(name: str) -> Format:
    """A format by name.

    Raises:
        DumpSpecError: there is none of that name.
    """
    if name not in FORMATS:
        raise DumpSpecError(f"format is {name!r}; allowed: {', '.join(FORMATS)}")
    return FORMATS[name]


__all__ = ["FORMATS", "Format", "format_of"]
