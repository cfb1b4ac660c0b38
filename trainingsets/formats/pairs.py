"""The folders of LEVIR-CD, LEVIR-MCI and SECOND, which published training code reads."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainingsets.folder import DumpFolder
from trainingsets.formats.base import Format, Records, by_split, json_bytes
from trainingsets.sample import Bytes, Legend, Sample
from trainingsets.sheet import drawn, png
from trainingsets.spec import DumpSpec
from trainingsets.tasks import Item

_SIDES = {"before": "A", "after": "B"}
_FOLDERS = {"before": "im1", "after": "im2", "cover_before": "label1", "cover_after": "label2"}


class LevirCd(Format):
    """A/, B/ and label/ (0 or 255), names begin with the split; list/ names the files of each split.

    torchgeo's LEVIRCD takes the folder as it is; ChangeFormer and its kin read list/.
    """

    name = "levir-cd"
    title = "LEVIR-CD folders"
    tasks = ("change-detection", "semantic-change")

    def view_file(self, item: Item, role: str, date: str) -> str:
        """A/KEY.png or B/KEY.png."""
        return f"{_SIDES[role]}/{item.key}.png"

    def mask_file(self, item: Item, role: str, date: str) -> str | None:
        """label/KEY.png; classes have no place."""
        return f"label/{item.key}.png" if role == "change" else None

    def encode_mask(self, role: str, codes: Bytes, legend: Legend, sample: Sample) -> bytes:
        """0 no change, 255 change."""
        return png(codes * np.uint8(255))

    def finish(self, folder: DumpFolder, records: Records) -> None:
        """list/SPLIT.txt."""
        for split, mine in by_split(records):
            names = "".join(f"{record['key']}.png\n" for record in mine)
            folder.write(f"list/{split}.txt", names.encode())

    def reading(self, spec: DumpSpec) -> str:
        """By torchgeo."""
        return 'from torchgeo.datasets import LEVIRCD\n\npairs = LEVIRCD("DIR", split="train")'


class LevirMci(Format):
    """images/SPLIT/A, B and label, and LevirCCcaptions.json with five sentences a pair.

    Labels are grey as LEVIR-MCI's: 255 where buildings are new, 128 where anything else is (its "road"), 0 elsewhere.
    """

    name = "levir-mci"
    title = "LEVIR-MCI folders with captions"
    tasks = ("change-caption",)

    def view_file(self, item: Item, role: str, date: str) -> str:
        """images/SPLIT/A/KEY.png or B."""
        return f"images/{item.scene.split}/{_SIDES[role]}/{item.key}.png"

    def mask_file(self, item: Item, role: str, date: str) -> str | None:
        """images/SPLIT/label/KEY.png."""
        return f"images/{item.scene.split}/label/{item.key}.png"

    def encode_mask(self, role: str, codes: Bytes, legend: Legend, sample: Sample) -> bytes:
        """0, 128 or 255."""
        grey = codes * np.uint8(128)
        for thing in sample.things:
            if thing.category == "building":
                grey[thing.mask] = 255
        return png(grey)

    def finish(self, folder: DumpFolder, records: Records) -> None:
        """LevirCCcaptions.json."""
        images: list[dict[str, Any]] = []
        for number, record in enumerate(records()):
            sentences = [
                {
                    "tokens": sentence.split(),
                    "raw": f" {sentence}",
                    "imgid": number,
                    "sentid": number * len(record["captions"]) + at,
                }
                for at, sentence in enumerate(record["captions"])
            ]
            images.append(
                {
                    "filepath": record["split"],
                    "filename": f"{record['key']}.png",
                    "imgid": number,
                    "sentids": [sentence["sentid"] for sentence in sentences],
                    "split": record["split"],
                    "changeflag": int(bool(record["things"])),
                    "sentences": sentences,
                }
            )
        folder.write("LevirCCcaptions.json", json_bytes({"images": images, "dataset": "earthgen"}))

    def reading(self, spec: DumpSpec) -> str:
        """As the published code does."""
        return 'import json\n\npairs = json.load(open("DIR/LevirCCcaptions.json"))["images"]'


class Second(Format):
    """SPLIT/im1, im2, label1, label2: classes before and after where something changed, white elsewhere.

    Colours are SECOND's; its playground does not occur.
    """

    name = "second"
    title = "SECOND folders"
    tasks = ("semantic-change",)

    def view_file(self, item: Item, role: str, date: str) -> str:
        """SPLIT/im1/KEY.png or im2."""
        return f"{item.scene.split}/{_FOLDERS[role]}/{item.key}.png"

    def mask_file(self, item: Item, role: str, date: str) -> str | None:
        """SPLIT/label1/KEY.png or label2."""
        return f"{item.scene.split}/{_FOLDERS[role]}/{item.key}.png" if role in _FOLDERS else None

    def encode_mask(self, role: str, codes: Bytes, legend: Legend, sample: Sample) -> bytes:
        """In colours."""
        return png(drawn(codes, legend))

    def finish(self, folder: DumpFolder, records: Records) -> None:
        """list/SPLIT.txt."""
        for split, mine in by_split(records):
            folder.write(f"list/{split}.txt", "".join(f"{record['key']}.png\n" for record in mine).encode())

    def reading(self, spec: DumpSpec) -> str:
        """As the published code does."""
        return 'from PIL import Image\n\nlabel = Image.open("DIR/train/label1/KEY.png")'
