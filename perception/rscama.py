"""RSCaMa: change captioning with state space models.

Liu et al., "RSCaMa: Remote sensing image change captioning with state space model", IEEE GRSL 21 (2024),
arXiv 2404.18895. A CLIP vision transformer sees both dates. Each of three CaMa layers lets the difference of the dates
gate a scan of each date (spatial difference-aware SSM, section II-B) and then scans both dates interleaved, token by
token (temporal traversing SSM, section II-C). Both are joined and one of three decoders speaks.

Where paper and published code differ, this follows the code: the scan back is given the convolution of the scan forth;
one layer norm serves everywhere in the head; joining the dates happens after the last layer only. Two things of the
code are left out, since they compute nothing: halves of projections that are thrown away, and 502 million parameters
of word tables inside the blocks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from earthgen.errors import InvalidRequestError, WeightsError
from perception.caption_decoders import (
    CaptionDecoder,
    DecoderConfig,
    Kind,
    build,
    caption_loss,
    search,
)
from perception.captioner import Caption, as_caption, read_weights
from perception.checkpoint import State, fill, read_public_parts
from perception.mamba import Selection, convolved, project, project_back
from perception.pair import Pair
from perception.patch_towers import ClipTower, LiteTower, PatchTower
from perception.positions import SquarePositions
from perception.vocabulary import Vocabulary

NAME = "rscama"
PARTS = ("encoder_dict", "encoder_trans_dict", "decoder_dict")
"""The state dictionaries of a public checkpoint: tower, CaMa layers, decoder."""


@dataclass(frozen=True, slots=True)
class RSCaMaConfig:
    """Sizes of the network.

    Attributes:
        words: the vocabulary, marks first (`perception.vocabulary`).
        tower: "clip" for CLIP's vision transformer, "lite" for a frozen EfficientNet-Lite0 and a projection.
        image: pixels along a side, to which a picture is resized.
        patch: pixels along a side of a token's patch.
        tower_layers: blocks of CLIP's transformer.
        tower_heads: of its attentions.
        width: C of tokens and words.
        layers: CaMa layers.
        states: N of every scan.
        kernel: positions that the causal convolution sees.
        decoder: which language decoder.
        decoder_layers: how many of its layers.
        heads: of the Transformer decoder.
        gpt_heads: of the GPT-2 decoder.
        longest: most words of a sentence, marks included.
        dropout: of the decoder, while training.
        nothing: sentences that say that nothing changed, which a search judges together.
    """

    words: tuple[str, ...]
    tower: Literal["clip", "lite"] = "clip"
    image: int = 224
    patch: int = 32
    tower_layers: int = 12
    tower_heads: int = 12
    width: int = 768
    layers: int = 3
    states: int = 16
    kernel: int = 3
    decoder: Kind = "transformer"
    decoder_layers: int = 1
    heads: int = 8
    gpt_heads: int = 12
    longest: int = 42
    dropout: float = 0.1
    nothing: tuple[str, ...] = ()


def published(words: Sequence[str], decoder: Kind = "transformer") -> RSCaMaConfig:
    """The configuration of the paper, on CLIP ViT-B/32."""
    return RSCaMaConfig(words=tuple(words), decoder=decoder)


def small(words: Sequence[str], decoder: Kind = "transformer") -> RSCaMaConfig:
    """On the frozen EfficientNet-Lite0, a sixth as wide, 8 x 8 tokens of 256 x 256 pixels. Not from the paper."""
    return RSCaMaConfig(
        words=tuple(words),
        tower="lite",
        image=256,
        width=128,
        layers=2,
        states=4,
        decoder=decoder,
        gpt_heads=4,
        heads=4,
        longest=32,
    )


class CaMaBlock(nn.Module):
    """Norm, a scan from both ends, a skip and a norm; the gate comes from the tokens or from the dates' difference.

    Args:
        config: sizes.
        guided: whether the difference gates.
    """

    def __init__(self, config: RSCaMaConfig, guided: bool) -> None:
        super().__init__()
        width, inner, rank = config.width, 2 * config.width, math.ceil(config.width / 16)
        self.guided = guided
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.value = nn.Linear(width, inner, bias=False)
        self.gate = nn.Linear(width, inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, config.kernel, groups=inner)
        self.forwards = Selection(inner, config.states, rank)
        self.backwards = Selection(inner, config.states, rank)
        self.out_proj = nn.Linear(inner, width, bias=False)
        self.norm_f = nn.RMSNorm(width, eps=1e-5)

    def forward(self, tokens: torch.Tensor, difference: torch.Tensor | None = None) -> torch.Tensor:
        """(b, l, c), and the difference of the same shape if the block is guided, to (b, l, c)."""
        normed = self.norm(tokens)
        # The difference is not normalised: how large it is matters.
        gate = project(self.gate.weight, normed if difference is None else difference)
        u = F.silu(convolved(self.conv1d, project(self.value.weight, normed)))
        # Each direction has the same gate, so it is applied to their sum.
        both = self.forwards.scanned(u, backwards=False) + self.backwards.scanned(u, backwards=True)
        mixed = project_back(self.out_proj.weight, both * F.silu(gate))
        out: torch.Tensor = self.norm_f(tokens + mixed)
        return out


class CaMaLayer(nn.Module):
    """Spatial difference-aware SSM, then temporal traversing SSM."""

    def __init__(self, config: RSCaMaConfig) -> None:
        super().__init__()
        self.before = CaMaBlock(config, guided=True)
        self.after = CaMaBlock(config, guided=True)
        self.across = CaMaBlock(config, guided=False)

    def forward(
        self, before: torch.Tensor, after: torch.Tensor, norm: nn.LayerNorm, skip: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Two (b, l, c) to two of the same shape; norm and skip are shared by all layers."""
        # Where, equation 3: the dates' difference from before either is updated.
        difference = after - before
        before, after = norm(self.before(before, difference)), norm(self.after(after, difference))

        # When, equation 5: both dates' tokens, place by place.
        woven = rearrange(torch.stack([before, after], dim=2), "b l t c -> b (l t) c")
        woven = norm(self.across(woven))
        new_before, new_after = rearrange(woven, "b (l t) c -> t b l c", t=2)
        return new_before + skip * before, new_after + skip * after


