"""Iterables of inputs: the check that an argument is one, and the split into windows."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from embed_core._types import Kind
from embed_core.errors import InvalidInputError


def several(kind: Kind, inputs: Iterable[Any]) -> Iterator[Any]:
    """Return an iterator over inputs.

    Raises:
        InvalidInputError: `inputs` is a single input.
    """
    if _is_one(kind, inputs):
        raise _not_several(kind, inputs)
    try:
        return iter(inputs)
    except TypeError as error:
        raise _not_several(kind, inputs) from error


def _is_one(kind: Kind, inputs: Any) -> bool:
    """Tell whether a value would iterate over its parts: characters, keys, lines of a file, rows of pixels."""
    if isinstance(inputs, str | bytes | bytearray | memoryview | Mapping):
        return True
    return kind == "image" and (hasattr(inputs, "read") or getattr(inputs, "ndim", None) in {2, 3})


def _not_several(kind: Kind, inputs: Any) -> InvalidInputError:
    got = f"got one `{type(inputs).__name__}` instead of an iterable of inputs"
    return InvalidInputError(f"{got}; wrap it in a list or use `get_{kind}_embedding`")


def windows(kind: Kind, inputs: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield lists of `size` inputs, the last one shorter; see `several`."""
    iterator = several(kind, inputs)
    while window := list(islice(iterator, size)):
        yield window


async def awindows(kind: Kind, inputs: Iterable[Any] | AsyncIterable[Any], size: int) -> AsyncIterator[list[Any]]:
    """Yield lists of `size` inputs; see `windows`."""
    if not isinstance(inputs, AsyncIterable):
        for window in windows(kind, inputs, size):
            yield window
        return
    window = []
    async for one in inputs:
        window.append(one)
        if len(window) == size:
            yield window
            window = []
    if window:
        yield window
