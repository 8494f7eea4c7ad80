"""Inputs of any number, taken a window at a time."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import Any

from embed_core._types import Kind
from embed_core.errors import InvalidInputError


def windows(kind: Kind, inputs: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield lists of `size` inputs, the last one shorter.

    Raises:
        InvalidInputError: `inputs` is a single text or no iterable.
    """
    if isinstance(inputs, str | bytes) or not isinstance(inputs, Iterable):
        single = f"`get_{kind}_embedding`"
        msg = f"got `{type(inputs).__name__}` where an iterable of inputs belongs; wrap it in a list or use {single}"
        raise InvalidInputError(msg)
    iterator = iter(inputs)
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