class ResidualBlock(nn.Module):
    """Norm, ReLU, a 3x3 and a 1x1 convolution around an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.left = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, c, h, w) to the same shape."""
        return F.relu(x + self.left(x))


class CaMaHead(nn.Module):
    """Both dates' tokens to one set of tokens that says what changed."""

    def __init__(self, config: RSCaMaConfig, grid: int) -> None:
        super().__init__()
        width = config.width
        self.grid = grid
        self.positions = SquarePositions(grid, width)
        self.layers = nn.ModuleList(CaMaLayer(config) for _ in range(config.layers))
        self.skip = nn.Parameter(torch.tensor(0.0))
        self.join = nn.Conv2d(2 * width, width, 1)
        self.block = ResidualBlock(width)
        self.norm = nn.LayerNorm(width)

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """Two (b, l, c) to (b, l, c)."""
        places = self.positions(self.grid, self.grid)
        before, after = before + places, after + places
        for layer in self.layers:
            before, after = layer(before, after, self.norm, self.skip)
        both = rearrange(torch.cat([before, after], dim=-1), "b (h w) c -> b c h w", h=self.grid)
        joined = rearrange(self.block(self.join(both)), "b c h w -> b (h w) c")
        out: torch.Tensor = self.norm(joined)
        return out


class RSCaMa(nn.Module):
    """The network.

    Args:
        config: its sizes and words.
    """

    def __init__(self, config: RSCaMaConfig) -> None:
        super().__init__()
        self.config = config
        self.tower: PatchTower = (
            LiteTower(config.image, config.patch, config.width)
            if config.tower == "lite"
            else ClipTower(config.image, config.patch, config.width, config.tower_layers, config.tower_heads)
        )
        self.head = CaMaHead(config, self.tower.grid)
        self.decoder: CaptionDecoder = build(
            DecoderConfig(
                words=len(config.words),
                width=config.width,
                kind=config.decoder,
                layers=config.decoder_layers,
                heads=config.heads,
                gpt_heads=config.gpt_heads,
                longest=config.longest,
                dropout=config.dropout,
            )
        )

    def see(self, pair: torch.Tensor) -> torch.Tensor:
        """What changed, as tokens (b, l, c), of a pair (b, t=2, 3, h, w) in [-1, 1] of any size."""
        if pair.dim() != 5 or pair.shape[1:3] != (2, 3):
            raise InvalidRequestError(f"RSCaMa was given {tuple(pair.shape)}; (b, 2, 3, h, w) is needed")
        tokens = self.tower(rearrange(pair, "b t c h w -> (t b) c h w"))
        out: torch.Tensor = self.head(*tokens.chunk(2))
        return out

    def forward(self, pair: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """Logits (b, n, words) of the word after each of `words`, long (b, n), of a pair (b, t=2, 3, h, w)."""
        out: torch.Tensor = self.decoder(self.see(pair), words)
        return out

    def tuned_parameters(self) -> list[nn.Parameter]:
        """What training moves: of CLIP only the last six blocks, and all of the rest."""
        return [*self.tower.tuned_parameters(), *self.head.parameters(), *self.decoder.parameters()]


class RSCaMaCaptioner:
    """An `RSCaMa` network behind `ChangeCaptioner.caption`."""

    name = NAME

    def __init__(self, net: RSCaMa, device: torch.device | str = "cpu") -> None:
        self.net = net.eval().to(device)
        self.vocabulary = Vocabulary(net.config.words)
        self.nothing = self.vocabulary.spoken(net.config.nothing)
        self.device = torch.device(device)

    @torch.inference_mode()
    def caption(self, pair: Pair, *, beams: int = 1) -> Caption:
        """See `ChangeCaptioner.caption`."""
        tokens = self.net.see(pair.tensor()[None].to(self.device))
        (found,) = search(self.net.decoder, tokens, beams, self.nothing)
        return as_caption(found, self.vocabulary, self.name)


# --- Training as published ---


@dataclass(frozen=True, slots=True)
class Schedule:
    """How the authors' code trains: Adam at a constant rate (its StepLR has a factor of 1), without augmentation.

    Attributes:
        rate: learning rate of tower, head and decoder alike.
        batch: pairs in a step.
        epochs: at most; the weights with the best BLEU-4 on the validation set are kept.
    """

    rate: float = 1e-4
    batch: int = 64
    epochs: int = 80

    def optimiser(self, net: RSCaMa) -> torch.optim.Optimizer:
        """Adam over what training moves."""
        return torch.optim.Adam(net.tuned_parameters(), lr=self.rate)


def loss(net: RSCaMa, pair: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the next words of sentences, long (b, n), START to END and then NULL."""
    return caption_loss(net(pair, words[:, :-1]), words)


def published_start(net: RSCaMa) -> None:
    """Begin as the authors' code does: every matrix of the head Xavier-uniform, its scans' decays among them.

    With that, decays start near -1 and time steps near log 2, not as Mamba's authors choose them. Only for parity.
    """
    for name, parameter in net.head.named_parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
        elif name.endswith("dt_proj.bias"):
            nn.init.zeros_(parameter)


# --- Weights ---


def load(source: str | Path, vocabulary: str | Path | None = None) -> RSCaMa:
    """Load our own weights (a folder or a .safetensors file) or a public checkpoint (`*.pth`).

    Args:
        source: where they are.
        vocabulary: the `vocab.json` of a public checkpoint; None takes the one beside it.

    Raises:
        WeightsError: nothing is there, or it is damaged, refused, or of another layout.
    """
    config, state = read_weights(source, vocabulary, NAME, RSCaMaConfig, _from_public)
    net = RSCaMa(config)
    fill(net, state, source)
    return net.eval()


_IDLE = re.compile(
    r"encoder_dict\.clip_model\.(?!visual\.)"
    r"|encoder_dict\.clip_model\.visual\.(proj|ln_post\.)"
    r"|.*\.embeddings\.weight$"
    r"|encoder_trans_dict\.(layerscan\.|fuselayer_list\.\d+\.1\.|fuselayer_list_2\.|linear_|Dyconv_)"
    r"|.*\.mixer\.(conv1d_back|x_proj_dif|dt_proj_dif|linear_hid2|out_LN)"
    r"|encoder_trans_dict\.fuselayer_list\.\d+\.0\..*\.in_proj_dif\."
    r"|decoder_dict\.transformer\.layers\.\d+\.fc_alpha"
    r"|decoder_dict\.position_encoding\."
    r"|decoder_dict\.GPT\.\d+\.(wte\.|h\.\d+\.attn\.(bias|masked_bias)$)"
)


def is_idle(name: str) -> bool:
    """Whether a tensor of a public checkpoint, part and name with a dot between, computes nothing."""
    return _IDLE.match(name) is not None


def _from_public(source: str | Path, words: tuple[str, ...]) -> tuple[RSCaMaConfig, State]:
    """The configuration that a public checkpoint shows, and its tensors under our names."""
    parts = read_public_parts(source, PARTS, is_idle)
    head = parts["encoder_trans_dict"]
    layers = _count(head, r"CaMalayer_list\.(\d+)\.")
    # Joining the dates happens after the last layer; the modules for it behind the others are idle.
    last = re.compile(rf"(Conv1_list|LN_list)\.(?!{layers - 1}\.)")
    state: State = {}
    for part, tensors in parts.items():
        for name, tensor in tensors.items():
            if part != "encoder_trans_dict" or not last.match(name):
                state |= _own(f"{part}.{name}", tensor)
    try:
        config = _shown(state, layers, words)
    except (KeyError, IndexError) as error:
        raise WeightsError(f"{source} is no checkpoint of RSCaMa: {error.args[0]} is missing") from error
    return config, state


def _count(state: State, pattern: str) -> int:
    """How many numbers the pattern finds, counted from 0."""
    return 1 + max((int(found[1]) for name in state if (found := re.match(pattern, name))), default=-1)


def _shown(state: State, layers: int, words: tuple[str, ...]) -> RSCaMaConfig:
    """The sizes that tensors, under our names, have."""
    known = state["decoder.vocab_embedding.weight"].shape[0]
    if known != len(words):
        raise WeightsError(f"the checkpoint knows {known} words and its vocabulary lists {len(words)}")
    width, patch = state["tower.conv1.weight"].shape[0], state["tower.conv1.weight"].shape[-1]
    grid = math.isqrt(state["tower.positional_embedding"].shape[0] - 1)
    first = "head.layers.0.before."
    decoder: Kind = "transformer"
    if "decoder.layers.0.wpe.weight" in state:
        decoder = "gpt"
    elif "decoder.layers.0.in_proj.weight" in state:
        decoder = "mamba"
    return RSCaMaConfig(
        words=words,
        image=grid * patch,
        patch=patch,
        tower_layers=_count(state, r"tower\.resblocks\.(\d+)\."),
        # Heads of CLIP and GPT-2 are 64 numbers wide.
        tower_heads=max(1, width // 64),
        gpt_heads=max(1, width // 64),
        width=width,
        layers=layers,
        states=state[f"{first}forwards.A_log"].shape[1],
        kernel=state[f"{first}conv1d.weight"].shape[-1],
        decoder=decoder,
        decoder_layers=_count(state, r"decoder\.layers\.(\d+)\."),
    )


def _own(name: str, tensor: torch.Tensor) -> State:
    """A public tensor under our names: one, two where a matrix is halved, none where all of it is idle."""
    part, _, rest = name.partition(".")
    if part == "encoder_dict":
        return {f"tower.{rest.removeprefix('clip_model.visual.').removeprefix('transformer.')}": tensor}
    return (
        _own_head(rest, tensor)
        if part == "encoder_trans_dict"
        else {f"decoder.{_own_decoder(rest)}": _turn(rest, tensor)}
    )


_HEAD_NAMES = (
    (re.compile(r"h_embedding\.weight"), "positions.column.weight"),
    (re.compile(r"w_embedding\.weight"), "positions.row.weight"),
    (re.compile(r"alpha"), "skip"),
    (re.compile(r"Conv1_list\.\d+\.(.*)"), r"join.\1"),
    (re.compile(r"LN_list\.\d+\.(.*)"), r"block.\1"),
    (re.compile(r"LN_norm\.(.*)"), r"norm.\1"),
    (re.compile(r"CaMalayer_list\.(\d+)\.0\.(.*)"), r"layers.\1.before.\2"),
    (re.compile(r"CaMalayer_list\.(\d+)\.1\.(.*)"), r"layers.\1.after.\2"),
    (re.compile(r"fuselayer_list\.(\d+)\.0\.(.*)"), r"layers.\1.across.\2"),
)
_BACK = re.compile(r"(.*)\.(x_proj|dt_proj|A_log|D)(_back)?(\.weight|\.bias)?$")


def _own_head(name: str, tensor: torch.Tensor) -> State:
    for pattern, ours in _HEAD_NAMES:
        if pattern.fullmatch(name):
            name = pattern.sub(ours, name)
            break
    name = name.replace(".layers.0.norm.", ".norm.")
    place, mixer, rest = name.partition(".layers.0.mixer.")
    if not mixer:
        return {f"head.{name}": tensor}
    scan = _BACK.fullmatch(f"{place}.{rest}")
    if scan:
        direction = "backwards" if scan[3] else "forwards"
        return {f"head.{scan[1]}.{direction}.{scan[2]}{scan[4] or ''}": tensor}
    value, gate = tensor.chunk(2) if rest.startswith("in_proj") else (tensor, tensor)
    if rest == "in_proj.weight":
        # Where the difference gates, the half that would is thrown away.
        halves = {f"head.{place}.value.weight": value}
        return halves | ({f"head.{place}.gate.weight": gate} if place.endswith("across") else {})
    if rest == "in_proj_dif.weight":
        return {f"head.{place}.gate.weight": gate}
    return {f"head.{place}.{rest}": tensor}


def _own_decoder(name: str) -> str:
    name = re.sub(r"^(transformer\.layers|GPT|Mamba)\.(\d+)\.", r"layers.\2.", name)
    name = re.sub(r"\.h\.0\.attn\.", ".", name)
    name = re.sub(r"\.h\.0\.mlp\.c_proj\.", ".mlp_proj.", name)
    name = re.sub(r"\.h\.0\.(mlp\.)?", ".", name)
    name = re.sub(r"\.layers\.0\.mixer\.(in_proj|out_proj)\.", r".\1.", name)
    name = re.sub(r"\.layers\.0\.mixer\.", ".scan.", name)
    return re.sub(r"\.layers\.0\.norm\.", ".norm.", name)


def _turn(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """GPT-2 keeps its matrices the other way round."""
    return tensor.t().contiguous() if re.search(r"GPT\.\d+\.h\.0\.\S*c_\w+\.weight$", name) else tensor
