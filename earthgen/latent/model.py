"""A loaded latent-diffusion checkpoint: text in, guided noise predictions and pictures out."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0

from earthgen.errors import InvalidRequestError, WeightsError
from earthgen.latent.checkpoint import (
    DIFFUSERS_TENSORS,
    TRANSFORMERS_TENSORS,
    content_id,
    first_line,
    load_diffusers,
    load_text_encoder,
    load_tokenizer,
    locate,
    read_json,
)
from earthgen.latent.lora import DIFFUSERS_LORA, PEFT_CONFIG, PEFT_LORA, fuse_lora
from earthgen.world import MAX_PROMPT_CHARACTERS

LATENT_CHANNELS = 4
LATENT_PIXELS = 8
"""Pixels along the side of one latent position."""
INPAINTING_CHANNELS = 9
"""What an inpainting network reads: 4 noisy latents, 1 mask, 4 latents of the masked picture."""
LEVEL_ZOOMS = range(10, 19)
"""Web-map zooms that Text2Earth knows as resolution levels (128 m to 0.5 m a pixel at the equator)."""
UNKNOWN_LEVEL = 0
"""The level of a picture whose resolution is unknown, and of the unguided branch."""
MAX_GUIDANCE = 30.0

_INDEX_NAME = "model_index.json"
_PIPELINES: Mapping[str, int] = {
    "StableDiffusionPipeline": LATENT_CHANNELS,
    "Text2EarthDiffusionPipeline": LATENT_CHANNELS,
    "StableDiffusionInpaintPipeline": INPAINTING_CHANNELS,
    "Text2EarthDiffusionInpaintPipeline": INPAINTING_CHANNELS,
}
_HUB_PATTERNS = [
    _INDEX_NAME,
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    f"text_encoder/{TRANSFORMERS_TENSORS}",
    "tokenizer/*.json",
    "tokenizer/merges.txt",
    "unet/config.json",
    f"unet/{DIFFUSERS_TENSORS}",
    "vae/config.json",
    f"vae/{DIFFUSERS_TENSORS}",
]

Attention = Literal["sdpa", "xformers"]


@dataclass(frozen=True, slots=True)
class Condition:
    """A prompt ready for the network.

    Attributes:
        text: (k, tokens, width); k is 1 without guidance, else 2: the negative prompt, then the prompt.
        levels: float32 (k,), the resolution level of each; 0 is unknown.
        guidance: s in null + s (text - null); 1 is no guidance.
    """

    text: torch.Tensor
    levels: torch.Tensor
    guidance: float


@dataclass(frozen=True, slots=True)
class Control:
    """A ControlNet's picture: (n, channels, h, w) in [0, 1] at pixel resolution, and its strength."""

    picture: torch.Tensor
    scale: float = 1.0


