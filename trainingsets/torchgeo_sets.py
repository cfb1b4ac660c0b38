"""Dumps of earthgen as torchgeo datasets; needs torchgeo and nothing of earthgen.

from earthgen_dump import EarthgenChips, EarthgenRaster

train = EarthgenChips("DIR", split="train")           # formats hf, coco, levir-cd, levir-mci, second, nerf
ground = EarthgenRaster("DIR/image")                  # format geotiff, a folder of pictures
cover = EarthgenRaster("DIR/landcover", is_image=False)
both = ground & cover                                 # for torchgeo's samplers
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchgeo.datasets import NonGeoDataset, RasterDataset


class EarthgenChips(NonGeoDataset):
    """Items of a dump whose files are pictures, one after another.

    Args:
        root: the folder.
        split: "train", "val" or "test".
        transforms: applied to each sample.

    Samples have `image` (float32 (c, h, w), or (t, c, h, w) if an item has several pictures), `mask` (int64 (h, w), or
    (m, h, w) if there are several masks) where there is one, and what the manifest says: `label`, `captions`,
    `questions`, `things`, `key`.

    Raises:
        FileNotFoundError: the folder has no manifest.jsonl, so it is no finished dump.
    """

    def __init__(
        self,
        root: str | Path = "data",
        split: str = "train",
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        self.root, self.split, self.transforms = Path(root), split, transforms
        with (self.root / "manifest.jsonl").open(encoding="utf-8") as lines:
            records = map(json.loads, lines)
            self.records = [record for record in records if record["split"] == split]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self.records[index]
        images = [self._read(view["file"], "RGB").permute(2, 0, 1).float() for view in record["views"].values()]
        masks = [self._read(mask["file"], "L").long() for mask in record["masks"].values()]
        sample: dict[str, Any] = {name: record[name] for name in ("key", "label", "captions", "questions", "things")}
        same = all(image.shape == images[0].shape for image in images)
        if same:
            sample["image"] = images[0] if len(images) == 1 else torch.stack(images)
        else:
            # Super-resolution: the pictures differ in size, so each has its role's name.
            sample |= dict(zip(record["views"], images, strict=True))
        if masks:
            sample["mask"] = masks[0] if len(masks) == 1 else torch.stack(masks)
        return self.transforms(sample) if self.transforms else sample

    def _read(self, name: str, mode: str) -> torch.Tensor:
        with Image.open(self.root / name) as picture:
            return torch.from_numpy(np.array(picture.convert(mode)))


class EarthgenRaster(RasterDataset):
    """The GeoTIFF files of one role, in their place and on their day.

    Args:
        paths: the role's folder.
        is_image: whether they are pictures; otherwise masks.
        **options: of torchgeo's RasterDataset.
    """

    filename_glob = "*.tif"
    filename_regex = r"(?P<split>train|val|test)_(?P<index>\d{8})_(?P<date>\d{8})\.tif"
    date_format = "%Y%m%d"
    all_bands: tuple[str, ...] = ("R", "G", "B")
    rgb_bands: tuple[str, ...] = ("R", "G", "B")

    def __init__(self, paths: str | Path, is_image: bool = True, **options: Any) -> None:
        self.is_image = is_image
        if not is_image:
            self.all_bands = self.rgb_bands = ()
        super().__init__(paths, **options)
