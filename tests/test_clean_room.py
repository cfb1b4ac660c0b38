"""The wheel by itself: installed where no checkout is, it serves, generates, watches and makes training sets."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from PIL import Image

ROOT = Path(__file__).parents[1]
START_SECONDS = 120


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, built from the source distribution, and with what it depends on.

    The dependencies are those of this environment, on the path but not as a site folder: so its editable
    installation of the checkout is not seen, and nothing has to be fetched.
    """
    folder = tmp_path_factory.mktemp("room")
    (source,) = SdistBuilder(str(ROOT)).build(directory=str(folder / "sdist"), versions=["standard"])
    subprocess.run(["tar", "xf", source, "-C", folder], check=True)
    (unpacked,) = (path for path in folder.iterdir() if path.is_dir() and path.name.startswith("earthgen-"))
    (wheel,) = WheelBuilder(str(unpacked)).build(directory=str(folder / "wheel"), versions=["standard"])
    venv.create(folder / "env", with_pip=False, symlinks=True)
    site = next((folder / "env" / "lib").glob("python*/site-packages"))
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--python",
        str(folder / "env" / "bin" / "python"),
    ]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return folder


@pytest.fixture
def environment(room: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "EARTHGEN", "VIRTUAL"))}
    return {**kept, "EARTHGEN_CACHE": str(room / "cache"), "HF_HUB_OFFLINE": "1"}


def run(room: Path, environment: dict[str, str], *command: str) -> str:
    done = subprocess.run(
        [room / "env" / "bin" / command[0], *command[1:]], cwd=room, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_comes_from_the_checkout(room: Path, environment: dict[str, str]) -> None:
    script = (
        "import earthgen, perception, tileserver, trainingsets as sets;"
        "print(*(m.__file__ for m in (earthgen, perception, tileserver, sets)))"
    )
    for path in run(room, environment, "python", "-c", script).split():
        assert Path(path).is_relative_to(room / "env")
    script = "import importlib.util as u; print(u.find_spec('training'), u.find_spec('benchmarks'))"
    assert run(room, environment, "python", "-c", script).split() == ["None", "None"]


def test_a_tile_is_made_from_the_weights_inside(room: Path, environment: dict[str, str]) -> None:
    run(room, environment, "earthgen", "tile", "5", "16", "11", "--seed", "7", "-o", "tile.png")
    with Image.open(room / "tile.png") as picture:
        assert picture.size == (256, 256)
        assert len(picture.getcolors(1 << 16) or ()) > 100


def test_a_training_set_is_made_and_read_back(room: Path, environment: dict[str, str]) -> None:
    what = ("--task", "change-detection", "--format", "levir-cd", "--count", "2", "--size", "64", "--gsd", "0.6")
    run(room, environment, "earthgen", "dump", *what, "--splits", "1,0,0", "--quiet", "-o", "pairs")
    with Image.open(room / "pairs" / "A" / "train_00000000.png") as picture:
        assert picture.size == (64, 64)
        assert len(picture.getcolors(1 << 12) or ()) > 20
    report = json.loads(run(room, environment, "earthgen", "inspect", "pairs", "--json", "--quiet"))
    assert report["faults"] == []
    # Hugging Face's package of this name is not hidden by anything of ours.
    script = "import importlib.util as u; found = u.find_spec('datasets'); print(found and found.origin)"
    assert str(room) not in run(room, environment, "python", "-c", script)


def test_models_that_ship_are_inside(room: Path, environment: dict[str, str]) -> None:
    models = json.loads(run(room, environment, "earthgen", "watch", "models", "--json"))
    available = {model["name"] for model in models if model["available"]}
    assert {"cdmamba", "semantic-cd"} <= available


@pytest.fixture
def address(room: Path, environment: dict[str, str]) -> Iterator[str]:
    command = [str(room / "env" / "bin" / "earthgen"), "serve", "--port", "0"]
    log = (room / "server.log").open("w")
    with log, subprocess.Popen(command, cwd=room, env=environment, stdout=log, stderr=subprocess.STDOUT) as server:
        try:
            end = time.monotonic() + START_SECONDS
            while not (found := re.search(r"http://127\.0\.0\.1:\d+", (room / "server.log").read_text())):
                assert server.poll() is None and time.monotonic() < end, (room / "server.log").read_text()
                time.sleep(0.2)
            yield found.group()
        finally:
            server.terminate()


def fetch(url: str) -> tuple[bytes, str]:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return answer.read(), answer.headers["Content-Type"]
        except urllib.error.URLError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def test_the_service_has_its_map_and_its_tiles(address: str) -> None:
    assert json.loads(fetch(f"{address}/healthz")[0])
    page, kind = fetch(f"{address}/")
    assert kind.startswith("text/html") and b"earthgen" in page
    assert fetch(f"{address}/static/js/main.js")[0]
    tile, kind = fetch(f"{address}/worlds/earth/tiles/WebMercatorQuad/3/4/2.png")
    assert kind == "image/png" and tile.startswith(b"\x89PNG")
