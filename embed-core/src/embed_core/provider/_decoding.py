"""Vectors and token counts out of an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

b64decode: Any
try:
    from pybase64 import b64decode  # six times as fast
except ImportError:
    from base64 import b64decode

_MOST_TOKENS = 2**31  # of an account that makes sense


def decode(embeddings: Sequence[Any], dtype: str = "float32") -> Any:
    """Return the float32 rows of embeddings in base64 or as lists of numbers; a list of rows where lengths differ.

    Args:
        embeddings: one for each input; a row without numbers where there is none.
        dtype: of the numbers in base64: "int8" for quantised vectors, "uint8" for packed bits.

    Raises:
        ValueError: something else is there.
    """
    kind = np.dtype(dtype).newbyteorder("<")
    rows = [
        np.frombuffer(b64decode(one, validate=True), kind) if isinstance(one, str) else _listed(one)
        for one in embeddings
    ]
    lengths = set(map(len, rows))
    if len(lengths) != 1:
        return rows
    together = np.empty((len(rows), lengths.pop()), dtype=np.float32)
    with np.errstate(over="ignore"):  # a number that exceeds float32 is found out as infinite
        for at, row in enumerate(rows):
            together[at] = row
    return together


def _listed(embedding: Any) -> Any:
    vector = np.asarray([] if embedding is None else embedding, np.float64)
    if vector.ndim != 1:
        msg = f"an embedding of shape {vector.shape}"
        raise ValueError(msg)
    return vector


def positions(claimed: Sequence[Any]) -> Sequence[Any] | None:
    """Return the positions that the items of an answer claim; None where the order of the list is all there is.

    Some servers number every item 0, or none, and some count from 1.
    """
    if set(map(repr, claimed)) in ({"None"}, {"0"}):
        return None
    if all(type(at) is int for at in claimed) and sorted(claimed) == list(range(1, len(claimed) + 1)):
        return [at - 1 for at in claimed]
    return claimed


def token_usage(account: Any, *names: str) -> dict[str, int] | None:
    """Return the tokens that an answer counts under the first of these names; None where that makes no sense."""
    if isinstance(account, Mapping):
        for name in names:
            with suppress(KeyError, TypeError, ValueError, OverflowError):
                if 0 < (tokens := int(account[name])) < _MOST_TOKENS:
                    return {"tokens": tokens}
    return None
