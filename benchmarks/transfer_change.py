"""Train change detection on a dump, test on real pairs: the dump alone, real pairs alone, both.

    earthgen dump --task change-detection --format levir-cd --count 160 --size 128 --gsd 0.6,2.4 --splits 0.8,0.1,0.1 \
        --seed 1 -o runs/change-dump
    python -m benchmarks.transfer_change --dump runs/change-dump --data DIR

The dump is read by torchgeo's LEVIRCD as it is. The network is a small Siamese U-Net with random weights, the same for
every row: as many crops, the same optimiser, a row's seeds differ in weights and crops. Real pairs are those of
`datasets.changes_real`, of which most are composed from labelled pictures; held-out ones are of other ground, and the
first column's were really taken at two dates. Intervals are 95 %, from a bootstrap over held-out pairs; counts of a
row's seeds are added up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import typer
from torch import nn

from benchmarks.change import interval, windows
from datasets.changes_real import WITH_DATES, read_real_pairs
from datasets.packs import imagery_folder
from perception.metrics import binary_confusion, binary_scores
from trainingsets.changes import Batch, ChangeSample, ChangeSampler, batch_of, dated, generator

Counts = npt.NDArray[np.int64]

DUMP = "dump"
SETS: dict[str, tuple[str, ...]] = {"real dates": WITH_DATES, "composed of real pictures": ("dubai", "kampala")}
_CROP, _BATCH, _RATE = 64, 16, 1e-3
_COMPOSED = 16
"""Held-out pairs composed from each pack."""
_CHANCE = "all pixels changed"


class SmallSiamese(nn.Module):
    """One encoder for both dates, distances of its three levels, a decoder: logits of change at each pixel.

    Args:
        width: channels of the finest level; each coarser one has twice as many.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        sizes = [width, 2 * width, 4 * width]
        self.encoder = nn.ModuleList(
            _block(before, after, 1 if level == 0 else 2)
            for level, (before, after) in enumerate(zip([3, *sizes], sizes, strict=False))
        )
        self.decoder = nn.ModuleList(_block(sizes[level] + sizes[level - 1], sizes[level - 1], 1) for level in (2, 1))
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, pair: torch.Tensor) -> torch.Tensor:
        """Logits (b, h, w) of a pair (b, t=2, 3, h, w) in [-1, 1]; h and w are multiples of 4."""
        at = pair.flatten(0, 1)
        apart = []
        for block in self.encoder:
            at = block(at)
            dates = at.unflatten(0, (-1, 2))
            apart.append((dates[:, 0] - dates[:, 1]).abs())
        found = apart[-1]
        for block, finer in zip(self.decoder, reversed(apart[:-1]), strict=True):
            found = block(torch.cat([F.interpolate(found, scale_factor=2.0, mode="nearest"), finer], dim=1))
        logits: torch.Tensor = self.head(found)[:, 0]
        return logits


def _block(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, 1),
        nn.GroupNorm(4, after),
        nn.ReLU(),
        nn.Conv2d(after, after, 3, 1, 1),
        nn.GroupNorm(4, after),
        nn.ReLU(),
    )


def read_dump(folder: Path) -> Iterator[ChangeSample]:
    """Training pairs of a dump in the layout of LEVIR-CD, by torchgeo's reader.

    Raises:
        typer.BadParameter: there is none in the folder.
    """
    from torchgeo.datasets import LEVIRCD

    if not (folder / "list").is_dir():
        raise typer.BadParameter(f"{folder} holds no dump of format levir-cd; its module's docstring has the command")
    pairs = LEVIRCD(str(folder), split="train")
    for number in range(len(pairs)):
        sample = pairs[number]
        before, after = (date.permute(1, 2, 0).numpy().astype(np.uint8) for date in sample["image"])
        change = sample["mask"].squeeze().numpy() > 0
        unknown = np.zeros(change.shape, dtype=np.uint8)
        name = f"{number}"
        yield ChangeSample(DUMP, name, name, before, after, change, np.ones_like(change), unknown, unknown)


