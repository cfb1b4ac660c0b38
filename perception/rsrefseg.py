"""RSRefSeg: segments what a phrase names, by prompting SAM with what text and picture have in common.

Chen et al., "RSRefSeg: Referring remote sensing image segmentation with foundation models", IGARSS 2025, arXiv
2501.06809. A text encoder gives words and a vector for the whole phrase, its picture half a map of vectors. The
AttnPrompter weighs that map by its likeness to the words (local) and to the phrase (global); what comes out are sparse
prompts, and the global likeness itself is a mask prompt. SAM's mask decoder makes a mask of both. SAM and the encoders
stand still but for low-rank corrections; prompter and mask decoder learn.

`published` has the sizes of the paper, on a SigLIP (or CLIP) and a SAM that are given by path; checkpoints of the
authors' code go in key for key (`load_published`). `small` is what ships: see `phrase_encoders` and its weights' card.
Differences of the small one: SAM's encoder is tiny, sees EfficientNet-Lite0's view beside the pixels and learns whole;
the phrase's own words are sparse prompts too (`words`), since "left of" is no likeness between a word and a place.
Clicks and boxes go to SAM directly, in the small one with a mask prompt beside them (`touch`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from earthgen.errors import InvalidRequestError, WeightsError
from perception.checkpoint import State, fill, read_network, save_network
from perception.phrase_encoders import Heard, MiniLmEncoders, PairedEncoders, PublicEncoders, open_public
from perception.sam import SIZES, LiteView, Sam, SamConfig, fill_sam, from_transformers, public_sam

NAME = "rsrefseg"


@dataclass(frozen=True, slots=True)
class RSRefSegConfig(SamConfig):
    """Sizes of the network; as they are, the paper's with SAM ViT-B. See also `SamConfig`.

    Attributes:
        encoders: "public" for SigLIP or CLIP, given by path; "minilm" for what ships.
        joint_width: numbers in which words and places are compared; of public encoders it is theirs.
        text_layers: of the transformer over MiniLM's words.
        text_heads: of its attentions.
        text_dropout: in it, while training.
        encoder_rank: of the corrections of public encoders' attentions.
        down: halvings of the map of sparse prompts.
        dense: whether the global likeness is a mask prompt.
        words: whether words are sparse prompts too. Not the paper's.
        touch: whether a click or a box comes with a mask prompt of what is like the clicked place and near it, or in
            the box. Not SAM's, which takes many more pictures to learn that from coordinates alone.
    """

    encoders: Literal["public", "minilm"] = "public"
    joint_width: int = 1152
    text_layers: int = 0
    text_heads: int = 4
    text_dropout: float = 0.1
    encoder_rank: int = 16
    down: int = 2
    dense: bool = True
    words: bool = False
    touch: bool = False


def published(size: Literal["b", "l", "h"] = "b") -> RSRefSegConfig:
    """The configuration of the paper, on one of SAM's encoders."""
    width, depth, heads, global_blocks = SIZES[size]
    return replace(RSRefSegConfig(), width=width, depth=depth, heads=heads, global_blocks=global_blocks)


def small() -> RSRefSegConfig:
    """What ships: pictures of 256 pixels, tokens of 16, everything 96 channels wide. Not from the paper."""
    return RSRefSegConfig(
        image=256,
        patch=16,
        width=96,
        depth=2,
        heads=3,
        window=8,
        global_blocks=(1,),
        map_width=96,
        decoder_heads=4,
        decoder_hidden=192,
        quality_hidden=64,
        rank=0,
        lite=True,
        encoders="minilm",
        joint_width=96,
        text_layers=2,
        encoder_rank=0,
        down=1,
        words=True,
        touch=True,
    )