@dataclass(frozen=True, eq=False, repr=False)
class LatentModel:
    """The parts of a checkpoint on one device; use `LatentModel.load`.

    The U-Net computes in `dtype`; the text encoder and the autoencoder in float32, since they run seldom and
    the autoencoder's activations overflow half precision. Solver states are float32 throughout.

    Attributes:
        unet: the network, UNet2DConditionModel.
        vae: AutoencoderKL.
        text_encoder: CLIPTextModel.
        tokenizer: CLIPTokenizer.
        controlnet: ControlNetModel or None.
        scheduler_numbers: what `scheduler_config.json` holds.
        device: where the parts are.
        dtype: precision of the U-Net and the ControlNet.
        attention: the backend chosen for them.
        id: content id; equal ids mean equal weights, scheduler numbers and precision.
        source: what was asked for.
    """

    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    controlnet: Any
    scheduler_numbers: Mapping[str, Any]
    device: torch.device
    dtype: torch.dtype
    attention: Attention
    id: str
    source: str

    @classmethod
    def load(
        cls,
        source: str | Path,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        *,
        controlnet: str | Path | None = None,
        lora: str | Path | None = None,
        lora_scale: float = 1.0,
    ) -> Self:
        """Load a checkpoint of the Stable Diffusion 2 layout, Text2Earth's two included.

        Args:
            source: a folder, or `hf:OWNER/NAME` for a hub repository.
            device: where to compute; None takes a GPU if there is one.
            dtype: precision of the U-Net; None takes float16 on a GPU and float32 elsewhere.
            controlnet: a folder or `hf:` name of a ControlNetModel made for this U-Net.
            lora: a folder or `hf:` name of a LoRA of the diffusers or PEFT layout.
            lora_scale: strength of the LoRA.

        Raises:
            WeightsError: a part is missing, damaged, a pickle, of another layout, or does not fit the others.
            InvalidRequestError: there is no such device.
        """
        folder = locate(source, "checkpoint", _HUB_PATTERNS)
        channels = _check_index(folder / _INDEX_NAME)
        chosen = _usable_device(device)
        precision = dtype or (torch.float16 if chosen.type == "cuda" else torch.float32)
        numbers = read_json(folder / "scheduler" / "scheduler_config.json")

        tokenizer = load_tokenizer(folder / "tokenizer")
        text_encoder = load_text_encoder(folder / "text_encoder")
        vae = load_diffusers(AutoencoderKL, folder / "vae", torch.float32)
        unet = load_diffusers(UNet2DConditionModel, folder / "unet", precision)
        _check_unet(folder / "unet", unet, channels)
        _check_fit(folder, unet, vae, text_encoder, tokenizer)
        files = [
            *(folder / part / DIFFUSERS_TENSORS for part in ("unet", "vae")),
            folder / "text_encoder" / TRANSFORMERS_TENSORS,
            *sorted((folder / "tokenizer").glob("*.json")),
            *(folder / part / "config.json" for part in ("unet", "vae", "text_encoder")),
            folder / "scheduler" / "scheduler_config.json",
        ]
        control = None
        if controlnet is not None:
            control_folder = locate(controlnet, "ControlNet", ["config.json", DIFFUSERS_TENSORS])
            control = load_diffusers(ControlNetModel, control_folder, precision)
            _check_controlnet(control_folder, control, unet)
            files += [control_folder / "config.json", control_folder / DIFFUSERS_TENSORS]
        if lora is not None:
            lora_folder = locate(lora, "LoRA", [DIFFUSERS_LORA, PEFT_LORA, PEFT_CONFIG])
            files += fuse_lora(lora_folder, {"unet": unet, "text_encoder": text_encoder}, lora_scale)

        for part in (unet, vae, text_encoder, *([control] if control else [])):
            part.to(chosen)
        attention: Attention = "sdpa"
        for part in (unet, *([control] if control else [])):
            attention = choose_attention(part, chosen)
        return cls(
            unet,
            vae,
            text_encoder,
            tokenizer,
            control,
            numbers,
            chosen,
            precision,
            attention,
            content_id(files, str(precision), lora_scale if lora is not None else None),
            str(source),
        )

    @property
    def channels(self) -> int:
        """What the U-Net reads: 4 for text to image, 9 for inpainting."""
        return int(self.unet.config.in_channels)

    @property
    def knows_levels(self) -> bool:
        """Whether the checkpoint takes a resolution level; plain Stable Diffusion 2 does not."""
        return self.unet.class_embedding is not None

    def condition(self, prompt: str, negative: str = "", guidance: float = 4.0, zoom: int | None = None) -> Condition:
        """Encode a prompt, which is plain text: a level prefix in it is not read.

        Args:
            prompt: what is wanted; CLIP reads its first 75 tokens or so.
            negative: what is not wanted.
            guidance: 1 .. 30; 1 is no guidance, and the negative prompt then has no part.
            zoom: web-map zoom of the picture, which is Text2Earth's resolution level; None, or a zoom outside
                10 .. 18, is unknown. The level is not derived from the true ground sampling distance.

        Raises:
            InvalidRequestError: a prompt that is too long, or guidance out of range.
        """
        for name, text in (("prompt", prompt), ("negative prompt", negative)):
            if len(text) > MAX_PROMPT_CHARACTERS:
                raise InvalidRequestError(
                    f"{name} has {len(text)} characters; at most {MAX_PROMPT_CHARACTERS} are allowed"
                )
        if not (math.isfinite(guidance) and 1 <= guidance <= MAX_GUIDANCE):
            raise InvalidRequestError(f"guidance {guidance} is outside 1..{MAX_GUIDANCE:g} (1 is no guidance)")
        level = zoom if zoom in LEVEL_ZOOMS else UNKNOWN_LEVEL
        texts, levels = ([prompt], [level]) if guidance == 1 else ([negative, prompt], [UNKNOWN_LEVEL, level])
        return Condition(
            self._encode_text(texts), torch.tensor(levels, dtype=torch.float32, device=self.device), guidance
        )

    @torch.inference_mode()
    def predict(
        self,
        state: torch.Tensor,
        timestep: torch.Tensor,
        condition: Condition,
        *,
        fixed: torch.Tensor | None = None,
        control: Control | None = None,
    ) -> torch.Tensor:
        """The network's guided output: null + s (text - null), joint in text and level.

        Args:
            state: float32 (n, 4, h, w), scaled as the solver says.
            timestep: ().
            condition: from `condition`.
            fixed: (n, 5, h, w), the mask and the masked picture's latents, for an inpainting network.
            control: a ControlNet's picture of the same n.

        Returns:
            float32 (n, 4, h, w), noise or velocity as the checkpoint was trained.
        """
        branches, count = len(condition.text), len(state)
        joined = state if fixed is None else torch.cat([state, fixed], dim=1)
        joined = joined.to(self.dtype).repeat(branches, 1, 1, 1)
        arguments: dict[str, Any] = {
            "encoder_hidden_states": condition.text.repeat_interleave(count, dim=0),
            "class_labels": condition.levels.repeat_interleave(count) if self.knows_levels else None,
        }
        residuals: dict[str, Any] = {}
        if control is not None:
            levels = None if self.controlnet.class_embedding is None else arguments["class_labels"]
            down, middle = self.controlnet(
                joined,
                timestep,
                controlnet_cond=control.picture.to(self.device, self.dtype).repeat(branches, 1, 1, 1),
                conditioning_scale=control.scale,
                return_dict=False,
                **{**arguments, "class_labels": levels},
            )
            residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        output: torch.Tensor = self.unet(joined, timestep, return_dict=False, **arguments, **residuals)[0].float()
        if branches == 1:
            return output
        null, text = output.chunk(2)
        return null + condition.guidance * (text - null)

    @torch.inference_mode()
    def encode(self, picture: torch.Tensor) -> torch.Tensor:
        """Latents of pictures: float32 (n, 3, h, w) in [-1, 1] -> (n, 4, h / 8, w / 8), the posterior's mean."""
        latents: torch.Tensor = self.vae.encode(picture.to(self.device)).latent_dist.mode()
        return latents * float(self.vae.config.scaling_factor)

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor) -> npt.NDArray[np.float32]:
        """Pictures of latents: (n, 4, h, w) -> float32 (n, 3, 8 h, 8 w), about -1 .. 1."""
        decoded = self.vae.decode(latents.to(self.device) / self.vae.config.scaling_factor, return_dict=False)[0]
        return decoded.float().cpu().numpy()  # type: ignore[no-any-return]

    @torch.inference_mode()
    def _encode_text(self, texts: list[str]) -> torch.Tensor:
        tokens = self.tokenizer(
            texts,
            padding="max_length",
            max_length=min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings),
            truncation=True,
            return_tensors="pt",
        )
        states = self.text_encoder(tokens.input_ids.to(self.device))[0]
        return states.to(self.dtype)  # type: ignore[no-any-return]


