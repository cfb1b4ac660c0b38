"""MCI, the eyes of Change-Agent: one network that finds changed roads and buildings and describes them.

Liu et al., "Change-Agent: Toward interactive comprehensive remote sensing change interpretation and analysis",
IEEE TGRS 62 (2024), arXiv 2403.19646, section III. A SegFormer backbone sees both dates. Its coarsest maps go through
three bi-temporal iterative interaction (BI3) layers, apart for detection and for captioning: local perception
enhancement (LPE) convolves each date, global difference fusion attention (GDFA) lets each look at the difference. The
detection branch joins the dates at four scales and rises to a mask; the captioning branch ends in a Transformer.

This follows the authors' published code. Left out is what computes nothing there: norms of queries, keys and values
that are never called, a second fusion, an unused linear layer of each pair of blocks; and a branch for two dates that
are equal bit by bit after convolutions of different weights, which does not happen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from earthgen.errors import InvalidRequestError, WeightsError
from perception.caption_decoders import DecoderConfig, build, caption_loss, search
from perception.captioner import Caption, as_caption, read_weights
from perception.checkpoint import State, fill, read_public_parts
from perception.detection import Detection
from perception.detector import Progress
from perception.errors import ClassListError
from perception.lite_pyramid import LitePyramid
from perception.mix_transformer import STRIDE, MixTransformer, MixTransformerConfig
from perception.pair import Pair
from perception.patch_towers import resized
from perception.positions import SquarePositions
from perception.tiling import tiled
from perception.vocabulary import Vocabulary

NAME = "mci"
PARTS = ("encoder_dict", "encoder_trans_dict", "decoder_dict")
"""The state dictionaries of a public checkpoint: backbone, branches, language decoder."""
OBJECTS = ("road", "building")
MEAN = (0.39073, 0.38623, 0.32989)
STD = (0.15329, 0.14628, 0.13648)
"""Of the LEVIR-MCI data set; images from 0 to 1."""

Stage = Literal["both", "caption", "detection"]


@dataclass(frozen=True, slots=True)
class MCIConfig:
    """Sizes of the network.

    Attributes:
        words: the vocabulary, marks first (`perception.vocabulary`).
        objects: whose change is found; the mask has one more class, nothing.
        backbone: "mit" for SegFormer's, "lite" for a frozen EfficientNet-Lite0 with projections to `widths`; what is
            said of the backbone below is of the former.
        image: pixels along a side to which a pair is resized before it is described.
        widths: channels of the backbone's stages; with the next three, see `MixTransformerConfig`.
        depths: blocks of the stages.
        backbone_heads: of the stages.
        reductions: of the stages.
        drop_path: of the backbone, while training.
        layers: BI3 layers of each branch.
        heads: of BI3 layers and decoder.
        grid: rows and columns that have a position embedding; tiles may be `grid` * 32 pixels a side.
        decoder_layers: of the language decoder.
        longest: most words of a sentence, marks included.
        dropout: of BI3 layers and decoder, while training.
        nothing: sentences that say that nothing changed, which a search judges together.
    """

    words: tuple[str, ...]
    objects: tuple[str, ...] = OBJECTS
    backbone: Literal["mit", "lite"] = "mit"
    image: int = 256
    widths: tuple[int, int, int, int] = (64, 128, 320, 512)
    depths: tuple[int, int, int, int] = (2, 2, 2, 2)
    backbone_heads: tuple[int, int, int, int] = (1, 2, 5, 8)
    reductions: tuple[int, int, int, int] = (8, 4, 2, 1)
    drop_path: float = 0.1
    layers: int = 3
    heads: int = 8
    grid: int = 16
    decoder_layers: int = 1
    longest: int = 41
    dropout: float = 0.1
    nothing: tuple[str, ...] = ()


def published(words: Sequence[str]) -> MCIConfig:
    """The configuration of the paper and of its checkpoint, on MiT-B1."""
    return MCIConfig(words=tuple(words))


def small(words: Sequence[str], objects: Sequence[str] = OBJECTS) -> MCIConfig:
    """A quarter to half as wide at every stage, two BI3 layers. Not from the paper."""
    return MCIConfig(
        words=tuple(words),
        objects=tuple(objects),
        widths=(24, 48, 96, 160),
        backbone_heads=(1, 2, 4, 5),
        layers=2,
        heads=4,
        longest=32,
    )


def lite(words: Sequence[str], objects: Sequence[str] = OBJECTS) -> MCIConfig:
    """On a frozen EfficientNet-Lite0, for those who have an hour and not days. Not from the paper."""
    return replace(small(words, objects), backbone="lite", widths=(16, 32, 64, 128), layers=1)


# --- BI3 ---


class LocalEnhancement(nn.Module):
    """LPE, equation 3: three depthwise convolutions of different shape, joined and projected."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.d_conv_3x3 = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.d_conv_1x5 = nn.Conv2d(width, width, (1, 5), padding=(0, 2), groups=width)
        self.d_conv_5x1 = nn.Conv2d(width, width, (5, 1), padding=(2, 0), groups=width)
        self.BN = nn.BatchNorm2d(3 * width)
        self.conv_1 = nn.Conv2d(3 * width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, c, h, w) to the same shape."""
        shapes = torch.cat([self.d_conv_3x3(x), self.d_conv_1x5(x), self.d_conv_5x1(x)], dim=1)
        out: torch.Tensor = self.conv_1(F.gelu(self.BN(shapes)))
        return out


class DifferenceAttention(nn.Module):
    """GDFA, equation 4: one date asks, its product with the dates' difference answers."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.fuse_conv = nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width))
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.Sequential(nn.Linear(width, width), nn.Dropout(dropout))

    def forward(self, this: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Two (b, c, h, w) to tokens (b, h * w, c)."""
        asked = _tokens(this)
        difference = _tokens(F.relu(self.fuse_conv(this * (other - this))))
        q, k, v = (
            rearrange(x, "b l (h d) -> b h l d", h=self.heads)
            for x in (self.to_q(asked), self.to_k(difference), self.to_v(difference))
        )
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=self.rate if self.training else 0.0)
        out: torch.Tensor = self.to_out(rearrange(mixed, "b h l d -> b l (h d)"))
        return out


class InteractionBlock(nn.Module):
    """LPE on both dates, GDFA from one to the other, a feed-forward network; norms last.

    Args:
        width: c.
        heads: of the attention.
        dropout: while training.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.Q_d_conv = LocalEnhancement(width)
        self.K_d_conv = LocalEnhancement(width)
        self.att = DifferenceAttention(width, heads, dropout)
        self.norm1 = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(
            nn.Linear(width, 4 * width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4 * width, width),
            nn.Dropout(dropout),
        )
        self.norm2 = nn.LayerNorm(width)

    def forward(self, this: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The date that asks and the other, two (b, c, h, w), to (b, c, h, w)."""
        height = this.shape[2]
        this, other = this + self.Q_d_conv(this), other + self.K_d_conv(other)
        x = self.norm1(self.att(this, other) + _tokens(this))
        out: torch.Tensor = self.norm2(self.feedforward(x) + x)
        return rearrange(out, "b (h w) c -> b c h w", h=height)


def _tokens(x: torch.Tensor) -> torch.Tensor:
    return rearrange(x, "b c h w -> b (h w) c")


class InteractionNeck(nn.Module):
    """Positions and BI3 layers of one branch.

    Args:
        config: sizes.
        in_turn: detection lets the later date look at the earlier one as it has just become, and adds what was
            before; captioning lets both look at each other as they were, and adds nothing.
    """

    def __init__(self, config: MCIConfig, in_turn: bool) -> None:
        super().__init__()
        width = config.widths[-1]
        self.in_turn = in_turn
        self.positions = SquarePositions(config.grid, width)
        self.layers = nn.ModuleList(
            nn.ModuleList(InteractionBlock(width, config.heads, config.dropout) for _ in range(2))
            for _ in range(config.layers)
        )

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Two (b, c, h, w) to two of the same shape."""
        height, width = before.shape[-2:]
        places = rearrange(self.positions(height, width), "(h w) c -> c h w", h=height)
        before, after = before + places, after + places
        for layer in self.layers:
            first, second = layer.children()
            if self.in_turn:
                before = first(before, after) + before
                after = second(after, before) + after
            else:
                before, after = first(before, after), second(after, before)
        return before, after


# --- Branches ---


class DetectionBranch(nn.Module):
    """BI3 layers, fusion of the dates at each scale, and a way up to the mask."""

    def __init__(self, config: MCIConfig) -> None:
        super().__init__()
        widths = config.widths
        self.neck = InteractionNeck(config, in_turn=True)
        self.conv_dif = nn.ModuleList(nn.Sequential(nn.Conv2d(c, c, 1), nn.BatchNorm2d(c)) for c in widths)
        self.conv_fuse = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(3 * c, 2 * c, 3, padding=1), nn.BatchNorm2d(2 * c), nn.ReLU(), nn.Conv2d(2 * c, 2 * c, 1)
            )
            for c in widths
        )
        self.to_fused = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(2 * c, 2 * c, 1),
                nn.BatchNorm2d(2 * c),
                nn.ReLU(),
                nn.ConvTranspose2d(2 * c, 2 * finer, 4, stride=2, padding=1),
            )
            for finer, c in zip((widths[0], *widths), widths, strict=False)
        )
        self.to_seg = nn.Sequential(
            nn.ConvTranspose2d(2 * widths[0], widths[0], 4, stride=2, padding=1),
            nn.Conv2d(widths[0], len(config.objects) + 1, 1),
        )

    def forward(self, before: list[torch.Tensor], after: list[torch.Tensor]) -> torch.Tensor:
        """Maps of both dates, finest first, to logits (b, objects + 1, 4h, 4w) of the finest one's h and w."""
        last = self.neck(before[-1], after[-1])
        pairs = list(zip([*before[:-1], last[0]], [*after[:-1], last[1]], strict=True))
        x: torch.Tensor | None = None
        for level in reversed(range(len(pairs))):
            first, second = pairs[level]
            alike = F.cosine_similarity(first, second, dim=1)[:, None]
            difference = self.conv_dif[level](second - first) + alike
            fused = self.conv_fuse[level](torch.cat([first, difference, second], dim=1))
            x = self.to_fused[level](fused if x is None else fused + x)
        logits: torch.Tensor = self.to_seg(x)
        return logits