def loss_of(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Cross entropy and Dice where the truth is known."""
    known, change = batch.known.float(), batch.change.float()
    entropy = F.binary_cross_entropy_with_logits(logits, change, weight=known, reduction="sum") / known.sum().clamp(1)
    found = logits.sigmoid() * known
    return entropy + 1 - (2 * (found * change).sum() + 1) / (found.sum() + (change * known).sum() + 1)


def trained(samples: Sequence[ChangeSample], steps: int, seed: int) -> SmallSiamese:
    """A network that has seen `steps` batches; half of the crops are of the dump where there are others too."""
    real = len({sample.source for sample in samples} - {DUMP})
    # Pictures of a dump have dates of their own already.
    sampler = ChangeSampler(samples, _CROP, seed, own_dates=(*WITH_DATES, DUMP), shares={DUMP: max(1, real)})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = SmallSiamese()
    optimiser = torch.optim.AdamW(net.parameters(), _RATE)
    for step in range(steps):
        batch = sampler.draw(step, _BATCH)
        optimiser.zero_grad(set_to_none=True)
        loss_of(net(batch.images), batch).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
    return net.eval()


@torch.inference_mode()
def counts_of(net: nn.Module, held_out: Sequence[ChangeSample]) -> Counts:
    """(n, 2, 2): the confusion of each pair, row found, column true."""
    found = []
    for sample in held_out:
        height, width = (side // 4 * 4 for side in sample.change.shape)
        part = sample.crop(0, 0, min(height, width)) if sample.change.shape != (height, width) else sample
        logits = net(batch_of([part]).images)[0]
        found.append(binary_confusion(logits.numpy() > 0, part.change, part.known))
    return np.stack(found)


def held_out_pairs(labels: Path) -> dict[str, list[ChangeSample]]:
    """Real pairs by column, large ones in windows; composed ones get the effects of dates."""
    found: dict[str, list[ChangeSample]] = {name: [] for name in SETS}
    parts = [part for each in read_real_pairs(labels, "val", composed=_COMPOSED) for part in windows(each)]
    for number, part in enumerate(parts):
        for name, sources in SETS.items():
            if part.source in sources:
                found[name].append(part if part.source in WITH_DATES else dated(part, generator(1, number)))
    return found


def table(rows: dict[str, dict[str, Counts]]) -> list[str]:
    """F1 of change, per cent, with intervals; a row for each way to learn."""
    lines = [f"| learnt from | {' | '.join(SETS)} |", "|---" * (1 + len(SETS)) + "|"]
    for name, counts in rows.items():
        cells = [interval(counts[column], lambda total: binary_scores(total).f1) for column in SETS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main(
    dump: Annotated[Path, typer.Option(metavar="DIR", help="a dump: change-detection as levir-cd")],
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder with imagery/ and labels/; default $EARTHGEN_DATA")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="of 16 crops, for each row and seed")] = 150,
    seeds: Annotated[int, typer.Option(min=1, help="networks for each row")] = 3,
) -> None:
    """Print the table of docs/dump.md."""
    labels = imagery_folder(data).parent / "labels"
    generated, real = list(read_dump(dump)), list(read_real_pairs(labels, "train"))
    held_out = held_out_pairs(labels)
    rows: dict[str, dict[str, Counts]] = {}
    for name, samples in {
        f"the dump ({len(generated)} pairs)": generated,
        f"real ({len(real)} pairs)": real,
        "both, half of the crops each": [*generated, *real],
    }.items():
        nets = [trained(samples, steps, seed) for seed in range(seeds)]
        rows[name] = {column: sum(counts_of(net, some) for net in nets) for column, some in held_out.items()}  # type: ignore[misc]
        alone = [binary_scores(counts_of(net, held_out["real dates"]).sum(axis=0)).f1 for net in nets]
        typer.echo(f"{name}: seeds one by one {', '.join(f'{100 * f1:.1f}' for f1 in alone)}", err=True)
    rows[_CHANCE] = {
        column: np.stack([binary_confusion(np.ones_like(s.change), s.change, s.known) for s in some])
        for column, some in held_out.items()
    }
    typer.echo(f"held out: {', '.join(f'{len(some)} {name}' for name, some in held_out.items())}\n")
    typer.echo("\n".join(table(rows)))


if __name__ == "__main__":
    typer.run(main)
