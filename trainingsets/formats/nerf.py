"""Posed views as NeRF's readers want them: a folder for each scene."""

from __future__ import annotations

from trainingsets.folder import Record
from trainingsets.formats.base import Format
from trainingsets.sample import Legend, Sample
from trainingsets.spec import DumpSpec
from trainingsets.tasks import Item


class Nerf(Format):
    """SPLIT/KEY/transforms.json with images/, depth/ and labels/ beside it: poses by NeRF's convention.

    Depth is in centimetres, 16 bits; labels are codes of land cover, 0 for nothing; alpha is how much of a pixel shows
    the scene.
    """

    name = "nerf"
    title = "NeRF folders"
    tasks = ("multi-view",)

    def view_file(self, item: Item, role: str, date: str) -> str:
        """SPLIT/KEY/images/NNN.png."""
        return f"{_folder(item)}/images/{role.removeprefix('v')}.png"

    def mask_file(self, item: Item, role: str, date: str) -> str | None:
        """SPLIT/KEY/labels/NNN.png."""
        return f"{_folder(item)}/labels/{role.removeprefix('labels_v')}.png"

    def files(self, item: Item, record: Record, sample: Sample, known: dict[str, Legend]) -> dict[str, bytes]:
        """The folder of a scene, by the one who writes `earthgen views`."""
        from perception.multiview.posed import files_of

        assert sample.posed is not None
        return {f"{_folder(item)}/{name}": content for name, content in files_of(sample.posed).items()}

    def reading(self, spec: DumpSpec) -> str:
        """By anything that reads transforms.json."""
        return (
            'import json\n\nscene = json.load(open("DIR/train/KEY/transforms.json"))\n'
            'poses = {frame["file_path"]: frame["transform_matrix"] for frame in scene["frames"]}'
        )


def _folder(item: Item) -> str:
    return f"{item.scene.split}/{item.key}"
