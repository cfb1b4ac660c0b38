"""SAM's parts, from the package segment-anything, for networks that prompt it: encoder, prompts, mask decoder.

Kirillov et al., "Segment Anything", arXiv 2304.02643. Names of tensors are those of the public checkpoints, so that
`sam_vit_b_01ec64.pth` and its like go in key for key; checkpoints in transformers' layout are translated. The mask
decoder is called with a map of its own for each prompt (segment-anything's own call takes one picture at a time).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from earthgen.errors import WeightsError
from perception.checkpoint import State, fill, read_public
from perception.lite_pyramid import WIDTHS, LiteLevels, as_tokens
from perception.lora import add_lora
from perception.optional import require

MEAN = (123.675 / 255, 116.28 / 255, 103.53 / 255)
STD = (58.395 / 255, 57.12 / 255, 57.375 / 255)
"""Of SAM; images from 0 to 1."""
ADAPTED = ("qkv", "proj", "lin1", "lin2")
"""Linear layers of the image encoder that are adapted."""


@dataclass(frozen=True, slots=True)
class SamConfig:
    """Sizes of SAM; as they are, those of ViT-B.

    Attributes:
        image: pixels along a side.
        patch: pixels along a side of a token's patch.
        width: channels of the image encoder.
        depth: its blocks.
        heads: of its attentions.
        window: side of its windows, in tokens.
        global_blocks: indices of its blocks without windows.
        map_width: channels of its last map, of prompts and of the mask decoder.
        mask_channels: inside the part that reads a mask as a prompt.
        decoder_depth: layers of the two-way transformer.
        decoder_heads: of its attentions.
        decoder_hidden: units of its feed-forward networks.
        masks: that the decoder offers beside the single one.
        quality_depth: layers of the head that predicts a mask's IoU.
        quality_hidden: its units.
        rank: of the corrections of the image encoder, which then stands still otherwise; 0: all of it learns.
        alpha: their weight.
        lora_dropout: of their input, while training.
        lite: whether what a frozen EfficientNet-Lite0 sees is added to the patches' embedding. Not SAM's.
    """

    image: int = 1024
    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    window: int = 14
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)
    map_width: int = 256
    mask_channels: int = 16
    decoder_depth: int = 2
    decoder_heads: int = 8
    decoder_hidden: int = 2048
    masks: int = 3
    quality_depth: int = 3
    quality_hidden: int = 256
    rank: int = 16
    alpha: float = 16
    lora_dropout: float = 0.1
    lite: bool = False

    @property
    def grid(self) -> int:
        """Tokens along a side."""
        return self.image // self.patch

    @property
    def mask_side(self) -> int:
        """Pixels along a side of a mask as it leaves the decoder."""
        return 4 * self.grid


SIZES: Mapping[str, tuple[int, int, int, tuple[int, ...]]] = {
    "b": (768, 12, 12, (2, 5, 8, 11)),
    "l": (1024, 24, 16, (5, 11, 17, 23)),
    "h": (1280, 32, 16, (7, 15, 23, 31)),
}
"""Width, depth, heads and global blocks of the published encoders."""


class LiteView:
    """What a frozen EfficientNet-Lite0 sees, on the tokens' grid. No module: it is neither saved nor trained."""

    channels = sum(WIDTHS)

    def __init__(self, grid: int) -> None:
        self.grid = grid
        self._levels = LiteLevels()

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Pictures (b, 3, h, w) in [-1, 1] to (b, channels, grid, grid)."""
        tokens = as_tokens(self._levels(images), self.grid)
        return tokens.transpose(1, 2).reshape(len(images), self.channels, self.grid, self.grid)


class Sam(nn.Module):
    """Image encoder, prompt encoder and mask decoder.

    Args:
        config: sizes.

    Raises:
        DependencyError: segment-anything is not installed.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        modeling = require("segment_anything.modeling", "perception")
        self.config = config
        self.image_encoder = modeling.ImageEncoderViT(
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
        self.prompt_encoder = modeling.PromptEncoder(
            embed_dim=config.map_width,
            image_embedding_size=(config.grid, config.grid),
            input_image_size=(config.image, config.image),
            mask_in_chans=config.mask_channels,
        )
        self.mask_decoder = modeling.MaskDecoder(
            transformer_dim=config.map_width,
            transformer=modeling.TwoWayTransformer(
                depth=config.decoder_depth,
                embedding_dim=config.map_width,
                num_heads=config.decoder_heads,
                mlp_dim=config.decoder_hidden,
            ),
            num_multimask_outputs=config.masks,
            iou_head_depth=config.quality_depth,
            iou_head_hidden_dim=config.quality_hidden,
        )
        self.stem = (
            nn.Sequential(nn.BatchNorm2d(LiteView.channels), nn.Conv2d(LiteView.channels, config.width, 1))
            if config.lite
            else None
        )
        if config.rank:
            add_lora(self.image_encoder, ADAPTED, config.rank, config.alpha, config.lora_dropout)
            # The published corrections reach the neck's convolutions too; they are few, so here they learn whole.
            self.image_encoder.neck.requires_grad_(True)
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def see(self, images: torch.Tensor, view: torch.Tensor | None = None) -> torch.Tensor:
        """The image encoder.

        Args:
            images: (b, 3, image, image) in [-1, 1].
            view: of `LiteView`, for a network that has a stem for it.

        Returns:
            (b, map_width, grid, grid).
        """
        encoder = self.image_encoder
        x = encoder.patch_embed(((images + 1) / 2 - self.mean) / self.std)
        if self.stem is not None:
            x = x + self.stem(view).permute(0, 2, 3, 1)
        x = x + encoder.pos_embed
        for block in encoder.blocks:
            x = block(x)
        out: torch.Tensor = encoder.neck(x.permute(0, 3, 1, 2))
        return out

    def positions(self, side: int | None = None) -> torch.Tensor:
        """Embeddings of the places of a grid (the tokens' own, if no side is given), (1, map_width, side, side)."""
        side = self.config.grid if side is None else side
        out: torch.Tensor = self.prompt_encoder.pe_layer((side, side))[None]
        return out

    def clicks(self, points: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sparse and dense prompts of clicks.

        Args:
            points: (b, n, 2), column and row in the network's pixels.
            labels: (b, n), 1 where the thing is, 0 where it is not, -1 for no click.
        """
        # Its sines of large angles lose their sense in bfloat16.
        with torch.autocast(points.device.type, enabled=False):
            sparse, dense = self.prompt_encoder(points=(points, labels), boxes=None, masks=None)
        return sparse, dense

    def boxes(self, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sparse and dense prompts of boxes (b, 4): left, top, right, bottom in the network's pixels."""
        with torch.autocast(boxes.device.type, enabled=False):
            sparse, dense = self.prompt_encoder(points=None, boxes=boxes, masks=None)
        return sparse, dense

    def masks(self, logits: torch.Tensor) -> torch.Tensor:
        """Dense prompts (b, map_width, grid, grid) of a mask's logits (b, 1, h, w)."""
        side = self.config.mask_side
        if logits.shape[-2:] != (side, side):
            logits = F.interpolate(logits, (side, side), mode="bilinear", align_corners=False)
        out: torch.Tensor = self.prompt_encoder.mask_downscaling(logits)
        return out

    def decode(
        self, maps: torch.Tensor, sparse: torch.Tensor, dense: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The mask decoder, each prompt on a map of its own.

        Args:
            maps: (b, map_width, grid, grid), of `see`.
            sparse: (b, n, map_width).
            dense: (b, map_width, grid, grid).

        Returns:
            Logits (b, 1 + masks, mask_side, mask_side), the single mask first, and predictions of their IoU,
            (b, 1 + masks).
        """
        decoder = self.mask_decoder
        own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)
        places = self.positions().expand(len(sparse), -1, -1, -1)
        told, seen = decoder.transformer(maps + dense, places, tokens)

        grown = decoder.output_upscaling(seen.transpose(1, 2).reshape(maps.shape))
        count = 1 + self.config.masks
        weights = torch.stack(
            [decoder.output_hypernetworks_mlps[index](told[:, 1 + index]) for index in range(count)], dim=1
        )
        logits = torch.einsum("bmc,bchw->bmhw", weights, grown)
        return logits, decoder.iou_prediction_head(told[:, 0])


# --- Public checkpoints ---

_PARTS = ("image_encoder.", "prompt_encoder.", "mask_decoder.")


def load_sam(net: Sam, source: str | Path) -> None:
    """Put a public checkpoint into SAM, under its corrections if it has them.

    Positions that were learned for pictures of another size are resampled.

    Args:
        net: as large as the checkpoint.
        source: `sam_vit_b_01ec64.pth` and its like, or a folder or file of transformers' SamModel (safetensors).

    Raises:
        WeightsError: nothing is there, or it is damaged, refused, or of another size.
    """
    fill_sam(net, public_sam(source), source)


def public_sam(source: str | Path) -> State:
    """The tensors of a public checkpoint, by segment-anything's names."""
    path = Path(source)
    if path.is_dir():
        path = path / "model.safetensors"
    if path.suffix != ".safetensors":
        state = read_public(path)
    else:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if not path.is_file():
            raise WeightsError(f"no SAM at {source}; model.safetensors, or a .pth file, is needed")
        try:
            state = {name: value.float() for name, value in load_file(path).items()}
        except (SafetensorError, OSError, ValueError) as error:
            raise WeightsError(f"{path} is truncated or damaged") from error
    if any(name.startswith("vision_encoder.") for name in state):
        state = from_transformers(state)
    return state


def fill_sam(net: Sam, public: State, source: str | Path) -> None:
    """Put tensors by segment-anything's names into SAM; see `load_sam`."""
    wanted = {name: value for name, value in net.state_dict().items() if name.startswith(_PARTS)}
    state: State = {}
    for name, tensor in public.items():
        own = re.sub(r"\.(qkv|proj|lin1|lin2)\.(weight|bias)$", r".\1.base.\2", name)
        own = own if own in wanted else name
        if own in wanted and own.endswith(("rel_pos_h", "rel_pos_w")) and len(wanted[own]) != len(tensor):
            tensor = F.interpolate(tensor.t()[None], len(wanted[own]), mode="linear")[0].t()
        elif own == "image_encoder.pos_embed" and own in wanted and wanted[own].shape != tensor.shape:
            side = wanted[own].shape[1]
            tensor = F.interpolate(tensor.permute(0, 3, 1, 2), (side, side), mode="bicubic").permute(0, 2, 3, 1)
        state[own] = tensor
    kept = {name: value for name, value in net.state_dict().items() if name not in wanted or ".lora_" in name}
    fill(net, state | kept, source)


_RENAMED: Sequence[tuple[str, str]] = (
    (r"^shared_image_embedding\.positional_embedding$", "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"),
    (r"^prompt_encoder\.shared_embedding\.positional_embedding$", ""),
    (r"^prompt_encoder\.mask_embed\.conv1\.", "prompt_encoder.mask_downscaling.0."),
    (r"^prompt_encoder\.mask_embed\.layer_norm1\.", "prompt_encoder.mask_downscaling.1."),
    (r"^prompt_encoder\.mask_embed\.conv2\.", "prompt_encoder.mask_downscaling.3."),
    (r"^prompt_encoder\.mask_embed\.layer_norm2\.", "prompt_encoder.mask_downscaling.4."),
    (r"^prompt_encoder\.mask_embed\.conv3\.", "prompt_encoder.mask_downscaling.6."),
    (r"^prompt_encoder\.point_embed\.", "prompt_encoder.point_embeddings."),
    (r"^vision_encoder\.patch_embed\.projection\.", "image_encoder.patch_embed.proj."),
    (r"^vision_encoder\.layers\.(\d+)\.layer_norm(\d)\.", r"image_encoder.blocks.\1.norm\2."),
    (r"^vision_encoder\.layers\.", "image_encoder.blocks."),
    (r"^vision_encoder\.neck\.conv1\.", "image_encoder.neck.0."),
    (r"^vision_encoder\.neck\.layer_norm1\.", "image_encoder.neck.1."),
    (r"^vision_encoder\.neck\.conv2\.", "image_encoder.neck.2."),
    (r"^vision_encoder\.neck\.layer_norm2\.", "image_encoder.neck.3."),
    (r"^vision_encoder\.", "image_encoder."),
    (r"^mask_decoder\.transformer\.layer_norm_final_attn\.", "mask_decoder.transformer.norm_final_attn."),
    (r"^mask_decoder\.transformer\.layers\.(\d+)\.layer_norm(\d)\.", r"mask_decoder.transformer.layers.\1.norm\2."),
    (r"^mask_decoder\.upscale_conv1\.", "mask_decoder.output_upscaling.0."),
    (r"^mask_decoder\.upscale_layer_norm\.", "mask_decoder.output_upscaling.1."),
    (r"^mask_decoder\.upscale_conv2\.", "mask_decoder.output_upscaling.3."),
)
_HEADS = re.compile(
    r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head)\.)(proj_in|proj_out|layers\.(\d+))\."
)


def from_transformers(state: Mapping[str, Any]) -> State:
    """Tensors of transformers' SamModel by segment-anything's names."""
    renamed: State = {}
    last: dict[str, int] = {}
    for name in state:
        match = _HEADS.match(name)
        if match and match[3] is not None:
            last[match[1]] = max(last.get(match[1], 0), int(match[3]) + 1)
    for name, tensor in state.items():
        match = _HEADS.match(name)
        if match:
            head, kind = match[1], match[2]
            number = 0 if kind == "proj_in" else last.get(head, 0) + 1 if kind == "proj_out" else int(match[3]) + 1
            renamed[f"{head}layers.{number}.{name[match.end() :]}"] = tensor
            continue
        for pattern, instead in _RENAMED:
            own = re.sub(pattern, instead, name)
            if own != name:
                break
        else:
            own = name
        if own:
            renamed[own] = tensor
    return renamed
