"""The command line: `earthgen serve | generate | tile | region | export | find | world | weights | info`.

Other packages add commands; see `earthgen.cli_plugins`. Results go to standard output, progress and errors to
standard error. An error is one line and exit code 2; Ctrl-C is exit code 130. Commands import what they need when
they run, so that `--help` loads no torch.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from earthgen.cli_export import export
from earthgen.cli_find import find
from earthgen.cli_options import (
    AsJson,
    BandName,
    BandWeights,
    CacheFolder,
    CacheOptions,
    EngineOptions,
    FinestGsd,
    Guidance,
    HowWell,
    Negative,
    Quiet,
    Seed,
    ValueOptions,
    WeightsSource,
    WorldOptions,
    cache_folder,
    checked_ending,
    grouped,
    parsed_bounds,
    progress_bar,
    write_whole,
)
from earthgen.cli_plugins import PluggableGroup
from earthgen.errors import EarthgenError, InvalidRequestError, WeightsError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from earthgen.picture import PictureFormat
    from earthgen.world import World

_MISTAKE = 2
_INTERRUPTED = 130

app = typer.Typer(
    name="earthgen",
    cls=PluggableGroup,
    help="Generated Earths, from the globe down to half a metre.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
world_app = typer.Typer(help="Make, register and show worlds.", invoke_without_command=True)
weights_app = typer.Typer(help="List, describe and check weights.", invoke_without_command=True)
app.add_typer(world_app, name="world")
app.add_typer(weights_app, name="weights")
app.command()(export)
app.command()(find)


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from earthgen import __version__

        typer.echo(f"earthgen {__version__}")
        raise typer.Exit
    _help_without_command(context)


@world_app.callback()
@weights_app.callback()
def _help_without_command(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
@grouped
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every interface.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes that answer requests.")] = 1,
    *,
    log_format: Annotated[Literal["text", "json"] | None, typer.Option(help="Of the log's lines; text.")] = None,
    using: EngineOptions,
    band_weights: BandWeights = None,
) -> None:
    """Serve worlds as map tiles, with a map to look at them.

    Example: earthgen serve --port 8000 --cache ~/earthgen-cache
    """
    import tileserver

    chosen: dict[str, Any] = {
        "cache": using.folder,
        "weights": using.weights,
        "prompt_weights": using.prompt_weights,
        "band_weights": band_weights,
        "threads": using.threads,
        "log_format": log_format,
        "store": using.store,
    }
    # What was not said here may still come from the environment: see the service's settings.
    try:
        settings = tileserver.Settings(**{name: value for name, value in chosen.items() if value is not None})
    except ValueError as error:
        raise InvalidRequestError(f"a setting in the environment cannot be used: {error}") from error
    tileserver.serve(settings, host=host, port=port, workers=workers)


# Unknown options are left to become arguments, so that `tile 3 -1 0` speaks of the column, not of an option.
@app.command(context_settings={"ignore_unknown_options": True})
@grouped
def tile(
    z: Annotated[int, typer.Argument(help="Zoom, 0 to 18.", metavar="Z")],
    x: Annotated[int, typer.Argument(help="Column, from the west.", metavar="X")],
    y: Annotated[int, typer.Argument(help="Row, from the north.", metavar="Y")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="File to write: .png, .jpg or .webp; .tif of a band.")
    ],
    size: Annotated[int, typer.Option(help="Pixels along a side: 256 or 512.")] = 256,
    *,
    where: WorldOptions,
    band: BandName = None,
    using: EngineOptions,
    band_weights: BandWeights = None,
) -> None:
    """Write one map tile as a picture, or the values of a band as .tif.

    Example: earthgen tile 12 2178 1421 --root earth --seed 7 -o tile.png
    """
    from earthgen.bands import BandView, available_band, band_tile_box
    from earthgen.pyramid import MAX_ZOOM, check_tile

    check_tile(z, x, y)
    if size not in (256, 512):
        raise InvalidRequestError(f"size is {size}; allowed: 256, 512")
    picture_format = _picture_format(output, with_values=band is not None)
    chosen = where.world(using.folder)
    chosen.check_zoom(z if size == 256 else min(z + 1, MAX_ZOOM))
    if band is not None:
        available_band(band, band_weights).check_zoom(z if size == 256 else z + 1)
    with using.open() as engine:
        if band is None:
            _write_picture(engine.tile(chosen, z, x, y, size=size), output, picture_format)
        else:
            view = BandView(engine, band, band_weights)
            values = view.tile(chosen, z, x, y, size=size)
            if picture_format == "GTiff":
                from earthgen.export.band import encode_band

                content = encode_band(view, chosen, band_tile_box(z, x, y, size), values)
                write_whole(output, lambda file: file.write(content))
            else:
                _write_picture(view.band.render(values), output, picture_format)
    typer.echo(output)


@app.command()
@grouped
def region(
    bbox: Annotated[str, typer.Option(metavar="W,S,E,N", help="West, south, east, north in degrees.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="File to write: .tif.")],
    zoom: Annotated[int | None, typer.Option(help="Web Mercator zoom, 0 to 18; or give --gsd.")] = None,
    gsd: FinestGsd = None,
    *,
    where: WorldOptions,
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Refuse regions of more pixels.  [default: 268435456]")
    ] = None,
    band: BandName = None,
    quiet: Quiet = False,
    using: EngineOptions,
    band_weights: BandWeights = None,
) -> None:
    """Write a region as a Cloud-Optimized GeoTIFF; run the same command again to continue a stopped one.

    Example: earthgen region --bbox 11.4,47.2,11.6,47.3 --zoom 12 -o innsbruck.tif
    """
    bounds = parsed_bounds(bbox)
    from earthgen.bands import BandView, available_band
    from earthgen.export.cog import MAX_PIXELS, check_export, export_cog
    from earthgen.pyramid import check_bounds, ground_sampling_distance, zoom_for_gsd

    check_bounds(bounds)
    latitude = (bounds[1] + bounds[3]) / 2
    if (zoom is None) == (gsd is None):
        raise InvalidRequestError("give either --zoom or --gsd")
    if gsd is not None:
        zoom = zoom_for_gsd(gsd, latitude)
    assert zoom is not None
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    check_export(bounds, zoom, output, max_pixels=limit)
    chosen = where.world(using.folder)
    chosen.check_zoom(zoom)
    if band is not None:
        available_band(band, band_weights).check_zoom(zoom)
    with using.open() as engine, progress_bar(output.name, quiet) as show:
        view = None if band is None else BandView(engine, band, band_weights)
        shown = None if view is None else view.band
        box = export_cog(view or engine, chosen, bounds, zoom, output, show, max_pixels=limit, band=shown)
    metres = ground_sampling_distance(zoom, latitude)
    typer.echo(f"{output}: {box.width} x {box.height} pixels, zoom {zoom}, {metres:.4g} m per pixel")


@app.command()
@grouped
def generate(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What the picture shows.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="File to write: .png or .tif.")],
    gsd: Annotated[float, typer.Option(metavar="METRES", help="Metres per pixel, 0.3 to 1200.")] = 1.0,
    size: Annotated[int, typer.Option(metavar="PIXELS", help="Pixels along a side, up to 4096.")] = 1024,
    seed: Seed = None,
    negative: Negative = None,
    guidance: Guidance = None,
    quality: HowWell = None,
    quiet: Quiet = False,
    *,
    using: EngineOptions,
) -> None:
    """Write one picture of what a prompt says, at a chosen resolution.

    Example: earthgen generate "a harbour town on a rocky coast" --gsd 1 --size 1024 -o town.tif
    """
    endings: dict[str, PictureFormat] = {".png": "png", ".tif": "tif", ".tiff": "tif"}
    picture_format = endings[checked_ending(output, endings)]
    from earthgen.picture import encode_picture, frame_of, make_picture

    world = ValueOptions("prompt", seed, prompt, negative, guidance, gsd, quality=quality).world()
    frame = frame_of(world, size)
    with using.open() as engine, progress_bar(output.name, quiet) as show:
        pixels = make_picture(engine, world, frame, show)
        content = encode_picture(engine, world, frame, pixels, picture_format)
    write_whole(output, lambda file: file.write(content))
    typer.echo(f"{output}: {size} x {size} pixels, {world.gsd:g} m per pixel, world {world.id}")


@world_app.command("make")
@grouped
def world_make(value: ValueOptions) -> None:
    """Print a world's id and its canonical JSON.

    Example: earthgen world make --root planet --seed 7
    """
    _print_world(value.world())


@world_app.command("register", hidden=True)
@world_app.command("new")
@grouped
def world_new(value: ValueOptions, cache: CacheFolder = None) -> None:
    """Make a world known by its id to every command and service on the same cache folder.

    Example: earthgen world new --root prompt --prompt "a harbour town" --gsd 1
    """
    from earthgen.editing import layers_of
    from earthgen.registry import WorldRegistry

    world = value.world()
    layers_of(world)  # Refuses polygons that could never be shown.
    WorldRegistry(cache_folder(cache)).register(world)
    _print_world(world)


@world_app.command("show")
def world_show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="earth, planet, or the id of a registered world.")],
    cache: CacheFolder = None,
) -> None:
    """Print the id and canonical JSON of a named world."""
    from earthgen.registry import WorldRegistry

    _print_world(WorldRegistry(cache_folder(cache)).get(name))


@world_app.command("list")
def world_list(cache: CacheFolder = None) -> None:
    """Print every name a world can be asked for by."""
    from earthgen.registry import WorldRegistry

    for name in WorldRegistry(cache_folder(cache)).names():
        typer.echo(name)


@weights_app.command("list")
def weights_list() -> None:
    """List the weights that come with the package: name, size, folder."""
    shipped = _shipped_weights()
    if not shipped:
        raise WeightsError("no weights come with this installation; give a folder to --weights")
    for name, folder in shipped.items():
        size = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
        typer.echo(f"{name}\t{size / 1e6:.1f} MB\t{folder}")


@weights_app.command("card")
def weights_card(
    weights: Annotated[str | None, typer.Argument(metavar="NAME|DIR", help="Shipped name, or a folder.")] = None,
) -> None:
    """Print the card of weights: data, recipe, metrics, what they are bad at."""
    card = _weights_folder(weights) / "README.md"
    if not card.is_file():
        raise WeightsError(f"{card.parent} holds no card (README.md)")
    typer.echo(card.read_text(encoding="utf-8"))


@weights_app.command("verify")
def weights_verify(
    weights: Annotated[str | None, typer.Argument(metavar="NAME|DIR", help="Shipped name, or a folder.")] = None,
) -> None:
    """Check that a folder of weights is whole and can be used; print its id and number of parameters."""
    from earthgen.bandnet import BandNet
    from earthgen.denoiser import DetailDenoiser
    from earthgen.roots.denoised import PromptDenoiser
    from earthgen.roots.prompt import PromptGenerator
    from earthgen.tower import LiteTower
    from earthgen.weights import load_model

    folder = _weights_folder(weights)
    if not (folder / "config.json").is_file():
        typer.echo(f"{folder}: whole, id {LiteTower.from_folder(folder).id}")
        return
    kinds: dict[str, Any] = {kind.__name__: kind for kind in (BandNet, DetailDenoiser, PromptGenerator, PromptDenoiser)}
    loaded: Any = load_model(kinds.get(_network(folder), DetailDenoiser), folder, folder)
    parameters = sum(parameter.numel() for parameter in loaded.net.parameters())
    typer.echo(f"{folder}: whole, id {loaded.id}, {parameters:,} parameters")


@app.command()
@grouped
def info(where: CacheOptions, weights: WeightsSource = None, as_json: AsJson = False) -> None:
    """Print versions, weights, cache use and the pyramid's zooms."""
    facts = _facts(where.folder, weights)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    for group in ("versions", "engine", "cache"):
        typer.echo(group)
        for name, value in facts[group].items():
            typer.echo(f"  {name:<14} {value}")
    typer.echo("pyramid")
    typer.echo("  zoom  m/px at equator  m/px at 45 degrees  world width in pixels")
    for row in facts["pyramid"]:
        typer.echo(f"  {row['zoom']:>4}  {row['gsd_0']:>15.3f}  {row['gsd_45']:>18.3f}  {row['width']:>21,}")


