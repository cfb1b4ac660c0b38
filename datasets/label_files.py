"""Files of the packs of labels: folders, tables, pictures and planes of codes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from datasets.packs import DatasetNotFoundError


def pack_folder(labels: Path, pack: str) -> Path:
    """Folder of a pack.

    Raises:
        DatasetNotFoundError: it is not there.
    """
    folder = labels / pack
    if not folder.is_dir():
        raise DatasetNotFoundError(f"pack {pack} is missing: {folder} is not a folder")
    return folder


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file by their heads.

    Raises:
        DatasetNotFoundError: it is not there.
    """
    if not path.is_file():
        raise DatasetNotFoundError(f"{path} is missing")
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_rgb(path: Path) -> npt.NDArray[np.uint8]:
    """Picture (h, w, 3)."""
    return np.asarray(Image.open(path).convert("RGB"))


def read_plane(path: Path) -> npt.NDArray[np.uint8]:
    """Codes or grey levels (h, w); a picture of one bit has 0 and 255."""
    picture = Image.open(path)
    return np.asarray(picture.convert("L") if picture.mode == "1" else picture).astype(np.uint8)
