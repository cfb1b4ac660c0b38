"""Tiny random text encoders and image towers, saved in the layouts of the real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch


def tiny_clip_tokenizer(folder: Path) -> None:
    """CLIP's byte pairs without merges: every letter is a token, the last of a word has its own."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    CLIPTokenizer(
        vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=16
    ).save_pretrained(folder)


def tiny_clip(folder: Path, kind: str = "CLIPTextModelWithProjection") -> Path:
    """A random CLIP text tower in transformers' layout."""
    import transformers

    config = transformers.CLIPTextConfig(
        vocab_size=190,
        hidden_size=24,
        intermediate_size=32,
        projection_dim=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=188,
        eos_token_id=189,
        pad_token_id=189,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        getattr(transformers, kind)(config).save_pretrained(folder)
    tiny_clip_tokenizer(folder)
    return folder


def tiny_open_clip(folder: Path, **model: Any) -> Path:
    """A random OpenCLIP model as a folder."""
    open_clip = pytest.importorskip("open_clip")
    from safetensors.torch import save_file

    config = {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
        **model,
    }
    folder.mkdir()
    mean = std = [0.5, 0.5, 0.5]
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {"mean": mean, "std": std}})
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = open_clip.model.CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"])
    save_file(
        {name: value.contiguous() for name, value in net.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    return folder