def _facts(cache: Path | None, weights: str | None) -> dict[str, Any]:
    import platform
    from importlib.metadata import version

    from earthgen import __version__
    from earthgen.engine import Engine
    from earthgen.pyramid import MAX_ZOOM, ground_sampling_distance, world_size
    from earthgen.registry import BUILT_IN, WorldRegistry

    versions = {"earthgen": __version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in ("torch", "diffusers", "rasterio", "rio-tiler", "titiler-core")}
    try:
        with Engine.open(weights) as engine:
            engine_facts = {"weights": engine.weights_id, "fingerprint": engine.fingerprint}
    except WeightsError as error:
        engine_facts = {"weights": f"cannot be used: {error}"}
    if cache is None:
        cache_facts: dict[str, Any] = {"folder": "none (memory only)"}
    else:
        files = [path for path in cache.rglob("*") if path.is_file()] if cache.is_dir() else []
        cache_facts = {
            "folder": str(cache),
            "bytes": sum(path.stat().st_size for path in files),
            "worlds": len(WorldRegistry(cache).names()) - len(BUILT_IN),
        }
    pyramid = [
        {
            "zoom": zoom,
            "gsd_0": ground_sampling_distance(zoom, 0),
            "gsd_45": ground_sampling_distance(zoom, 45),
            "width": world_size(zoom),
        }
        for zoom in range(MAX_ZOOM + 1)
    ]
    return {"versions": versions, "engine": engine_facts, "cache": cache_facts, "pyramid": pyramid}