def choose_attention(model: Any, device: torch.device) -> Attention:
    """Give a U-Net or ControlNet xformers' attention where that runs, else torch's own (SDPA).

    Returns:
        Which of the two it was.
    """
    if device.type == "cuda" and importlib.util.find_spec("xformers"):
        try:
            model.enable_xformers_memory_efficient_attention()
            return "xformers"
        except (ImportError, ValueError, RuntimeError, NotImplementedError):
            pass  # built for another torch or another card: it says so when first tried
    model.set_attn_processor(AttnProcessor2_0())
    return "sdpa"


def _usable_device(name: str | torch.device | None) -> torch.device:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InvalidRequestError(f"device {str(name)!r} cannot be used here: {first_line(error)}") from error
    return device


def _check_index(path: Path) -> int:
    """Read `model_index.json`; returns the channels its pipeline's U-Net must have."""
    index = read_json(path)
    name = index.get("_class_name")
    if not isinstance(name, str) or name not in _PIPELINES:
        raise WeightsError(f"{path} names the pipeline {name!r}; allowed: {', '.join(sorted(_PIPELINES))}")
    for part, cls in (
        ("text_encoder", "CLIPTextModel"),
        ("tokenizer", "CLIPTokenizer"),
        ("unet", "UNet2DConditionModel"),
        ("vae", "AutoencoderKL"),
    ):
        entry = index.get(part)
        if not isinstance(entry, list) or len(entry) != 2 or entry[1] not in (cls, f"{cls}Fast"):
            raise WeightsError(f"{path} names {entry!r} as its {part}; a {cls} is needed")
    return _PIPELINES[name]


