"""Reading checkpoint folders strictly: known classes, safetensors only, every tensor where it belongs.

A Stable Diffusion folder names its pipeline class in `model_index.json`, and that class may live in a Python
file of the repository (Text2Earth's does). Nothing of that file is needed: the parts are stock classes, each in
a subfolder of its own, and are read one by one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from earthgen.errors import WeightsError

HUB_PREFIX = "hf:"
DIFFUSERS_TENSORS = "diffusion_pytorch_model.safetensors"
TRANSFORMERS_TENSORS = "model.safetensors"
PICKLE_SUFFIXES = frozenset({".bin", ".ckpt", ".pkl", ".pt", ".pth"})

_LOAD_ERRORS = (SafetensorError, OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError)


def locate(source: str | Path, what: str, patterns: list[str]) -> Path:
    """The folder of a source.

    Args:
        source: a folder, or `hf:OWNER/NAME` for a hub repository (downloaded, or found in the hub's cache).
        what: what is looked for, for error sentences.
        patterns: the files that are wanted of a hub repository.

    Raises:
        WeightsError: there is no such folder, or the hub cannot give it.
    """
    if not str(source).startswith(HUB_PREFIX):
        folder = Path(source)
        if folder.is_dir():
            return folder
        reason = "is a file" if folder.exists() else "does not exist"
        raise WeightsError(f"no {what} at {folder}: it {reason}; a folder or hf:OWNER/NAME is needed")

    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    name = str(source).removeprefix(HUB_PREFIX)
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise WeightsError(f"hub {what} {name!r} cannot be had: {first_line(error)}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        WeightsError: the file is missing or holds something else.
    """
    if not path.is_file():
        raise WeightsError(f"{path.parent} has no {path.name}")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, OSError) as error:
        raise WeightsError(f"{path} is not a JSON object: {first_line(error)}") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path} is not a JSON object: it holds a {type(value).__name__}")
    return value


def require_tensors(folder: Path, name: str) -> Path:
    """The path of a safetensors file whose header reads and whose data are all there.

    Raises:
        WeightsError: the file is missing, there is a pickle in its place, or it is truncated or damaged.
    """
    path = folder / name
    if not path.is_file():
        pickles = sorted(entry.name for entry in folder.iterdir() if entry.suffix in PICKLE_SUFFIXES)
        if pickles:
            raise WeightsError(
                f"{folder} holds {pickles[0]}, a pickle, which can run code when it is read, and no {name}; "
                "only safetensors are read: convert it first"
            )
        raise WeightsError(f"{folder} has no {name}")
    try:
        with safe_open(path, "pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is truncated or damaged: {first_line(error)}") from error
    return path


def load_diffusers(cls: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A diffusers model from its subfolder.

    Args:
        cls: the one class that is allowed.
        folder: holds `config.json` and `diffusion_pytorch_model.safetensors`.
        dtype: what every tensor is cast to, whatever precision the file has.

    Raises:
        WeightsError: the folder, a file or a tensor is missing, damaged, unknown or of another shape.
    """
    _require_folder(folder, cls)
    named = read_json(folder / "config.json").get("_class_name")
    if named != cls.__name__:
        raise WeightsError(f"{folder / 'config.json'} describes a {named}; a {cls.__name__} is needed")
    path = require_tensors(folder, DIFFUSERS_TENSORS)
    return _from_pretrained(cls, folder, path, torch_dtype=dtype)


def load_text_encoder(folder: Path) -> Any:
    """CLIP's text tower in float32 from its subfolder, `config.json` and `model.safetensors`.

    Raises:
        WeightsError: as `load_diffusers`, or transformers is not installed.
    """
    cls = _transformers("CLIPTextModel")
    _require_folder(folder, cls)
    named = read_json(folder / "config.json").get("architectures")
    if named != [cls.__name__]:
        raise WeightsError(f"{folder / 'config.json'} describes {named}; [{cls.__name__!r}] is needed")
    path = require_tensors(folder, TRANSFORMERS_TENSORS)
    return _from_pretrained(cls, folder, path, dtype=torch.float32)


def load_tokenizer(folder: Path) -> Any:
    """CLIP's tokenizer from its subfolder: `vocab.json` with `merges.txt`, or `tokenizer.json`.

    Raises:
        WeightsError: the folder or a file is missing or damaged, or transformers is not installed.
    """
    cls = _transformers("CLIPTokenizer")
    _require_folder(folder, cls)
    if not (folder / "tokenizer.json").is_file():
        for name in ("vocab.json", "merges.txt"):
            if not (folder / name).is_file():
                raise WeightsError(f"{folder} has no {name}")
    try:
        return cls.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise WeightsError(f"the tokenizer in {folder} cannot be read: {first_line(error)}") from error


def content_id(paths: Iterable[Path], *facts: object) -> str:
    """12 hexadecimal characters of the SHA-256 of files, in the order given, and of facts beside them."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    digest.update(json.dumps(facts).encode())
    return digest.hexdigest()[:12]


def first_line(error: BaseException) -> str:
    """What an error says, cut to one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _require_folder(folder: Path, cls: Any) -> None:
    if not folder.is_dir():
        raise WeightsError(f"{folder.parent} has no folder {folder.name}, where its {cls.__name__} belongs")


def _transformers(name: str) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise WeightsError(
            "latent checkpoints need transformers for their text encoder: pip install 'earthgen[text]'"
        ) from error
    return getattr(transformers, name)


def _from_pretrained(cls: Any, folder: Path, path: Path, **options: Any) -> Any:
    try:
        with _quiet():
            model, info = cls.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, output_loading_info=True, **options
            )
    except _LOAD_ERRORS as error:
        raise WeightsError(f"{path} does not fit its config.json: {_reason(error)}") from error
    for kind, keys in (("missing", info["missing_keys"]), ("unknown", info["unexpected_keys"])):
        if keys:
            raise WeightsError(
                f"{path} does not fit its config.json: {len(keys)} tensors {kind}, first {sorted(map(str, keys))[0]}"
            )
    return model.eval().requires_grad_(False)


def _reason(error: BaseException) -> str:
    """The line of a library's message that names a tensor, if there is one."""
    lines = str(error).strip().splitlines()
    for line in lines:
        if "mismatch" in line or "expected shape" in line:
            return line.strip().split(". If you want", maxsplit=1)[0]
    return first_line(error)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the libraries from printing about keys: what is wrong is said by the error alone."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    levels = [library.get_verbosity() for library in libraries]
    logging: Any = transformers_logging  # its functions for progress bars carry no types
    bars = logging.is_progress_bar_enabled()
    for library in libraries:
        library.set_verbosity(library.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        for library, level in zip(libraries, levels, strict=True):
            library.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
