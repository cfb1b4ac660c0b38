"""CDMamba: binary change detection by state space models with local convolutions.

Zhang et al., "CDMamba: Incorporating local clues into Mamba for remote sensing image binary change detection",
IEEE TGRS 63 (2025), arXiv 2406.04207. Both dates go through one encoder of scaled residual ConvMamba (SRCM) blocks at
four resolutions. At the finest two, adaptive global local guided fusion (AGLGF) lets each date's scan be gated by
the other date's neighbourhood (L-GF) and by the other date's scan (G-GF). The decoder reads the absolute differences.

Where the paper and the authors' published code differ, this follows the code, since its checkpoints are what can be
compared: levels are halved by max pooling, not bilinearly; channels are not split in halves inside a block; one layer
norm's weights serve both places of an SRCM layer. Images need not be square here.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from earthgen.errors import InvalidRequestError, WeightsError
from perception.checkpoint import State, fill, read_network, read_public
from perception.mamba import Direction, project, project_back

NAME = "cdmamba"
MULTIPLE = 8
"""Heights and widths must be multiples of this: the image is halved three times."""
_MOST_CHANNELS = 256
"""Widest finest level that a checkpoint may ask for."""


@dataclass(frozen=True, slots=True)
class CDMambaConfig:
    """Sizes of the network.

    Attributes:
        channels: width of the finest level; each coarser one is twice as wide. A multiple of `groups`.
        blocks: SRCM blocks at each of the four levels of the encoder.
        fused_levels: how many levels, from the finest, go through AGLGF.
        keep_idle: also hold what computes nothing but is in public checkpoints: the AGLGF modules of the other levels,
            and a scale in each L-GF and G-GF for a skip that is switched off.
        states: N of every scan.
        kernel: positions that the causal convolution sees.
        groups: of the group norms.
    """

    channels: int = 16
    blocks: tuple[int, ...] = (1, 2, 2, 4)
    fused_levels: int = 2
    keep_idle: bool = False
    states: int = 16
    kernel: int = 4
    groups: int = 8


def published() -> CDMambaConfig:
    """The configuration of the paper and of its checkpoints: 11,909,205 parameters, of which 10,341,325 compute."""
    return CDMambaConfig(keep_idle=True)


def small() -> CDMambaConfig:
    """Half the width, nothing idle: about a quarter of the parameters and 40 % of the time. Not from the paper."""
    return CDMambaConfig(channels=8)


def _to_tokens(x: torch.Tensor) -> torch.Tensor:
    return rearrange(x, "b c h w -> b (h w) c")


def _to_map(tokens: torch.Tensor, height: int) -> torch.Tensor:
    return rearrange(tokens, "b (h w) c -> b c h w", h=height)


class SeparableConv(nn.Module):
    """A depthwise 3x3 convolution, then a pointwise one."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise_conv = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs)
        self.pointwise_conv = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, c, h, w) to (b, outputs, h, w)."""
        out: torch.Tensor = self.pointwise_conv(self.depthwise_conv(x))
        return out


def full_local(channels: int, inner: int) -> nn.Sequential:
    """The local branch of encoder and L-GF: two 3x3 convolutions, the inner width already between them."""
    return nn.Sequential(nn.Conv2d(channels, inner, 3, padding=1), nn.SiLU(), nn.Conv2d(inner, inner, 3, padding=1))


def separable_local(channels: int, inner: int) -> nn.Sequential:
    """The local branch of the decoder: two separable convolutions."""
    return nn.Sequential(SeparableConv(channels, channels), nn.SiLU(), SeparableConv(channels, inner))


class BiMamba(nn.Module):
    """The scan from both ends that all blocks share; subclasses say what it is joined with.

    Args:
        channels: C; the scan runs over E = 2C.
        config: states and kernel.
    """

    def __init__(self, channels: int, config: CDMambaConfig) -> None:
        super().__init__()
        self.inner = 2 * channels
        self.in_proj = nn.Linear(channels, 2 * self.inner, bias=False)
        self.forwards = self._direction(channels, config)
        self.backwards = self._direction(channels, config)

    def _direction(self, channels: int, config: CDMambaConfig) -> Direction:
        return Direction(self.inner, config.states, math.ceil(channels / 16), config.kernel)

    def scanned(self, tokens: torch.Tensor) -> torch.Tensor:
        """(b, l, c) to the sum of both directions (b, e, l)."""
        x, z = project(self.in_proj.weight, tokens).chunk(2, dim=1)
        # Each direction has the same gate, so it is applied to their sum.
        both: torch.Tensor = self.forwards(x, backwards=False) + self.backwards(x, backwards=True)
        return both * F.silu(z)


class ConvMamba(BiMamba):
    """Scan plus local convolutions."""

    def __init__(self, channels: int, config: CDMambaConfig, separable: bool) -> None:
        super().__init__(channels, config)
        self.local_relation = (separable_local if separable else full_local)(channels, self.inner)
        self.out_proj = nn.Linear(self.inner, channels, bias=False)

    def forward(self, tokens: torch.Tensor, height: int) -> torch.Tensor:
        """(b, l, c) to the same shape."""
        local = _to_tokens(self.local_relation(_to_map(tokens, height)))
        # The sum of both branches, projected; they lie differently in memory, so each is projected alone.
        out: torch.Tensor = project_back(self.out_proj.weight, self.scanned(tokens)) + self.out_proj(local)
        return out


class LocalGuidedMamba(BiMamba):
    """One date's scan, gated by the other date's neighbourhood (L-GF)."""

    def __init__(self, channels: int, config: CDMambaConfig) -> None:
        super().__init__(channels, config)
        self.local_relation = full_local(channels, self.inner)
        self.out_proj = nn.Linear(self.inner, channels, bias=False)

    def forward(self, tokens: torch.Tensor, other: torch.Tensor, height: int) -> torch.Tensor:
        """Two (b, l, c) to (b, l, c)."""
        gate = F.relu(self.local_relation(_to_map(other, height))).flatten(2)
        return project_back(self.out_proj.weight, self.scanned(tokens) * gate)


class GlobalGuidedMamba(BiMamba):
    """One date's scan, gated by a forward scan of the other date (G-GF)."""

    def __init__(self, channels: int, config: CDMambaConfig) -> None:
        super().__init__(channels, config)
        self.in_proj_global = nn.Linear(channels, 2 * self.inner, bias=False)
        self.across = self._direction(channels, config)
        self.out_proj = nn.Linear(self.inner, channels, bias=False)

    def forward(self, tokens: torch.Tensor, other: torch.Tensor, height: int) -> torch.Tensor:
        """Two (b, l, c) to (b, l, c); the height does not matter to a scan."""
        x, z = project(self.in_proj_global.weight, other).chunk(2, dim=1)
        gate = F.relu(self.across(x, backwards=False) * F.silu(z))
        return project_back(self.out_proj.weight, self.scanned(tokens) * gate)


