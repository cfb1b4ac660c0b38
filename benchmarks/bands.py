"""How near bands come to what was really there: held-out ground, beside what needs no network.

    python -m benchmarks.bands --data DIR

Each pack is a table row group of its own, at its own resolution. Baselines know the training pixels of the same pack:
"constant" says the mean, or the most frequent class; "colour" says what the colour of the pixel alone would (least
squares on red, green and blue, or the class of the nearest mean colour).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from datasets.labelled import Labelled, read_labelled
from earthgen.bandnet import PIXEL_ALIGNMENT, BandNet, load_band_net
from earthgen.bands import BANDS, Band, available_band, band_folder
from training.bands import data_folder

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
_FIT_PIXELS = 200_000


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report: pack, who said it, and its numbers by name."""

    pack: str
    what: str
    numbers: dict[str, float]


def read_picture(net: BandNet, item: Labelled) -> Bytes:
    """The band of a whole picture, whose sides are grown to what the network takes and cut back."""
    height, width = item.image.shape[:2]
    grown = ((0, -height % PIXEL_ALIGNMENT), (0, -width % PIXEL_ALIGNMENT), (0, 0))
    pixels = np.pad(item.image, grown, mode="edge")
    return net.read(pixels, np.full(len(pixels), item.gsd))[:height, :width]


def report(net: BandNet, band: Band, train: Sequence[Labelled], held_out: Sequence[Labelled]) -> Iterator[Row]:
    """The rows of each pack that the held-out pictures are from."""
    for pack in dict.fromkeys(item.pack for item in held_out):
        seen = _pixels([item for item in train if item.pack == pack])
        items = [item for item in held_out if item.pack == pack]
        read = np.concatenate([read_picture(net, item).ravel() for item in items])
        colours = np.concatenate([item.image.reshape(-1, 3) for item in items])
        target = np.concatenate([item.target.ravel() for item in items])
        if band.kind == "values":
            yield from _value_rows(pack, seen, read, colours, target)
        else:
            yield from _class_rows(pack, band, seen, read, colours, target)


def _pixels(items: Sequence[Labelled]) -> tuple[Bytes, Bytes]:
    """Colours (n, 3) and targets (n,) of pixels that are spread evenly over pictures."""
    every = max(1, sum(item.target.size for item in items) // _FIT_PIXELS)
    colours = np.concatenate([item.image.reshape(-1, 3)[::every] for item in items])
    return colours, np.concatenate([item.target.ravel()[::every] for item in items])


def _value_rows(pack: str, seen: tuple[Bytes, Bytes], read: Bytes, colours: Bytes, target: Bytes) -> Iterator[Row]:
    known, truth = seen
    factors, *_ = np.linalg.lstsq(_with_one(known), truth.astype(np.float64), rcond=None)
    for what, guess in (
        ("earthgen", read.astype(np.float64)),
        ("colour", np.clip(_with_one(colours) @ factors, 0, 255)),
        ("constant", np.full(len(target), truth.mean())),
    ):
        error = guess - target
        spread = np.var(target.astype(np.float64))
        numbers = {"MAE": np.abs(error).mean(), "RMSE": np.sqrt(np.square(error).mean())}
        yield Row(pack, what, numbers | {"R2": 1 - np.square(error).mean() / spread})


def _with_one(colours: Bytes) -> Floats:
    return np.column_stack([colours.astype(np.float64), np.ones(len(colours))])


def _class_rows(
    pack: str, band: Band, seen: tuple[Bytes, Bytes], read: Bytes, colours: Bytes, target: Bytes
) -> Iterator[Row]:
    """Rows of a band of classes; predictions are bits, so that a set of classes can be asked whether it has them."""
    bits = np.zeros(256, dtype=np.uint8)
    for bit, item in enumerate(band.classes):
        bits[item.code] = 1 << bit
    known = target > 0
    truth = target[known]
    labels, counts = np.unique(seen[1][seen[1] > 0], return_counts=True)
    # The lowest class of a set stands for it.
    means = np.stack([seen[0][seen[1] == label].mean(axis=0) for label in labels])
    nearest = _nearest(colours[known], means)
    for what, guess in (
        ("earthgen", bits[read[known]]),
        ("colour", _lowest(labels[nearest])),
        ("constant", np.full(len(truth), _lowest(labels[[counts.argmax()]])[0])),
    ):
        yield Row(pack, what, class_numbers(guess, truth, band))


def class_numbers(guess: Bytes, truth: Bytes, band: Band) -> dict[str, float]:
    """Scores of classes.

    Args:
        guess: one class a pixel, as a bit.
        truth: a set of classes a pixel, as bits; none of them empty.
        band: whose legend it is.

    Returns:
        "accuracy": share of pixels whose class the label allows. "mIoU": mean over the labels of the intersection over
        union, if no two labels have a class in common. "F1": of buildings, for a band of two classes.
    """
    numbers = {"accuracy": float((guess & truth > 0).mean())}
    labels = np.unique(truth)
    if int(labels.astype(int).sum()) == int(np.bitwise_or.reduce(labels)):
        ratios = []
        for label in labels:
            is_guessed, is_true = guess & label > 0, truth == label
            ratios.append((is_guessed & is_true).sum() / max(1, (is_guessed | is_true).sum()))
        numbers["mIoU"] = float(np.mean(ratios))
    if len(band.classes) == 2:
        is_guessed, is_true = guess == 2, truth == 2
        numbers["F1"] = float(2 * (is_guessed & is_true).sum() / max(1, is_guessed.sum() + is_true.sum()))
    return numbers


def _nearest(colours: Bytes, means: Floats) -> npt.NDArray[np.intp]:
    best = np.full(len(colours), np.inf)
    chosen = np.zeros(len(colours), dtype=np.intp)
    for index, mean in enumerate(means):
        distance = np.square(colours.astype(np.float32) - mean.astype(np.float32)).sum(axis=1)
        chosen[distance < best] = index
        best = np.minimum(best, distance)
    return chosen


def _lowest(sets: Bytes) -> Bytes:
    """The lowest bit of each set."""
    return (sets & (~sets + 1).astype(np.uint8)).astype(np.uint8)


def main(
    bands: Annotated[list[str] | None, typer.Argument(metavar="BAND", help="all that packs are at hand for")] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder with labels/ and imagery/; default $EARTHGEN_DATA")
    ] = None,
    weights: Annotated[Path | None, typer.Option(metavar="DIR", help="one folder a band; default the shipped")] = None,
) -> None:
    """Print held-out scores as a table. Example: python -m benchmarks.bands nir --data DIR."""
    folder = data_folder(data)
    for name in bands or [name for name in BANDS if not BANDS[name].absent]:
        band, where = available_band(name, weights), band_folder(name, weights)
        assert where is not None
        net = load_band_net(where, band)
        train, held_out = (list(read_labelled(folder, name, split)) for split in ("train", "val"))
        typer.echo(f"\n{band.title}\n")
        names = ["MAE", "RMSE", "R2"] if band.kind == "values" else ["accuracy", "mIoU"]
        if len(band.classes) == 2:
            names.append("F1")
        typer.echo(f"| pack | what | {' | '.join(names)} |\n|---|---|{'---|' * len(names)}")
        for row in report(net, band, train, held_out):
            shown = [f"{row.numbers[key]:.3g}" if key in row.numbers else "" for key in names]
            typer.echo(f"| {row.pack} | {row.what} | {' | '.join(shown)} |")


if __name__ == "__main__":
    typer.run(main)