def _print_world(world: World) -> None:
    typer.echo(world.id)
    typer.echo(world.canonical_json)


def _picture_format(path: Path, with_values: bool) -> str:
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
    if with_values:
        formats |= {".tif": "GTiff", ".tiff": "GTiff"}
    return formats[checked_ending(path, formats)]


def _write_picture(pixels: npt.NDArray[np.uint8], path: Path, picture_format: str) -> None:
    from PIL import Image

    write_whole(path, lambda file: Image.fromarray(pixels).save(file, picture_format, quality=90))


def _shipped_weights() -> dict[str, Path]:
    """The folders of weights that come with the package by name, the cascade's first; each has a card."""
    root = Path(__file__).parent / "weights"
    names = sorted(card.parent.relative_to(root).as_posix() for card in root.rglob("README.md"))
    return {name: root / name for name in sorted(names, key=lambda name: name != "cascade")}


def _weights_folder(name: str | None) -> Path:
    """A folder of weights by shipped name or path; without either, the first shipped one."""
    shipped = _shipped_weights()
    if name is None:
        if not shipped:
            raise WeightsError("no weights come with this installation; name a folder")
        return next(iter(shipped.values()))
    folder = shipped.get(name, Path(name))
    if name not in shipped and not (folder / "config.json").is_file():
        raise WeightsError(
            f"{name!r} is neither a folder with a config.json nor one of: {', '.join(shipped) or '(none)'}"
        )
    return folder


def _network(folder: Path) -> str:
    """The class of a folder's network by name; "" if it cannot be read, which those who load it complain about."""
    try:
        return str(json.loads((folder / "config.json").read_bytes())["_class_name"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: words after the program's name; those of the process if None.

    Returns:
        0, 2 after an error (one line on standard error), 130 after Ctrl-C.
    """
    command = typer.main.get_command(app)
    try:
        outcome = command.main(arguments, prog_name="earthgen", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        outcome = _INTERRUPTED
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        where = f" (see {context.command_path} --help)" if context is not None else ""
        return _fail(f"{error.format_message()}{where}")
    except EarthgenError as error:
        return _fail(str(error))
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        return _fail(f"{name}{error.strerror or error}")
    if outcome == _INTERRUPTED:
        print("earthgen: interrupted", file=sys.stderr)
    return outcome if isinstance(outcome, int) else 0


def _fail(message: str) -> int:
    print(f"earthgen: {' '.join(message.split())}", file=sys.stderr)
    return _MISTAKE


if __name__ == "__main__":
    sys.exit(main())
