"""Every format of dumps, opened by the readers that people use; none of them knows of earthgen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

from earthgen.pyramid import box_mercator_bounds
from tests.fake_dump import PaintingMaker, PaintingOpener
from trainingsets.folder import DumpFolder
from trainingsets.grounds import COVER, SCENES
from trainingsets.running import run
from trainingsets.sample import mask_of
from trainingsets.spec import DumpSpec
from trainingsets.tasks import TASKS, item_of

COUNT = 6
SCHEMAS = Path(__file__).parent / "stac_schemas"
READERS = Path(sys.prefix) / "readers"
"""Hugging Face's `datasets`, whose name this checkout's own package has too: `make test` puts it here."""


@pytest.fixture(scope="module")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Dumps by task and format, made when they are first asked for."""
    base = tmp_path_factory.mktemp("dumps")

    def dump(task: str, form: str) -> Path:
        path = base / f"{task}-{form}"
        if not path.exists():
            spec = spec_of(task, form)
            folder = DumpFolder.create(path, spec, {"weights": "paint", "fingerprint": "paint-1"}, resume=False)
            assert run(folder, PaintingOpener()).complete
        return path

    return dump


@pytest.fixture(scope="module", autouse=True)
def no_waiting_for_disks() -> Any:
    patch = pytest.MonkeyPatch()
    patch.setattr(os, "fsync", lambda descriptor: None)
    yield
    patch.undo()


def spec_of(task: str, form: str) -> DumpSpec:
    gsds = TASKS[task].gsds
    return DumpSpec(
        task=task, format=form, count=COUNT, size=96, tiles_per_scene=1, gsds=gsds, date_effects=False, steps=3
    )


def sample_of(task: str, form: str, index: int) -> Any:
    return TASKS[task].make(PaintingMaker(), item_of(spec_of(task, form), index))


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]


# --- GeoTIFF and STAC ---


def test_rasterio_reads_pictures_and_masks_in_their_place(dumps: Any) -> None:
    path = dumps("segmentation", "geotiff")
    for record in records(path):
        item = item_of(spec_of("segmentation", "geotiff"), record["index"])
        sample = sample_of("segmentation", "geotiff", record["index"])
        with rasterio.open(path / record["views"]["image"]["file"]) as file:
            assert file.crs.to_epsg() == 3857
            assert tuple(file.bounds) == pytest.approx(box_mercator_bounds(item.box))
            assert np.array_equal(np.moveaxis(file.read(), 0, -1), sample.views["image"].pixels)
            assert file.tags()["SYNTHETIC"] == "yes"
        with rasterio.open(path / record["masks"]["landcover"]["file"]) as file:
            assert np.array_equal(file.read(1), sample.masks["landcover"])
            # What was drawn is known, whatever the band reads there.
            drawn = item.scene.root != "prompt"
            assert ((sample.masks["landcover"][:, :3] == 5).all() and record["by_construction"] > 0) or not drawn
            assert file.colormap(1)[1] == (40, 104, 178, 255)


@pytest.mark.filterwarnings("ignore:The PySTAC Label Extension is deprecated:DeprecationWarning")
def test_pystac_reads_and_validates(dumps: Any) -> None:
    import pystac
    from pystac.extensions.label import LabelExtension

    path = dumps("semantic-change", "geotiff")
    collection = pystac.Collection.from_file(str(path / "collection.json"))
    items = list(collection.get_items())
    validator = offline_validator()
    assert len(items) == COUNT and len(collection.validate(validator)) == 2
    for item in items:
        for asset in item.assets.values():
            assert Path(str(asset.get_absolute_href())).is_file()
        label = LabelExtension.ext(item)
        assert label.label_tasks == ["segmentation"]
        assert {name for each in label.label_classes or () for name in each.classes} >= set(COVER)
        checked = item.validate(validator)
        assert {name.split("/")[3] for name in checked[1:]} == {"label", "projection", "ml-aoi"}
    with_things = [item for item in items if "labels" in item.assets]
    assert with_things
    features = json.loads(Path(str(with_things[0].assets["labels"].get_absolute_href())).read_text())
    assert with_things[0].bbox is not None
    west, south, east, north = with_things[0].bbox
    for feature in features["features"]:
        for (ring,) in feature["geometry"]["coordinates"]:
            assert all(west - 1e-9 <= x <= east + 1e-9 and south - 1e-9 <= y <= north + 1e-9 for x, y in ring)


