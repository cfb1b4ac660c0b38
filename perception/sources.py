"""Where weights of perception models come from: a folder, a file, or a hub's repository."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from earthgen.errors import WeightsError
from perception.checkpoint import CARD, FILE
from perception.errors import first_line

HUB_PREFIX = "hf:"


def local_source(source: str | Path) -> Path:
    """A file or folder on this machine; of `hf:OWNER/NAME` the snapshot, downloaded or found in the hub's cache.

    Raises:
        WeightsError: the hub has no such repository or cannot be reached.
    """
    if not str(source).startswith(HUB_PREFIX):
        return Path(source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    name = str(source).removeprefix(HUB_PREFIX)
    try:
        return Path(snapshot_download(name, allow_patterns=[FILE, CARD]))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise WeightsError(f"hub weights {name!r} cannot be had: {first_line(error)}") from error


def own_classes(folder: Path) -> tuple[str, ...]:
    """The classes that a folder's model looks for by itself, from the head of its file; none for a binary detector.

    Raises:
        WeightsError: the file is truncated or says nothing of its model.
    """
    path = folder / FILE
    try:
        with safe_open(path, "pt") as file:
            config = json.loads((file.metadata() or {})["config"])
        return tuple(str(name) for name in config.get("classes", ()))
    except (SafetensorError, OSError, LookupError, ValueError, AttributeError, TypeError) as error:
        raise WeightsError(f"{path} cannot be loaded: {first_line(error)}") from error
