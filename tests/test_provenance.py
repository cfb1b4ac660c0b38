"""Every picture says inside itself that it is synthetic, and has the pixels that it had without saying so."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import httpx
import numpy as np
import pytest
from PIL import Image
from rasterio.io import MemoryFile

from earthgen.provenance import SOURCE_TYPE, STATEMENT, stamped
from tests.browser import serve
from tests.fake_engine import FakeEngine
from tileserver import Settings, create_app

TILE = "/worlds/planet/tiles/WebMercatorQuad/9/261/180"
AREA = "/worlds/planet/bbox/7,46,7.1,46.1"
FEATURE = {
    "type": "Feature",
    "properties": {},
    "geometry": {"type": "Polygon", "coordinates": [[[7, 46], [7.1, 46], [7.1, 46.1], [7, 46]]]},
}


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with serve(create_app(Settings(), lambda _: FakeEngine())) as address:
        yield address


def said(content: bytes) -> tuple[str, str]:
    """The source type and the description in a picture's XMP, as Pillow finds it."""
    packet = Image.open(io.BytesIO(content)).info.get("xmp")
    assert packet is not None
    root = ElementTree.fromstring(packet)
    source = root.findtext(".//{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
    text = root.findtext(".//{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li")
    return str(source), str(text)


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
@pytest.mark.parametrize("query", ["", "?tilesize=512", "?rescale=0,200", "?bidx=1&colormap_name=viridis"])
def test_every_tile_says_that_it_is_synthetic(base: str, kind: str, query: str) -> None:
    assert said(httpx.get(f"{base}{TILE}.{kind}{query}").content) == (SOURCE_TYPE, STATEMENT)


@pytest.mark.parametrize("path", [f"{AREA}.png", f"{AREA}/64x64.webp", "/worlds/planet/preview.jpg"])
def test_areas_say_it_too(base: str, path: str) -> None:
    assert said(httpx.get(base + path).content) == (SOURCE_TYPE, STATEMENT)


def test_masked_features_say_it_and_keep_their_mask(base: str) -> None:
    for kind in ("png", "webp"):
        content = httpx.post(f"{base}/worlds/planet/feature.{kind}", json=FEATURE).content
        assert said(content) == (SOURCE_TYPE, STATEMENT)
        assert np.asarray(Image.open(io.BytesIO(content)))[..., 3].min() == 0


def test_geotiffs_say_it_in_a_tag(base: str) -> None:
    with MemoryFile(httpx.get(f"{base}{AREA}.tif").content) as file, file.open() as source:
        assert source.tags()["SYNTHETIC"].startswith("yes")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("options", [{}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}, {"lossless": True}])
def test_pixels_are_not_touched(kind: str, mode: str, options: dict[str, Any]) -> None:
    if (kind, mode) == ("JPEG", "RGBA"):
        mode = "CMYK"
    noise = np.random.default_rng(1).integers(0, 256, (33, 47, 4), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise, "RGBA").convert(mode).save(stream, kind, **options)
    plain = stream.getvalue()
    content = stamped(plain)
    assert said(content) == (SOURCE_TYPE, STATEMENT)
    before, after = Image.open(io.BytesIO(plain)), Image.open(io.BytesIO(content))
    assert (after.mode, after.size) == (before.mode, before.size)
    np.testing.assert_array_equal(np.asarray(after), np.asarray(before))
    # Readers other than Pillow too.
    with MemoryFile(content) as file, file.open() as source, MemoryFile(plain) as other, other.open() as unstamped:
        np.testing.assert_array_equal(source.read(), unstamped.read())


def test_other_files_are_left_alone() -> None:
    for content in (b"", b"GIF89a", b"II*\0", b"RIFF1234WAVE"):
        assert stamped(content) == content
