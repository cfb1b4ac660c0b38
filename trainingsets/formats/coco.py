"""COCO: annotations as polygons and as run lengths, and captions."""

from __future__ import annotations

from typing import Any

from trainingsets.folder import DumpFolder, Record
from trainingsets.formats.base import Format, Records, by_split, json_bytes
from trainingsets.spec import DumpSpec
from trainingsets.tasks import Item, task_of, view_roles

LICENCE = {"id": 1, "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}


class Coco(Format):
    """images/SPLIT, masks/SPLIT and annotations/: instances as polygons, the same as run lengths, captions.

    An image is the last picture of an item; of a pair its entry names the earlier one as `before_file_name`.
    Annotations carry the `phrase` that refers to them and, of changes, the class `before`.
    """

    name = "coco"
    title = "COCO annotations"
    tasks = ("segmentation", "change-detection", "semantic-change", "change-caption", "referring")

    def view_file(self, item: Item, role: str, date: str) -> str:
        """images/SPLIT/KEY.png, or with the role behind it where there are several."""
        one = len(view_roles(item.spec)) == 1
        return f"images/{item.scene.split}/{item.key}{'' if one else f'_{role}'}.png"

    def mask_file(self, item: Item, role: str, date: str) -> str | None:
        """masks/SPLIT/ROLE/KEY.png."""
        return f"masks/{item.scene.split}/{role}/{item.key}.png"

    def finish(self, folder: DumpFolder, records: Records) -> None:
        """The annotations of each split."""
        names = task_of(folder.spec.task).categories
        categories = [{"id": 1 + at, "name": name, "supercategory": "ground"} for at, name in enumerate(names)]
        for split, mine in by_split(records):
            kept = list(mine)
            head = {
                "info": {"description": f"earthgen {folder.spec.task}, {split}", "version": "1", "year": 2026},
                "licenses": [LICENCE],
                "images": [_image(record, folder.spec.size) for record in kept],
            }
            for ending, as_runs in (("", False), ("_rle", True)):
                annotations = _annotations(kept, names, as_runs)
                whole = head | {"annotations": annotations, "categories": categories}
                folder.write(f"annotations/instances_{split}{ending}.json", json_bytes(whole))
            if any(record["captions"] for record in kept):
                folder.write(f"annotations/captions_{split}.json", json_bytes(head | {"annotations": _captions(kept)}))

    def reading(self, spec: DumpSpec) -> str:
        """By pycocotools."""
        return 'from pycocotools.coco import COCO\n\ncoco = COCO("DIR/annotations/instances_train.json")'


def _image(record: Record, size: int) -> dict[str, Any]:
    files = [view["file"].removeprefix(f"images/{record['split']}/") for view in record["views"].values()]
    image = {
        "id": 1 + record["index"],
        "file_name": files[-1],
        "height": size,
        "width": size,
        "license": 1,
        "date_captured": list(record["views"].values())[-1]["date"],
    }
    return image | ({"before_file_name": files[0]} if len(files) == 2 else {})


def _annotations(records: list[Record], names: tuple[str, ...], as_runs: bool) -> list[dict[str, Any]]:
    annotations: list[dict[str, Any]] = []
    for record in records:
        for thing in record["things"]:
            annotations.append(
                {
                    "id": 1 + len(annotations),
                    "image_id": 1 + record["index"],
                    "category_id": 1 + names.index(thing["category"]),
                    "bbox": thing["bbox"],
                    "area": thing["area"],
                    "iscrowd": int(as_runs),
                    "segmentation": thing["rle"] if as_runs else thing["polygons"],
                    "phrase": thing["phrase"],
                    "before": thing["before"],
                }
            )
    return annotations


def _captions(records: list[Record]) -> list[dict[str, Any]]:
    said = [(record["index"], sentence) for record in records for sentence in record["captions"]]
    return [{"id": 1 + at, "image_id": 1 + index, "caption": words} for at, (index, words) in enumerate(said)]