class SRCMLayer(nn.Module):
    """Scaled residual ConvMamba: norm, ConvMamba and a scaled skip, the same norm again, a projection."""

    def __init__(self, inputs: int, outputs: int, config: CDMambaConfig, separable: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inputs)
        self.convmamba = ConvMamba(inputs, config, separable)
        self.skip_scale = nn.Parameter(torch.ones(1))
        self.proj = nn.Linear(inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, inputs, h, w) to (b, outputs, h, w)."""
        height = x.shape[2]
        tokens = _to_tokens(x)
        mixed = self.convmamba(self.norm(tokens), height) + self.skip_scale * tokens
        return _to_map(self.proj(self.norm(mixed)), height)


class SRCMBlock(nn.Module):
    """Two SRCM layers, each after group norm and ReLU, around an identity."""

    def __init__(self, channels: int, config: CDMambaConfig, separable: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(config.groups, channels)
        self.conv1 = SRCMLayer(channels, channels, config, separable)
        self.norm2 = nn.GroupNorm(config.groups, channels)
        self.conv2 = SRCMLayer(channels, channels, config, separable)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, c, h, w) to the same shape."""
        out: torch.Tensor = x + self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))
        return out


class Level(nn.Module):
    """One resolution of the encoder; all but the finest begin by widening and halving."""

    def __init__(self, inputs: int, channels: int, blocks: int, config: CDMambaConfig) -> None:
        super().__init__()
        self.down = SRCMLayer(inputs, channels, config) if inputs != channels else None
        self.blocks = nn.ModuleList(SRCMBlock(channels, config) for _ in range(blocks))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, inputs, h, w) to (b, channels, h, w) or half of h and w."""
        if self.down is not None:
            x = F.max_pool2d(self.down(x), 2)
        for block in self.blocks:
            x = block(x)
        return x


class GuidedFusion(nn.Module):
    """L-GF or G-GF: each date's tokens, normalised, scanned and gated by the other date's."""

    def __init__(self, channels: int, encoder: LocalGuidedMamba | GlobalGuidedMamba, keep_idle: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.encoder = encoder
        self.skip_scale = nn.Parameter(torch.ones(1)) if keep_idle else None

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """Two (b, c, h, w) to (t=2, b, c, h, w)."""
        height = before.shape[2]
        first, second = self.norm1(_to_tokens(before)), self.norm2(_to_tokens(after))
        # One module for both orders, in one call.
        fused: torch.Tensor = self.encoder(torch.cat([first, second]), torch.cat([second, first]), height)
        return rearrange(fused, "(t b) (h w) c -> t b c h w", t=2, h=height)


class AdaptiveFusion(nn.Module):
    """AGLGF: local and global fusion, weighed by a gate for each sample and date."""

    def __init__(self, channels: int, config: CDMambaConfig) -> None:
        super().__init__()
        self.local_fusion = GuidedFusion(channels, LocalGuidedMamba(channels, config), config.keep_idle)
        self.global_fusion = GuidedFusion(channels, GlobalGuidedMamba(channels, config), config.keep_idle)
        self.gate = nn.Linear(2 * channels, 2, bias=False)

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """Two (b, c, h, w) to (t=2, b, c, h, w)."""
        by_local: torch.Tensor = self.local_fusion(before, after)
        by_global: torch.Tensor = self.global_fusion(before, after)
        means = torch.cat([by_local.mean(dim=(-2, -1)), by_global.mean(dim=(-2, -1))], dim=-1)  # (t, b, 2c)
        share: torch.Tensor = self.gate(means).softmax(dim=-1)[..., None, None, None]  # (t, b, 2, 1, 1, 1)
        return share[:, :, 0] * by_local + share[:, :, 1] * by_global


class Rise(nn.Module):
    """One step of the decoder: narrow, double the resolution, add the finer difference, one SRCM block."""

    def __init__(self, channels: int, config: CDMambaConfig) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(2 * channels, channels, 1, bias=False)
        self.block = SRCMBlock(channels, config, separable=True)

    def forward(self, x: torch.Tensor, difference: torch.Tensor) -> torch.Tensor:
        """(b, 2c, h, w) and (b, c, 2h, 2w) to (b, c, 2h, 2w)."""
        x = F.interpolate(self.narrow(x), scale_factor=2, mode="bilinear", align_corners=False)
        out: torch.Tensor = self.block(x + difference)
        return out


class CDMamba(nn.Module):
    """The network.

    Args:
        config: its sizes.
    """

    def __init__(self, config: CDMambaConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.channels * 2**level for level in range(len(config.blocks))]
        fused = len(widths) if config.keep_idle else config.fused_levels
        self.stem = nn.Conv2d(3, config.channels, 3, padding=1, bias=False)
        self.levels = nn.ModuleList(
            Level(inputs, width, blocks, config)
            for inputs, width, blocks in zip([widths[0], *widths], widths, config.blocks, strict=False)
        )
        self.fusion = nn.ModuleList(AdaptiveFusion(width, config) for width in widths[:fused])
        self.rises = nn.ModuleList(Rise(width, config) for width in reversed(widths[:-1]))
        self.norm = nn.GroupNorm(config.groups, config.channels)
        self.head = nn.Conv2d(config.channels, 2, 1)

    def differences(self, pair: torch.Tensor) -> list[torch.Tensor]:
        """Absolute differences of both dates at each level, finest first.

        Args:
            pair: (b, t=2, 3, h, w) in [-1, 1].

        Raises:
            InvalidRequestError: h or w is no multiple of MULTIPLE.
        """
        if pair.dim() != 5 or pair.shape[1:3] != (2, 3) or pair.shape[3] % MULTIPLE or pair.shape[4] % MULTIPLE:
            raise InvalidRequestError(
                f"CDMamba was given {tuple(pair.shape)}; (b, 2, 3, h, w) with h and w multiples of {MULTIPLE} is needed"
            )
        x = self.stem(rearrange(pair, "b t c h w -> (t b) c h w"))
        found = []
        for index, level in enumerate(self.levels):
            x = level(x)
            before, after = x.chunk(2)
            if index < self.config.fused_levels:
                before, after = self.fusion[index](before, after)
            found.append((before - after).abs())
        return found

    def forward(self, pair: torch.Tensor) -> torch.Tensor:
        """Logits of unchanged and changed, (b, 2, h, w), of a pair (b, t=2, 3, h, w) in [-1, 1]."""
        *finer, x = self.differences(pair)
        for rise, difference in zip(self.rises, reversed(finer), strict=True):
            x = rise(x, difference)
        logits: torch.Tensor = self.head(F.relu(self.norm(x)))
        return logits

    def idle_parameters(self) -> set[str]:
        """Names of parameters that no output depends on, see `CDMambaConfig.keep_idle`."""
        idle = {f"fusion.{index}." for index in range(self.config.fused_levels, len(self.fusion))}
        names = (name for name, _ in self.named_parameters())
        return {
            name
            for name in names
            if name.startswith(tuple(idle)) or (name.startswith("fusion.") and name.endswith("skip_scale"))
        }


# --- Training as published ---


@dataclass(frozen=True, slots=True)
class Schedule:
    """How the authors' code trains: Adam at a constant rate (a linear decay is configured there but never stepped).

    Attributes:
        rate: learning rate.
        betas: of Adam.
        batch: pairs in a step.
        epochs: 200 in the code's configurations; the paper says 300.
    """

    rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    batch: int = 6
    epochs: int = 200

    def optimiser(self, net: nn.Module) -> torch.optim.Optimizer:
        """Adam over everything that computes; without weight decay."""
        return torch.optim.Adam(net.parameters(), lr=self.rate, betas=self.betas)


def change_loss(logits: torch.Tensor, change: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
    """Half cross entropy, half Dice, as published.

    Dice is 1 - (2 * intersection + eps) / (sum of both + eps) with soft-max probabilities, eps 1e-10, the mean over
    both classes and all samples.

    Args:
        logits: (b, 2, h, w).
        change: bool (b, h, w).
        known: bool (b, h, w), where the truth is known; None means everywhere.
    """
    known = torch.ones_like(change) if known is None else known
    entropy = F.cross_entropy(logits, change.long(), reduction="none")
    entropy = (entropy * known).sum() / known.sum().clamp(min=1)

    true = torch.stack([~change, change], dim=1) * known[:, None]
    likely = logits.softmax(dim=1) * known[:, None]
    intersection, total = (likely * true).sum(dim=(2, 3)), (likely + true).sum(dim=(2, 3))
    dice = 1 - (2 * intersection + 1e-10) / (total + 1e-10)
    return 0.5 * entropy + 0.5 * dice.mean()


# --- Weights ---


def load(source: str | Path) -> CDMamba:
    """Load our own weights (a folder or a .safetensors file) or a public checkpoint (`best_cd_model_gen.pth`).

    Raises:
        WeightsError: nothing is there, or it is damaged, refused, or of another layout.
    """
    if Path(source).suffix in (".pth", ".pt"):
        net, state = _from_public(read_public(source), source)
    else:
        config, state = read_network(source, NAME, CDMambaConfig)
        net = CDMamba(config)
    fill(net, state, source)
    return net.eval()


def to_public(net: CDMamba) -> State:
    """The tensors under the authors' names, with their aliases; their code loads what `published()` made."""
    state = {public_name(name): tensor for name, tensor in net.state_dict().items()}
    return state | {alias: tensor for name, tensor in state.items() if (alias := _ALIAS_OF.sub(_alias, name)) != name}


