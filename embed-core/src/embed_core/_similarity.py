"""Similarity of two vectors, accumulated in float64."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from embed_core.errors import ConfigurationError, InvalidInputError

Embedding: TypeAlias = list[float]


class SimilarityMode(StrEnum):
    """The ways to compare two vectors; in every mode a larger number means more similar."""

    DEFAULT = "cosine"
    DOT_PRODUCT = "dot_product"
    EUCLIDEAN = "euclidean"
    """The negated Euclidean distance."""

    @classmethod
    def _missing_(cls, value: object) -> SimilarityMode:
        msg = f"there is no similarity mode {value!r}; choose one of {', '.join(repr(str(mode)) for mode in cls)}"
        raise ConfigurationError(msg)


def similarity(embedding1: ArrayLike, embedding2: ArrayLike, mode: SimilarityMode = SimilarityMode.DEFAULT) -> float:
    """Compare two vectors of shape (dimension,).

    The cosine with a zero vector, which has no direction, is 0. Vectors with numbers that are not finite give NaN.

    Raises:
        InvalidInputError: the arrays are not vectors of equal dimension.
        ConfigurationError: the mode is unknown.
    """
    a, b = np.asarray(embedding1, dtype=np.float64), np.asarray(embedding2, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        msg = f"cannot compare arrays of shape {a.shape} and {b.shape}; both must be vectors of one dimension"
        raise InvalidInputError(msg)
    mode = SimilarityMode(mode)
    if mode is SimilarityMode.EUCLIDEAN:
        return -float(np.linalg.norm(a - b))
    product = float(a @ b)
    if mode is SimilarityMode.DOT_PRODUCT:
        return product
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.clip(product / norms, -1.0, 1.0)) if norms else 0.0


def mean_agg(embeddings: Sequence[Sequence[float]]) -> Embedding:
    """Return the mean of several vectors, accumulated in float64.

    Raises:
        InvalidInputError: `embeddings` is empty.
    """
    if not len(embeddings):
        msg = "there are no embeddings to average; pass at least one"
        raise InvalidInputError(msg)
    mean: Embedding = np.asarray(embeddings, dtype=np.float64).mean(axis=0).tolist()
    return mean
