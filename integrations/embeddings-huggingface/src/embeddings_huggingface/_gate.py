"""What transformers may load: whole weights, from safetensors files, and nothing that runs code unasked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

from embed_core.errors import ConfigurationError

UNSAFE = frozenset({"weights_only", "pickle_module", "allow_all_kernels", "use_kernels", "kernel_config"})
"""Arguments of `from_pretrained` that let pickles or kernels from elsewhere run code."""

_SHOWN = 3
_POOLER = re.compile(r"(^|\.)pooler\.")

_FORCED: ContextVar[dict[str, Any] | None] = ContextVar("forced", default=None)


@contextmanager
def guarded(*, safetensors: bool | None) -> Iterator[None]:
    """Load models of transformers in this thread from safetensors files, and refuse weights that do not fit.

    A weight that is not in the files gets random numbers, and transformers only logs it. Its `output_loading_info` says
    so, but sentence-transformers leaves no way to ask for it, and takes arguments from the model's files too.

    Args:
        safetensors: whether files of safetensors are wanted; None takes a pickle of tensors where there are none.
    """
    _install()
    forced = {"use_safetensors": safetensors, "output_loading_info": True, "ignore_mismatched_sizes": True}
    token = _FORCED.set(forced)
    try:
        yield
    finally:
        _FORCED.reset(token)


@cache
def _install() -> None:
    from transformers import PreTrainedModel

    original = PreTrainedModel.from_pretrained.__func__

    def from_pretrained(cls: Any, name: Any, *args: Any, **options: Any) -> Any:
        if (forced := _FORCED.get()) is None:
            return original(cls, name, *args, **options)
        safe = {key: value for key, value in options.items() if key not in UNSAFE}
        model, info = original(cls, name, *args, **safe | forced)
        _check_whole(str(name), info)
        return model

    PreTrainedModel.from_pretrained = classmethod(from_pretrained)


def _check_whole(name: str, info: Mapping[str, Any]) -> None:
    """Refuse a model some of whose weights were not in its files; a missing pooler is normal, and never used.

    Raises:
        ConfigurationError: weights are missing or have another shape.
    """
    missing = sorted(key for key in info["missing_keys"] if not _POOLER.search(key))
    mismatched = sorted(key for key, *_ in info["mismatched_keys"])
    for keys, fault in ((missing, "are not in its files"), (mismatched, "have another shape in its files")):
        if keys:
            more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
            listed = ", ".join(f"`{key}`" for key in keys[:_SHOWN])
            msg = (
                f"weights of `{name}` {fault} and would be random: {listed}{more}; "
                "its `config.json` names another architecture than it was saved from: save or download the model again"
            )
            raise ConfigurationError(msg)
