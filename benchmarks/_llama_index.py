"""Names that integrations import from LlamaIndex: `embed_core`'s own where it has one, else a stand-in."""

from __future__ import annotations

import os
from typing import Any

import embed_core
import embed_core.instrumentation

missing: set[str] = set()
"""The names for which a stand-in was imported."""


def _get_from_param_or_env(key: str, param: Any = None, env_key: str | None = None, default: Any = None) -> Any:
    found = param or (env_key and os.environ.get(env_key)) or default
    if found is None:
        raise ValueError(f"Did not find {key}, please set `{env_key}` or pass it")
    return found


class _PydanticProgramMode:
    DEFAULT = "default"


_STAND_INS: dict[str, Any] = {
    "BaseOutputParser": object,
    "ChatMessage": object,
    "DEFAULT_EMBED_BATCH_SIZE": 10,
    "ImageType": Any,
    "PydanticProgramMode": _PydanticProgramMode,
    "create_retry_decorator": lambda **_: lambda function: function,
    "format_query": lambda query, _, instruction: f"{instruction or ''} {query}",
    "format_text": lambda text, _, instruction: f"{instruction or ''} {text}",
    "get_cache_dir": lambda: ".",
    "get_from_param_or_env": _get_from_param_or_env,
    "infer_torch_device": lambda: "cpu",
    "refresh_openai_azuread_token": lambda token: token,
    "resolve_from_aliases": lambda *names: next((name for name in names if name is not None), None),
}


def __getattr__(name: str) -> Any:
    for module in (embed_core, embed_core.instrumentation):
        if hasattr(module, name):
            return getattr(module, name)
    if name not in _STAND_INS:
        raise AttributeError(name)
    missing.add(name)
    return _STAND_INS[name]
