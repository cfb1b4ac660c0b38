"""Weight files of perception models.

Ours are one `model.safetensors` that explains itself: its metadata hold the model's name and its configuration as
JSON. A folder with that file and a `README.md` (the card) is what the registry ships. Public checkpoints of papers are
pickles; they are read by torch's restricted unpickler, which builds tensors and runs nothing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from earthgen.errors import WeightsError
from perception.errors import first_line

FILE = "model.safetensors"
CARD = "README.md"

Config = TypeVar("Config")
State = dict[str, torch.Tensor]


def save_network(
    folder: str | Path, model: str, config: Any, net: nn.Module, keep: Callable[[str], bool] = lambda _: True
) -> Path:
    """Write a network as `folder/model.safetensors`, whole or not at all.

    Args:
        folder: made if it is not there.
        model: the registry's name of the model.
        config: the frozen dataclass from which the network was built.
        net: the network.
        keep: whether a tensor, by its name, belongs into the file.

    Returns:
        The file.
    """
    target = Path(folder) / FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{FILE}.{os.getpid()}.tmp")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items() if keep(name)}
    try:
        save_file(state, partial, metadata={"model": model, "config": json.dumps(dataclasses.asdict(config))})
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def read_network(source: str | Path, model: str, config_type: type[Config]) -> tuple[Config, State]:
    """Read a file or folder that `save_network` wrote.

    Args:
        source: the file, or its folder.
        model: the name that the file must carry.
        config_type: the dataclass of its configuration; lists become tuples.

    Raises:
        WeightsError: nothing is there, it is truncated or corrupt, or it holds another model.
    """
    path = Path(source) / FILE if Path(source).is_dir() else Path(source)
    if not path.is_file():
        raise WeightsError(f"no weights at {source}; a folder with {FILE}, or such a file, is needed")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be loaded: {first_line(error)}") from error
    if metadata.get("model") != model:
        raise WeightsError(f"{path} holds weights of {metadata.get('model', 'no named model')}; {model} is needed")
    try:
        fields = json.loads(metadata["config"])
        config = config_type(**{key: _tuples(value) for key, value in fields.items()})
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} has a configuration that {model} does not know: {first_line(error)}") from error
    return config, state


def read_public(path: str | Path) -> State:
    """Read a state dictionary that torch pickled, without running anything in it.

    A leading `module.`, left by data parallelism, is taken off every key.

    Raises:
        WeightsError: nothing is there, it is truncated or corrupt, it holds objects other than tensors, or it is no
            dictionary of tensors.
    """
    state = _unpickled(path)
    if not _is_state(state):
        raise WeightsError(f"{path} is no dictionary of tensors; a bare state dictionary is needed")
    return {key.removeprefix("module."): value.float() for key, value in state.items()}


def read_public_parts(
    path: str | Path, parts: Sequence[str], idle: Callable[[str], bool] = lambda _: False
) -> dict[str, State]:
    """Read a checkpoint that holds several state dictionaries, without running anything in it.

    Args:
        path: the file.
        parts: their names in it; other entries (the epoch, optimisers) are not looked at.
        idle: whether a tensor, by part and name with a dot between, is not wanted; it is dropped early, to save memory.

    Raises:
        WeightsError: as `read_public`, or a part is missing.
    """
    found = _unpickled(path)
    wrong = [part for part in parts if not isinstance(found, dict) or not _is_state(found.get(part))]
    if wrong:
        raise WeightsError(f"{path} has no state dictionary {wrong[0]!r}; {', '.join(parts)} are needed")
    return {
        part: {
            name: value.float()
            for key, value in found[part].items()
            if not idle(f"{part}.{(name := key.removeprefix('module.'))}")
        }
        for part in parts
    }


def _is_state(state: Any) -> bool:
    return isinstance(state, dict) and all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    )


def _unpickled(path: str | Path) -> Any:
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no weights at {path}; a checkpoint file is needed")
    try:
        with warnings.catch_warnings():
            # Old pickles make torch warn of its own internals.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "global" in str(error).lower():
            raise WeightsError(
                f"{path} was refused: it holds Python objects other than tensors, which could run code when loaded"
            ) from error
        raise WeightsError(f"{path} is no torch checkpoint, or is damaged") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        raise WeightsError(f"{path} is truncated or damaged: {first_line(error)}") from error


def fill(net: nn.Module, state: State, source: str | Path) -> None:
    """Put tensors into a network; every one must be there and fit.

    Raises:
        WeightsError: one is missing, unknown, or of another shape.
    """
    wanted = net.state_dict()
    wrong = sorted(wanted.keys() ^ state.keys())
    if wrong:
        raise WeightsError(f"{source} does not fit: {len(wrong)} tensors missing or unknown, first {wrong[0]}")
    for name, tensor in wanted.items():
        if state[name].shape != tensor.shape:
            raise WeightsError(
                f"{source} does not fit: {name} has shape {tuple(state[name].shape)}; {tuple(tensor.shape)} is needed"
            )
    net.load_state_dict(state)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
