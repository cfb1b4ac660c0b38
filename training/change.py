"""Train change detectors: CDMamba, after Semantic-CD, and FC-Siam as a peer, on the same crops of the same pairs.

    python -m datasets.changes_engine --out runs/pairs --count 300
    python -m training.change --model cdmamba --mix both --pairs runs/pairs --out runs/change/cdmamba-both

A crop is a function of the seed, the step and its place in the batch. So every model sees the same crops in the same
order, and after equal numbers of samples they can be compared. A run that is begun again goes on from its checkpoint;
the learning rate is constant within a call, so it may go on for as long as one likes, and in the end at a lower one
(`--rate`). What ships is the average of the weights.

Three mixes: `engine` (pairs that the engine made, `datasets.changes_engine`), `real` (`datasets.changes_real`), `both`.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import nn

from datasets.changes_engine import SOURCE, read_engine_pairs
from datasets.changes_real import WITH_DATES, read_real_pairs
from datasets.packs import DatasetNotFoundError, Split, imagery_folder
from earthgen.conditioning import TextEncoder, text_encoder
from perception import semantic_cd
from perception.aggregation import cost_volume
from perception.cdmamba import CDMamba, CDMambaConfig, change_loss
from perception.checkpoint import fill, read_network, save_network
from perception.metrics import binary_confusion, binary_scores
from perception.pair import Labels, Pair
from perception.semantic_cd import SemanticCD, SemanticCDConfig, class_vectors, semantic_change_losses
from perception.towers import DenseFeatures
from training.ema import update_ema
from training.run import Run
from trainingsets.changes import CLASSES, Batch, ChangeSample, ChangeSampler

Name = Literal["cdmamba", "semantic-cd", "fc-siam"]
Mix = Literal["engine", "real", "both"]
NAMES: tuple[Name, ...] = ("cdmamba", "semantic-cd", "fc-siam")
MIXES: tuple[Mix, ...] = ("engine", "real", "both")

SHARES: Mapping[str, float] = {SOURCE: 7, "dubai": 3, "kampala": 2, "chesapeake": 1, "landsat": 1}
"""How often each set is drawn beside the others: half of the mix `both` is from the engine."""
_CHECKED_CROPS = 32
_TEMPERATURE = 0.1
"""Of the cosines in the alignment of words and patches."""

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "low vegetation": ("low vegetation", "grass", "meadow", "fields", "lawn"),
    "bare ground": ("bare ground", "bare soil", "sand", "ploughed fields", "desert"),
    "tree": ("tree", "trees", "forest", "woodland"),
    "water": ("water", "sea", "lake", "river"),
    "building": ("building", "buildings", "houses", "town", "roofs"),
    "road": ("road", "roads", "street", "highway"),
}
"""Words for each class: one is drawn at every step, so that the network hears a meaning and not six vectors."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Numbers of a run.

    Attributes:
        batch: crops in a step.
        crop: pixels along their side.
        rate: learning rate of AdamW; the papers' 1e-4 and 2e-4 are for hundreds of times as many samples.
        half_life: of the averaged weights, in samples.
        strength: of the effects of dates, see `trainingsets.changes.date_effects`.
        seed: of crops and weights.
    """

    batch: int = 8
    crop: int = 64
    rate: float = 1e-3
    half_life: int = 1000
    strength: float = 1.0
    seed: int = 0


def pair_of(sample: ChangeSample) -> Pair:
    """A sample as detectors take it; labels name classes where something changed."""
    changed = sample.change.astype(np.uint8)
    labels = Labels(sample.change, sample.cover_before * changed, sample.cover_after * changed, CLASSES)
    return Pair(sample.before, sample.after, labels=labels)


# --- The networks ---


def tiny_cdmamba() -> CDMambaConfig:
    """A quarter of the published width, fewer blocks and states: 0.39 million parameters, for an hour on a CPU core."""
    return CDMambaConfig(channels=4, groups=2, blocks=(1, 1, 2, 2), states=4)


def small_semantic_cd() -> SemanticCDConfig:
    """`perception.semantic_cd.small` with the classes of our pairs."""
    return SemanticCDConfig(**asdict(semantic_cd.small()) | {"classes": CLASSES})


@dataclass(frozen=True, slots=True)
class FCSiamConfig:
    """Sizes of the peer; its weights are random, not ImageNet's, as those of the others are.

    Attributes:
        encoder: of segmentation_models_pytorch.
        depth: its levels.
        decoder: channels of the decoder's levels.
    """

    encoder: str = "resnet18"
    depth: int = 4
    decoder: tuple[int, ...] = (128, 64, 32, 16)


class FCSiam(nn.Module):
    """torchgeo's FC-Siam-diff (Daudt et al., arXiv 1810.08462): differences of one U-Net's encoder at all levels."""

    def __init__(self, config: FCSiamConfig) -> None:
        super().__init__()
        from torchgeo.models import FCSiamDiff

        self.config = config
        self.net = FCSiamDiff(
            encoder_name=config.encoder,
            encoder_depth=config.depth,
            encoder_weights=None,
            decoder_channels=config.decoder,
            in_channels=3,
            classes=2,
        )

    def forward(self, pair: torch.Tensor) -> torch.Tensor:
        """Logits (b, 2, h, w) of a pair (b, t=2, 3, h, w) in [-1, 1]; h and w multiples of 32."""
        logits: torch.Tensor = self.net(pair)
        return logits


_CONFIGS = {"cdmamba": CDMambaConfig, "semantic-cd": SemanticCDConfig, "fc-siam": FCSiamConfig}


def build(config: CDMambaConfig | SemanticCDConfig | FCSiamConfig) -> nn.Module:
    """A network with random weights."""
    if isinstance(config, CDMambaConfig):
        return CDMamba(config)
    return SemanticCD(config) if isinstance(config, SemanticCDConfig) else FCSiam(config)


def default_config(name: Name) -> CDMambaConfig | SemanticCDConfig | FCSiamConfig:
    """The sizes that are trained here."""
    if name == "cdmamba":
        return tiny_cdmamba()
    return small_semantic_cd() if name == "semantic-cd" else FCSiamConfig()


def load_fc_siam(source: Path) -> FCSiam:
    """Weights of the peer from a run's folder.

    Raises:
        WeightsError: they are not there or damaged.
    """
    config, state = read_network(source, "fc-siam", FCSiamConfig)
    net = FCSiam(config)
    fill(net, state, source)
    return net.eval()


# --- The data ---


def read_pairs(mix: Mix, split: Split, pairs: Path | None, labels: Path | None) -> list[ChangeSample]:
    """All samples of a mix.

    Args:
        mix: which.
        split: "val" holds other places.
        pairs: folder of the engine's pairs.
        labels: the folder `labels/`.

    Raises:
        DatasetNotFoundError: the folder that the mix needs was not given.
    """
    samples: list[ChangeSample] = []
    if mix != "real":
        if pairs is None:
            raise DatasetNotFoundError(f"the mix {mix} needs the engine's pairs: pass --pairs DIR")
        samples += read_engine_pairs(pairs, split)
    if mix != "engine":
        if labels is None:
            raise DatasetNotFoundError(f"the mix {mix} needs labels/: pass --data DIR or set EARTHGEN_DATA")
        samples += read_real_pairs(labels, split)
    return samples


# --- A step ---


@cache
def _word_vectors() -> tuple[torch.Tensor, ...]:
    """For each class the vectors (words, text width) of its words."""
    encoder: TextEncoder = text_encoder(small_semantic_cd().text)
    templates = small_semantic_cd().templates
    return tuple(class_vectors(encoder, SYNONYMS[name], templates) for name in CLASSES)


def draw_words(vectors: Sequence[torch.Tensor], random: np.random.Generator) -> torch.Tensor:
    """One word's vector for each class, (k, text width)."""
    return torch.stack([some[int(random.integers(len(some)))] for some in vectors])


