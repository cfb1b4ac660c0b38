"""The network that made a dump, as a STAC item with the Machine Learning Model extension."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from trainingsets.folder import DumpFolder

MLM = "https://stac-extensions.github.io/mlm/v1.4.0/schema.json"
MODEL_FILE = "model.json"
_TASKS = ["generative", "super-resolution"]
_WORLD = [-180.0, -85.0511287798066, 180.0, 85.0511287798066]
"""Degrees: where the network can be run, which is everywhere."""


def generator_id(folder: DumpFolder) -> str:
    """The id of the generator's weights, without those of networks that read labels off its pictures."""
    return folder.made_by["weights"].partition("+")[0]


def model_fields(folder: DumpFolder) -> dict[str, Any]:
    """What the collection and the item of the network say alike."""
    return {
        "mlm:name": f"earthgen-{generator_id(folder)}",
        "mlm:architecture": "Local U-Net, denoising diffusion (earthgen.denoiser.DetailDenoiser)",
        "mlm:tasks": _TASKS,
        "mlm:framework": "PyTorch",
        "mlm:pretrained": True,
    }


def derived_link(folder: DumpFolder, href: str) -> dict[str, Any]:
    """The link from what was generated to the network."""
    return {
        "rel": "derived_from",
        "href": href,
        "type": "application/geo+json",
        "title": f"The weights that made this, {generator_id(folder)}",
        "mlm:name": f"earthgen-{generator_id(folder)}",
    }


def model_item(folder: DumpFolder, collection: str, begin: datetime, end: datetime) -> dict[str, Any]:
    """The item.

    Args:
        folder: the dump.
        collection: id of its collection.
        begin: the first day of its pictures.
        end: the last one.
    """
    import pystac

    west, south, east, north = _WORLD
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    item = pystac.Item(
        id=f"earthgen-{generator_id(folder)}",
        geometry={"type": "Polygon", "coordinates": [ring]},
        bbox=_WORLD,
        datetime=None,
        start_datetime=begin,
        end_datetime=end,
        properties=model_fields(folder) | _SHAPES | {"earthgen:made_by": folder.made_by},
        stac_extensions=[MLM],
        collection=collection,
    )
    weights = pystac.Asset(
        f"urn:earthgen:weights:{generator_id(folder)}",
        title="Weights",
        description="Named by the content; `earthgen weights verify FOLDER` prints the id of those in a folder.",
        media_type="application/octet-stream; application=safetensors",
        roles=["mlm:model", "mlm:weights"],
        extra_fields={"mlm:artifact_type": "diffusers.ModelMixin.save_pretrained"},
    )
    item.add_asset("weights", weights)
    value: dict[str, Any] = item.to_dict(include_self_link=False, transform_hrefs=False)
    value["links"] = [
        {"rel": rel, "href": "./collection.json", "type": "application/json"}
        for rel in ("root", "parent", "collection")
    ]
    return value


def _tensor(channels: int) -> dict[str, Any]:
    return {
        "shape": [-1, channels, -1, -1],
        "dim_order": ["batch", "channel", "height", "width"],
        "data_type": "float32",
    }


_SHAPES: dict[str, Any] = {
    "mlm:input": [
        {
            "name": "state",
            "bands": [],
            "input": _tensor(45),
            "description": "Noise, drawn by the address of the place and the seed of the world.",
        },
        {
            "name": "parent",
            "bands": [],
            "input": _tensor(3),
            "description": "Colours of the level four times coarser; its ground sampling distance and text go with it.",
        },
    ],
    "mlm:output": [
        {
            "name": "detail",
            "tasks": _TASKS,
            "result": _tensor(45),
            "description": "Coefficients of the 4 x 4 pixels inside each pixel of the coarser level, without its mean.",
        }
    ],
}
