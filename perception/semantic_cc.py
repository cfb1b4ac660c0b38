"""Semantic-CC: changes found with SAM and described by a language model.

Zhu et al., "Semantic-CC: Boosting remote sensing image change captioning via foundational knowledge and semantic
guidance", IEEE TGRS 62 (2024), arXiv 2407.14032. SAM's image encoder, frozen but for low-rank corrections, sees both
dates; behind each block with windows the dates gate each other. A neck gives the captioning stream and the detection
stream two rounds of attention and lets detection guide captioning. A change decoder rises to a mask. For captioning,
learned queries read each date, and the words of both and of their difference stand before the language model's answer.

The wiring is that of the authors' code, of which no weights are public; sizes are free. The paper's are SAM ViT-L, a
Q-Former of BLIP-2 and Vicuna-7B. Differences: norms of the neck have an epsilon (0 there), an answer ends with the
language model's own end of text ("###" there), and it is searched for and not drawn, so that it is the same each time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from earthgen.errors import InvalidRequestError, WeightsError
from perception.caption_decoders import Nothing
from perception.captioner import Caption
from perception.checkpoint import State, fill, read_network, read_public, save_network
from perception.detection import Detection
from perception.detector import Progress
from perception.errors import ClassListError, first_line
from perception.lite_pyramid import WIDTHS, LiteLevels, as_tokens
from perception.lora import add_lora
from perception.optional import require
from perception.pair import Pair
from perception.patch_towers import resized
from perception.tiling import tiled

NAME = "semantic-cc"
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Of ImageNet; images from 0 to 1."""
LANGUAGE_LAYERS = ("q_proj", "k_proj", "v_proj")
"""Layers of the language model that are adapted."""
LANGUAGE = "language"
"""Folder of a language model that comes with weights."""
QUESTION = "What has changed between the two pictures of this place?"

Stage = Literal["detection", "caption", "dual"]
Size = Literal["b", "l", "h", "tiny"]


@dataclass(frozen=True, slots=True)
class SemanticCCConfig:
    """Sizes of the network; as they are, the paper's.

    Attributes:
        image: pixels along a side, of which positions and gates are made; other sizes are tiled or resized.
        patch: pixels along a side of a token's patch.
        stem: what makes tokens of pixels: "patch" for SAM's convolution, "lite" for what a frozen EfficientNet-Lite0
            sees there, and a projection.
        width: channels of SAM's encoder.
        depth: its blocks.
        heads: of its attentions.
        window: side of its windows, in tokens.
        global_blocks: indices of its blocks without windows.
        map_width: channels of its last map and of the detection stream.
        rank: of the corrections of its attentions.
        alpha: their weight.
        lora_dropout: of their input, while training.
        caption_width: channels of the captioning stream.
        rounds: of the neck.
        neck_heads: of its attentions; 0 for as many as channels, as in the authors' code.
        guided: whether detection guides captioning.
        queries: that read each date.
        query_width: their numbers.
        query_layers: of the transformer that they go through.
        query_heads: of its attentions.
        cross_every: of how many of its layers one looks at the date, the first included.
        queries_frozen: whether they and their transformer stand still, since they come from BLIP-2.
        language_width: numbers of a word in the language model.
        language_rank: of the corrections of its attentions; 0 leaves it as it is.
        language_alpha: their weight.
        decoder_width: channels of the change decoder.
        longest: most tokens of an answer.
        nothing: answers that say that nothing changed, which a search judges together.
    """

    image: int = 256
    patch: int = 16
    stem: Literal["patch", "lite"] = "patch"
    width: int = 1024
    depth: int = 24
    heads: int = 16
    window: int = 14
    global_blocks: tuple[int, ...] = (5, 11, 17, 23)
    map_width: int = 256
    rank: int = 16
    alpha: float = 32
    lora_dropout: float = 0.01
    caption_width: int = 1408
    rounds: int = 2
    neck_heads: int = 0
    guided: bool = True
    queries: int = 32
    query_width: int = 768
    query_layers: int = 12
    query_heads: int = 12
    cross_every: int = 2
    queries_frozen: bool = True
    language_width: int = 4096
    language_rank: int = 16
    language_alpha: float = 32
    decoder_width: int = 256
    longest: int = 120
    nothing: tuple[str, ...] = ()