def loss_of(net: nn.Module, batch: Batch, words: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """The parts of a network's loss, which are summed.

    Semantic-CD's classes are learnt wherever they are known, not only where something changed: pairs of the engine
    know them everywhere, and a thousand samples are few. CLIP brings words and pictures together beforehand; our
    small tower has not seen any, so `alignment` does. Without it the cost volume collapses to a constant.
    """
    if words is None:
        return {"change": change_loss(net(batch.images), batch.change, batch.known)}
    assert isinstance(net, SemanticCD)
    seen: list[DenseFeatures] = []
    watching = net.tower.register_forward_hook(lambda _module, _inputs, found: seen.append(found))
    found = net(batch.images, words)
    watching.remove()
    cover = batch.cover
    losses = semantic_change_losses(found, batch.change, cover[:, 0], cover[:, 1], batch.known)
    aligned = alignment_loss(seen[0].joint, net.words(words), cover.flatten(0, 1))
    parts = {"change": losses.change, "semantics": losses.semantics, "consistency": losses.consistency}
    return parts | {"alignment": aligned}


def alignment_loss(joint: torch.Tensor, text: torch.Tensor, cover: torch.Tensor) -> torch.Tensor:
    """Cross entropy of each patch's cosines with the classes' words, as CLIP's for whole pictures.

    Args:
        joint: (b, d, h, w), a patch's features.
        text: (k, d), the classes'.
        cover: uint8 (b, H, W), 0 unknown or 1 + class, H and W multiples of h and w; a patch is what its middle is.
    """
    stride = cover.shape[1] // joint.shape[2]
    codes = cover[:, stride // 2 :: stride, stride // 2 :: stride].long() - 1
    entropy = F.cross_entropy(cost_volume(joint, text) / _TEMPERATURE, codes, ignore_index=-1, reduction="sum")
    return entropy / (codes >= 0).sum().clamp(min=1)


@torch.no_grad()
def held_out_f1(net: nn.Module, batch: Batch, words: torch.Tensor | None) -> float:
    """F1 of change on some crops, for the log."""
    counts = np.zeros((2, 2), dtype=np.int64)
    for index in range(0, len(batch.images), 8):
        part = slice(index, index + 8)
        if words is None:
            logits = net(batch.images[part])
            changed = logits[:, 1] > logits[:, 0]
        else:
            changed = net(batch.images[part], words).change[:, 0] > 0
        counts += binary_confusion(changed.numpy(), batch.change[part].numpy(), batch.known[part].numpy())
    return binary_scores(counts).f1


def train(
    name: Name,
    config: CDMambaConfig | SemanticCDConfig | FCSiamConfig,
    samples: Sequence[ChangeSample],
    held_out: Sequence[ChangeSample],
    out: Path,
    settings: Settings,
    images: int,
    minutes: float,
    tick_images: int,
    mix: str = "",
) -> None:
    """Train, or go on with, a detector; weights are in `out/weights` after each tick.

    Args:
        name: of the model.
        config: its sizes.
        samples: to learn from.
        held_out: to look at after each tick.
        out: folder of the run.
        settings: numbers.
        images: samples in all after which to stop.
        minutes: of this call after which to stop.
        tick_images: samples between two lines of the log.
        mix: name of the samples, for the log.
    """
    torch.manual_seed(settings.seed)
    net = build(config).train()
    average = copy.deepcopy(net).eval().requires_grad_(False)
    run = Run(out, {"net": net}, {"net": settings.rate}, (0.9, 0.99), average)
    state = run.resume()
    seconds = 0.0 if state is None else float(state["cpu_seconds"])
    begun = time.process_time()

    sampler = ChangeSampler(samples, settings.crop, settings.seed, WITH_DATES, SHARES, settings.strength)
    checked = ChangeSampler(held_out, settings.crop, settings.seed, WITH_DATES, SHARES).draw(0, _CHECKED_CROPS)
    vectors = _word_vectors() if isinstance(config, SemanticCDConfig) else None
    usual = None if vectors is None else torch.stack([some[0] for some in vectors])

    run.begin(minutes, tick_images, images)
    while not run.finished:
        batch = sampler.draw(run.step, settings.batch)
        words = None if vectors is None else draw_words(vectors, np.random.default_rng((settings.seed, run.step)))
        losses = loss_of(net, batch, words)
        torch.stack(list(losses.values())).sum().backward()
        # Scans have steep walls; CAT-Seg clips too, at a hundredth for its thousand times as many steps.
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        run.learn("net")
        run.note(**losses)
        run.advance(settings.batch)
        update_ema(average, net, settings.batch, run.images, settings.half_life)
        for kept, current in zip(average.buffers(), net.buffers(), strict=True):
            kept.copy_(current)
        if run.tick_due:
            spent = seconds + time.process_time() - begun
            measured = {
                "held_out_f1": round(held_out_f1(average, checked, usual), 4),
                "cpu_minutes": round(spent / 60, 2),
            }
            told = {"model": name, "mix": mix} | asdict(settings)
            run.tick(asdict(config), told, measured, {"cpu_seconds": spent})
            save_network(out / "weights", name, config, copy.deepcopy(average).bfloat16())


def main(
    model: Annotated[str, typer.Option(help=", ".join(NAMES))],
    out: Annotated[Path, typer.Option(metavar="DIR", help="where the run lives; one that is there goes on")],
    mix: Annotated[str, typer.Option(help=", ".join(MIXES))] = "both",
    pairs: Annotated[Path | None, typer.Option(metavar="DIR", help="the engine's pairs")] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="holds labels/; default $EARTHGEN_DATA")] = None,
    images: Annotated[int, typer.Option(min=1, help="samples in all")] = 4000,
    minutes: Annotated[float, typer.Option(min=0.1, help="of this call")] = 60.0,
    tick: Annotated[int, typer.Option(min=1, help="samples between lines of the log")] = 400,
    crop: Annotated[int, typer.Option(min=32, help="side of the crops, a multiple of 32")] = Settings().crop,
    strength: Annotated[float, typer.Option(min=0, help="of the effects of dates; a run may go on with another")] = 1.0,
    rate: Annotated[float, typer.Option(min=0, help="of learning; a run may go on with another")] = Settings().rate,
    half_life: Annotated[
        int, typer.Option(min=1, help="of the averaged weights, in samples; a run may go on with another")
    ] = Settings().half_life,
    seed: Annotated[int, typer.Option(help="of crops and weights")] = 0,
) -> None:
    """Train a change detector. Example: python -m training.change --model cdmamba --pairs runs/pairs --out runs/c."""
    name, chosen = _one_of(model, NAMES, "--model"), _one_of(mix, MIXES, "--mix")
    labels = None if chosen == "engine" else imagery_folder(data).parent / "labels"
    samples, held_out = (read_pairs(chosen, split, pairs, labels) for split in ("train", "val"))
    settings = Settings(crop=crop, rate=rate, half_life=half_life, strength=strength, seed=seed)
    train(name, default_config(name), samples, held_out, out, settings, images, minutes, tick, chosen)


def _one_of(value: str, allowed: Sequence[Any], option: str) -> Any:
    if value not in allowed:
        raise typer.BadParameter(f"{value!r} is none of {', '.join(allowed)}", param_hint=option)
    return value


if __name__ == "__main__":
    typer.run(main)
