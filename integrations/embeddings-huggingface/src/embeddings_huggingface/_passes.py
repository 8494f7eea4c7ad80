"""A batch of texts in forward passes of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def in_passes(features: Mapping[str, Any], budget: int, forward: Callable[[Mapping[str, Any]], Any]) -> Any:
    """Return the vectors of a tokenised batch, which goes through the model in parts where it has too many tokens.

    A batch is padded to its longest text, and attention takes memory for the square of that. Texts of similar length
    share a part, so padding is cut off as well.

    Args:
        features: tensors by name, of which an `attention_mask` of shape (n, length) tells what is padding.
        budget: most tokens of one pass, padding included; a longer text has a pass of its own.
        forward: returns the vectors of some rows, as an array or a list.
    """
    mask = features.get("attention_mask")
    if mask is None or mask.ndim != 2 or mask.numel() <= budget:
        return forward(features)
    lengths, order = mask.sum(dim=1).clamp(min=1).sort(descending=True, stable=True)
    vectors: list[Any] = [None] * len(order)
    start = 0
    while start < len(order):
        longest = int(lengths[start])
        rows = order[start : start + max(1, budget // longest)]
        some = forward({name: _part(value, mask, rows, longest) for name, value in features.items()})
        for row, vector in zip(rows.tolist(), some, strict=True):
            vectors[row] = vector
        start += len(rows)
    return np.stack(vectors) if isinstance(some, np.ndarray) else vectors


def _part(value: Any, mask: Any, rows: Any, longest: int) -> Any:
    """Return some rows of a tensor, cut to the longest of them; anything else as it is."""
    shape = getattr(value, "shape", ())
    if not shape or shape[0] != len(mask):
        return value
    if tuple(shape[:2]) != tuple(mask.shape):
        return value[rows]
    return value[rows, :longest] if bool(mask[:, 0].all()) else value[rows, -longest:]  # padded behind or in front
