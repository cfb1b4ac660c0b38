"""GeoTIFF files in their place on the ground, with a STAC collection that says what they are."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
from rasterio.io import MemoryFile
from rasterio.transform import from_bounds

from earthgen.bands import Band
from earthgen.pyramid import Box, box_mercator_bounds
from trainingsets.folder import DumpFolder, Record
from trainingsets.formats.base import Format, Records, by_split, json_bytes
from trainingsets.formats.stac_model import MLM, MODEL_FILE, derived_link, model_fields, model_item
from trainingsets.sample import Bytes, Legend, Sample, View
from trainingsets.spec import DumpSpec
from trainingsets.tasks import Item, legends, task_of

_PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
_LABEL = "https://stac-extensions.github.io/label/v1.0.1/schema.json"
_ML_AOI = "https://stac-extensions.github.io/ml-aoi/v0.2.0/schema.json"
_TIFF = "image/tiff; application=geotiff"


class GeoTiff(Format):
    """ROLE/KEY_YYYYMMDD.tif in EPSG:3857, stac/KEY.json, labels/KEY.geojson, collection.json and model.json.

    The last says which weights made them. Masks carry their legend as colour table. torchgeo's RasterDataset reads a
    role's folder.
    """

    name = "geotiff"
    title = "GeoTIFF with STAC"
    needs = ("pystac",)

    def view_file(self, item: Item, role: str, date: str) -> str:
        """ROLE/KEY_YYYYMMDD.tif."""
        return f"{role}/{item.key}_{date.replace('-', '')}.tif"

    def mask_file(self, item: Item, role: str, date: str) -> str | None:
        """ROLE/KEY_YYYYMMDD.tif."""
        return f"{role}/{item.key}_{date.replace('-', '')}.tif"

    def encode_view(self, view: View, record: Record) -> bytes:
        """RGB."""
        tags = {"EARTHGEN_WORLD": view.world.canonical_json, "EARTHGEN_WORLD_ID": view.world.id, "SYNTHETIC": "yes"}
        return _tiff(view.pixels, view.box, tags)

    def encode_mask(self, role: str, codes: Bytes, legend: Legend, sample: Sample) -> bytes:
        """Codes with a colour table."""
        tags = {"EARTHGEN_CLASSES": json.dumps({part.code: part.name for part in legend}), "SYNTHETIC": "yes"}
        return _tiff(codes, list(sample.views.values())[-1].box, tags, legend)

    def more_files(self, item: Item, record: Record, sample: Sample) -> dict[str, bytes]:
        """The STAC item, and its things as GeoJSON."""
        files = {f"stac/{item.key}.json": json_bytes(_stac_item(item, record))}
        if record["things"]:
            files[f"labels/{item.key}.geojson"] = json_bytes(_features(item.box, record))
        return files

    def finish(self, folder: DumpFolder, records: Records) -> None:
        """collection.json and model.json."""
        bounds, days, keys = [], [], []
        for _, mine in by_split(records):
            for record in mine:
                bounds += [view["bounds"] for view in record["views"].values()]
                days += [view["date"] for view in record["views"].values()]
                keys.append(record["key"])
        begin, end = _day(min(days)), _day(max(days))
        folder.write("collection.json", json_bytes(_collection(folder, bounds, (begin, end), keys)))
        folder.write(MODEL_FILE, json_bytes(model_item(folder, _identity(folder.spec), begin, end)))

    def reading(self, spec: DumpSpec) -> str:
        """By pystac and torchgeo."""
        return 'import pystac\n\nitems = list(pystac.Collection.from_file("DIR/collection.json").get_items())'


def _tiff(pixels: Bytes, box: Box, tags: dict[str, str], legend: Legend | None = None) -> bytes:
    bands = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    count, height, width = bands.shape
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": count,
        "height": height,
        "width": width,
        "crs": "EPSG:3857",
        "transform": from_bounds(*box_mercator_bounds(box), width, height),
        "compress": "deflate",
    }
    with MemoryFile() as memory:
        with memory.open(**profile) as file:
            file.write(bands)
            file.update_tags(**tags)
            if legend is not None:
                table = Band("", "", "classes", 0, tuple(legend)).colours()
                file.write_colormap(1, {code: (*map(int, colour), 255) for code, colour in enumerate(table)})
        return bytes(memory.read())


def _stac_item(item: Item, record: Record) -> dict[str, Any]:
    import pystac

    views = record["views"]
    last = list(views.values())[-1]
    days = [_day(view["date"]) for view in views.values()]
    west, south, east, north = last["bounds"]
    properties: dict[str, Any] = {
        "gsd": record["metres"],
        "proj:code": "EPSG:3857",
        "ml-aoi:split": {"val": "validate"}.get(record["split"], record["split"]),
        "earthgen:synthetic": True,
        "earthgen:worlds": record["worlds"],
        "earthgen:label": record["label"],
        "earthgen:captions": record["captions"],
        "earthgen:questions": record["questions"],
        "earthgen:about": record["about"],
    }
    extensions = [_PROJECTION, _ML_AOI]
    known = {role: legend for role, legend in legends(item.spec).items() if role in record["masks"]}
    if known:
        extensions.append(_LABEL)
        properties |= {
            "label:type": "raster",
            "label:tasks": ["segmentation"],
            "label:properties": None,
            # The extension wants no names for classes of rasters.
            "label:classes": [
                {"name": None, "classes": [part.name for part in legend], "earthgen:asset": role}
                for role, legend in known.items()
            ],
            "label:description": task_of(item.spec.task).labels,
        }
    stac = pystac.Item(
        id=record["key"],
        geometry=_rectangle(west, south, east, north),
        bbox=[west, south, east, north],
        datetime=days[-1],
        start_datetime=days[0] if len(days) > 1 else None,
        end_datetime=days[-1] if len(days) > 1 else None,
        properties=properties,
        stac_extensions=extensions,
        collection=_identity(item.spec),
    )
    for role, view in views.items():
        stac.add_asset(role, pystac.Asset(f"../{view['file']}", media_type=_TIFF, roles=["data"]))
    for role, mask in record["masks"].items():
        stac.add_asset(role, pystac.Asset(f"../{mask['file']}", media_type=_TIFF, roles=["labels", "labels-raster"]))
    if record["things"]:
        path = f"../labels/{record['key']}.geojson"
        stac.add_asset("labels", pystac.Asset(path, media_type="application/geo+json", roles=["labels"]))
    value: dict[str, Any] = stac.to_dict(include_self_link=False, transform_hrefs=False)
    value["links"] = [
        {"rel": "root", "href": "../collection.json", "type": "application/json"},
        {"rel": "parent", "href": "../collection.json", "type": "application/json"},
        {"rel": "collection", "href": "../collection.json", "type": "application/json"},
    ]
    if known:
        value["links"] += [
            {"rel": "source", "href": f"../{view['file']}", "type": _TIFF, "label:assets": list(known)}
            for view in views.values()
        ]
    return value


def _collection(
    folder: DumpFolder, bounds: list[list[float]], days: tuple[datetime, datetime], keys: list[str]
) -> dict[str, Any]:
    import pystac

    corners = np.array(bounds)
    box = [*corners[:, :2].min(axis=0).tolist(), *corners[:, 2:].max(axis=0).tolist()]
    collection = pystac.Collection(
        id=_identity(folder.spec),
        description=f"{task_of(folder.spec.task).title}: generated, not observed. {task_of(folder.spec.task).labels}",
        extent=pystac.Extent(pystac.SpatialExtent([box]), pystac.TemporalExtent([list(days)])),
        license="Apache-2.0",
        keywords=["synthetic", "earthgen", folder.spec.task],
        extra_fields={"earthgen:made_by": folder.made_by, "earthgen:command": folder.spec.command}
        | model_fields(folder),
        stac_extensions=[MLM],
    )
    value: dict[str, Any] = collection.to_dict(include_self_link=False, transform_hrefs=False)
    links = [{"rel": "item", "href": f"./stac/{key}.json", "type": "application/geo+json"} for key in keys]
    root = {"rel": "root", "href": "./collection.json", "type": "application/json"}
    value["links"] = [root, derived_link(folder, f"./{MODEL_FILE}"), *links]
    return value


def _features(box: Box, record: Record) -> dict[str, Any]:
    """Things as GeoJSON in longitude and latitude; a thing whose outline has holes is several polygons."""
    from earthgen.pyramid import box_bounds

    def place(x: float, y: float) -> list[float]:
        west, _, _, north = box_bounds(Box(box.zoom, box.row + int(y), box.column + int(x), 1, 1))
        return [round(west, 9), round(north, 9)]

    features = []
    for thing in record["things"]:
        rings = [[place(x, y) for x, y in zip(ring[::2], ring[1::2], strict=True)] for ring in thing["polygons"]]
        features.append(
            {
                "type": "Feature",
                "properties": {name: thing[name] for name in ("category", "phrase", "before", "area")},
                "geometry": {"type": "MultiPolygon", "coordinates": [[[*ring, ring[0]]] for ring in rings]},
            }
        )
    return {"type": "FeatureCollection", "features": features}


def _rectangle(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def _identity(spec: DumpSpec) -> str:
    return f"earthgen-{spec.task}-{spec.seed}"


def _day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