class AttnPrompter(nn.Module):
    """From likeness of words and places to prompts for SAM (section 2.3).

    Args:
        joint_width: numbers in which they are compared.
        map_width: numbers of a prompt.
        down: halvings of the map of sparse prompts.
    """

    def __init__(self, joint_width: int, map_width: int, down: int) -> None:
        super().__init__()
        self.narrow = nn.Sequential(
            nn.Conv2d(3 * joint_width, map_width, 1, bias=False), nn.BatchNorm2d(map_width), nn.GELU()
        )
        halvings: list[nn.Module] = []
        for _ in range(down):
            halvings += [
                nn.Conv2d(map_width, map_width, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(map_width),
                nn.GELU(),
            ]
        self.shrink = nn.Sequential(*halvings, nn.Conv2d(map_width, map_width, 1))

    def forward(
        self,
        seen: torch.Tensor,
        words: torch.Tensor,
        whole: torch.Tensor,
        lengths: torch.Tensor,
        scale: torch.Tensor,
        bias: torch.Tensor,
        places: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Prompts.

        Args:
            seen: v, (b, c, h, w).
            words: t_loc, (b, l, c), 0 where there is none.
            whole: t_glob, (b, c).
            lengths: (b,), how many words there are.
            scale: log of the factor of cosines.
            bias: what is added to them.
            places: SAM's embeddings of the map's places, (1, map_width, h, w).

        Returns:
            Sparse prompts (b, n, map_width), and logits of the global likeness (b, 1, h, w).
        """
        unit = F.normalize(seen, dim=1)
        local = torch.einsum("bchw,blc->blhw", unit, F.normalize(words, dim=2))
        local = torch.sigmoid(local * scale.exp() + bias)
        present = torch.arange(words.shape[1], device=words.device) < lengths[:, None]
        # The mean over words of act * v is the mean of act, times v.
        share = (local * present[:, :, None, None]).sum(dim=1, keepdim=True) / lengths.view(-1, 1, 1, 1)
        local_seen = (seen + share * seen) / 2

        likeness = torch.einsum("bchw,bc->bhw", unit, F.normalize(whole, dim=1))[:, None]
        likeness = likeness * scale.exp() + bias
        global_seen = torch.sigmoid(likeness) * seen

        x = self.narrow(torch.cat([local_seen, global_seen, seen], dim=1)) + places
        return self.shrink(x).flatten(2).transpose(1, 2), likeness


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture as the network sees it, before any prompt.

    Attributes:
        maps: SAM's, (b, map_width, grid, grid).
        joint: of the encoders' picture half, (b, joint_width, h, w).
    """

    maps: torch.Tensor
    joint: torch.Tensor

    def repeated(self, counts: torch.Tensor) -> Seen:
        """Each picture as often as there are prompts for it."""
        return Seen(self.maps.repeat_interleave(counts, dim=0), self.joint.repeat_interleave(counts, dim=0))


class RSRefSeg(nn.Module):
    """The network.

    Args:
        config: its sizes.
        public: transformers' SigLIP or CLIP and its tokenizer, for a configuration on public encoders.

    Raises:
        InvalidRequestError: public encoders are missing, or of another width than the configuration's.
        DependencyError: segment-anything is not installed.
    """

    def __init__(self, config: RSRefSegConfig, public: tuple[Any, Any] | None = None) -> None:
        super().__init__()
        self.config = config
        self.sam = Sam(config)
        self.encoders: PairedEncoders
        if config.encoders == "minilm":
            self.encoders = MiniLmEncoders(
                config.joint_width, config.grid, config.text_layers, config.text_heads, config.text_dropout
            )
        elif public is None:
            raise InvalidRequestError("this configuration needs a SigLIP or a CLIP; give its folder")
        else:
            self.encoders = PublicEncoders(*public, config.encoder_rank, config.alpha, config.lora_dropout)
            if self.encoders.width != config.joint_width:
                raise InvalidRequestError(
                    f"the encoders' vectors have {self.encoders.width} numbers; {config.joint_width} are needed"
                )
        self.prompter = AttnPrompter(config.joint_width, config.map_width, config.down)
        self.say = nn.Linear(config.joint_width, config.map_width) if config.words else None
        self.silence = nn.Parameter(torch.zeros(config.map_width)) if config.words else None
        # Of clicks: weight of likeness, of distance, and a constant; of boxes: how sure what is inside is.
        self.touch = nn.Parameter(torch.tensor([6.0, 8.0, -3.0, 3.0])) if config.touch else None

    def see(self, images: torch.Tensor, view: torch.Tensor | None = None) -> Seen:
        """Look at pictures.

        Args:
            images: (b, 3, image, image) in [-1, 1].
            view: of `LiteView`, where `config.lite`.

        Raises:
            InvalidRequestError: of another size, or without the view that is needed.
        """
        side = self.config.image
        if images.shape[1:] != (3, side, side) or (view is None and self.config.lite):
            raise InvalidRequestError(
                f"RSRefSeg was given {tuple(images.shape)}; (b, 3, {side}, {side})"
                f"{' and a view of it' if self.config.lite else ''} is needed"
            )
        return Seen(self.sam.see(images, view), self.encoders.look(images, view))

    def prompts(self, seen: Seen, heard: Heard) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Sparse and dense prompts of phrases, one of each picture, and the logits of their global likeness."""
        words, whole = self.encoders.speak(heard)
        places = self.sam.positions(seen.joint.shape[-1])
        sparse, likeness = self.prompter(
            seen.joint, words, whole, heard.lengths, self.encoders.scale, self.encoders.bias, places
        )
        if self.say is not None and self.silence is not None:
            said = torch.where(heard.mask[..., None], self.say(words), self.silence.to(words.dtype))
            sparse = torch.cat([self.say(whole)[:, None], said, sparse], dim=1)
        if self.config.dense:
            dense = self.sam.masks(likeness)
        else:
            nothing = self.sam.prompt_encoder.no_mask_embed.weight
            dense = nothing.view(1, -1, 1, 1).expand_as(seen.maps)
        return sparse, dense, likeness

    def forward(self, seen: Seen, heard: Heard) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of masks (b, mask_side, mask_side) of phrases, one of each picture, and of their global likeness."""
        sparse, dense, likeness = self.prompts(seen, heard)
        logits, _ = self.sam.decode(seen.maps, sparse, dense)
        return logits[:, 0], likeness

    def clicked(self, seen: Seen, points: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (b, mask_side, mask_side) and predicted IoU (b,) of what is clicked; see `Sam.clicks`."""
        sparse, dense = self.sam.clicks(points, labels)
        if self.touch is not None:
            dense = self.sam.masks(self._touched(self.touch, seen.joint, points, labels))
        logits, quality = self.sam.decode(seen.maps, sparse, dense)
        return logits[:, 0], quality[:, 0]

    def _touched(
        self, weights: torch.Tensor, joint: torch.Tensor, points: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Logits (b, 1, h, w) of what is like the clicked places and near them, and not like those of label 0."""
        side, unit = joint.shape[-1], F.normalize(joint.float(), dim=1)
        cells = (points * side / self.config.image).long().clamp(0, side - 1)
        rows = torch.arange(len(points), device=points.device)[:, None]
        clicked = unit[rows, :, cells[..., 1], cells[..., 0]]  # (b, n, c)
        likeness = torch.einsum("bnc,bchw->bnhw", clicked, unit)
        axis = torch.arange(side, device=points.device) / side
        across = axis - cells[..., :1] / side  # (b, n, w)
        down = axis - cells[..., 1:] / side
        apart = (across[:, :, None] ** 2 + down[..., None] ** 2).clamp(min=1e-6).sqrt()
        near = weights[0] * likeness - weights[1] * apart
        missing = torch.full_like(near, -20.0)
        inside, beside = (
            torch.where((labels == label)[..., None, None], near, missing).amax(dim=1, keepdim=True) for label in (1, 0)
        )
        # A click beside the thing takes away what is more like it.
        return inside + weights[2] - F.relu(beside - inside.detach() + 2)

    def _inside(self, weights: torch.Tensor, boxes: torch.Tensor, side: int) -> torch.Tensor:
        """Logits (b, 1, side, side) of what is in boxes."""
        axis = (torch.arange(side, device=boxes.device) + 0.5) * self.config.image / side
        left, top, right, bottom = (value[:, None] for value in boxes.unbind(dim=1))
        columns, rows = (axis > left) & (axis < right), (axis > top) & (axis < bottom)
        inside = (rows[:, :, None] & columns[:, None]).float()[:, None]
        return weights[3] * (2 * inside - 1)

    def boxed(self, seen: Seen, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (b, mask_side, mask_side) and predicted IoU (b,) of what is in boxes; see `Sam.boxes`."""
        sparse, dense = self.sam.boxes(boxes)
        if self.touch is not None:
            dense = self.sam.masks(self._inside(self.touch, boxes, self.config.mask_side))
        logits, quality = self.sam.decode(seen.maps, sparse, dense)
        return logits[:, 0], quality[:, 0]


# --- Weights ---


def is_own(name: str) -> bool:
    """Whether a tensor belongs into our weights: those of public encoders and SAM that stand still do not."""
    return not re.match(r"encoders\.(text|vision|text_project|vision_project)\.", name) or ".lora_" in name


def save(folder: str | Path, net: RSRefSeg) -> Path:
    """Write a network as `folder/model.safetensors`, without public encoders' own weights."""
    keep = is_own if net.config.encoders == "public" else lambda _: True
    return save_network(folder, NAME, net.config, net, keep=keep)


def load(source: str | Path, encoders: str | Path | None = None, sam: str | Path | None = None) -> RSRefSeg:
    """Load weights.

    Args:
        source: our own (a folder or a .safetensors file), or a checkpoint of the authors' code (.pth, .pt).
        encoders: folder of the SigLIP or CLIP that the weights sit on; not for those that ship.
        sam: for a checkpoint of the authors' code nothing (it holds its SAM).

    Raises:
        WeightsError: nothing is there, it is damaged or of another layout, or the encoders are missing or do not fit.
    """
    if Path(source).suffix in (".pth", ".pt"):
        if encoders is None:
            raise WeightsError(f"{source} sits on a SigLIP; give its folder as encoders")
        return load_published(source, encoders)
    config, state = read_network(source, NAME, RSRefSegConfig)
    if config.encoders == "public" and encoders is None:
        raise WeightsError(f"{source} sits on a SigLIP or a CLIP; give its folder as encoders")
    public = open_public(encoders) if config.encoders == "public" and encoders is not None else None
    try:
        net = RSRefSeg(config, public)
    except InvalidRequestError as error:
        raise WeightsError(f"{encoders} does not fit {source}: {error}") from error
    if public is not None:
        state |= {name: tensor for name, tensor in net.state_dict().items() if not is_own(name)}
    fill(net, state, source)
    if sam is not None:
        fill_sam(net.sam, public_sam(sam), sam)
    return net.eval()


def assemble(encoders: str | Path, sam: str | Path, config: RSRefSegConfig | None = None) -> RSRefSeg:
    """The published configuration on public checkpoints, ready to be trained.

    Args:
        encoders: folder of a SigLIP or a CLIP in transformers' layout.
        sam: SAM's checkpoint: `sam_vit_b_01ec64.pth` and its like, or a folder of transformers' SamModel.
        config: other sizes than those that the two checkpoints tell.

    Raises:
        WeightsError: one of them is missing, damaged or does not fit.
    """
    public, tensors = open_public(encoders), public_sam(sam)
    if config is None:
        try:
            config = sized_by(tensors, public[0])
        except (KeyError, IndexError, ValueError) as error:
            raise WeightsError(f"{sam} holds no SAM: {error} is missing") from error
    try:
        net = RSRefSeg(config, public)
    except InvalidRequestError as error:
        raise WeightsError(f"{encoders} does not fit: {error}") from error
    fill_sam(net.sam, tensors, sam)
    return net


def sized_by(tensors: Mapping[str, torch.Tensor], encoders: Any) -> RSRefSegConfig:
    """The published configuration with the sizes of a SAM's tensors and of a SigLIP or CLIP.

    What tensors do not tell is SAM's own rule: heads of 64 channels (80 in ViT-H), 8 in the decoder.
    """
    patch = tensors["image_encoder.patch_embed.proj.weight"]
    width, depth = len(patch), 1 + max(_numbers(tensors, r"image_encoder\.blocks\.(\d+)\."))
    sizes = {index: len(tensors[f"image_encoder.blocks.{index}.attn.rel_pos_h"]) for index in range(depth)}
    grid = tensors["image_encoder.pos_embed"].shape[1]
    heads = width // tensors["image_encoder.blocks.0.attn.rel_pos_h"].shape[1]
    clip = encoders.config.model_type == "clip"
    decoder = 1 + max(_numbers(tensors, r"mask_decoder\.transformer\.layers\.(\d+)\."))
    return replace(
        RSRefSegConfig(),
        image=grid * patch.shape[-1],
        patch=patch.shape[-1],
        width=width,
        depth=depth,
        heads=heads,
        window=(min(sizes.values()) + 1) // 2,
        global_blocks=tuple(index for index, size in sizes.items() if size == 2 * grid - 1),
        map_width=len(tensors["image_encoder.neck.0.weight"]),
        mask_channels=len(tensors["prompt_encoder.mask_downscaling.3.weight"]),
        decoder_depth=decoder,
        decoder_hidden=len(tensors["mask_decoder.transformer.layers.0.mlp.lin1.weight"]),
        masks=len(tensors["mask_decoder.mask_tokens.weight"]) - 1,
        quality_depth=1 + max(_numbers(tensors, r"mask_decoder\.iou_prediction_head\.layers\.(\d+)\.")),
        quality_hidden=len(tensors["mask_decoder.iou_prediction_head.layers.0.weight"]),
        joint_width=int(encoders.config.projection_dim if clip else encoders.config.vision_config.hidden_size),
    )


def _numbers(tensors: Mapping[str, Any], pattern: str) -> list[int]:
    return [int(match[1]) for name in tensors if (match := re.match(pattern, name))]


def load_published(source: str | Path, encoders: str | Path) -> RSRefSeg:
    """Load a checkpoint of the authors' code (`mp_rank_00_model_states.pth`, or what its tool makes of that).

    It holds SAM and SigLIP in transformers' layout, wrapped by peft; their corrections are added to the layers that
    they correct, so that the network has none.

    Args:
        source: the checkpoint.
        encoders: folder of the SigLIP that it was trained on, for its sizes and its tokenizer.

    Raises:
        WeightsError: one of them is missing or damaged, or they do not fit.
    """
    state = merged(_authors_tensors(source))
    own = dict(_renamed(state))
    sam = from_transformers(
        {name.removeprefix("sam."): tensor for name, tensor in own.items() if name.startswith("sam.")}
    )
    public = open_public(encoders)
    try:
        config = replace(sized_by(sam, public[0]), rank=0, encoder_rank=0)
        net = RSRefSeg(config, public)
    except (KeyError, IndexError, ValueError) as error:
        raise WeightsError(f"{source} is no checkpoint of RSRefSeg: {first_missing(error)} is missing") from error
    rest = {name: tensor for name, tensor in own.items() if not name.startswith("sam.")}
    for name in ("encoders.scale", "encoders.bias"):
        if name in rest:
            rest[name] = rest[name].reshape(())
    kept = {name: tensor for name, tensor in net.state_dict().items() if name.startswith("sam.")}
    missing = {name: tensor for name, tensor in net.state_dict().items() if name.endswith("num_batches_tracked")}
    known = net.state_dict().keys()
    # The picture half's pooling is not used; its tensors are in the checkpoint all the same.
    rest = {name: tensor for name, tensor in rest.items() if name in known or not _idle(name)}
    fill(net, kept | missing | rest, source)
    fill_sam(net.sam, sam, source)
    return net.eval()


def first_missing(error: Exception) -> str:
    """The name in a KeyError, or what another error says."""
    return str(error.args[0]) if error.args else type(error).__name__


def _idle(name: str) -> bool:
    return name.startswith("encoders.vision.head.")


def _authors_tensors(source: str | Path) -> State:
    """The state dictionary of a checkpoint: bare, or under `module` (DeepSpeed) or `state_dict` (mmengine)."""
    from perception.checkpoint import read_public, read_public_parts

    for part in ("module", "state_dict"):
        try:
            return read_public_parts(source, [part])[part]
        except WeightsError as error:
            if "state dictionary" not in str(error):
                raise
    return read_public(source)


def merged(state: Mapping[str, torch.Tensor]) -> State:
    """A state dictionary that peft wrapped, with corrections of weight alpha / rank = 1 added and names unwrapped.

    The paper's rank and alpha are both 16, so a correction weighs B A.
    """
    found: State = {}
    for name, tensor in state.items():
        if ".lora_B." in name:
            continue
        if ".lora_A." in name:
            continue
        found[name.replace(".base_layer.", ".").replace(".base_model.model.", ".")] = tensor
    for name, down in state.items():
        if ".lora_A." not in name:
            continue
        up = state.get(name.replace(".lora_A.", ".lora_B."))
        base = re.sub(r"\.lora_A\..*$", ".weight", name).replace(".base_model.model.", ".")
        if up is None or base not in found:
            raise WeightsError(f"the correction {name} has no counterpart or no layer that it corrects")
        weight = found[base]
        found[base] = weight + (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
    return found


_AUTHORS: Sequence[tuple[str, str]] = (
    (r"^backbone\.shared_image_embedding\.", "sam.shared_image_embedding."),
    (r"^backbone\.model\.", "sam.vision_encoder."),
    (r"^sam_prompt_encoder\.model\.", "sam.prompt_encoder."),
    (r"^sam_mask_decoder\.model\.", "sam.mask_decoder."),
    (r"^clip_vision_encoder\.model\.", "encoders.vision."),
    (r"^clip_text_encoder\.model\.", "encoders.text."),
    (r"^clip_text_encoder\.logit_scale$", "encoders.scale"),
    (r"^clip_text_encoder\.logit_bias$", "encoders.bias"),
    (r"^prompter_down_channel\.conv\.", "prompter.narrow.0."),
    (r"^prompter_down_channel\.bn\.", "prompter.narrow.1."),
)


def _renamed(state: Mapping[str, torch.Tensor]) -> list[tuple[str, torch.Tensor]]:
    halvings = max(_numbers(state, r"prompter_down_spatial\.(\d+)\."), default=0)
    out: list[tuple[str, torch.Tensor]] = []
    for name, tensor in state.items():
        match = re.match(r"^prompter_down_spatial\.(\d+)\.(conv|bn)\.(.+)$", name)
        if match:
            number = int(match[1])
            place = 3 * halvings if number == halvings else 3 * number + (match[2] == "bn")
            out.append((f"prompter.shrink.{place}.{match[3]}", tensor))
            continue
        for pattern, instead in _AUTHORS:
            own, count = re.subn(pattern, instead, name)
            if count:
                out.append((own, tensor))
                break
    return out


def view_of(config: RSRefSegConfig) -> LiteView | None:
    """What looks at pictures beside SAM, if anything does."""
    return LiteView(config.grid) if config.lite else None
