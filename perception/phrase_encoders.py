"""Encoders of phrases and of pictures in one space, for networks that look for what a phrase names.

A phrase becomes its words' states and one vector for the whole of it; a picture becomes a map of vectors that can be
compared with both by their cosine. `MiniLmEncoders` is what ships: MiniLM's words, which stand still, and the frozen
EfficientNet-Lite0 of earthgen's image tower, read densely, with layers that learn to bring both into one space.
`PublicEncoders` are both halves of a public SigLIP or CLIP in transformers' layout, with low-rank corrections.
"""

from __future__ import annotations

import json
import math
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from earthgen.errors import WeightsError
from perception.errors import PhraseError, first_line
from perception.lora import add_lora
from perception.sam import LiteView

MOST_CHARACTERS = 300
"""Longest phrase; people name a thing in fewer words."""
MOST_WORDS = 32
"""Tokens of a phrase that MiniLM's half listens to, marks of start and end included."""
MINILM_WIDTH = 384
ADAPTED = ("q_proj", "k_proj", "v_proj", "out_proj")
"""Linear layers of a public encoder that are adapted."""


def checked_phrase(phrase: object) -> str:
    """A phrase without white space around it.

    Raises:
        PhraseError: no text, empty, too long, without a word, or in another script than the encoders were taught.
    """
    if not isinstance(phrase, str):
        raise PhraseError(f"the phrase is {type(phrase).__name__}; text is needed")
    text = " ".join(phrase.split())
    if not text:
        raise PhraseError("the phrase is empty; say in English what to look for, such as 'the river'")
    if len(text) > MOST_CHARACTERS:
        raise PhraseError(f"the phrase has {len(text)} characters; at most {MOST_CHARACTERS} are allowed")
    letters = [letter for letter in text if letter.isalpha()]
    if not letters:
        raise PhraseError(f"the phrase {text[:40]!r} has no word in it; say in English what to look for")
    foreign = next((letter for letter in letters if not unicodedata.name(letter, "").startswith("LATIN")), None)
    if foreign is not None:
        raise PhraseError(
            f"the phrase has {foreign!r}, a letter of another script, which the text encoder cannot hear; English words"
            " are allowed"
        )
    return text


@dataclass(frozen=True, slots=True)
class Heard:
    """Phrases as numbers, before anything that learns.

    Attributes:
        words: MiniLM: float (b, l, width), its states; a public encoder: long (b, l), its tokens.
        lengths: long (b,), how many of them are the phrase's.
    """

    words: torch.Tensor
    lengths: torch.Tensor

    @property
    def mask(self) -> torch.Tensor:
        """Bool (b, l), True where a word is."""
        return torch.arange(self.words.shape[1], device=self.lengths.device) < self.lengths[:, None]

    def to(self, device: torch.device | str) -> Heard:
        """On another device."""
        return Heard(self.words.to(device), self.lengths.to(device))


class PairedEncoders(nn.Module, ABC):
    """Both halves.

    Attributes:
        width: numbers of a vector of either half.
        scale: log of what cosines are multiplied by.
        bias: what is added then, so that a sigmoid makes a probability of it.
    """

    width: int
    scale: nn.Parameter
    bias: nn.Parameter

    @abstractmethod
    def hear(self, phrases: Sequence[str]) -> Heard:
        """Phrases as numbers, by what stands still."""

    @abstractmethod
    def speak(self, heard: Heard) -> tuple[torch.Tensor, torch.Tensor]:
        """Words (b, l, width), 0 where there is none, and whole phrases (b, width)."""

    @abstractmethod
    def look(self, images: torch.Tensor, view: torch.Tensor | None) -> torch.Tensor:
        """Pictures (b, 3, h, w) in [-1, 1], and of them `LiteView`'s view if it is used, to (b, width, h', w')."""


# --- What ships ---


