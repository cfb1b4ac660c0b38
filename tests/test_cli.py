"""The command line: what it writes, what it says, and how it fails."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import typer
from PIL import Image
from rio_cogeo.cogeo import cog_validate

import earthgen.engine
import earthgen.finding
import tileserver
from earthgen.cli import app, main
from earthgen.errors import OverloadedError, WeightsError
from earthgen.picture import frame_of
from earthgen.pyramid import Box, bounds_box, box_bounds, tile_box
from earthgen.registry import WorldRegistry
from earthgen.world import Edit, World
from tests.stand_in import CoordinateEngine
from tests.test_finding import ColourTower
from tests.tiny import open_tiny, ripple_root, save_tiny_weights

PLANET_7 = World("planet", 7)
Opened = list[tuple[tuple[Any, ...], dict[str, Any]]]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a cache folder of its own and no settings from the environment."""
    for name in list(os.environ):
        if name.startswith("EARTHGEN_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "xdg" / "earthgen"


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> CoordinateEngine:
    """The engine that commands open."""
    stand_in = CoordinateEngine()
    monkeypatch.setattr(earthgen.engine.Engine, "open", lambda *_, **__: stand_in)
    return stand_in


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """The arguments with which commands open engines."""
    calls: Opened = []

    def record(*args: Any, **kwargs: Any) -> CoordinateEngine:
        calls.append((args, kwargs))
        return CoordinateEngine()

    monkeypatch.setattr(earthgen.engine.Engine, "open", record)
    return calls


def assert_one_line_error(captured: Any, *parts: str) -> None:
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("earthgen: ")
    for part in parts:
        assert part in captured.err


def test_help_and_errors_need_no_torch() -> None:
    script = """
import sys
from earthgen.cli import app, main
for words in (["--help"], [], ["tile", "--help"], ["generate", "--help"], ["region", "--help"], ["serve", "--help"],
              ["export", "--help"],
              ["find", "--help"], ["world", "--help"], ["weights"], ["info", "--help"], ["--version"],
              ["watch"], ["watch", "detect", "--help"],
              ["world", "make", "--seed", "7"]):
    assert main(words) == 0, words
for words in (["fly"], ["generate", "a harbour", "-o", "x.gif"], ["tile", "99", "0", "0", "-o", "x.png"],
              ["region", "--bbox", "1,2,3", "-o", "x.tif"], ["watch", "detect", "a.tif", "b.tif", "-o", "x.png"]):
    assert main(words) == 2, words
heavy = {"torch", "diffusers", "fastapi", "numba", "titiler", "rasterio", "training"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    for command in ("serve", "generate", "tile", "region", "export", "find", "world", "weights", "info"):
        assert f"\n  {command} " in done.stdout


def documented_commands() -> list[str]:
    """Every `earthgen ...` line in the README's and the documentation's blocks of shell commands."""
    root = Path(__file__).parents[1]
    texts = [path.read_text(encoding="utf-8") for path in (root / "README.md", *sorted((root / "docs").glob("*.md")))]
    blocks = [block for text in texts for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]
    lines = (line for block in blocks for line in block.replace("\\\n", " ").splitlines())
    return sorted({line for line in lines if line.startswith("earthgen ")})


@pytest.mark.parametrize("line", documented_commands())
def test_a_documented_command_exists_with_its_options(line: str) -> None:
    command: Any = typer.main.get_command(app)
    words = shlex.split(line, comments=True)
    name, words = words[0], words[1:]
    while hasattr(command, "commands"):
        name, command, words = command.resolve_command(command.make_context(name, list(words)), words)
    # Parsing alone: an unknown option, a missing one or a value of the wrong kind raises.
    command.make_context(name, words)


def options_of(command: Any, path: str = "earthgen") -> Iterator[tuple[str, str, str]]:
    """Each option of a command and of those below it: its name, the command, what its help says."""
    for option in command.params:
        for name in option.opts:
            if name.startswith("--"):
                yield name, path, f"{option.metavar} {option.envvar} {option.help}"
    for name, below in getattr(command, "commands", {}).items():
        yield from options_of(below, f"{path} {name}")


def test_an_option_of_several_commands_says_the_same_in_each() -> None:
    said: dict[str, dict[str, str]] = {}
    for name, path, text in options_of(typer.main.get_command(app)):
        said.setdefault(name, {})[path] = text
    # What is written, and what of the world, is each command's own.
    own = {"--output", "--zoom", "--gsd", "--bbox", "--size", "--help"}
    assert [name for name, texts in said.items() if len(set(texts.values())) > 1 and name not in own] == []
    assert len(said["--cache"]) > 5 and len(said["--seed"]) > 4


@pytest.mark.parametrize(
    ("name", "kind"), [("a.png", "PNG"), ("a.jpg", "JPEG"), ("a.JPEG", "JPEG"), ("a.webp", "WEBP")]
)
def test_tile_writes_the_picture_its_name_says(
    name: str, kind: str, engine: CoordinateEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tile", "9", "100", "170", "--root", "planet", "--seed", "7", "-o", name]) == 0
    assert capsys.readouterr().out == f"{name}\n"
    with Image.open(tmp_path / name) as picture:
        assert picture.format == kind
        assert picture.size == (256, 256)
        assert picture.mode == "RGB"
        if kind == "PNG":
            expected = CoordinateEngine().pixels(PLANET_7, tile_box(9, 100, 170))
            assert np.array_equal(np.asarray(picture), expected)
    assert engine.closed
    assert os.listdir(tmp_path) == [name]


def test_tile_can_be_512_pixels(engine: CoordinateEngine, tmp_path: Path) -> None:
    assert main(["tile", "9", "1", "1", "--size", "512", "-o", "a.png"]) == 0
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (512, 512)


def test_a_picture_may_be_read_by_everybody_whom_the_umask_lets(engine: CoordinateEngine, tmp_path: Path) -> None:
    previous = os.umask(0o027)
    try:
        assert main(["tile", "0", "0", "0", "-o", "a.png"]) == 0
    finally:
        os.umask(previous)
    assert (tmp_path / "a.png").stat().st_mode & 0o777 == 0o640


def test_tile_of_a_registered_world(engine: CoordinateEngine, own_cache: Path, tmp_path: Path) -> None:
    name = WorldRegistry(own_cache).register(PLANET_7)
    assert main(["tile", "3", "1", "2", "--world", name, "-o", "a.png"]) == 0
    assert main(["tile", "3", "1", "2", "--root", "planet", "--seed", "7", "-o", "b.png"]) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["tile", "3", "8", "0", "-o", "a.png"], ["tile 3/8/0 does not exist", "0..7"]),
        (["tile", "3", "-1", "0", "-o", "a.png"], ["tile 3/-1/0 does not exist"]),
        (["tile", "19", "0", "0", "-o", "a.png"], ["zoom 19 is outside 0..18"]),
        (["tile", "three", "0", "0", "-o", "a.png"], ["'Z'", "see earthgen tile --help"]),
        (["tile", "3", "0", "-o", "a.png"], ["Missing argument 'Y'"]),
        (["tile", "3", "0", "0"], ["--output"]),
        (["tile", "3", "0", "0", "-o", "a.gif"], ["a.gif ends in '.gif'", ".png"]),
        (["tile", "3", "0", "0", "-o", "a"], ["a ends in 'nothing'"]),
        (["tile", "3", "0", "0", "-o", "missing/a.png"], ["folder missing does not exist"]),
        (["tile", "3", "0", "0", "--size", "300", "-o", "a.png"], ["size is 300; allowed: 256, 512"]),
        (["tile", "3", "0", "0", "--seed", "-4", "-o", "a.png"], ["seed is -4"]),
        (["tile", "3", "0", "0", "--root", "mars", "-o", "a.png"], ["root is 'mars'; allowed: earth, planet, prompt"]),
        (["tile", "3", "0", "0", "--world", "mars", "-o", "a.png"], ["world 'mars' is unknown"]),
        (["tile", "3", "0", "0", "--world", "earth", "--seed", "1", "-o", "a.png"], ["either --world, or --root"]),
        (["region", "--bbox", "1,2,3", "--zoom", "3", "-o", "a.tif"], ["bbox is '1,2,3'; four numbers W,S,E,N"]),
        (["region", "--bbox", "a,b,c,d", "--zoom", "3", "-o", "a.tif"], ["bbox is 'a,b,c,d'"]),
        (["region", "--bbox", "nan,0,1,1", "--zoom", "3", "-o", "a.tif"], ["not finite"]),
        (["region", "--bbox", "170,0,-170,1", "--zoom", "3", "-o", "a.tif"], ["across 180 degrees as two boxes"]),
        (["region", "--bbox", "0,0,1,1", "-o", "a.tif"], ["give either --zoom or --gsd"]),
        (["region", "--bbox", "0,0,1,1", "--zoom", "3", "--gsd", "9", "-o", "a.tif"], ["give either --zoom or --gsd"]),
        (["region", "--bbox", "0,0,1,1", "--zoom", "19", "-o", "a.tif"], ["zoom 19 is outside 0..18"]),
        (["region", "--bbox", "0,0,1,1", "--gsd", "0", "-o", "a.tif"], ["GSD 0.0 is not a positive number"]),
        (["region", "--bbox", "0,0,1,1", "--gsd", "0.1", "-o", "a.tif"], ["GSD 0.1 m is finer than 0.597 m"]),
        (["region", "--bbox", "-180,-85,180,85", "--zoom", "10", "-o", "a.tif"], ["at most 268435456 are allowed"]),
        (["region", "--bbox", "0,0,1,1", "--zoom", "3", "-o", "a.png"], ["does not end in .tif"]),
        (["region", "--bbox", "0,0,1,1", "--zoom", "3", "-o", "missing/a.tif"], ["folder missing does not exist"]),
        (["world", "make", "--seed", "x"], ["--seed"]),
        (["world", "show", "mars"], ["world 'mars' is unknown"]),
        (["world", "make", "--edits", "missing.json"], ["missing.json", "No such file"]),
        (["weights", "card", "missing"], ["'missing' is neither a folder"]),
        (["fly"], ["No such command 'fly'"]),
        (
            ["tile", "3", "0", "0", "--root", "prompt", "--prompt", "a", "-o", "a.png"],
            ["`earthgen world new`", "--world"],
        ),
        (["tile", "3", "0", "0", "--date", "1 May", "-o", "a.png"], ["date is '1 May'", "2026-05-01"]),
        (["generate", "a harbour", "-o", "a.jpg"], ["a.jpg ends in '.jpg'; allowed: .png, .tif, .tiff"]),
        (["generate", "a harbour", "-o", "missing/a.png"], ["folder missing does not exist"]),
        (["generate", "a harbour", "--gsd", "0.1", "-o", "a.png"], ["gsd is 0.1; a number from 0.3 to 1200"]),
        (["generate", "a harbour", "--size", "5000", "-o", "a.png"], ["size is 5000; 1 to 4096"]),
        (["generate", "a harbour", "--guidance", "0", "-o", "a.png"], ["guidance is 0.0; a number from 1 to 20"]),
        (["generate", " ", "-o", "a.png"], ["needs a prompt"]),
        (["generate", "a\x1b[2J", "-o", "a.png"], ["control character U+001B"]),
        (["generate", "p" * 513, "-o", "a.png"], ["prompt has 513 characters; at most 512"]),
        (["world", "new", "--root", "prompt", "--prompt", "a harbour"], ["needs a gsd"]),
        (["world", "new", "--gsd", "1"], ["gsd is 1.0, but root 'earth'"]),
        (["serve", "--port", "99999"], ["--port"]),
        (["serve", "--workers", "0"], ["--workers"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    words: list[str], parts: list[str], engine: CoordinateEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert_one_line_error(capsys.readouterr(), *parts)
    assert os.listdir(tmp_path) == []


def test_weights_that_cannot_be_used_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tile", "3", "0", "0", "--weights", "nowhere", "-o", "a.png"]) == 2
    assert_one_line_error(capsys.readouterr(), "nowhere", "config.json")
    assert os.listdir(tmp_path) == []


def test_an_error_while_writing_a_picture_leaves_nothing(
    engine: CoordinateEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert main(["tile", "3", "0", "0", "-o", "a.png"]) == 2
    assert_one_line_error(capsys.readouterr(), "No space left on device")
    assert os.listdir(tmp_path) == []


def test_region_writes_a_valid_cog_of_the_world(
    engine: CoordinateEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["region", "--bbox", "-3.5,40.2,-2.9,40.7", "--zoom", "11", "--root", "planet", "--seed", "7"]
    assert main([*words, "-o", "out.tif"]) == 0
    captured = capsys.readouterr()
    box = bounds_box((-3.5, 40.2, -2.9, 40.7), 11)
    assert captured.out.startswith(f"out.tif: {box.width} x {box.height} pixels, zoom 11, 58.17 m per pixel")
    assert "out.tif: 100%" in captured.err
    assert cog_validate(tmp_path / "out.tif", strict=True)[0]
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert dataset.crs.to_epsg() == 3857
        assert dataset.tags()["EARTHGEN_WORLD_ID"] == PLANET_7.id
        assert np.array_equal(np.moveaxis(dataset.read(), 0, -1), CoordinateEngine().pixels(PLANET_7, box))


def test_region_takes_the_coarsest_zoom_that_is_as_fine_as_the_gsd(
    engine: CoordinateEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["region", "--bbox", "10,59.9,10.01,60.1", "--gsd", "40", "--quiet", "-o", "out.tif"]) == 0
    captured = capsys.readouterr()
    assert "zoom 11, 38.22 m per pixel" in captured.out
    assert captured.err == ""


def test_region_refuses_more_pixels_than_it_was_told(
    engine: CoordinateEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["region", "--bbox", "0,0,1,1", "--zoom", "8", "-q", "-o", "out.tif", "--max-pixels"]
    assert main([*words, "1000"]) == 2
    assert_one_line_error(capsys.readouterr(), "at most 1000 are allowed")
    assert main([*words, "100000"]) == 0


class StoppingEngine(CoordinateEngine):
    """Is interrupted after two pieces."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def pixels(self, world: World, box: Box, *, cancelled: Callable[[], bool] | None = None) -> npt.NDArray[np.uint8]:
        if len(self.boxes) == 2:
            raise self.error
        return super().pixels(world, box)


@pytest.mark.parametrize(
    ("error", "code", "said"), [(KeyboardInterrupt(), 130, "interrupted"), (OverloadedError("busy"), 2, "busy")]
)
def test_a_stopped_region_goes_on_when_asked_again(
    error: BaseException,
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["region", "--bbox", "-3.5,40.2,-2.9,40.7", "--zoom", "11", "-q"]
    monkeypatch.setattr(earthgen.engine.Engine, "open", lambda *_, **__: StoppingEngine(error))
    assert main([*words, "-o", "out.tif"]) == code
    assert_one_line_error(capsys.readouterr(), said)
    assert os.listdir(tmp_path) == ["out.tif.part"]

    whole = CoordinateEngine()
    monkeypatch.setattr(earthgen.engine.Engine, "open", lambda *_, **__: whole)
    assert main([*words, "-o", "out.tif"]) == 0
    rest = len(whole.boxes)
    assert main([*words, "-o", "undisturbed.tif"]) == 0
    assert len(whole.boxes) - rest == rest + 2
    assert (tmp_path / "out.tif").read_bytes() == (tmp_path / "undisturbed.tif").read_bytes()


def test_options_reach_the_engine(opened: Opened, own_cache: Path) -> None:
    words = ["tile", "0", "0", "0", "-o", "a.png"]
    main(words)
    main([*words, "--no-cache"])
    chosen = ["--threads", "3", "--prompt-weights", "sd2", "--store", "s3://windows/a"]
    main([*words, "--cache", "here", "--weights", "hf:some/weights", *chosen])
    plain = {"threads": None, "prompt_weights": None, "backend": "torch", "store": None}
    assert opened == [
        ((None, own_cache), plain),
        ((None, None), plain),
        (
            ("hf:some/weights", Path("here")),
            {"threads": 3, "prompt_weights": "sd2", "backend": "torch", "store": "s3://windows/a"},
        ),
    ]


def test_the_environment_names_the_cache(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARTHGEN_CACHE", str(tmp_path / "elsewhere"))
    main(["tile", "0", "0", "0", "-o", "a.png"])
    assert [arguments for arguments, _ in opened] == [(None, tmp_path / "elsewhere")]


def test_world_make_prints_id_and_canonical_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world", "make", "--root", "planet", "--seed", "7"]) == 0
    assert capsys.readouterr().out == f"{PLANET_7.id}\n{PLANET_7.canonical_json}\n"
    assert os.listdir(tmp_path) == []


def test_generate_writes_the_picture_its_name_says(
    engine: CoordinateEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["generate", "a harbour town", "--gsd", "0.5", "--size", "600", "--seed", "7", "--negative", "blurry"]
    world = World("prompt", 7, "a harbour town", negative="blurry", guidance=4, gsd=0.5)
    expected = CoordinateEngine().pixels(world, frame_of(world, 600).box)
    for name in ("a.png", "a.tif"):
        assert main([*words, "--guidance", "4", "-o", name]) == 0
        captured = capsys.readouterr()
        assert captured.out == f"{name}: 600 x 600 pixels, 0.5 m per pixel, world {world.id}\n"
        assert f"{name}: 100%" in captured.err
    with Image.open(tmp_path / "a.png") as picture:
        assert np.array_equal(np.asarray(picture), expected)
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert np.array_equal(np.moveaxis(dataset.read(), 0, -1), expected)
        assert dataset.tags()["EARTHGEN_WORLD"] == world.id
    assert sorted(os.listdir(tmp_path)) == ["a.png", "a.tif"]


def test_a_world_by_prompt_is_made_once_and_then_named(
    engine: CoordinateEngine, own_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--root", "prompt", "--prompt", "a harbour\n town", "--gsd", "1", "--negative", "fog", "--guidance", "2"]
    assert main(["world", "new", *words]) == 0
    world = World("prompt", 0, "a harbour town", negative="fog", guidance=2, gsd=1)
    assert capsys.readouterr().out == f"{world.id}\n{world.canonical_json}\n"
    assert WorldRegistry(own_cache).get(world.id) == world
    assert main(["tile", "14", "3", "3", "--world", world.id, "-o", "a.png"]) == 0
    assert main(["tile", "11", "3", "3", "--world", world.id, "-o", "b.png"]) == 2
    assert "begins at zoom 12" in capsys.readouterr().err


def test_a_polygon_that_can_never_be_shown_is_refused_when_the_world_is_made(
    own_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "edits.json").write_text(json.dumps([{"polygon": [[0, 0], [1, 0], [2, 0]], "action": "snow"}]))
    assert main(["world", "new", "--edits", "edits.json"]) == 2
    assert_one_line_error(capsys.readouterr(), "no area")
    assert WorldRegistry(own_cache).names() == ("earth", "planet")


def test_a_date_chooses_the_edits(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[World] = []

    class Asked(CoordinateEngine):
        def tile(
            self, world: World, z: int, x: int, y: int, *, size: int = 256, cancelled: Callable[[], bool] | None = None
        ) -> npt.NDArray[np.uint8]:
            asked.append(world)
            return super().tile(world, z, x, y, size=size)

    monkeypatch.setattr(earthgen.engine.Engine, "open", lambda *_, **__: Asked())
    polygon = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    world = World(edits=(Edit(polygon, "", "2026-05-01", action="snow"),))
    name = WorldRegistry(own_cache).register(world)
    for day in ("2026-04-30", "2026-05-01"):
        assert main(["tile", "3", "1", "2", "--world", name, "--date", day, "-o", "a.png"]) == 0
    assert asked == [World(), World(edits=(Edit(polygon, action="snow"),))]


def test_world_register_then_show_and_list(own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world", "register", "--root", "planet", "--seed", "7"]) == 0
    printed = capsys.readouterr().out
    assert main(["world", "show", PLANET_7.id]) == 0
    assert capsys.readouterr().out == printed
    assert main(["world", "list"]) == 0
    assert capsys.readouterr().out.split() == ["earth", "planet", PLANET_7.id]
    assert WorldRegistry(own_cache).get(PLANET_7.id) == PLANET_7


def test_world_make_reads_edits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edits = [{"polygon": [[0, 0], [1, 0], [0, 1]], "prompt": "a lake"}]
    (tmp_path / "edits.json").write_text(json.dumps(edits))
    assert main(["world", "make", "--edits", "edits.json"]) == 0
    name, text = capsys.readouterr().out.splitlines()
    world = World.from_dict({"edits": edits})
    assert (name, text) == (world.id, world.canonical_json)
    (tmp_path / "edits.json").write_text("[")
    assert main(["world", "make", "--edits", "edits.json"]) == 2
    assert_one_line_error(capsys.readouterr(), "edits.json are not JSON")


def test_a_damaged_registered_world_is_one_line(own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    WorldRegistry(own_cache).register(PLANET_7)
    (own_cache / "worlds" / f"{PLANET_7.id}.json").write_text("{}")
    assert main(["world", "show", PLANET_7.id]) == 2
    assert_one_line_error(capsys.readouterr(), "does not hold world")


def test_weights_card_prints_a_folders_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    assert main(["weights", "card", "mine"]) == 2
    assert_one_line_error(capsys.readouterr(), "holds no card")
    (folder / "README.md").write_text("# Mine\n")
    assert main(["weights", "card", "mine"]) == 0
    assert capsys.readouterr().out.startswith("# Mine")


def test_weights_verify_refuses_what_cannot_be_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{")
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"\x00" * 7)
    assert main(["weights", "verify", "mine"]) == 2
    assert_one_line_error(capsys.readouterr(), "config.json is not")


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real weights of a network so small that it runs in milliseconds."""
    return save_tiny_weights(tmp_path_factory.mktemp("weights"))


def test_weights_verify_names_the_id_that_engines_have(tiny_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "verify", str(tiny_weights)]) == 0
    with open_tiny(tiny_weights) as engine:
        assert f"whole, id {engine.weights_id}, " in capsys.readouterr().out


def test_truncated_weights_are_one_line(tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(tiny_weights, tmp_path / "cut")
    tensors = tmp_path / "cut" / "diffusion_pytorch_model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-100])
    for words in (["weights", "verify", "cut"], ["tile", "5", "1", "1", "--weights", "cut", "-o", "a.png"]):
        assert main(words) == 2
        assert_one_line_error(capsys.readouterr(), "diffusion_pytorch_model.safetensors cannot be loaded")
    assert os.listdir(tmp_path) == ["cut"]


def test_tile_and_region_are_the_engines_pixels(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    monkeypatch.setattr(earthgen.engine, "open_root", ripple_root)
    monkeypatch.setenv("EARTHGEN_WEIGHTS", str(tiny_weights))
    assert main(["tile", "6", "33", "21", "--seed", "7", "-o", "a.png"]) == 0
    west, south, east, north = box_bounds(tile_box(6, 33, 21))
    words = ["region", "--bbox", f"{west},{south},{east},{north}", "--zoom", "6", "--seed", "7", "-q"]
    assert main([*words, "-o", "a.tif"]) == 0
    assert any(own_cache.iterdir())
    with open_tiny(tiny_weights, own_cache) as engine:
        expected = engine.tile(World(seed=7), 6, 33, 21)
    with Image.open(tmp_path / "a.png") as picture:
        assert np.array_equal(np.asarray(picture), expected)
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert np.array_equal(np.moveaxis(dataset.read(), 0, -1), expected)


def test_a_world_that_the_weights_cannot_make_is_one_line(
    tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = ["--prompt", "a city of canals"]
    for words in (
        ["tile", "5", "1", "1", "-o", "a.png"],
        ["region", "--bbox", "0,0,1,1", "--zoom", "6", "-o", "a.tif"],
    ):
        assert main([*words, *extra, "--no-cache", "--weights", str(tiny_weights)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.splitlines()[-1].startswith("earthgen: these weights know no text")
    assert os.listdir(tmp_path) == []


INTERRUPTED = """
import sys, threading, types
sys.path.insert(0, sys.argv.pop(1))
from tests.stand_in import CoordinateEngine

class Hanging(CoordinateEngine):
    def pixels(self, world, box):
        if len(self.boxes) == 1:
            print("hanging", flush=True)
            threading.Event().wait()
        return super().pixels(world, box)

# The engine's own module would load torch, which this test does not need.
sys.modules["earthgen.engine"] = types.SimpleNamespace(Engine=types.SimpleNamespace(open=lambda *_, **__: Hanging()))
from earthgen.cli import main
sys.exit(main())
"""


def test_ctrl_c_stops_a_region_cleanly(tmp_path: Path) -> None:
    words = ["region", "--bbox", "-3.5,40.2,-2.9,40.7", "--zoom", "11", "-q", "-o", "out.tif"]
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(Path(__file__).parents[1]), *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "hanging\n"
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == ("", "earthgen: interrupted\n")
    assert os.listdir(tmp_path) == ["out.tif.part"]


def test_info_names_versions_weights_cache_and_pyramid(
    engine: CoordinateEngine, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    WorldRegistry(own_cache).register(PLANET_7)
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["versions"]["earthgen"] == earthgen.__version__
    assert facts["engine"] == {"weights": "stand-in", "fingerprint": "stand-in-1"}
    assert facts["cache"]["worlds"] == 1
    assert facts["cache"]["bytes"] == len(PLANET_7.canonical_json)
    assert len(facts["pyramid"]) == 19
    assert facts["pyramid"][18]["gsd_0"] == pytest.approx(0.5972, abs=1e-4)
    assert main(["info", "--no-cache"]) == 0
    text = capsys.readouterr().out
    assert "memory only" in text
    assert "0.597" in text


def test_info_works_without_weights(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing(*_: object, **__: object) -> None:
        raise WeightsError("nothing there")

    monkeypatch.setattr(earthgen.engine.Engine, "open", missing)
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["engine"] == {"weights": "cannot be used: nothing there"}


def test_serve_passes_settings_on(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    calls: list[tuple[Any, dict[str, Any]]] = []
    monkeypatch.setattr(tileserver, "serve", lambda settings, **kwargs: calls.append((settings, kwargs)))
    monkeypatch.setenv("EARTHGEN_TILE_QUEUE", "9")
    assert main(["serve", "--host", "0.0.0.0", "--port", "9000", "--workers", "2", "--threads", "1"]) == 0
    settings, how = calls[0]
    assert (settings.cache, settings.threads, settings.tile_queue) == (own_cache, 1, 9)
    assert how == {"host": "0.0.0.0", "port": 9000, "workers": 2}
    assert main(["serve", "--no-cache"]) == 0
    assert calls[1][0].cache is None
    assert main(["serve", "--prompt-weights", "sd2"]) == 0
    assert calls[2][0].prompt_weights == "sd2"


def test_a_bad_setting_in_the_environment_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EARTHGEN_TILE_QUEUE", "many")
    assert main(["serve"]) == 2
    assert_one_line_error(capsys.readouterr(), "environment", "tile_queue")


def test_ctrl_c_is_exit_code_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(earthgen.engine.Engine, "open", interrupted)
    assert main(["tile", "0", "0", "0", "-o", "a.png"]) == 130
    assert capsys.readouterr().err == "earthgen: interrupted\n"


def test_find_prints_a_table_or_json_of_places(
    engine: CoordinateEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(earthgen.finding, "image_tower", ColourTower)
    words = ["find", "red", "--root", "planet", "--bbox", "5,44,15,48", "--zoom", "7", "--count", "2", "--limit", "6"]
    assert main([*words, "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert (found["done"], found["total"], len(found["places"])) == (6, 6, 2)
    assert "6/6" in captured.err
    assert {box.zoom for box in engine.boxes} == {7}
    assert main([*words, "-q"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    header, *rows = captured.out.splitlines()
    assert header.split() == ["score", "longitude", "latitude", "zoom/x/y"]
    assert [row.split()[-1] for row in rows] == [f"7/{place['x']}/{place['y']}" for place in found["places"]]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--bbox", "5,44"], "four numbers"),
        (["--zoom", "3", "--gsd", "5"], "at most one"),
        (["--count", "0"], "count is 0; 1 to 100"),
        (["--limit", "9999"], "limit is 9999; 1 to 4096"),
    ],
)
def test_a_search_that_makes_no_sense_is_one_line(
    engine: CoordinateEngine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    says: str,
) -> None:
    monkeypatch.setattr(earthgen.finding, "image_tower", ColourTower)
    assert main(["find", "red", *words]) == 2
    assert_one_line_error(capsys.readouterr(), says)
