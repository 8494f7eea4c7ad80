"""Pooling: one vector of a text from the vectors of its tokens."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Any

import numpy as np

from embed_core.errors import ConfigurationError, InvalidInputError

_SHOWN = 10


class Pooling(StrEnum):
    """The ways to pool token vectors into one vector; the values are LlamaIndex's.

    Example:
        >>> import numpy as np
        >>> tokens = np.array([[1.0, 2.0], [3.0, 6.0], [0.0, 0.0]], dtype=np.float32)
        >>> Pooling("mean")(tokens, [1, 1, 0])
        array([2., 4.], dtype=float32)
    """

    CLS = "cls"
    """The vector of the first token."""

    MEAN = "mean"
    """The mean over all tokens, accumulated in float64."""

    def __call__(self, tokens: Any, attention_mask: Any = None) -> Any:
        """Pool a numpy array or torch tensor of shape (tokens, hidden) or (batch, tokens, hidden).

        Half precision becomes float32, so that no number is rounded twice. A tensor stays on its device.

        Args:
            tokens: the last hidden state of a model, for one text or a batch.
            attention_mask: 0 for padding, of shape (tokens,) or (batch, tokens); None means no padding. Values in the
                padding, NaN included, do not change the result.

        Returns:
            The vector of shape (hidden,) or the vectors of shape (batch, hidden), as an array or tensor like `tokens`.

        Raises:
            InvalidInputError: the shape is wrong, the mask does not fit, or a text has no token.
        """
        xp = _namespace(tokens)
        batch, mask, single = _batch(xp, tokens, attention_mask)
        pooled = _first(xp, batch, mask) if self is Pooling.CLS else _mean(xp, batch, mask)
        dtype = xp.promote_types(batch.dtype, xp.float32)
        pooled = pooled.astype(dtype, copy=False) if xp is np else pooled.to(dtype)
        return pooled[0] if single else pooled

    @classmethod
    def _missing_(cls, value: object) -> Pooling:
        msg = f"there is no pooling {value!r}; choose 'cls' or 'mean'"
        raise ConfigurationError(msg)


def _namespace(array: Any) -> Any:
    """Return numpy or, for a tensor, torch, which the tensor's owner has imported."""
    if any(base.__module__.partition(".")[0] == "torch" for base in type(array).__mro__):
        return sys.modules["torch"]
    return np


def _batch(xp: Any, tokens: Any, attention_mask: Any) -> tuple[Any, Any, bool]:
    """Return the tokens with a batch axis, their mask as booleans, and whether the batch axis is new."""
    try:
        tokens = np.asarray(tokens) if xp is np else tokens
    except ValueError as error:
        msg = f"cannot pool a ragged list ({error}); pad the texts to one length and pass the attention mask"
        raise InvalidInputError(msg) from error
    shape = tuple(tokens.shape)
    if len(shape) not in {2, 3}:
        msg = f"cannot pool an array of shape {shape}; it must be (tokens, hidden) or (batch, tokens, hidden)"
        raise InvalidInputError(msg)
    if not shape[-2]:
        msg = f"cannot pool an array of shape {shape}, which has no tokens; every text has at least one"
        raise InvalidInputError(msg)
    mask = None if attention_mask is None else _mask(xp, tokens, attention_mask, shape[:-1])
    if len(shape) == 3:
        return tokens, mask, False
    return tokens[None], None if mask is None else mask[None], True


def _mask(xp: Any, tokens: Any, attention_mask: Any, expected: tuple[int, ...]) -> Any:
    place = {} if xp is np else {"device": tokens.device}
    mask = xp.asarray(attention_mask, **place) != 0
    if tuple(mask.shape) != expected:
        msg = f"the attention mask has shape {tuple(mask.shape)}; tokens of shape {tuple(tokens.shape)} need {expected}"
        raise InvalidInputError(msg)
    whole = mask.reshape(-1, expected[-1]).any(-1)
    if not whole.all():
        empty = [row for row, some in enumerate(whole.tolist()) if not some]
        shown = ", ".join(map(str, empty[:_SHOWN])) + (", …" if len(empty) > _SHOWN else "")
        msg = f"the attention mask leaves no token of text {shown}; every text has at least one"
        raise InvalidInputError(msg, indices=empty)
    return mask


def _first(xp: Any, tokens: Any, mask: Any) -> Any:
    """Take each text's first token that is not padding; with padding on the left this is not the first column."""
    if mask is None:
        return tokens[:, 0]
    first = mask & (mask.cumsum(-1) == 1)  # unlike a look-up by row, an operation that can be traced for any batch
    return xp.where(first[..., None], tokens, 0).sum(1)


def _mean(xp: Any, tokens: Any, mask: Any) -> Any:
    on_apple_gpu = xp is not np and tokens.device.type == "mps"  # which has no float64
    wide = xp.float32 if on_apple_gpu else xp.float64
    if mask is None:
        return tokens.sum(1, dtype=wide) / tokens.shape[1]
    kept = xp.where(mask[..., None], tokens, 0)
    return kept.sum(1, dtype=wide) / mask.sum(1)[..., None]
