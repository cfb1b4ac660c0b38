"""The imagery packs that training reads: one entry a pack, with its licence and its way of naming things.

The packs are not part of the repository. `imagery_folder` finds them through an argument or the
environment variable EARTHGEN_DATA; their layout is one folder a pack, split into train and val by file
name, with the ground sampling distance in the name where it is not the same for the whole pack.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

Split = Literal["train", "val"]
Image.MAX_IMAGE_PIXELS = None  # The packs are trusted, and one of them has 41 megapixels.


class DatasetNotFoundError(FileNotFoundError):
    """A pack is not where it was looked for."""


@dataclass(frozen=True, slots=True)
class Pack:
    """A folder of overhead pictures.

    Attributes:
        name: folder under `imagery/`.
        gsd: metres per pixel, or None where each file name ends in `_<gsd>m`.
        licence: terms and the credit that they ask for.
        gsd_overrides: metres per pixel by a part of the file name.
    """

    name: str
    gsd: float | None
    licence: str
    gsd_overrides: tuple[tuple[str, float], ...] = ()

    def gsd_of(self, file_name: str) -> float:
        """Metres per pixel of one file."""
        for part, gsd in self.gsd_overrides:
            if part in file_name:
                return gsd
        if self.gsd is not None:
            return self.gsd
        found = re.search(r"_(\d+(?:\.\d+)?)m\.jpg$", file_name)
        if found is None:
            raise ValueError(
                f"{self.name}/{file_name}: no ground sampling distance in the name (expected ..._<number>m.jpg)"
            )
        return float(found[1])


PACKS: tuple[Pack, ...] = (
    Pack(
        "mid_scenes_10m-500m",
        None,
        "NASA, USGS public domain; contains modified Copernicus Sentinel data; items in the data card",
    ),
    Pack(
        "mid_scenes2_20m-320m",
        None,
        "USGS public domain; contains modified Copernicus Sentinel data 2018-2024; GeoDanmark; NLS Finland CC BY 4.0",
        gsd_overrides=(("60-100m", 80.0),),
    ),
    Pack("s2_eurosat_10m", 10.0, "MIT; Helber et al. 2019; contains modified Copernicus Sentinel data"),
    Pack("s2_ecomapper_10m", 10.0, "contains modified Copernicus Sentinel data 2017-2022"),
    Pack("naip_nd_5m", 5.0, "public domain; USDA FPAC NAIP"),
    Pack("planet_california_3m", 3.0, "CC BY-SA 4.0; Image (c) Planet Labs"),
    Pack("swissimage_0.41m", 0.41, "free use; (c) swisstopo"),
    Pack("hires_misc_0.25-2m", None, "CC BY 4.0, CC BY-SA 4.0 and open government data; items in the data card"),
    Pack("naip_california_0.6m", 0.6, "NAIP public domain (USDA); set CC BY 4.0, Ventura et al. 2024"),
    Pack("oam_banepa_0.13m", 0.132, "CC BY 4.0; OpenAerialMap contributors"),
    Pack("hires_misc2_0.35-4m", None, "CC0, CC BY, public domain and open government data; items in the data card"),
)


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a pack: a name that is unique, metres per pixel, and uint8 pixels (h, w, 3)."""

    name: str
    gsd: float
    pixels: npt.NDArray[np.uint8]


def imagery_folder(data: str | Path | None = None) -> Path:
    """The folder that holds the packs: `data`/imagery, else $EARTHGEN_DATA/imagery.

    Raises:
        DatasetNotFoundError: neither is given, or the folder is not there.
    """
    base = data if data is not None else os.environ.get("EARTHGEN_DATA")
    if base is None:
        raise DatasetNotFoundError(
            "no data folder: pass --data DIR or set EARTHGEN_DATA to the folder that holds imagery/"
        )
    folder = Path(base) / "imagery"
    if not folder.is_dir():
        raise DatasetNotFoundError(
            f"{folder} is not a folder: --data or EARTHGEN_DATA must name the folder that holds imagery/"
        )
    return folder


def read_pack(folder: Path, pack: Pack, split: Split) -> Iterator[Picture]:
    """Every picture of one split of a pack, in the order of the names.

    Args:
        folder: what `imagery_folder` returns.
        pack: an entry of PACKS.
        split: "train" or "val".

    Raises:
        DatasetNotFoundError: the pack's folder is missing.
    """
    root = folder / pack.name
    if not root.is_dir():
        raise DatasetNotFoundError(f"pack {pack.name} is missing: {root} is not a folder")
    for path in sorted(root.glob(f"{split}*.jpg")):
        yield Picture(f"{pack.name}/{path.name}", pack.gsd_of(path.name), _decode(path.read_bytes()))
    for path in sorted(root.glob(f"{split}*.tar")):
        with tarfile.open(path) as archive:
            for member in sorted(archive.getmembers(), key=lambda item: item.name):
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None and member.name.lower().endswith((".jpg", ".jpeg", ".png")):
                    yield Picture(f"{pack.name}/{member.name}", pack.gsd_of(member.name), _decode(file.read()))


def _decode(data: bytes) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
