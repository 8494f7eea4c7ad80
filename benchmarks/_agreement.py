"""Whether two models give the same vectors: before a time counts."""

from __future__ import annotations

import numpy as np
from embed_core import Vectors

_LARGEST = 1e-5  # in float32
_COSINE, _OVERLAP = 0.9999, 0.99  # in bfloat16
_NEAREST = 10


def agreement(vectors: Vectors, expected: Vectors, dtype: str) -> tuple[bool, str]:
    """Return whether the vectors are as near to the expected ones as their data type allows, and the figures."""
    if dtype == "float32":
        apart = float(np.abs(vectors - expected).max())
        return apart <= _LARGEST, f"largest difference {apart:.0e}"
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    cosine = float(((vectors * expected).sum(axis=1) / lengths).mean())
    shared = overlap(vectors, expected)
    return cosine >= _COSINE and shared >= _OVERLAP, f"mean cosine {cosine:.6f}, top-10 overlap {shared:.4f}"


def overlap(vectors: Vectors, expected: Vectors, nearest: int = _NEAREST) -> float:
    """Return which part of the texts that a search of each text among the others finds is found by both."""
    mine, theirs = (_neighbours(one, nearest) for one in (vectors, expected))
    return float(np.mean([len(set(a) & set(b)) / nearest for a, b in zip(mine, theirs, strict=True)]))


def _neighbours(vectors: Vectors, nearest: int) -> list[list[int]]:
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    found: list[list[int]] = np.argsort(-scores, axis=1)[:, :nearest].tolist()
    return found
