"""Formats of dumps: folders that the field's loaders open without glue."""

from __future__ import annotations

from trainingsets.errors import DumpSpecError
from trainingsets.formats.base import Format
from trainingsets.formats.coco import Coco
from trainingsets.formats.geotiff import GeoTiff
from trainingsets.formats.hub import HubFolder, Parquet
from trainingsets.formats.nerf import Nerf
from trainingsets.formats.pairs import LevirCd, LevirMci, Second
from trainingsets.formats.shards import WebDataset

FORMATS: dict[str, Format] = {
    form.name: form
    for form in (GeoTiff(), Coco(), WebDataset(), HubFolder(), Parquet(), LevirCd(), LevirMci(), Second(), Nerf())
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
