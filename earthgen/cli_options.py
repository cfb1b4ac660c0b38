"""What the commands share: options, the world they speak of, the engine, the progress bar, files written whole.

Options that go together are a dataclass. A command marked `@grouped` takes one as a parameter, and its fields are
options of the command.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar, get_type_hints

import typer

from earthgen.errors import AddressError, InvalidRequestError, WorldError

if TYPE_CHECKING:
    from earthgen.engine import Engine
    from earthgen.pyramid import Bounds
    from earthgen.world import World

WorldName = Annotated[
    str | None, typer.Option("--world", metavar="ID", help="earth, planet, or the id of a registered world.")
]
RootName = Annotated[
    str | None,
    typer.Option("--root", metavar="ROOT", help="Where the world starts: earth, planet or prompt.  [default: earth]"),
]
Seed = Annotated[int | None, typer.Option("--seed", metavar="INTEGER", help="Seed, 0 to 2**63 - 1.  [default: 0]")]
Prompt = Annotated[str | None, typer.Option("--prompt", metavar="TEXT", help="Text that guides generation.")]
Negative = Annotated[
    str | None, typer.Option("--negative", metavar="TEXT", help="Text that generation is guided away from.")
]
Guidance = Annotated[
    float | None, typer.Option("--guidance", metavar="NUMBER", help="How strongly, 1 to 20.  [default: 1, no guidance]")
]
Day = Annotated[
    str | None,
    typer.Option("--date", metavar="YYYY-MM-DD", help="Show the edits of that day.  [default: those that never end]"),
]
WorldGsd = Annotated[
    float | None, typer.Option("--gsd", metavar="METRES", help="Metres per pixel that a root prompt speaks of.")
]
HowWell = Annotated[
    str | None,
    typer.Option("--quality", metavar="NAME", help="draft, standard or best: work for detail.  [default: standard]"),
]
EditsFile = Annotated[
    Path | None, typer.Option("--edits", metavar="FILE", help="JSON list of edits; - reads standard input.")
]
LayoutFile = Annotated[
    Path | None,
    typer.Option(
        "--layout",
        metavar="FILE",
        help="GeoJSON of what lies where, painted after the edits; - reads standard input.",
    ),
]
CacheFolder = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        envvar="EARTHGEN_CACHE",
        help="Folder of finished windows and registered worlds.  [default: earthgen in the user's cache folder]",
    ),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Keep finished windows in memory only.")]
WeightsSource = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="DIR",
        envvar="EARTHGEN_WEIGHTS",
        help="Folder of weights, or hf:OWNER/NAME.  [default: the ones that come with the package]",
    ),
]
PromptWeights = Annotated[
    str | None,
    typer.Option(
        "--prompt-weights",
        metavar="DIR",
        envvar="EARTHGEN_PROMPT_WEIGHTS",
        help="Weights of what prompts start from; a Stable Diffusion 2 layout is allowed.  [default: the package's]",
    ),
]
BandName = Annotated[
    str | None,
    typer.Option("--band", metavar="NAME", help="What a band says in place of the colours: nir, landcover, buildings."),
]
BandWeights = Annotated[
    Path | None,
    typer.Option(
        "--band-weights",
        metavar="DIR",
        envvar="EARTHGEN_BAND_WEIGHTS",
        help="Folder of weights of bands, one folder a band.  [default: the package's]",
    ),
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, envvar="EARTHGEN_THREADS", help="CPU threads of the network.")
]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        envvar="EARTHGEN_STORE",
        help="Where machines share finished windows: file:///folder or s3://bucket/prefix.  [default: nowhere]",
    ),
]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
FinestGsd = Annotated[
    float | None, typer.Option("--gsd", metavar="METRES", help="Metres per pixel or finer, in the middle of the box.")
]

Result = TypeVar("Result")


def grouped(command: Callable[..., Result]) -> Callable[..., Result]:
    """A command whose parameters that are dataclasses of options are those options."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if isinstance(kind, type) and is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name not in groups:
            parameters.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        kinds = get_type_hints(groups[name], include_extras=True)
        parameters += [
            inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=kinds[field.name]
            )
            for field in fields(groups[name])
        ]

    @functools.wraps(command)
    def call(**options: Any) -> Result:
        given = {
            name: kind(**{field.name: options.pop(field.name) for field in fields(kind)})
            for name, kind in groups.items()
        }
        return command(**options, **given)

    # What typer reads; wraps has copied those of the command.
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del call.__wrapped__
    return call