_FUSION = re.compile(r"^(l_gf|g_gf|ag)\.(\d)\.")
_ALIAS_OF = re.compile(r"^(l_gf|g_gf|ag)(\d)\.")


def _alias(match: re.Match[str]) -> str:
    return f"{match[1]}.{int(match[2]) - 1}."


def _from_public(state: State, source: str | Path) -> tuple[CDMamba, State]:
    """A network of the sizes that a public state dictionary shows, and the tensors under our names."""
    plain: State = {}
    for name, tensor in state.items():
        # Fusion modules are there twice: l_gf1 is also l_gf.0. Either name will do, but they must agree.
        own = _FUSION.sub(lambda match: f"{match[1]}{int(match[2]) + 1}.", name)
        if own in plain and not torch.equal(plain[own], tensor):
            raise WeightsError(f"{source} holds two different tensors for {own}")
        plain[own] = tensor
    blocks: dict[int, int] = {}
    for name in plain:
        found = re.match(r"srcm_encoder_layers\.(\d+)\.(\d+)\.", name)
        if found:
            blocks[int(found[1])] = max(blocks.get(int(found[1]), 0), int(found[2]))
    if "convInit.conv.weight" not in plain or sorted(blocks) != [0, 1, 2, 3]:
        raise WeightsError(f"{source} is no checkpoint of CDMamba: convInit or srcm_encoder_layers 0 to 3 are missing")
    channels = plain["convInit.conv.weight"].shape[0]
    if channels % CDMambaConfig().groups or channels > _MOST_CHANNELS:
        raise WeightsError(f"{source} has {channels} channels; a multiple of 8 up to {_MOST_CHANNELS} is allowed")
    net = CDMamba(
        CDMambaConfig(channels=channels, blocks=tuple(blocks[index] for index in sorted(blocks)), keep_idle=True)
    )
    ours = {public_name(name): name for name in net.state_dict()}
    return net, {ours.get(name, name): tensor for name, tensor in plain.items()}


