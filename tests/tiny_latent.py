"""Tiny random checkpoints of the layouts that Stable Diffusion 2 and Text2Earth have on the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

TEXT_WIDTH = 16
UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"

_SHAPE: dict[str, Any] = {
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": [1, 2],
    "use_linear_projection": True,
}
NUMBERS: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "_diffusers_version": "0.29.0.dev0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
"""Text2Earth's `scheduler_config.json`, whose class is not the one that its `model_index.json` names."""


def save_checkpoint(
    folder: Path, pipeline: str = "Text2EarthDiffusionPipeline", levels: bool = True, seed: int = 0
) -> Path:
    """Write a checkpoint folder: float16 U-Net, float32 text encoder and autoencoder, remote code that must not run."""
    inpainting = "Inpaint" in pipeline
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet: Any = UNet2DConditionModel(
            sample_size=64,
            in_channels=9 if inpainting else 4,
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            class_embed_type="timestep" if levels else None,
            **_SHAPE,
        )
        vae: Any = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(4, 4, 8, 8),
            norm_num_groups=2,
            sample_size=256,
        )
        text: Any = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=520,
                hidden_size=TEXT_WIDTH,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                hidden_act="gelu",
                bos_token_id=514,
                eos_token_id=515,
                initializer_factor=20.0,
            )
        )
        with torch.no_grad():
            # A random network's text and level hardly reach its output; here they are to be seen.
            for name, parameter in unet.named_parameters():
                if "attn2" in name or "class_embedding.linear_2" in name:
                    parameter *= 5
    unet.half().save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    text.save_pretrained(folder / "text_encoder")
    _spell_as_transformers_4_did(folder / TEXT)
    _save_tokenizer(folder / "tokenizer")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(NUMBERS))
    index = {
        "_class_name": pipeline,
        "_diffusers_version": "0.29.0.dev0",
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "pipeline_text2earth_diffusion.py").write_text("raise AssertionError('remote code ran')\n")
    return folder


def save_controlnet(folder: Path, levels: bool = True) -> Path:
    """Write a ControlNet for the tiny U-Net, its zero convolutions no longer zero."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net: Any = ControlNetModel(
            conditioning_embedding_out_channels=(4, 4, 8, 8),
            class_embed_type="timestep" if levels else None,
            **_SHAPE,
        )
        for parameter in net.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
        with torch.no_grad():
            for parameter in net.controlnet_cond_embedding.parameters():
                parameter *= 8
    net.save_pretrained(folder)
    return folder


def drop_tensor(path: Path, name: str) -> None:
    """Write a safetensors file again without one tensor."""
    tensors = load_file(path)
    del tensors[name]
    save_file(tensors, path, {"format": "pt"})


def _spell_as_transformers_4_did(path: Path) -> None:
    """The text tower's keys as published checkpoints have them: under text_model, with position ids."""
    tensors = {f"text_model.{key.removeprefix('text_model.')}": value for key, value in load_file(path).items()}
    tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(tensors, path, {"format": "pt"})


def _save_tokenizer(folder: Path) -> None:
    """Write a byte-level CLIP tokenizer with one merge: 516 tokens."""
    letters = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = [*map(chr, letters), *(chr(256 + index) for index in range(256 - len(letters)))]
    tokens = [*characters, *(f"{character}</w>" for character in characters), "se", "sea</w>"]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    special = {"bos_token": tokens[-2], "eos_token": tokens[-1], "unk_token": tokens[-1], "pad_token": "!"}
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\ns e\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
