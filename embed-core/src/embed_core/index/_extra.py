"""The packages of the extra `index`, imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from embed_core.errors import IntegrationNotInstalledError


def extra(module: str) -> Any:
    """Import a module of the extra.

    Raises:
        IntegrationNotInstalledError: it is not installed, or its import fails.
    """
    try:
        return import_module(module)
    except ImportError as error:
        msg = f'an index needs `{module}` ({error}); install it with `pip install "embed-core[index]"`'
        raise IntegrationNotInstalledError(msg) from error


def is_crash(error: BaseException) -> bool:
    """Tell whether a library has failed; a panic in Rust is no `Exception`."""
    return isinstance(error, Exception) or type(error).__module__ == "pyo3_runtime"