def sized(config: SemanticCCConfig, size: Size) -> SemanticCCConfig:
    """A configuration on another of SAM's encoders, or on a tiny one of its shape."""
    width, depth, heads, global_blocks = {
        "tiny": (96, 4, 3, (3,)),
        "b": (768, 12, 12, (2, 5, 8, 11)),
        "l": (1024, 24, 16, (5, 11, 17, 23)),
        "h": (1280, 32, 16, (7, 15, 23, 31)),
    }[size]
    return replace(config, width=width, depth=depth, heads=heads, global_blocks=global_blocks)


def published() -> SemanticCCConfig:
    """The configuration of the paper: SAM ViT-L, a Q-Former, a language model as wide as Vicuna-7B."""
    return SemanticCCConfig()


def small(language_width: int) -> SemanticCCConfig:
    """A tiny encoder of SAM's shape on a frozen EfficientNet-Lite0, two layers of queries. Not from the paper."""
    config = SemanticCCConfig(
        stem="lite",
        window=8,
        map_width=48,
        caption_width=96,
        neck_heads=4,
        queries=8,
        query_width=96,
        query_layers=2,
        query_heads=4,
        queries_frozen=False,
        language_width=language_width,
        language_rank=8,
        language_alpha=16,
        decoder_width=48,
        longest=40,
    )
    return sized(config, "tiny")


# --- Encoder ---


class TimeFusion(nn.Module):
    """What lies behind a block with windows: each date is gated by what both dates have, by place and by channel."""

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.by_place = nn.Conv2d(2 * width, 1, 1, bias=False)
        self.by_channel = nn.ModuleList(nn.Linear(2 * tokens, 1) for _ in range(2))
        self.placed = self._mlp(width)
        self.channelled = self._mlp(width)
        nn.init.constant_(self.by_place.weight, 1 / (2 * width))
        for gate in self.by_channel.children():
            assert isinstance(gate, nn.Linear)
            nn.init.ones_(gate.weight)

    @staticmethod
    def _mlp(width: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(width, width, 1), nn.GELU(), nn.Conv2d(width, width, 1))

    def forward(self, both: torch.Tensor) -> torch.Tensor:
        """(t=2 * b, h, w, c), all of the first date first, to the same shape."""
        dates = rearrange(both, "b h w c -> b c h w").chunk(2)
        place = torch.sigmoid(self.by_place(torch.cat(dates, dim=1)))
        flat = torch.cat([date.flatten(2) for date in dates], dim=2)  # (b, c, 2hw)
        fused = [
            date + self.placed(date * place) + self.channelled(date * torch.sigmoid(gate(flat))[..., None])
            for date, gate in zip(dates, self.by_channel, strict=True)
        ]
        return rearrange(torch.cat(fused), "b c h w -> b h w c")


class LiteStem(nn.Module):
    """A frozen EfficientNet-Lite0 in place of a patch embedding, with a norm and a projection that learn."""

    def __init__(self, config: SemanticCCConfig) -> None:
        super().__init__()
        self.grid = config.image // config.patch
        self.levels = LiteLevels()
        channels = sum(WIDTHS[1:])
        self.norm = nn.BatchNorm2d(channels)
        self.project = nn.Conv2d(channels, config.width, 1)

    def look(self, images: torch.Tensor) -> torch.Tensor:
        """What the frozen part sees: (b, 3, h, w) in [-1, 1] to (b, channels, grid, grid)."""
        return self.joined(self.levels(images))

    def joined(self, levels: Sequence[torch.Tensor]) -> torch.Tensor:
        """The same of the frozen part's levels."""
        return rearrange(as_tokens(list(levels)[1:], self.grid), "b (h w) c -> b c h w", h=self.grid)

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        """(b, channels, grid, grid) to (b, width, grid, grid)."""
        out: torch.Tensor = self.project(self.norm(seen))
        return out


