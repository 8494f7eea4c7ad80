"""Device, type and lengths of a model of torch and transformers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from embed_core import Pooling
from embed_core.errors import ConfigurationError
from numpy.typing import NDArray

UNBOUNDED = 10**9
"""More tokens than any model takes; transformers writes 1e30 where a tokenizer knows no end."""

_DTYPE_SINCE = (4, 56)
_REMEDY = "leave `device` out to take the best there is, or install a torch built for your hardware"


@dataclass(frozen=True)
class Options:
    """How a model is loaded; models with equal options share their weights.

    Attributes:
        pooling: how a transformers model's last layer is pooled; None leaves it to the model's files.
        raw: whether to leave out the model's own step that makes vectors unit length.
        sparse: whether a `SparseEncoder` is wanted.
    """

    device: str | None
    dtype: str | None
    cache_folder: str | None
    trust_remote_code: bool
    backend: str
    model_kwargs: Mapping[str, Any]
    processor_kwargs: Mapping[str, Any]
    config_kwargs: Mapping[str, Any]
    pooling: Pooling | None = None
    raw: bool = False
    sparse: bool = False

    def __hash__(self) -> int:
        return hash((self.device, self.dtype, self.backend))


@cache
def resolve_device(device: str | None) -> str:
    """Return a device that is there: the given one, or for None the best of CUDA, MPS and the CPU, in this order.

    Raises:
        ConfigurationError: the device is not there, or is no device at all.
    """
    if device == "cpu" or (device is None and not _may_have_accelerator()):
        return "cpu"
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        asked = torch.device(device)
    except RuntimeError as error:
        msg = f"`device={device!r}` is no device; expected 'cuda', 'cuda:1', 'mps', 'cpu' or None for the best there is"
        raise ConfigurationError(msg) from error
    there = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }.get(asked.type)
    if there is not None and (asked.index or 0) >= there:
        seen = f"only {there} of that kind" if there else f"no {asked.type.upper()} device"
        msg = f"`device={device!r}` was asked for, but torch {torch.__version__} sees {seen}; {_REMEDY}"
        raise ConfigurationError(msg)
    return device


def _may_have_accelerator() -> bool:
    """Tell whether torch may find a device beside the CPU, without the seconds that its import takes."""
    if sys.platform != "linux":
        return True
    return any(map(os.path.exists, ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")))


def dtype_options(dtype: str | None) -> dict[str, Any]:
    """Return the argument that makes `from_pretrained` load weights as a type; its name depends on the version."""
    if dtype is None:
        return {}
    import torch
    import transformers

    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    name = "dtype" if version >= _DTYPE_SINCE else "torch_dtype"
    return {name: dtype if dtype == "auto" else getattr(torch, dtype)}


def precision(model: Any) -> str:
    """Return the type of a model's first weight, such as "float16"; empty where it has none."""
    weight = next(model.parameters(), None)
    return "" if weight is None else str(weight.dtype).removeprefix("torch.")


def positions(model: Any) -> int | None:
    """Return how many tokens a transformers model has positions for; None where its config does not say."""
    config = getattr(model, "config", None)
    if config is None:
        return None
    text_config = config.get_text_config() if hasattr(config, "get_text_config") else config
    count = getattr(text_config, "max_position_embeddings", None)
    if not isinstance(count, int) or count < 1:
        return None
    return count - first_position(model)


def first_position(model: Any) -> int:
    """Return the number of a text's first position; RoBERTa begins to count behind the padding's index."""
    tables = (getattr(module, "position_embeddings", None) for module in model.modules())
    return next((index + 1 for table in tables if (index := getattr(table, "padding_idx", None)) is not None), 0)


def longest(tokenizer: Any, places: int | None) -> int | None:
    """Return the most tokens that tokenizer and positions allow; None where neither knows an end."""
    return min((most for most in (tokenizer.model_max_length, places) if most and most < UNBOUNDED), default=None)


def to_float32(vectors: Any) -> NDArray[np.float32]:
    """Return a tensor's values as a float32 array in main memory; numpy knows no bfloat16."""
    array: NDArray[np.float32] = vectors.detach().float().cpu().numpy()
    return array


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep transformers 5 from drawing a bar for weights that are on disk; downloads still show theirs."""
    from transformers.utils import logging

    set_hook = getattr(logging, "set_tqdm_hook", None)
    if set_hook is None:
        yield
        return
    previous = set_hook(lambda factory, args, keywords: factory(*args, **{**keywords, "disable": True}))
    try:
        yield
    finally:
        set_hook(previous)
