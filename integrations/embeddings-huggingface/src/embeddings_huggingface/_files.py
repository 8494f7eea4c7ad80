"""The one reader of a model's files of settings, which may hold anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from embed_core.errors import ConfigurationError

from embeddings_huggingface._modules import MODULES


def read_json(path: Path) -> Any:
    """Return what a file holds: a list in `modules.json`, an object in any other; None where there is no such file.

    Raises:
        ConfigurationError: it is damaged.
    """
    if not path.is_file():
        return None
    wanted, called = (list, "a list") if path.name == MODULES else (dict, "an object")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (RecursionError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(content, wanted):
        raise _damaged(path, f"it holds {content!r:.60}, not {called}")
    return content


def _damaged(path: Path, why: str) -> ConfigurationError:
    msg = f"`{path.name}` is damaged, in the folder `{path.parent}` ({why}); save or download the model again"
    return ConfigurationError(msg)