class MiniLmEncoders(PairedEncoders):
    """MiniLM's words and EfficientNet-Lite0's view, each with layers that learn.

    Args:
        width: numbers of a vector.
        grid: side of the map.
        layers: of the transformer over words.
        heads: of its attentions.
        dropout: in it, while training.
    """

    def __init__(self, width: int, grid: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.width, self.grid = width, grid
        self.scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.bias = nn.Parameter(torch.tensor(-4.0))
        self.enter = nn.Linear(MINILM_WIDTH, width)
        self.order = nn.Parameter(0.02 * torch.randn(MOST_WORDS, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.whole = nn.Linear(width, width)
        self.norm = nn.BatchNorm2d(LiteView.channels)
        self.project = nn.Conv2d(LiteView.channels, width, 1)
        self.place = nn.Parameter(0.02 * torch.randn(1, width, grid, grid))
        self.mix = nn.Sequential(
            nn.Conv2d(width, width, 7, padding=3, groups=width), nn.GELU(), nn.Conv2d(width, width, 1)
        )

    def hear(self, phrases: Sequence[str]) -> Heard:
        """See `PairedEncoders.hear`; a phrase's numbers do not depend on its neighbours."""
        from earthgen.conditioning import text_encoder

        encoder = text_encoder("minilm")
        states = [torch.from_numpy(encoder.tokens(phrase)[:MOST_WORDS].copy()) for phrase in phrases]
        return joined(states)

    def speak(self, heard: Heard) -> tuple[torch.Tensor, torch.Tensor]:
        """See `PairedEncoders.speak`."""
        mask = heard.mask
        x = self.enter(heard.words) + self.order[: heard.words.shape[1]]
        x = self.layers(x, src_key_padding_mask=~mask) * mask[..., None]
        return x, self.whole(x.sum(dim=1) / heard.lengths[:, None])

    def look(self, images: torch.Tensor, view: torch.Tensor | None) -> torch.Tensor:
        """See `PairedEncoders.look`."""
        assert view is not None
        x = self.project(self.norm(view)) + self.place
        out: torch.Tensor = x + self.mix(x)
        return out


def joined(states: Sequence[torch.Tensor]) -> Heard:
    """Words' states (l, width) of each phrase as one; MOST_WORDS places, so that neighbours make no difference."""
    words = torch.zeros(len(states), MOST_WORDS, MINILM_WIDTH)
    for row, some in zip(words, states, strict=True):
        row[: len(some)] = some
    return Heard(words, torch.tensor([len(some) for some in states]))


# --- Public checkpoints ---


class PublicEncoders(PairedEncoders):
    """SigLIP (Zhai et al., arXiv 2303.15343) or CLIP in transformers' layout.

    SigLIP's last states of patches and words are compared as they are, and its pooled text, as published. CLIP's two
    halves differ in width, so both go through its projections first, and it has no bias: one is learned.

    Args:
        net: transformers' SiglipModel or CLIPModel.
        tokenizer: of it.
        rank: of the corrections of its attentions; 0 leaves it as it is.
        alpha: their weight.
        dropout: of their input, while training.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, net: Any, tokenizer: Any, rank: int, alpha: float, dropout: float) -> None:
        super().__init__()
        self.is_clip = net.config.model_type == "clip"
        self.tokenizer = tokenizer
        self.text, self.vision = net.text_model, net.vision_model
        if not self.is_clip and getattr(self.vision, "use_head", False):
            # Its pooling is not used; its attention could not be adapted.
            self.vision.use_head, self.vision.head = False, None
        self.longest = int(net.config.text_config.max_position_embeddings)
        self.image = int(net.config.vision_config.image_size)
        self.text_project = net.text_projection if self.is_clip else None
        self.vision_project = net.visual_projection if self.is_clip else None
        self.width = int(net.config.projection_dim if self.is_clip else net.config.vision_config.hidden_size)
        for part in (self.text, self.vision):
            if rank:
                add_lora(part, ADAPTED, rank, alpha, dropout)
            else:
                part.requires_grad_(False)
        if rank and not self.is_clip:
            self.text.head.requires_grad_(True)
        scale = net.logit_scale.detach().reshape(()).clone()
        self.scale = nn.Parameter(scale)
        bias = -0.25 * scale.exp() if self.is_clip else net.logit_bias.detach().reshape(()).clone()
        self.bias = nn.Parameter(bias)
        from perception.patch_towers import CLIP_MEAN, CLIP_STD

        colours = (CLIP_MEAN, CLIP_STD) if self.is_clip else ((0.5,) * 3, (0.5,) * 3)
        for name, values in zip(("mean", "std"), colours, strict=True):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def hear(self, phrases: Sequence[str]) -> Heard:
        """See `PairedEncoders.hear`."""
        found = [self.tokenizer(phrase, truncation=True, max_length=self.longest)["input_ids"] for phrase in phrases]
        padded = self.tokenizer(
            list(phrases), padding="max_length", truncation=True, max_length=self.longest, return_tensors="pt"
        )
        return Heard(padded["input_ids"], torch.tensor([len(some) for some in found]))

    def speak(self, heard: Heard) -> tuple[torch.Tensor, torch.Tensor]:
        """See `PairedEncoders.speak`. Without a mask, as both were trained."""
        said = self.text(input_ids=heard.words)
        words, whole = said.last_hidden_state, said.pooler_output
        if self.text_project is not None:
            words, whole = self.text_project(words), self.text_project(whole)
        return words * heard.mask[..., None], whole

    def look(self, images: torch.Tensor, view: torch.Tensor | None = None) -> torch.Tensor:
        """See `PairedEncoders.look`."""
        images = F.interpolate(images, (self.image, self.image), mode="bilinear", align_corners=False)
        seen = self.vision(pixel_values=((images + 1) / 2 - self.mean) / self.std).last_hidden_state
        if self.vision_project is not None:
            seen = self.vision_project(self.vision.post_layernorm(seen[:, 1:]))
        side = math.isqrt(seen.shape[1])
        out: torch.Tensor = seen.transpose(1, 2).reshape(len(seen), self.width, side, side)
        return out


def open_public(source: str | Path) -> tuple[Any, Any]:
    """A SigLIP or CLIP of transformers and its tokenizer, from this machine.

    Args:
        source: a folder that `save_pretrained` wrote: config.json, model.safetensors, a tokenizer. No code of it runs.

    Raises:
        WeightsError: nothing is there, it cannot be read, or it is another model.
    """
    from transformers import AutoTokenizer, CLIPModel, SiglipModel

    folder = Path(source)
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"no SigLIP or CLIP at {source}; a folder with config.json is needed") from error
    models: dict[str, Any] = {"siglip": SiglipModel, "clip": CLIPModel}
    model = models.get(kind)
    if model is None:
        raise WeightsError(f"{source} holds a {kind}; siglip or clip is needed")
    try:
        net = model.from_pretrained(folder, local_files_only=True, use_safetensors=True, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise WeightsError(f"{source} cannot be loaded: {first_line(error)}") from error
    return net.train(False), tokenizer