class BiTemporalSam(nn.Module):
    """SAM's image encoder on both dates, with `TimeFusion` behind each block that has windows.

    Args:
        config: sizes.

    Raises:
        DependencyError: segment-anything is not installed.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, config: SemanticCCConfig) -> None:
        super().__init__()
        modeling = require("segment_anything.modeling.image_encoder", "perception")
        self.vit = modeling.ImageEncoderViT(
            img_size=config.image,
            patch_size=config.patch,
            embed_dim=config.width,
            depth=config.depth,
            num_heads=config.heads,
            out_chans=config.map_width,
            use_rel_pos=True,
            window_size=config.window,
            global_attn_indexes=config.global_blocks,
            norm_layer=lambda width: nn.LayerNorm(width, eps=1e-6),
        )
        add_lora(self.vit, ("qkv",), config.rank, config.alpha, config.lora_dropout)
        self.stem = LiteStem(config) if config.stem == "lite" else None
        if self.stem is not None:
            self.vit.patch_embed = nn.Identity()
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        tokens = (config.image // config.patch) ** 2
        self.fusions = nn.ModuleDict(
            {
                str(index): TimeFusion(config.width, tokens)
                for index in range(config.depth)
                if index not in config.global_blocks
            }
        )

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Images (b, 3, h, w) in [-1, 1], or what the stem's frozen part sees of them, to (b, h', w', width)."""
        if self.stem is None:
            x = self.vit.patch_embed(((images + 1) / 2 - self.mean) / self.std)
        else:
            seen = self.stem.look(images) if images.shape[1] == 3 else images
            x = self.stem(seen).permute(0, 2, 3, 1)
        out: torch.Tensor = x + self.vit.pos_embed
        return out

    def alone(self, images: torch.Tensor) -> torch.Tensor:
        """What `embed` takes to maps (b, map_width, h', w'), each date by itself: SAM's own encoder."""
        x = self.embed(images)
        for block in self.vit.blocks:
            x = block(x)
        out: torch.Tensor = self.vit.neck(x.permute(0, 3, 1, 2))
        return out

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What `embed` takes, of both dates, to tokens (t=2 * b, l, width) and maps (t * b, map_width, h', w')."""
        x = self.embed(images)
        for index, block in enumerate(self.vit.blocks):
            x = block(x)
            if str(index) in self.fusions:
                x = self.fusions[str(index)](x)
        return x.flatten(1, 2), self.vit.neck(x.permute(0, 3, 1, 2))


# --- Neck ---


class SelfMix(nn.Module):
    """Attention of a stream to itself, a norm, and a feed-forward network around an identity."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads or width, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, l, c) to the same shape."""
        mixed = self.norm(self.attention(x, x, x, need_weights=False)[0])
        out: torch.Tensor = mixed + self.widen(mixed)
        return out


class Guidance(nn.Module):
    """What detection says to captioning: a gate that both make opens on detection's features."""

    def __init__(self, caption_width: int, map_width: int) -> None:
        super().__init__()
        self.gate = nn.Bilinear(caption_width, map_width, map_width)
        self.join = nn.Linear(caption_width + map_width, caption_width)
        self.norm = nn.LayerNorm(caption_width)

    def forward(self, caption: torch.Tensor, detection: torch.Tensor) -> torch.Tensor:
        """(b, l, caption width) and (b, l, map width) to (b, l, caption width)."""
        let_through = torch.sigmoid(self._gate(caption, detection)) * detection
        out: torch.Tensor = self.norm(torch.sigmoid(self.join(torch.cat([caption, let_through], dim=-1))))
        return out

    def _gate(self, caption: torch.Tensor, detection: torch.Tensor) -> torch.Tensor:
        """What `self.gate` computes, as two products: PyTorch's bilinear layer takes ten times as long on CPUs."""
        weight = self.gate.weight  # (o, caption width, map width)
        half = torch.einsum("blc,ocm->blom", caption, weight)
        return torch.einsum("blom,blm->blo", half, detection.to(half.dtype)) + self.gate.bias