def offline_validator() -> Any:
    """pystac's validator with the schemas of extensions that it would fetch."""
    from pystac.validation.stac_validator import JsonSchemaSTACValidator

    validator = JsonSchemaSTACValidator()
    for path in SCHEMAS.glob("*.json"):
        schema = json.loads(path.read_text(encoding="utf-8"))
        validator.schema_cache[schema["$id"].removesuffix("#")] = schema
    return validator


@pytest.mark.parametrize("task", ["classification", "super-resolution", "time-series"])
def test_stac_items_of_other_tasks_are_valid(dumps: Any, task: str) -> None:
    import pystac

    collection = pystac.Collection.from_file(str(dumps(task, "geotiff") / "collection.json"))
    validator = offline_validator()
    assert len(collection.validate(validator)) == 2
    for item in collection.get_items():
        assert len(item.validate(validator)) == 1 + len(item.stac_extensions)


def test_stac_says_which_weights_made_it(dumps: Any) -> None:
    import pystac
    from pystac.extensions.mlm import MLMExtension

    path = dumps("segmentation", "geotiff")
    collection = pystac.Collection.from_file(str(path / "collection.json"))
    (link,) = collection.get_links("derived_from")
    model = pystac.Item.from_file(str(link.get_absolute_href()))
    told, by = MLMExtension.ext(model), MLMExtension.ext(collection)
    assert told.mlm_name == by.mlm_name == link.extra_fields["mlm:name"] == "earthgen-paint"
    assert told.tasks == by.tasks and [output.result.shape for output in told.output] == [[-1, 45, -1, -1]]
    assert model.assets["weights"].href.endswith(":paint") and "mlm:model" in (model.assets["weights"].roles or ())
    validator = offline_validator()
    assert len(model.validate(validator)) == len(collection.validate(validator)) == 2
    # What the schema asks for is looked at.
    broken = model.clone()
    del broken.properties["mlm:input"]
    with pytest.raises(pystac.STACValidationError, match="mlm:input"):
        broken.validate(validator)
    with pytest.raises(pystac.STACValidationError):
        without = model.clone()
        del without.assets["weights"].extra_fields["mlm:artifact_type"]
        without.validate(validator)


@pytest.fixture(scope="module")
def by_torchgeo(dumps: Any) -> dict[str, Any]:
    """What torchgeo reads, in one process of its own: it takes long to import, and warns, which is an error here."""
    rasters, pairs = dumps("segmentation", "geotiff"), dumps("change-detection", "levir-cd")
    caption, zooms = dumps("change-caption", "levir-mci"), dumps("super-resolution", "hf")
    script = f"""
import json, sys
sys.path.insert(0, {str(rasters)!r})
from earthgen_dump import EarthgenChips, EarthgenRaster
from torch.utils.data import DataLoader
from torchgeo.datasets import LEVIRCD, stack_samples
from torchgeo.samplers import GridGeoSampler, RandomGeoSampler

found = {{}}
both = EarthgenRaster({str(rasters / "image")!r}) & EarthgenRaster({str(rasters / "landcover")!r}, is_image=False)
sampler = RandomGeoSampler(both, size=32, length=4)
batches = list(DataLoader(both, batch_size=2, sampler=sampler, collate_fn=stack_samples))
found["rasters"] = [[list(batch["image"].shape), list(batch["mask"].shape)] for batch in batches]
found["codes"] = sorted({{int(code) for batch in batches for code in batch["mask"].unique()}})
found["grid"] = [len(GridGeoSampler(both, size=48, stride=48)), len(both)]

found["pairs"] = []
for split in ("train", "val", "test"):
    pairs = LEVIRCD({str(pairs)!r}, split=split)
    for number in range(len(pairs)):
        sample = pairs[number]
        codes = sample["mask"].unique().tolist()
        found["pairs"].append([split, list(sample["image"].shape), codes, int(sample["mask"].sum())])

chips = EarthgenChips({str(caption)!r}, split="train")
found["chips"] = [len(chips), list(chips[0]["image"].shape), list(chips[0]["mask"].shape), len(chips[0]["captions"])]
zooms = EarthgenChips({str(zooms)!r}, split="val", transforms=lambda sample: sample | {{"seen": True}})
found["zooms"] = [list(zooms[0]["low"].shape), list(zooms[0]["high"].shape), zooms[0]["seen"]]
print(json.dumps(found))
"""
    return dict(json.loads(in_fresh_interpreter(script).splitlines()[-1]))