def _check_unet(folder: Path, unet: Any, channels: int) -> None:
    config = unet.config
    if config.in_channels != channels or config.out_channels != LATENT_CHANNELS:
        raise WeightsError(
            f"{folder}: the U-Net reads {config.in_channels} channels and writes {config.out_channels}; "
            f"a pipeline of this kind reads {channels} and writes {LATENT_CHANNELS}"
        )
    if config.class_embed_type not in (None, "timestep") or config.num_class_embeds is not None:
        raise WeightsError(
            f"{folder}: class embedding {config.class_embed_type or 'table'!r}; "
            "'timestep' (Text2Earth's resolution level) or none is allowed"
        )
    for field in ("addition_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim"):
        if config.get(field) is not None:
            raise WeightsError(f"{folder}: the U-Net wants a further condition, {field} {config[field]!r}")


def _check_fit(folder: Path, unet: Any, vae: Any, text_encoder: Any, tokenizer: Any) -> None:
    width = text_encoder.config.hidden_size
    if unet.config.cross_attention_dim != width:
        raise WeightsError(
            f"{folder}: the U-Net attends to {unet.config.cross_attention_dim} text channels, "
            f"but the text encoder gives {width}"
        )
    reduction = 2 ** (len(vae.config.block_out_channels) - 1)
    if (vae.config.latent_channels, vae.config.in_channels, reduction) != (LATENT_CHANNELS, 3, LATENT_PIXELS):
        raise WeightsError(
            f"{folder}: the autoencoder makes {vae.config.latent_channels} latent channels of "
            f"{vae.config.in_channels} colours, {reduction} pixels a side; {LATENT_CHANNELS} of 3, {LATENT_PIXELS} "
            "pixels, are needed"
        )
    if len(tokenizer) > text_encoder.config.vocab_size:
        raise WeightsError(
            f"{folder}: the tokenizer knows {len(tokenizer)} tokens, the text encoder {text_encoder.config.vocab_size}"
        )


def _check_controlnet(folder: Path, controlnet: Any, unet: Any) -> None:
    if unet.config.in_channels != LATENT_CHANNELS:
        raise WeightsError(f"{folder}: a ControlNet goes with a text-to-image checkpoint, not with an inpainting one")
    for field in ("in_channels", "cross_attention_dim", "block_out_channels", "layers_per_block", "class_embed_type"):
        theirs, ours = controlnet.config.get(field), unet.config.get(field)
        # A ControlNet of plain Stable Diffusion 2 may sit beside a U-Net that takes levels.
        if theirs != ours and not (field == "class_embed_type" and theirs is None):
            raise WeightsError(f"{folder}: the ControlNet's {field} is {theirs}, the U-Net's {ours}")