class AggregationNeck(nn.Module):
    """Multi-task semantic aggregation: rounds of attention for two streams, one of which guides the other."""

    def __init__(self, config: SemanticCCConfig) -> None:
        super().__init__()
        wide, narrow, heads = config.caption_width, config.map_width, config.neck_heads
        self.enter = nn.Linear(config.width, wide)
        self.captions = nn.ModuleList(SelfMix(wide, heads) for _ in range(config.rounds))
        self.detections = nn.ModuleList(SelfMix(narrow, heads) for _ in range(config.rounds))
        self.guidance = nn.ModuleList(Guidance(wide, narrow) for _ in range(config.rounds if config.guided else 0))

    def detection(self, maps: torch.Tensor) -> torch.Tensor:
        """The detection stream alone: (b, c, h, w) to the same shape."""
        x = maps.flatten(2).transpose(1, 2)
        for mix in self.detections:
            x = x + mix(x)
        return x.transpose(1, 2).reshape(maps.shape)

    def forward(self, tokens: torch.Tensor, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (b, l, width) and maps (b, c, h, w) to (b, l, caption width) and (b, c, h, w)."""
        caption, detection = self.enter(tokens), maps.flatten(2).transpose(1, 2)
        for index, (first, second) in enumerate(zip(self.captions, self.detections, strict=True)):
            said, found = first(caption), second(detection)
            if len(self.guidance):
                said = self.guidance[index](said, found)
            caption, detection = caption + said, detection + found
        return caption, detection.transpose(1, 2).reshape(maps.shape)


# --- Change decoder ---


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels at each place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, c, h, w) to the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChangeDecoder(nn.Module):
    """Both dates' maps to a mask: five scales from one (Li et al., ViTDet, arXiv 2203.16527), joined at the finest."""

    def __init__(self, config: SemanticCCConfig) -> None:
        super().__init__()
        wide, out = 2 * config.map_width, config.decoder_width
        self.scales = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(wide, wide // 2, 2, stride=2),
                    ChannelNorm(wide // 2),
                    nn.GELU(),
                    nn.ConvTranspose2d(wide // 2, wide // 4, 2, stride=2),
                ),
                nn.ConvTranspose2d(wide, wide // 2, 2, stride=2),
                nn.Identity(),
                nn.MaxPool2d(2),
            ]
        )
        self.smooth = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, out, 1, bias=False),
                ChannelNorm(out),
                nn.Conv2d(out, out, 3, padding=1, bias=False),
                ChannelNorm(out),
            )
            for inputs in (wide // 4, wide // 2, wide, wide)
        )
        self.flat = nn.ModuleList(self._unit(out, out) for _ in range(5))
        self.join = self._unit(5 * out, out)
        self.head = nn.Conv2d(out, 2, 1)

    @staticmethod
    def _unit(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())

    def forward(self, before: torch.Tensor, after: torch.Tensor, side: int) -> torch.Tensor:
        """Two (b, c, h, w) to logits of unchanged and changed, (b, 2, side, side)."""
        both = torch.cat([before, after], dim=1)
        levels = [smooth(scale(both)) for scale, smooth in zip(self.scales, self.smooth, strict=True)]
        levels.append(F.max_pool2d(levels[-1], 1, stride=2))
        grown = [_grown(flat(level), levels[0].shape[-1]) for flat, level in zip(self.flat, levels, strict=True)]
        return _grown(self.head(self.join(torch.cat(grown, dim=1))), side)


def _grown(x: torch.Tensor, side: int) -> torch.Tensor:
    return F.interpolate(x, (side, side), mode="bilinear", align_corners=False)


# --- Language ---


class QueryLayer(nn.Module):
    """A layer of queries, norms last: they attend to each other and, in some layers, to the picture."""

    def __init__(self, config: SemanticCCConfig, looks: bool) -> None:
        super().__init__()
        width, heads = config.query_width, config.query_heads
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.look = (
            nn.MultiheadAttention(width, heads, batch_first=True, kdim=config.caption_width, vdim=config.caption_width)
            if looks
            else None
        )
        self.look_norm = nn.LayerNorm(width) if looks else None
        self.widen = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.last_norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """(b, q, c) and (b, l, caption width) to (b, q, c)."""
        x = self.norm(x + self.attention(x, x, x, need_weights=False)[0])
        if self.look is not None and self.look_norm is not None:
            x = self.look_norm(x + self.look(x, seen, seen, need_weights=False)[0])
        out: torch.Tensor = self.last_norm(x + self.widen(x))
        return out


class Queries(nn.Module):
    """Learned queries that read one date (Li et al., BLIP-2, arXiv 2301.12597, section 3.1)."""

    def __init__(self, config: SemanticCCConfig) -> None:
        super().__init__()
        self.start = nn.Parameter(0.02 * torch.randn(config.queries, config.query_width))
        self.enter = nn.LayerNorm(config.query_width)
        self.layers = nn.ModuleList(
            QueryLayer(config, index % config.cross_every == 0) for index in range(config.query_layers)
        )

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        """(b, l, caption width) to (b, q, c)."""
        x = self.enter(self.start).expand(len(seen), -1, -1)
        for layer in self.layers:
            x = layer(x, seen)
        out: torch.Tensor = x
        return out