@dataclass(frozen=True)
class ValueOptions:
    """A world by value; what is None takes its default."""

    root: RootName = None
    seed: Seed = None
    prompt: Prompt = None
    negative: Negative = None
    guidance: Guidance = None
    gsd: WorldGsd = None
    edits: EditsFile = None
    layout: LayoutFile = None
    quality: HowWell = None

    def world(self) -> World:
        """The world.

        Raises:
            WorldError: a value that makes no sense.
        """
        from earthgen.world import World

        value: dict[str, Any] = {
            "root": self.root,
            "seed": self.seed,
            "prompt": self.prompt,
            "edits": _read_json(self.edits, "edits"),
            "negative": self.negative,
            "guidance": self.guidance,
            "gsd": self.gsd,
            "quality": self.quality,
        }
        given = {name: item for name, item in value.items() if item is not None}
        if self.layout is None:
            return World.from_dict(given)
        from earthgen.layout import world_from_layout

        return world_from_layout({**given, "layout": _read_json(self.layout, "layout features")})


@dataclass(frozen=True)
class NamedOptions:
    """A world by name or by value, its edits with their dates."""

    name: WorldName = None
    root: RootName = None
    seed: Seed = None
    prompt: Prompt = None
    quality: HowWell = None

    def world(self, cache: Path | None) -> World:
        """The world; registered ones are looked for in the cache folder."""
        from earthgen.world import checked_quality

        world = self._named(cache)
        return world if self.quality is None else replace(world, quality=checked_quality(self.quality))

    def _named(self, cache: Path | None) -> World:
        if self.name is None:
            if self.root == "prompt":
                raise InvalidRequestError(
                    "root prompt needs options that this command lacks; make the world with `earthgen world new` and"
                    " give its id to --world"
                )
            return ValueOptions(self.root, self.seed, self.prompt).world()
        if (self.root, self.seed, self.prompt) != (None, None, None):
            raise InvalidRequestError("give either --world, or --root, --seed and --prompt")
        from earthgen.registry import WorldRegistry

        return WorldRegistry(cache).get(self.name)


@dataclass(frozen=True)
class WorldOptions(NamedOptions):
    """A world by name or by value, on a day."""

    day: Day = None

    def world(self, cache: Path | None) -> World:
        """The world on that day; registered ones are looked for in the cache folder."""
        return super().world(cache).at(self.day)


@dataclass(frozen=True)
class CacheOptions:
    """Where finished windows and registered worlds are."""

    cache: CacheFolder = None
    no_cache: NoCache = False

    @property
    def folder(self) -> Path | None:
        """The cache folder: the one that was named, the user's own, or none."""
        return None if self.no_cache else cache_folder(self.cache)


@dataclass(frozen=True)
class EngineOptions(CacheOptions):
    """What pixels are made with, and where they are kept."""

    weights: WeightsSource = None
    prompt_weights: PromptWeights = None
    threads: Threads = None
    store: StoreUrl = None

    @contextmanager
    def open(self) -> Iterator[Engine]:
        """The engine that the options and $EARTHGEN_BACKEND describe, closed at the end."""
        from earthgen.engine import Engine

        backend = os.environ.get("EARTHGEN_BACKEND") or "torch"
        with Engine.open(
            self.weights,
            self.folder,
            threads=self.threads,
            prompt_weights=self.prompt_weights,
            backend=backend,
            store=self.store,
        ) as engine:
            yield engine


def cache_folder(chosen: Path | None) -> Path:
    """The cache folder that was named, or the user's own."""
    if chosen is not None:
        return chosen
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "earthgen"


def _read_json(path: Path | None, what: str) -> object:
    if path is None:
        return None
    try:
        return json.loads(sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WorldError(f"{what} in {path} are not JSON: {error}") from error
    except RecursionError as error:
        raise WorldError(f"{what} in {path} are nested too deeply") from error


def parsed_bounds(text: str) -> Bounds:
    """Four numbers of an option --bbox.

    Raises:
        AddressError: the text is something else.
    """
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError as error:
        raise AddressError(f"bbox is {text!r}; four numbers W,S,E,N in degrees are allowed") from error
    return west, south, east, north


@contextmanager
def progress_bar(title: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error that appears with the first report."""
    from tqdm import tqdm

    with ExitStack() as stack:
        bar: tqdm[NoReturn] | None = None

        def show(done: int, total: int) -> None:
            nonlocal bar
            if bar is None:
                # What an earlier run made is where the bar starts, so that it does not count towards the pace.
                bar = stack.enter_context(tqdm(desc=title, total=total, initial=done, unit="piece", disable=quiet))
            bar.update(done - bar.n)

        yield show


def checked_ending(path: Path, allowed: Iterable[str]) -> str:
    """The ending of a file to write, in small letters; refused if it is not allowed or its folder is not there."""
    ending = path.suffix.lower()
    if ending not in allowed:
        raise InvalidRequestError(f"{path} ends in {path.suffix or 'nothing'!r}; allowed: {', '.join(allowed)}")
    if not path.parent.is_dir():
        raise InvalidRequestError(f"folder {path.parent} does not exist")
    return ending


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write beside and rename, so that a file is there whole or not at all."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
        # mkstemp makes files for their owner only; a picture gets what any new file gets.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