def public_name(name: str) -> str:
    """The authors' name of one of our tensors, their misspelt `lcoal_relation` included."""
    place, _, rest = name.partition(".")
    if place == "stem":
        return f"convInit.conv.{rest}"
    if place == "norm":
        return f"conv_final.0.{rest}"
    if place == "head":
        return f"conv_final.2.conv.{rest}"
    index, _, rest = rest.partition(".")
    part, _, rest = rest.partition(".")
    if place == "levels":
        if part == "down":
            return f"srcm_encoder_layers.{index}.0.0.{_public_scan(rest)}"
        block, _, rest = rest.partition(".")
        return f"srcm_encoder_layers.{index}.{int(block) + 1}.{_public_scan(rest)}"
    if place == "rises":
        if part == "narrow":
            return f"up_samples.{index}.0.conv.{rest}"
        return f"srcm_decoder_layers.{index}.0.{_public_scan(rest)}"
    fusion = {"local_fusion": "l_gf", "global_fusion": "g_gf", "gate": "ag"}[part]
    inside = rest if part != "gate" else f"gate.{rest}"
    inside = inside.replace("encoder.", "fusionencoder.").replace("local_relation", "lcoal_relation")
    return f"{fusion}{int(index) + 1}.{_public_scan(inside)}"


def _public_scan(name: str) -> str:
    """A direction's letter goes behind the tensor's name there: forwards.A_log, backwards.A_log and across.A_log."""
    for direction, letter in (("forwards", ""), ("backwards", "_b"), ("across", "_g")):
        head, found, tail = name.partition(f"{direction}.")
        if found:
            tensor, dot, rest = tail.partition(".")
            return head + (f"A{letter}_log" if tensor == "A_log" else f"{tensor}{letter}{dot}{rest}")
    return name
