"""After Semantic-CD: what changed into what, for any list of class names.

Zhu et al., "Semantic-CD: Remote sensing image semantic change detection towards open-vocabulary setting", IGARSS 2025,
arXiv 2501.06808. No code, weights or sizes are public. From the abstract: a CLIP image encoder sees both dates; an open
semantic prompter makes cost volumes from class names; a binary decoder finds where something changed and, wholly apart
from it, a semantic decoder says what is there.

**Everything else is a reconstruction.** The prompter and the semantic decoder are patterned on CAT-Seg (Cho et al.,
arXiv 2303.11797), the losses on the usual recipe for the SECOND data set. The binary decoder sees the difference of the
cost volumes through its largest and its mean value over the classes, since their number is free: that choice is ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import nn

from earthgen.conditioning import OpenClipText, TextEncoder, load_open_clip, text_encoder
from earthgen.errors import InvalidRequestError, WeightsError
from perception.aggregation import AggregationRound, cost_volume
from perception.checkpoint import fill, read_network
from perception.detection import Detection
from perception.detector import Progress
from perception.errors import ClassListError
from perception.pair import Pair
from perception.tiling import tiled
from perception.towers import DenseFeatures, ImageTower, OpenClipTower, SmallTower

NAME = "semantic-cd"
MOST_CLASSES = 64
"""Most class names in one call: memory grows with their number."""
SECOND_CLASSES = ("low vegetation", "bare ground", "tree", "water", "building", "playground")
"""The land cover of the SECOND data set, "non-vegetated ground" in plainer words."""
TEMPLATES = ("a satellite image of {}", "an aerial photograph of {}", "{} seen from above")


@dataclass(frozen=True, slots=True)
class SemanticCDConfig:
    """Sizes of the network.

    Attributes:
        tower: "small" for our own convolutional tower, "open_clip" for an OpenCLIP vision transformer.
        tower_widths: channels of the small tower's stages.
        joint_width: d that the small tower shares with the projected text; an OpenCLIP model brings its own.
        text_width: numbers in a text vector.
        text: name of the text encoder that the small tower was trained with.
        width: channels of a class's slice of the cost volume.
        rounds: of spatial and class aggregation.
        heads: of all attentions.
        window: side of the spatial attention's windows, in patches.
        guidance: numbers to which picture and text guidance are projected.
        decoder: channels after the first and second doubling, in both decoders.
        decoder_guidance: channels to which the tower's skips are projected there.
        classes: names that are looked for unless others are asked for.
        templates: sentences around a class name; their vectors are averaged.
    """

    tower: Literal["small", "open_clip"] = "open_clip"
    tower_widths: tuple[int, int, int] = (32, 64, 128)
    joint_width: int = 512
    text_width: int = 512
    text: str = "minilm"
    width: int = 128
    rounds: int = 2
    heads: int = 4
    window: int = 12
    guidance: int = 128
    decoder: tuple[int, int] = (64, 32)
    decoder_guidance: tuple[int, int] = (32, 16)
    classes: tuple[str, ...] = SECOND_CLASSES
    templates: tuple[str, ...] = TEMPLATES


def reconstruction() -> SemanticCDConfig:
    """On CLIP ViT-B/16, with the sizes of CAT-Seg."""
    return SemanticCDConfig()


def small() -> SemanticCDConfig:
    """On the small tower and MiniLM, for CPUs. Not from any paper."""
    return SemanticCDConfig(
        tower="small",
        joint_width=128,
        text_width=384,
        width=32,
        rounds=1,
        window=8,
        guidance=32,
        decoder=(24, 16),
        decoder_guidance=(16, 8),
    )


@dataclass(frozen=True, slots=True)
class SemanticChange:
    """What the network says of a batch of pairs.

    Attributes:
        change: (b, 1, h, w), log odds of change.
        semantics: (b, t=2, k, h, w), class logits of each date.
    """

    change: torch.Tensor
    semantics: torch.Tensor


def _groups(channels: int) -> int:
    """Groups of eight channels for a group norm, or one group where that does not come out even."""
    return channels // 8 if channels % 8 == 0 else 1


class Doubling(nn.Module):
    """Twice the resolution, a guide beside it, two convolutions."""

    def __init__(self, inputs: int, guidance: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, outputs, 2, stride=2)
        self.mix = nn.Sequential(
            nn.Conv2d(outputs + guidance, outputs, 3, padding=1),
            nn.GroupNorm(_groups(outputs), outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.GroupNorm(_groups(outputs), outputs),
            nn.ReLU(),
        )

    def forward(self, x: torch.Tensor, guide: torch.Tensor) -> torch.Tensor:
        """(b, inputs, h, w) and (b, guidance, 2h, 2w) to (b, outputs, 2h, 2w)."""
        out: torch.Tensor = self.mix(torch.cat([self.up(x), guide], dim=1))
        return out


class Prompter(nn.Module):
    """Cost volumes of class names, embedded and aggregated."""

    def __init__(self, config: SemanticCDConfig, joint_width: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, config.width, 7, padding=3)
        self.picture = nn.Sequential(nn.Conv2d(joint_width, config.guidance, 1), nn.ReLU())
        self.text = nn.Sequential(nn.Linear(joint_width, config.guidance), nn.ReLU())
        self.rounds = nn.ModuleList(
            AggregationRound(config.width, config.guidance, config.heads, config.window) for _ in range(config.rounds)
        )

    def forward(self, volume: torch.Tensor, joint: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Aggregate.

        Args:
            volume: (b, k, h, w), cosines.
            joint: (b, d, h, w), the picture's features.
            text: (k, d).

        Returns:
            (b, k, c, h, w), a slice for each class.
        """
        classes = volume.shape[1]
        slices = self.embed(rearrange(volume, "b k h w -> (b k) 1 h w"))
        slices = rearrange(slices, "(b k) c h w -> b k h w c", k=classes)
        picture = rearrange(self.picture(F.normalize(joint, dim=1)), "b g h w -> b h w g")
        words = self.text(F.normalize(text, dim=1))
        for one in self.rounds:
            slices = one(slices, picture, words)
        out: torch.Tensor = rearrange(slices, "b k h w c -> b k c h w")
        return out


