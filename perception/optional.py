"""Optional packages, asked for where they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from perception.errors import DependencyError


def require(module: str, extra: str) -> Any:
    """Import a module of an optional package.

    Args:
        module: dotted name.
        extra: the extra of earthgen that installs it.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise DependencyError(f"this needs {package}; install it with: pip install 'earthgen[{extra}]'") from error