class Prefix(nn.Module):
    """What the language model is told: both dates' queries, each strengthened by the other, and their difference."""

    def __init__(self, config: SemanticCCConfig) -> None:
        super().__init__()
        wide = config.language_width
        self.norm = nn.LayerNorm(config.caption_width)
        self.queries = Queries(config)
        self.project = nn.Linear(config.query_width, wide)
        self.strengthen_before = nn.Linear(2 * wide, wide)
        self.strengthen_after = nn.Linear(2 * wide, wide)

    def forward(self, caption: torch.Tensor) -> torch.Tensor:
        """The captioning stream (t=2 * b, l, c) to (b, 3 * queries, language width)."""
        one, other = self.project(self.queries(self.norm(caption))).chunk(2)
        before = one * torch.sigmoid(self.strengthen_before(torch.cat([one, other], dim=-1)))
        after = other * torch.sigmoid(self.strengthen_after(torch.cat([other, one], dim=-1)))
        return torch.cat([before, after, before - after], dim=1)


class SemanticCC(nn.Module):
    """The network.

    Args:
        config: its sizes.
        language: a causal language model of transformers, or None for detection alone; its attentions are adapted
            and all else in it stands still.

    Raises:
        InvalidRequestError: the language model has another width, or no layers that can be adapted.
        DependencyError: segment-anything is not installed.
    """

    def __init__(self, config: SemanticCCConfig, language: Any | None = None) -> None:
        super().__init__()
        self.config = config
        self.encoder = BiTemporalSam(config)
        self.neck = AggregationNeck(config)
        self.decoder = ChangeDecoder(config)
        self.prefix = Prefix(config)
        self.language = language
        if config.queries_frozen:
            self.prefix.queries.requires_grad_(False)
        if language is not None:
            width = language.get_input_embeddings().embedding_dim
            if width != config.language_width:
                raise InvalidRequestError(
                    f"the language model's words have {width} numbers; {config.language_width} are needed"
                )
            language.requires_grad_(False)
            if config.language_rank:
                add_lora(language, LANGUAGE_LAYERS, config.language_rank, config.language_alpha, config.lora_dropout)

    def _seen(self, pair: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        side = self.config.image
        if pair.dim() == 4 and self.config.stem == "lite":
            return self.encoder(pair)  # type: ignore[no-any-return]
        if pair.dim() != 5 or tuple(pair.shape[1:]) != (2, 3, side, side):
            raise InvalidRequestError(f"Semantic-CC was given {tuple(pair.shape)}; (b, 2, 3, {side}, {side}) is needed")
        tokens, maps = self.encoder(rearrange(pair, "b t c h w -> (t b) c h w"))
        return tokens, maps

    def detect(self, pair: torch.Tensor) -> torch.Tensor:
        """Logits of unchanged and changed, (b, 2, h, w), of a pair (b, t=2, 3, h, w) in [-1, 1].

        Here and in `forward` and `tell` what the frozen part of a stem sees of both dates may stand for the pair.

        Raises:
            InvalidRequestError: h or w is not `config.image`.
        """
        _, maps = self._seen(pair)
        logits: torch.Tensor = self.decoder(*self.neck.detection(maps).chunk(2), self.config.image)
        return logits

    def forward(self, pair: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the mask, (b, 2, h, w), and what the language model is told, (b, 3 * queries, language width).

        Raises:
            InvalidRequestError: h or w is not `config.image`.
        """
        caption, maps = self.neck(*self._seen(pair))
        logits: torch.Tensor = self.decoder(*maps.chunk(2), self.config.image)
        told: torch.Tensor = self.prefix(caption)
        return logits, told

    def tell(self, pair: torch.Tensor) -> torch.Tensor:
        """The second of what `forward` returns, alone."""
        caption, _ = self.neck(*self._seen(pair))
        told: torch.Tensor = self.prefix(caption)
        return told


def is_own(name: str) -> bool:
    """Whether a tensor belongs into our weights: the language model's own lie elsewhere, its corrections do not."""
    return not name.startswith("language.") or ".lora_" in name


# --- Speech ---


class Speaker:
    """A `SemanticCC` network's language model and its tokenizer: questions in, losses or answers out.

    Args:
        net: with a language model.
        tokenizer: of transformers; it must have an end of text.

    Raises:
        InvalidRequestError: there is no language model, or its tokenizer has no end of text.
    """

    def __init__(self, net: SemanticCC, tokenizer: Any) -> None:
        if net.language is None:
            raise InvalidRequestError("this network has no language model; give one to describe changes")
        if tokenizer.eos_token_id is None:
            raise InvalidRequestError("the tokenizer has no end of text, which every answer ends with")
        self.net, self.tokenizer, self.language = net, tokenizer, net.language

    def _numbers(self, text: str) -> list[int]:
        numbers: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return numbers

    def _embedded(self, numbers: Sequence[int]) -> torch.Tensor:
        """(n, language width)."""
        table = self.language.get_input_embeddings()
        out: torch.Tensor = table(torch.tensor(list(numbers), dtype=torch.long, device=table.weight.device))
        return out

    def _asked(self, told: torch.Tensor) -> torch.Tensor:
        """The question around what was seen: (queries, width) to (n, width)."""
        start = [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
        before = self._embedded([*start, *self._numbers("###Ask: <Img>")])
        after = self._embedded(self._numbers(f"</Img> {QUESTION} ###Answer: "))
        return torch.cat([before, told.to(before.dtype), after])

    def loss(self, told: torch.Tensor, captions: Sequence[str]) -> torch.Tensor:
        """Mean cross entropy of the answers' tokens.

        Args:
            told: (b, 3 * queries, language width).
            captions: one for each.
        """
        rows, targets = [], []
        for one, caption in zip(told, captions, strict=True):
            asked = self._asked(one)
            answer = [*self._numbers(caption)[: self.net.config.longest - 1], self.tokenizer.eos_token_id]
            rows.append(torch.cat([asked, self._embedded(answer)]))
            targets.append(torch.tensor([*[-100] * len(asked), *answer], device=told.device))
        lengths = torch.tensor([len(row) for row in rows], device=told.device)
        embedded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        labels = nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=-100)
        mask = (torch.arange(embedded.shape[1], device=told.device) < lengths[:, None]).long()
        logits = self.language(inputs_embeds=embedded, attention_mask=mask).logits
        return F.cross_entropy(logits[:, :-1].float().transpose(1, 2), labels[:, 1:], ignore_index=-100)

    def _scores(self, asked: torch.Tensor, answers: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log probability of each token of answers, given the embedded question (n, width)."""
        rows = [torch.cat([asked, self._embedded(answer)]) for answer in answers]
        lengths = torch.tensor([len(row) for row in rows], device=asked.device)
        embedded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        mask = (torch.arange(embedded.shape[1], device=asked.device) < lengths[:, None]).long()
        found = self.language(inputs_embeds=embedded, attention_mask=mask).logits.float().log_softmax(dim=-1)
        return [
            [float(row[len(asked) - 1 + place, number]) for place, number in enumerate(answer)]
            for row, answer in zip(found, answers, strict=True)
        ]

    @torch.inference_mode()
    def answer(self, told: torch.Tensor, beams: int = 1) -> tuple[str, bool]:
        """The likeliest answer that a search finds for one pair, and whether it came to its end.

        Args:
            told: (3 * queries, language width).
            beams: sentences that are followed at once.
        """
        asked, end = self._asked(told), self.tokenizer.eos_token_id
        processors = []
        if self.net.config.nothing:
            answers = [[*self._numbers(text), end] for text in self.net.config.nothing]
            unchanged = Nothing(answers, self._scores(asked, answers))
            if unchanged.probability >= 0.5:
                return self._text(unchanged.said()[0]), True
            processors = [
                lambda begun, logits: torch.stack(
                    [
                        unchanged.without(*row)
                        for row in zip(begun.tolist(), logits.float().log_softmax(-1), strict=True)
                    ]
                )
            ]
        found = self.language.generate(
            inputs_embeds=asked[None],
            attention_mask=torch.ones((1, len(asked)), dtype=torch.long, device=asked.device),
            max_new_tokens=self.net.config.longest,
            num_beams=beams,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            eos_token_id=end,
            pad_token_id=end,
            logits_processor=processors,
        )[0].tolist()
        return self._text(found), end in found

    def _text(self, numbers: Sequence[int]) -> str:
        end = self.tokenizer.eos_token_id
        said = list(numbers)
        text: str = self.tokenizer.decode(said[: said.index(end)] if end in said else said, skip_special_tokens=True)
        return " ".join(text.split())


class SemanticCCInterpreter:
    """A `SemanticCC` network and its tokenizer behind `ChangeInterpreter`."""

    name = NAME
    classes: tuple[str, ...] = ()

    def __init__(self, net: SemanticCC, tokenizer: Any | None, device: torch.device | str = "cpu") -> None:
        self.net = net.eval().to(device)
        self.speaker = None if tokenizer is None else Speaker(net, tokenizer)
        self.device = torch.device(device)

    @torch.inference_mode()
    def caption(self, pair: Pair, *, beams: int = 1) -> Caption:
        """See `ChangeCaptioner.caption`.

        Raises:
            WeightsError: no language model was given.
        """
        if self.speaker is None:
            raise WeightsError(f"{self.name} describes changes with a language model, and none was given")
        images = resized(pair.tensor().to(self.device), self.net.config.image)
        text, ended = self.speaker.answer(self.net.tell(images[None])[0], beams)
        return Caption(text, None, ended, self.name)

    def detect(
        self,
        pair: Pair,
        *,
        classes: Sequence[str] | None = None,
        tile: int = 256,
        overlap: int = 64,
        progress: Progress | None = None,
    ) -> Detection:
        """See `ChangeDetector.detect`; tiles have the one size that the network takes."""
        if classes is not None:
            raise ClassListError(f"{self.name} finds that something changed, not what; leave the classes out")
        side = self.net.config.image
        if tile != side:
            raise InvalidRequestError(f"{self.name} was trained on tiles of {side} pixels and takes no others")
        images = pair.tensor().to(self.device)
        logits = tiled(self.net.detect, images, tile=side, overlap=overlap, multiple=side, progress=progress).cpu()
        mask = (logits[1] > logits[0]).numpy()
        if pair.valid is not None:
            mask &= pair.valid
        return Detection(mask, logits.numpy(), (), pair.transform, pair.crs, model=self.name)


# --- Training in three stages ---


@dataclass(frozen=True, slots=True)
class Schedule:
    """How the authors' code trains each stage: AdamW with a cosine down to 0.

    Attributes:
        rate: learning rate at the start.
        decay: weight decay.
        epochs: of a stage.
        batch: pairs in a step.
        stages: in their order: detection first, captioning on what that has learned, both together.
    """

    rate: float = 1e-4
    decay: float = 0.05
    epochs: int = 5
    batch: int = 1
    stages: tuple[Stage, ...] = ("detection", "caption", "dual")

    def optimiser(self, net: SemanticCC, stage: Stage) -> torch.optim.Optimizer:
        """AdamW over what a stage moves."""
        return torch.optim.AdamW(tuned_parameters(net, stage), lr=self.rate, weight_decay=self.decay)


def tuned_parameters(net: SemanticCC, stage: Stage) -> list[nn.Parameter]:
    """What a stage moves: of what does not stand still, that on which its loss depends."""
    idle = {
        "detection": ("neck.enter", "neck.captions", "neck.guidance", "prefix.", "language."),
        # Without guidance nothing of the detection stream is heard in a caption.
        "caption": ("decoder.",) if net.config.guided else ("decoder.", "neck.detections", "encoder.vit.neck"),
        "dual": (),
    }[stage]
    names = ((name, value) for name, value in net.named_parameters() if value.requires_grad)
    return [value for name, value in names if not name.startswith(idle)]


def loss(
    net: SemanticCC,
    stage: Stage,
    pair: torch.Tensor,
    change: torch.Tensor,
    speaker: Speaker | None = None,
    captions: Sequence[Sequence[str]] = (),
    known: torch.Tensor | None = None,
) -> torch.Tensor:
    """The loss of a stage: cross entropy of the mask, of the answer, or their sum.

    Args:
        net: the network.
        stage: which.
        pair: (b, t=2, 3, h, w) in [-1, 1], or what the frozen part of the stem sees of both dates.
        change: bool (b, h, w).
        speaker: of the network; not needed for detection.
        captions: one or more for each pair; not needed for detection.
        known: bool (b, h, w), where `change` is known; None means everywhere.

    Raises:
        InvalidRequestError: captions are to be learned and there is no speaker.
    """
    if stage == "detection":
        return _mask_loss(net.detect(pair), change, known)
    if speaker is None:
        raise InvalidRequestError(f"the stage {stage!r} learns captions; give a speaker")
    if stage == "caption":
        return _said_loss(speaker, net.tell(pair), captions)
    logits, told = net(pair)
    return _said_loss(speaker, told, captions) + _mask_loss(logits, change, known)


def _said_loss(speaker: Speaker, told: torch.Tensor, captions: Sequence[Sequence[str]]) -> torch.Tensor:
    spoken = torch.tensor([len(some) for some in captions], device=told.device)
    return speaker.loss(told.repeat_interleave(spoken, dim=0), [text for some in captions for text in some])


def _mask_loss(logits: torch.Tensor, change: torch.Tensor, known: torch.Tensor | None) -> torch.Tensor:
    entropy = F.cross_entropy(logits, change.long(), reduction="none")
    if known is None:
        return entropy.mean()
    return (entropy * known).sum() / known.sum().clamp(min=1)


# --- Weights ---


def open_language(source: str | Path) -> tuple[Any, Any]:
    """A causal language model of transformers and its tokenizer, from this machine.

    Args:
        source: a folder that `save_pretrained` wrote, with safetensors, or a GGUF file (that needs gguf). No code of
            the folder is run.

    Raises:
        WeightsError: nothing is there, or it cannot be read.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = Path(source)
    if not path.exists():
        raise WeightsError(f"no language model at {source}; a folder of transformers or a .gguf file is needed")
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    folder = path
    if path.is_file():
        folder, options["gguf_file"] = path.parent, path.name
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        language = AutoModelForCausalLM.from_pretrained(
            folder, use_safetensors=None if path.is_file() else True, dtype=torch.float32, **options
        )
    except (OSError, ValueError, KeyError, ImportError, json.JSONDecodeError) as error:
        raise WeightsError(f"the language model {source} cannot be loaded: {first_line(error)}") from error
    return language.train(False), tokenizer


def save(folder: str | Path, net: SemanticCC) -> Path:
    """Write a network as `folder/model.safetensors`, without the language model's own weights."""
    return save_network(folder, NAME, net.config, net, keep=is_own)


def load(source: str | Path, language: str | Path | None = None) -> tuple[SemanticCC, Any | None]:
    """Load our own weights (a folder or a .safetensors file).

    Args:
        source: where they are.
        language: the language model that they were trained with, see `open_language`; None for the folder `language`
            beside them or, if there is none, for detection alone.

    Returns:
        The network and the tokenizer, or None without a language model.

    Raises:
        WeightsError: nothing is there, it is damaged or of another layout, or the language model does not fit.
    """
    config, state = read_network(source, NAME, SemanticCCConfig)
    path = Path(source)
    beside = (path if path.is_dir() else path.parent) / LANGUAGE
    if language is None and beside.is_dir():
        language = beside
    model, tokenizer = (None, None) if language is None else open_language(language)
    try:
        net = SemanticCC(config, model)
    except InvalidRequestError as error:
        raise WeightsError(f"{language} does not fit {source}: {error}") from error
    if model is None:
        state = {name: tensor for name, tensor in state.items() if not name.startswith("language.")}
    else:
        own = net.state_dict()
        state |= {name: tensor for name, tensor in own.items() if not is_own(name)}
    fill(net, state, source)
    return net.eval(), tokenizer


def load_sam(net: SemanticCC, source: str | Path) -> None:
    """Put a public checkpoint of SAM (`sam_vit_l_0b3195.pth` and its like) under the corrections.

    Positions were learned for images of 1024 pixels and are resampled to this network's.

    Raises:
        WeightsError: nothing is there, or it is damaged, refused, or of another size.
    """
    prefix = "image_encoder."
    public = {
        name.removeprefix(prefix): value for name, value in read_public(source).items() if name.startswith(prefix)
    }
    vit = net.encoder.vit
    wanted = vit.state_dict()
    state: State = {}
    for name, tensor in public.items():
        own = name.replace(".attn.qkv.", ".attn.qkv.base.")
        if own in wanted and own.endswith(("rel_pos_h", "rel_pos_w")):
            tensor = F.interpolate(tensor.t()[None], len(wanted[own]), mode="linear")[0].t()
        elif own == "pos_embed":
            tensor = F.interpolate(tensor.permute(0, 3, 1, 2), wanted[own].shape[1], mode="bicubic").permute(0, 2, 3, 1)
        state[own] = tensor
    corrections = {name: tensor for name, tensor in wanted.items() if ".lora_" in name}
    fill(vit, state | corrections, source)