class SemanticDecoder(nn.Module):
    """Slices to class logits: two doublings beside the tower's skips, then one channel for each class."""

    def __init__(self, config: SemanticCDConfig, skip_widths: tuple[int, int]) -> None:
        super().__init__()
        self.guides = nn.ModuleList(
            nn.Conv2d(skip, guide, 1) for skip, guide in zip(skip_widths, config.decoder_guidance, strict=True)
        )
        first, second = config.decoder
        self.first = Doubling(config.width, config.decoder_guidance[0], first)
        self.second = Doubling(first, config.decoder_guidance[1], second)
        # A bias would add the same to every class.
        self.head = nn.Conv2d(second, 1, 3, padding=1, bias=False)

    def forward(self, slices: torch.Tensor, skips: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """(b, k, c, h, w) and two skips (b, ...) to (b, k, 4h, 4w)."""
        classes = slices.shape[1]
        x = rearrange(slices, "b k c h w -> (b k) c h w")
        for doubling, guide, skip in zip((self.first, self.second), self.guides, skips, strict=True):
            beside = _resized(guide(skip), 2 * x.shape[2], 2 * x.shape[3])
            x = doubling(x, repeat(beside, "b g h w -> (b k) g h w", k=classes))
        out: torch.Tensor = rearrange(self.head(x), "(b k) 1 h w -> b k h w", k=classes)
        return out


class BinaryDecoder(nn.Module):
    """Differences of features and of cost volumes to log odds of change, with skips of their own."""

    def __init__(self, config: SemanticCDConfig, joint_width: int, skip_widths: tuple[int, int]) -> None:
        super().__init__()
        self.enter = nn.Sequential(
            nn.Conv2d(joint_width + 2, config.width, 3, padding=1),
            nn.GroupNorm(_groups(config.width), config.width),
            nn.ReLU(),
        )
        self.guides = nn.ModuleList(
            nn.Conv2d(skip, guide, 1) for skip, guide in zip(skip_widths, config.decoder_guidance, strict=True)
        )
        first, second = config.decoder
        self.first = Doubling(config.width, config.decoder_guidance[0], first)
        self.second = Doubling(first, config.decoder_guidance[1], second)
        self.head = nn.Conv2d(second, 1, 3, padding=1)

    def forward(
        self, joint: torch.Tensor, volume: torch.Tensor, skips: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        """Find change.

        Args:
            joint: (b, t=2, d, h, w), unit vectors.
            volume: (b, t=2, k, h, w).
            skips: two maps (b, t=2, ...).

        Returns:
            (b, 1, 4h, 4w).
        """
        apart = _apart(volume)
        apart = torch.cat([apart.amax(dim=1, keepdim=True), apart.mean(dim=1, keepdim=True)], dim=1)
        # Unit vectors of d numbers differ by about 1 / sqrt(d) in each: brought to the scale of a cosine.
        x = self.enter(torch.cat([_apart(joint) * math.sqrt(joint.shape[2]), apart], dim=1))
        for doubling, guide, skip in zip((self.first, self.second), self.guides, skips, strict=True):
            x = doubling(x, _resized(guide(_apart(skip)), 2 * x.shape[2], 2 * x.shape[3]))
        out: torch.Tensor = self.head(x)
        return out


class SemanticCD(nn.Module):
    """The network.

    Args:
        config: its sizes.
        tower: the image tower; None builds the small one of the configuration.
    """

    def __init__(self, config: SemanticCDConfig, tower: ImageTower | None = None) -> None:
        super().__init__()
        self.config = config
        if tower is None:
            if config.tower != "small":
                raise WeightsError("this configuration needs an OpenCLIP tower, and none was given")
            tower = SmallTower(config.tower_widths, config.joint_width)
        self.tower = tower
        width = tower.joint_width
        # CLIP's words and pictures share a space already; others are brought together by training.
        self.words: nn.Module = (
            nn.Linear(config.text_width, width, bias=False) if config.tower == "small" else nn.Identity()
        )
        self.prompter = Prompter(config, width)
        self.semantic_decoder = SemanticDecoder(config, tower.skip_widths)
        self.binary_decoder = BinaryDecoder(config, width, tower.skip_widths)

    def forward(self, pair: torch.Tensor, words: torch.Tensor) -> SemanticChange:
        """Look for classes in a batch of pairs.

        Args:
            pair: (b, t=2, 3, h, w) in [-1, 1]; h and w multiples of the tower's stride.
            words: (k, text width), see `class_vectors`.
        """
        height, width = pair.shape[-2:]
        if pair.dim() != 5 or pair.shape[1:3] != (2, 3) or height % self.tower.stride or width % self.tower.stride:
            raise InvalidRequestError(
                f"Semantic-CD was given {tuple(pair.shape)}; (b, 2, 3, h, w) with h and w multiples of"
                f" {self.tower.stride} is needed"
            )
        batch = len(pair)
        seen: DenseFeatures = self.tower(rearrange(pair, "b t c h w -> (b t) c h w"))
        text = self.words(words)
        volume = cost_volume(seen.joint, text)

        # What is there, on each date alone.
        slices = self.prompter(volume, seen.joint, text)
        semantics = _resized(self.semantic_decoder(slices, seen.skips), height, width)

        # Where something changed, from both dates and none of the above.
        joint, volumes, late, early = (
            rearrange(x, "(b t) ... -> b t ...", b=batch) for x in (F.normalize(seen.joint, dim=1), volume, *seen.skips)
        )
        change = _resized(self.binary_decoder(joint, volumes, (late, early)), height, width)
        return SemanticChange(change, rearrange(semantics, "(b t) k h w -> b t k h w", b=batch))


def _resized(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return F.interpolate(x, (height, width), mode="bilinear", align_corners=False)


def _apart(both: torch.Tensor) -> torch.Tensor:
    """(b, t=2, ...) to the absolute difference of the dates."""
    return (both[:, 0] - both[:, 1]).abs()


# --- The detector ---


class SemanticDetector:
    """A `SemanticCD` network and the encoder of its class names, behind `ChangeDetector.detect`."""

    name = NAME

    def __init__(self, net: SemanticCD, words: TextEncoder, device: torch.device | str = "cpu") -> None:
        self.net = net.eval().to(device)
        self.words = words
        self.classes = net.config.classes
        self.device = torch.device(device)

    def detect(
        self,
        pair: Pair,
        *,
        classes: Sequence[str] | None = None,
        tile: int = 256,
        overlap: int = 64,
        progress: Progress | None = None,
    ) -> Detection:
        """See `ChangeDetector.detect`; any list of names may be asked for."""
        names = check_classes(self.classes if classes is None else classes)
        vectors = class_vectors(self.words, names, self.net.config.templates).to(self.device)

        def run(tiles: torch.Tensor) -> torch.Tensor:
            found = self.net(tiles, vectors)
            return torch.cat([found.change, rearrange(found.semantics, "b t k h w -> b (t k) h w")], dim=1)

        images = pair.tensor().to(self.device)
        multiple = self.net.tower.stride
        out = tiled(run, images, tile=tile, overlap=overlap, multiple=multiple, progress=progress).cpu().numpy()
        mask = out[0] > 0
        if pair.valid is not None:
            mask &= pair.valid
        return Detection(
            mask,
            np.stack([np.zeros_like(out[0]), out[0]]),
            names,
            pair.transform,
            pair.crs,
            rearrange(out[1:], "(t k) h w -> t k h w", t=2),
            self.name,
        )


# --- Words ---


def check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """The class names, cleaned of white space around them.

    Raises:
        ClassListError: none, too many, an empty one, or one twice.
    """
    names = tuple(name.strip() for name in classes)
    if not 1 <= len(names) <= MOST_CLASSES:
        raise ClassListError(f"{len(names)} classes were given; 1 to {MOST_CLASSES} are allowed")
    if not all(names):
        raise ClassListError(f"the class list {', '.join(map(repr, names))} has an empty name")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ClassListError(f"the class {twice[0]!r} is listed twice")
    return names


def class_vectors(encoder: TextEncoder, classes: Sequence[str], templates: Sequence[str]) -> torch.Tensor:
    """One vector (k, text width) for each class: the mean of the unit vectors of all its sentences."""
    sentences = [template.format(name) for name in classes for template in templates]
    vectors = torch.from_numpy(np.array(encoder.encode_batch(sentences)))
    return rearrange(vectors, "(k p) d -> k p d", p=len(templates)).mean(dim=1)


# --- Training ---


@dataclass(frozen=True, slots=True)
class Losses:
    """The three losses, which weigh the same."""

    change: torch.Tensor
    semantics: torch.Tensor
    consistency: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        """Their sum."""
        return self.change + self.semantics + self.consistency


def semantic_change_losses(
    found: SemanticChange,
    change: torch.Tensor,
    before: torch.Tensor,
    after: torch.Tensor,
    known: torch.Tensor | None = None,
) -> Losses:
    """Binary cross entropy of change; cross entropy of each date's class where it changed; agreement where it did not.

    Agreement is 1 - cosine of both dates' soft-max (as in Bi-SRNet, Ding et al. 2022).

    Args:
        found: what the network said.
        change: bool (b, h, w).
        before: (b, h, w), 0 where unchanged or unknown and otherwise 1 + the index of a class.
        after: the same at the later date.
        known: bool (b, h, w), where it is known whether something changed; None means everywhere.
    """
    known = torch.ones_like(change) if known is None else known
    binary = F.binary_cross_entropy_with_logits(found.change[:, 0], change.float(), reduction="none")
    binary = (binary * known).sum() / known.sum().clamp(min=1)
    codes = torch.stack([before, after], dim=1).long() - 1
    logits = rearrange(found.semantics, "b t k h w -> (b t) k h w")
    entropy = F.cross_entropy(logits, rearrange(codes, "b t h w -> (b t) h w"), ignore_index=-1, reduction="sum")
    named = (codes >= 0).sum().clamp(min=1)
    likely = found.semantics.softmax(dim=2)
    alike = F.cosine_similarity(likely[:, 0], likely[:, 1], dim=1)
    still = ~change & known
    consistency = ((1 - alike) * still).sum() / still.sum().clamp(min=1)
    return Losses(binary, entropy / named, consistency)


@dataclass(frozen=True, slots=True)
class Schedule:
    """CAT-Seg's recipe (its published configuration for ViT-B), since the paper's is not known.

    Attributes:
        rate: learning rate of AdamW, falling along a cosine to 0.
        weight_decay: of AdamW.
        tower_share: of the rate for an OpenCLIP tower, whose attention layers alone are tuned; a small tower takes 1.
        steps: how many.
        batch: pairs in a step.
        crop: pixels along the side.
        clip: largest norm of the gradient.
    """

    rate: float = 2e-4
    weight_decay: float = 1e-4
    tower_share: float = 0.01
    steps: int = 80_000
    batch: int = 4
    crop: int = 384
    clip: float = 0.01

    def optimiser(self, net: SemanticCD) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """AdamW and its schedule; parameters of the tower that are not tuned are frozen."""
        tuned = net.tower.tuned_parameters()
        net.tower.requires_grad_(False)
        for parameter in tuned:
            parameter.requires_grad_(True)
        inside = {id(parameter) for parameter in net.tower.parameters()}
        others = [parameter for parameter in net.parameters() if id(parameter) not in inside]
        share = self.tower_share if net.config.tower == "open_clip" else 1.0
        optimiser = torch.optim.AdamW(
            [{"params": others, "lr": self.rate}, {"params": tuned, "lr": self.rate * share}],
            weight_decay=self.weight_decay,
        )
        return optimiser, torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps)


# --- Weights ---


def load(source: str | Path, tower: str | Path | None = None) -> tuple[SemanticCD, TextEncoder]:
    """Load weights and the text encoder that goes with them.

    Args:
        source: a folder or a .safetensors file.
        tower: for weights on an OpenCLIP tower, where that model is: a folder, or `open_clip:MODEL:FILE`.

    Raises:
        WeightsError: nothing is there, it is damaged or of another layout, or the tower is missing.
    """
    config, state = read_network(source, NAME, SemanticCDConfig)
    if config.tower == "small":
        net, words = SemanticCD(config), text_encoder(config.text)
        if words.width != config.text_width:
            raise WeightsError(
                f"{source} was trained on text vectors of {config.text_width} numbers;"
                f" {config.text} gives {words.width}"
            )
    else:
        if tower is None:
            raise WeightsError(
                f"{source} sits on an OpenCLIP tower; say where that is: a folder, or open_clip:MODEL:FILE"
            )
        clip, _, tokenizer, id = load_open_clip(tower)
        net, words = SemanticCD(config, OpenClipTower(clip)), OpenClipText(clip, tokenizer, id)
    fill(net, state, source)
    return net.eval(), words