def test_torchgeo_samples_rasters_of_a_dump(by_torchgeo: dict[str, Any]) -> None:
    assert len(by_torchgeo["rasters"]) == 2
    for image, mask in by_torchgeo["rasters"]:
        assert image == [2, 3, 32, 32] and mask[-2:] == [32, 32]
    assert set(by_torchgeo["codes"]) <= set(range(1, 8))
    tiles, files = by_torchgeo["grid"]
    assert files == COUNT and tiles >= 4 * COUNT


def in_fresh_interpreter(script: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd="/",
        timeout=300,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": ""} | environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


# --- COCO ---


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@pytest.mark.parametrize("task", ["segmentation", "referring", "change-detection"])
def test_pycocotools_reads_polygons_and_run_lengths(dumps: Any, task: str) -> None:
    from pycocotools.coco import COCO

    path = dumps(task, "coco")
    by_id = {1 + record["index"]: record for record in records(path)}
    seen = 0
    for split in ("train", "val", "test"):
        polygons = COCO(str(path / f"annotations/instances_{split}.json"))
        runs = COCO(str(path / f"annotations/instances_{split}_rle.json"))
        assert polygons.anns.keys() == runs.anns.keys()
        for number, annotation in polygons.anns.items():
            record = by_id[annotation["image_id"]]
            assert record["split"] == split
            drawn, exact = polygons.annToMask(annotation), runs.annToMask(runs.anns[number])
            assert exact.sum() == annotation["area"]
            thing = next(each for each in record["things"] if each["bbox"] == annotation["bbox"])
            assert np.array_equal(exact.astype(bool), mask_of(thing["rle"]))
            # pycocotools draws polygons on a grid of its own, which is off by less than a pixel at borders.
            assert (drawn != exact).sum() <= 4 * len(np.concatenate(annotation["segmentation"]))
            assert polygons.cats[annotation["category_id"]]["name"] == thing["category"]
            seen += 1
        for image in polygons.imgs.values():
            assert (path / "images" / split / image["file_name"]).is_file()
    assert seen >= 4


def test_pycocotools_reads_captions(dumps: Any) -> None:
    from pycocotools.coco import COCO

    path = dumps("change-caption", "coco")
    coco = COCO(str(path / "annotations/captions_train.json"))
    assert len(coco.anns) == 5 * len(coco.imgs) > 0
    assert all(image["before_file_name"].endswith("_before.png") for image in coco.imgs.values())


# --- WebDataset ---


def test_webdataset_reads_shards(dumps: Any) -> None:
    import webdataset

    path = dumps("classification", "webdataset")
    total = 0
    for shard in sorted(path.glob("*.tar")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            samples = list(webdataset.WebDataset(str(shard), shardshuffle=False).decode("rgb8"))
        for sample in samples:
            index = int(sample["__key__"].rpartition("_")[2])
            ours = sample_of("classification", "webdataset", index)
            assert np.array_equal(sample["image.png"], ours.views["image"].pixels)
            assert tuple(SCENES)[sample["cls"]] == ours.label == sample["json"]["label"]
            assert sample["json"]["split"] == shard.name.partition("-")[0]
        total += len(samples)
    assert total == COUNT


def test_many_items_are_many_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainingsets.formats import shards

    monkeypatch.setattr(shards, "SAMPLES", 2)
    spec = spec_of("classification", "webdataset")
    folder = DumpFolder.create(tmp_path / "dump", spec, {"weights": "a", "fingerprint": "b"}, resume=False)
    assert run(folder, PaintingOpener()).complete
    splits = [record["split"] for record in records(tmp_path / "dump")]
    expected = {f"{split}-{number:06d}.tar" for split in set(splits) for number in range(-(-splits.count(split) // 2))}
    assert {file.name for file in (tmp_path / "dump").glob("*.tar")} == expected


# --- Hugging Face ---


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "form"),
    [("change-caption", "hf"), ("classification", "hf"), ("vqa", "parquet"), ("time-series", "parquet")],
)
def test_hugging_face_loads_a_dump(dumps: Any, tmp_path: Path, task: str, form: str) -> None:
    if not (READERS / "datasets").is_dir():
        missing = "Hugging Face's datasets is not in the environment's readers/; `make test` puts it there"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    path = dumps(task, form)
    script = f"""
import json, sys
sys.path.insert(0, {str(READERS)!r})
from datasets import load_dataset
found = load_dataset({str(path)!r})
rows = [row for split in found.values() for row in split]
print(json.dumps({{
    "splits": {{name: len(split) for name, split in found.items()}},
    "rows": [[row["key"], row["label"], row.get("captions", []), len(row.get("questions", []))] for row in rows],
    "sizes": sorted({{f"{{key}} {{part.size}}" for row in rows for key, part in row.items() if hasattr(part, "size")}}),
}}))
"""
    read = json.loads(in_fresh_interpreter(script, HF_HOME=str(tmp_path)).splitlines()[-1])
    mine = records(path)
    assert sum(read["splits"].values()) == COUNT == len(mine)
    known = {record["key"]: record for record in mine}
    for key, label, captions, questions in read["rows"]:
        assert (label or None) == known[key]["label"]
        assert captions == known[key]["captions"] and questions == len(known[key]["questions"])
    roles = {*mine[0]["views"], *mine[0]["masks"]}
    assert read["sizes"] == sorted(f"{role} (96, 96)" for role in roles)


def test_parquet_has_the_pictures_inside(dumps: Any) -> None:
    import io

    import pyarrow.parquet as pq

    path = dumps("super-resolution", "parquet")
    rows = [row for file in sorted(path.glob("data/*.parquet")) for row in pq.read_table(file).to_pylist()]
    assert len(rows) == COUNT
    for row in rows:
        sample = sample_of("super-resolution", "parquet", int(row["key"].rpartition("_")[2]))
        for role in ("low", "high"):
            picture = np.asarray(Image.open(io.BytesIO(row[role]["bytes"])))
            assert np.array_equal(picture, sample.views[role].pixels)


# --- LEVIR-CD, LEVIR-MCI, SECOND ---


def test_torchgeos_reader_of_levir_cd_takes_a_dump_as_it_is(dumps: Any, by_torchgeo: dict[str, Any]) -> None:
    path = dumps("change-detection", "levir-cd")
    mine = sorted(records(path), key=lambda record: (["train", "val", "test"].index(record["split"]), record["index"]))
    assert [split for split, *_ in by_torchgeo["pairs"]] == [record["split"] for record in mine]
    for (_, image, codes, changed), record in zip(by_torchgeo["pairs"], mine, strict=True):
        assert image == [2, 3, 96, 96] and set(codes) <= {0, 1}
        assert changed == record["masks"]["change"]["pixels"]["change"]
    for split in ("train", "val", "test"):
        names = (path / f"list/{split}.txt").read_text().split()
        assert len(names) == sum(record["split"] == split for record in mine)
        assert all((path / folder / name).is_file() for folder in ("A", "B", "label") for name in names)


def test_levir_mci_folders_read_as_the_published_code_reads_them(dumps: Any) -> None:
    path = dumps("change-caption", "levir-mci")
    images = json.loads((path / "LevirCCcaptions.json").read_text())["images"]
    assert len(images) == COUNT
    for image in images:
        # The loader of RSICCformer and its kin: images/<filepath>/A/<filename>.
        for folder in ("A", "B", "label"):
            assert (path / "images" / image["filepath"] / folder / image["filename"]).is_file()
        assert len(image["sentences"]) == len(image["sentids"]) == 5
        for sentence in image["sentences"]:
            assert " ".join(sentence["tokens"]) == sentence["raw"].strip()
        label = np.asarray(Image.open(path / "images" / image["filepath"] / "label" / image["filename"]))
        assert set(np.unique(label)) <= {0, 128, 255}
        assert label.any() == bool(image["changeflag"])
    assert len({each for image in images for each in image["sentids"]}) == 5 * COUNT


def test_second_labels_have_seconds_colours(dumps: Any) -> None:
    path = dumps("semantic-change", "second")
    colours = {(255, 255, 255), (0, 128, 0), (128, 128, 128), (0, 255, 0), (0, 0, 255), (128, 0, 0)}
    for record in records(path):
        first, second = (
            np.asarray(Image.open(path / record["split"] / folder / f"{record['key']}.png"))
            for folder in ("label1", "label2")
        )
        assert {tuple(colour) for label in (first, second) for colour in label.reshape(-1, 3)} <= colours
        unchanged = (first == 255).all(axis=-1)
        assert np.array_equal(unchanged, (second == 255).all(axis=-1))
        assert (first[~unchanged] != second[~unchanged]).any(axis=-1).all()


# --- Beside the data ---


@pytest.mark.parametrize("form", ["geotiff", "webdataset"])
def test_croissant_is_valid_and_reads_the_items(dumps: Any, form: str) -> None:
    path = dumps("classification", form)
    script = f"""
import json, logging, mlcroissant
logging.disable(logging.CRITICAL)
set_ = mlcroissant.Dataset({str(path / "croissant.json")!r})
assert not set_.metadata.ctx.issues.errors, set_.metadata.ctx.issues.report()
print(json.dumps([[row["items/index"], row["items/label"].decode()] for row in set_.records("items")]))
"""
    read = json.loads(in_fresh_interpreter(script).splitlines()[-1])
    assert read == [[record["index"], record["label"]] for record in records(path)]


def test_chips_are_ready_for_torch(dumps: Any, by_torchgeo: dict[str, Any]) -> None:
    count = sum(record["split"] == "train" for record in records(dumps("change-caption", "levir-mci")))
    assert by_torchgeo["chips"] == [count, [2, 3, 96, 96], [96, 96], 5]
    assert by_torchgeo["zooms"] == [[3, 24, 24], [3, 96, 96], True]


def test_the_datasheet_says_what_how_many_and_by_which_command(dumps: Any) -> None:
    path = dumps("classification", "hf")
    text = (path / "README.md").read_text(encoding="utf-8")
    assert text.startswith("---\nlicense: apache-2.0")
    assert spec_of("classification", "hf").command in text
    assert "none was observed" in text and "Weights `paint`" in text and TASKS["classification"].labels in text
    for record in records(path):
        assert f"| {record['label']} |" in text
    with Image.open(path / "sheet.png") as sheet:
        assert sheet.width > 500 and len(sheet.convert("RGB").getcolors(1 << 20) or []) > 100