class Bottleneck(nn.Module):
    """Three convolutions at half the width around an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.left = nn.Sequential(
            nn.Conv2d(channels, half, 1),
            nn.BatchNorm2d(half),
            nn.ReLU(),
            nn.Conv2d(half, half, 3, padding=1),
            nn.BatchNorm2d(half),
            nn.ReLU(),
            nn.Conv2d(half, channels, 1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, c, h, w) to the same shape."""
        return F.relu(x + self.left(x))


class CaptionBranch(nn.Module):
    """BI3 layers, the dates joined, and a language decoder."""

    def __init__(self, config: MCIConfig) -> None:
        super().__init__()
        width = config.widths[-1]
        self.neck = InteractionNeck(config, in_turn=False)
        self.join = nn.Conv2d(2 * width, width, 1)
        self.block = Bottleneck(width)
        self.decoder = build(
            DecoderConfig(
                words=len(config.words),
                width=width,
                layers=config.decoder_layers,
                heads=config.heads,
                longest=config.longest,
                dropout=config.dropout,
            )
        )

    def see(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """Two (b, c, h, w) to tokens (b, h * w, c)."""
        both = torch.cat(self.neck(before, after), dim=1)
        return _tokens(self.block(self.join(both)))


class MCI(nn.Module):
    """The network.

    Args:
        config: its sizes and words.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, config: MCIConfig) -> None:
        super().__init__()
        self.config = config
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        self.backbone: MixTransformer | LitePyramid = (
            LitePyramid(config.widths)
            if config.backbone == "lite"
            else MixTransformer(
                MixTransformerConfig(
                    config.widths, config.depths, config.backbone_heads, config.reductions, config.drop_path
                )
            )
        )
        self.detection = DetectionBranch(config)
        self.captioning = CaptionBranch(config)

    def maps(self, pair: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """The backbone's four maps of each date, finest first, of a pair (b, t=2, 3, h, w) in [-1, 1].

        Raises:
            InvalidRequestError: h or w is no multiple of 32, or so large that positions run out.
        """
        most = self.config.grid * STRIDE
        height, width = pair.shape[-2:]
        if pair.dim() != 5 or pair.shape[1:3] != (2, 3) or height % STRIDE or width % STRIDE:
            raise InvalidRequestError(
                f"MCI was given {tuple(pair.shape)}; (b, 2, 3, h, w) with h and w multiples of {STRIDE} is needed"
            )
        if max(height, width) > most:
            raise InvalidRequestError(f"MCI was given {width} x {height} pixels; at most {most} a side are allowed")
        images = rearrange(pair, "b t c h w -> (t b) c h w")
        if isinstance(self.backbone, MixTransformer):
            images = ((images + 1) / 2 - self.mean) / self.std
        return by_date(self.backbone(images))

    def detect(self, pair: torch.Tensor) -> torch.Tensor:
        """Logits (b, objects + 1, h, w), nothing first, of a pair (b, t=2, 3, h, w) in [-1, 1]."""
        logits: torch.Tensor = self.detection(*self.maps(pair))
        return logits

    def see(self, pair: torch.Tensor) -> torch.Tensor:
        """What the language decoder is told, tokens (b, l, c), of a pair (b, t=2, 3, h, w) in [-1, 1]."""
        before, after = self.maps(pair)
        return self.captioning.see(before[-1], after[-1])

    def forward(self, pair: torch.Tensor, words: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the mask (b, objects + 1, h, w) and of next words (b, n, words); `words` is long (b, n)."""
        before, after = self.maps(pair)
        mask: torch.Tensor = self.detection(before, after)
        said: torch.Tensor = self.captioning.decoder(self.captioning.see(before[-1], after[-1]), words)
        return mask, said


def by_date(levels: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Maps (t=2 * b, c, h, w), all of the first date first, as those of either date."""
    both = [level.chunk(2) for level in levels]
    return [level[0] for level in both], [level[1] for level in both]


# --- The interpreter ---


@dataclass(frozen=True, slots=True, eq=False)
class ObjectMap:
    """Which objects changed.

    Attributes:
        kinds: uint8 (h, w), 0 for nothing, else 1 + index of a name; whether it came or went is not told.
        names: of the objects.
    """

    kinds: npt.NDArray[np.uint8]
    names: tuple[str, ...]


class MCIInterpreter:
    """An `MCI` network behind `ChangeInterpreter`."""

    name = NAME
    classes: tuple[str, ...] = ()

    def __init__(self, net: MCI, device: torch.device | str = "cpu") -> None:
        self.net = net.eval().to(device)
        self.vocabulary = Vocabulary(net.config.words)
        self.nothing = self.vocabulary.spoken(net.config.nothing)
        self.device = torch.device(device)

    @torch.inference_mode()
    def caption(self, pair: Pair, *, beams: int = 1) -> Caption:
        """See `ChangeCaptioner.caption`."""
        images = resized(pair.tensor().to(self.device), self.net.config.image)
        (found,) = search(self.net.captioning.decoder, self.net.see(images[None]), beams, self.nothing)
        return as_caption(found, self.vocabulary, self.name)

    def detect(
        self,
        pair: Pair,
        *,
        classes: Sequence[str] | None = None,
        tile: int = 256,
        overlap: int = 64,
        progress: Progress | None = None,
    ) -> Detection:
        """See `ChangeDetector.detect`; the mask is where some class is likelier than nothing."""
        if classes is not None:
            raise ClassListError(
                f"{self.name} looks for {', '.join(self.net.config.objects)} and nothing else; leave the classes out"
            )
        logits = self._logits(pair, tile, overlap, progress)
        # Of all classes together: their log-sum-exp against nothing is the log odds of change.
        changed = np.logaddexp.reduce(logits[1:], axis=0)
        mask = logits[1:].max(axis=0) > logits[0]
        if pair.valid is not None:
            mask &= pair.valid
        return Detection(mask, np.stack([logits[0], changed]), (), pair.transform, pair.crs, model=self.name)

    def objects(self, pair: Pair, *, tile: int = 256, overlap: int = 64, progress: Progress | None = None) -> ObjectMap:
        """Which objects changed where; arguments as for `detect`."""
        kinds: npt.NDArray[np.uint8] = self._logits(pair, tile, overlap, progress).argmax(axis=0).astype(np.uint8)
        if pair.valid is not None:
            kinds *= pair.valid
        return ObjectMap(kinds, self.net.config.objects)

    def _logits(self, pair: Pair, tile: int, overlap: int, progress: Progress | None) -> npt.NDArray[np.float32]:
        images = pair.tensor().to(self.device)
        out = tiled(self.net.detect, images, tile=tile, overlap=overlap, multiple=STRIDE, progress=progress)
        found: npt.NDArray[np.float32] = out.float().cpu().numpy()
        return found


# --- Training as published ---


@dataclass(frozen=True, slots=True)
class Schedule:
    """How the authors' code trains, in three stages: both branches, then each alone on a backbone that stands still.

    Attributes:
        rate: learning rate of Adam, constant.
        batch: pairs in a step.
        epochs: at most, of a stage.
        patience: epochs without a better sum of mIoU and BLEU-4 after which a stage ends.
        stages: in their order.
    """

    rate: float = 1e-4
    batch: int = 64
    epochs: int = 250
    patience: int = 50
    stages: tuple[Stage, ...] = ("both", "caption", "detection")

    def optimiser(self, net: MCI, stage: Stage) -> torch.optim.Optimizer:
        """Adam over what a stage moves."""
        return torch.optim.Adam(tuned_parameters(net, stage), lr=self.rate)


def tuned_parameters(net: MCI, stage: Stage) -> list[nn.Parameter]:
    """What a stage moves: everything, or one branch."""
    parts = {"both": net, "caption": net.captioning, "detection": net.detection}
    return list(parts[stage].parameters())


def begin_stage(net: MCI, stage: Stage) -> None:
    """Put what a stage moves into training mode and the rest, batch norms included, into evaluation mode."""
    net.train(stage == "both")
    if stage == "caption":
        net.captioning.train()
    elif stage == "detection":
        net.detection.train()
    moved = {id(parameter) for parameter in tuned_parameters(net, stage)}
    for parameter in net.parameters():
        parameter.requires_grad_(id(parameter) in moved)


def mask_loss(logits: torch.Tensor, kinds: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
    """Cross entropy of the mask.

    Args:
        logits: (b, objects + 1, h, w).
        kinds: (b, h, w), 0 for nothing, else 1 + object.
        known: bool (b, h, w), where the truth is known; None means everywhere.
    """
    entropy = F.cross_entropy(logits, kinds.long(), reduction="none")
    if known is None:
        return entropy.mean()
    return (entropy * known).sum() / known.sum().clamp(min=1)


def balanced(*losses: torch.Tensor) -> torch.Tensor:
    """Each loss divided by its own value, so that all weigh the same: their sum's value is their number."""
    return torch.stack([loss / loss.detach().clamp(min=1e-12) for loss in losses]).sum()


def losses(
    net: MCI,
    stage: Stage,
    pair: torch.Tensor,
    kinds: torch.Tensor,
    words: torch.Tensor,
    known: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """The cross entropies of a stage: "mask", "caption", or both.

    Args:
        net: see `begin_stage`.
        stage: which.
        pair: (b, t=2, 3, h, w) in [-1, 1].
        kinds: (b, h, w), 0 for nothing, else 1 + object.
        words: long (b, n), START to END, then NULL.
        known: bool (b, h, w), where `kinds` is known; None means everywhere.
    """
    return losses_of_maps(net, stage, *net.maps(pair), kinds, words, known)


def losses_of_maps(
    net: MCI,
    stage: Stage,
    before: list[torch.Tensor],
    after: list[torch.Tensor],
    kinds: torch.Tensor,
    words: torch.Tensor,
    known: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """`losses`, of the backbone's maps of either date (see `MCI.maps`) in place of the pair."""
    found: dict[str, torch.Tensor] = {}
    if stage != "caption":
        found["mask"] = mask_loss(net.detection(before, after), kinds, known)
    if stage != "detection":
        told = net.captioning.see(before[-1], after[-1])
        found["caption"] = caption_loss(net.captioning.decoder(told, words[:, :-1]), words)
    return found


def loss(
    net: MCI,
    stage: Stage,
    pair: torch.Tensor,
    kinds: torch.Tensor,
    words: torch.Tensor,
    known: torch.Tensor | None = None,
) -> torch.Tensor:
    """The loss of a stage, arguments as for `losses`: of two cross entropies, balanced."""
    return combined(losses(net, stage, pair, kinds, words, known))


def combined(parts: dict[str, torch.Tensor]) -> torch.Tensor:
    """One loss as it is; more of them balanced."""
    values = list(parts.values())
    return values[0] if len(values) == 1 else balanced(*values)


# --- Weights ---


def load(source: str | Path, vocabulary: str | Path | None = None) -> MCI:
    """Load our own weights (a folder or a .safetensors file) or a public checkpoint (`MCI_model.pth`).

    Args:
        source: where they are.
        vocabulary: the `vocab.json` of a public checkpoint; None takes the one beside it.

    Raises:
        WeightsError: nothing is there, or it is damaged, refused, or of another layout.
    """
    config, state = read_weights(source, vocabulary, NAME, MCIConfig, _from_public)
    net = MCI(config)
    fill(net, state, source)
    return net.eval()


_IDLE = re.compile(
    r"encoder_dict\.cnn\.segformer\.head\."
    r"|encoder_trans_dict\.(.*\.att\.(fuse_conv2|[QKV]_LN)\.|.*\.PCM\.|Dynamic_DIF_aware_TR\.\d+\.2\.)"
    r"|decoder_dict\.(transformer\.layers\.\d+\.fc_alpha|position_encoding\.)"
)


def is_idle(name: str) -> bool:
    """Whether a tensor of a public checkpoint, part and name with a dot between, computes nothing."""
    return _IDLE.match(name) is not None


_NAMES = (
    (re.compile(r"encoder_dict\.cnn\.segformer\."), "backbone."),
    (re.compile(r"encoder_trans_dict\.h_embedding_CD\."), "detection.neck.positions.column."),
    (re.compile(r"encoder_trans_dict\.w_embedding_CD\."), "detection.neck.positions.row."),
    (re.compile(r"encoder_trans_dict\.h_embedding\."), "captioning.neck.positions.column."),
    (re.compile(r"encoder_trans_dict\.w_embedding\."), "captioning.neck.positions.row."),
    (re.compile(r"encoder_trans_dict\.Transformer_aug_CD\."), "detection.neck.layers."),
    (re.compile(r"encoder_trans_dict\.Dynamic_DIF_aware_TR\."), "captioning.neck.layers."),
    (re.compile(r"encoder_trans_dict\."), "detection."),
    (re.compile(r"decoder_dict\.Conv1\."), "captioning.join."),
    (re.compile(r"decoder_dict\.LN\."), "captioning.block."),
    (re.compile(r"decoder_dict\.transformer\."), "captioning.decoder."),
    (re.compile(r"decoder_dict\."), "captioning.decoder."),
)


def own_name(name: str) -> str:
    """Our name of a public tensor, given as part and name with a dot between."""
    for pattern, ours in _NAMES:
        if pattern.match(name):
            return pattern.sub(ours, name, count=1).replace(".feedforward.net.", ".feedforward.")
    return name


def _from_public(source: str | Path, words: tuple[str, ...]) -> tuple[MCIConfig, State]:
    """The configuration that a public checkpoint shows, and its tensors under our names."""
    parts = read_public_parts(source, PARTS, is_idle)
    state = {own_name(f"{part}.{name}"): tensor for part, tensors in parts.items() for name, tensor in tensors.items()}
    try:
        known = len(state["captioning.decoder.vocab_embedding.weight"])
        if known != len(words):
            raise WeightsError(f"the checkpoint knows {known} words and its vocabulary lists {len(words)}")
        kinds = len(state["detection.to_seg.1.bias"])
        if kinds != len(OBJECTS) + 1:
            raise WeightsError(f"the checkpoint's mask has {kinds} classes; {len(OBJECTS) + 1} are needed")
        stages = range(1, 5)
        widths = tuple(len(state[f"backbone.norm{stage}.weight"]) for stage in stages)
        depths = tuple(_count(state, rf"backbone\.block{stage}\.(\d+)\.") for stage in stages)
        grid = len(state["detection.neck.positions.column.weight"])
        reductions = tuple(
            sr.shape[-1] if (sr := state.get(f"backbone.block{stage}.0.attn.sr.weight")) is not None else 1
            for stage in stages
        )
    except KeyError as error:
        raise WeightsError(f"{source} is no checkpoint of MCI: {error.args[0]} is missing") from error
    config = MCIConfig(
        words=words,
        widths=(widths[0], widths[1], widths[2], widths[3]),
        depths=(depths[0], depths[1], depths[2], depths[3]),
        reductions=(reductions[0], reductions[1], reductions[2], reductions[3]),
        layers=_count(state, r"detection\.neck\.layers\.(\d+)\."),
        grid=grid,
        decoder_layers=_count(state, r"captioning\.decoder\.layers\.(\d+)\."),
    )
    return config, state


def _count(state: State, pattern: str) -> int:
    """How many numbers the pattern finds, counted from 0."""
    return 1 + max((int(found[1]) for name in state if (found := re.match(pattern, name))), default=-1)
