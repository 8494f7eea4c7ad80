"""A transformer over texts laid end to end, with no padding between them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from copy import deepcopy
from functools import partial
from itertools import accumulate, chain, groupby
from typing import Any, NamedTuple, TypeAlias

import numpy as np

MaskFunction: TypeAlias = Callable[[int, int, Any, Any], Any]

_NAME = "embeddings_huggingface_packed"
_layout: ContextVar[Callable[[MaskFunction], Any]] = ContextVar("layout")


class PackedTransformer:
    """A transformers model that computes the attention of each text by itself, through `AttentionInterface`.

    It shares its weights with the given model, and leaves that as it is: the user may hold it too.

    Args:
        model: a loaded transformers model.
        first: the number of a text's first position, such as 2 for RoBERTa.
        varlen: whether attention is torch's `varlen_attn`, which needs a GPU and half precision.

    Raises:
        ValueError: the model does not use the interface.
    """

    def __init__(self, model: Any, first: int, *, varlen: bool) -> None:
        from transformers import AttentionInterface, AttentionMaskInterface

        if not getattr(model, "_supports_attention_backend", False):
            raise ValueError("its attention is not open to `AttentionInterface`")
        AttentionInterface.register(_NAME, _attend)
        AttentionMaskInterface.register(_NAME, _mask)
        weights: dict[int, Any] = {id(one): one for one in chain(model.parameters(), model.buffers())}
        self._model = deepcopy(model, weights)
        self._model.set_attn_implementation(_NAME)
        self._model.config.use_cache = False  # decoders would keep keys and values
        self._first = first
        self._arrange = Bounds.of if varlen else Blocks.of
        self._accepts = inspect.signature(model.forward).parameters.keys()

    def __call__(self, ids: Any, lengths: Sequence[int]) -> Any:
        """Return the last hidden state as a tensor of shape (tokens, hidden) for ids of shape (1, tokens)."""
        import torch

        places = np.concatenate([np.arange(self._first, self._first + length) for length in lengths])
        given = {"token_type_ids": torch.zeros_like(ids)}
        token = _layout.set(partial(self._arrange, lengths, ids.device))
        try:
            return self._model(
                input_ids=ids,
                position_ids=torch.from_numpy(places)[None].to(ids.device),
                **{name: value for name, value in given.items() if name in self._accepts},
            )[0][0]
        finally:
            _layout.reset(token)


class Blocks(NamedTuple):
    """Attention with one call for neighbouring texts of equal length.

    Attributes:
        parts: of every block its number of texts, their length, and the tokens to which each token attends, as booleans
            of shape (length, length); None stands for all.
    """

    parts: Sequence[tuple[int, int, Any]]

    @classmethod
    def of(cls, lengths: Sequence[int], device: Any, mask_function: MaskFunction) -> Blocks:
        parts, start = [], 0
        for length, group in groupby(lengths):
            count = len(list(group))
            allowed = _allowed(mask_function, start, length, device)
            parts.append((count, length, None if allowed.all() else allowed))
            start += count * length
        return cls(parts)

    def __call__(self, query: Any, key: Any, value: Any, scale: float | None) -> Any:
        """Return the attention of tensors of shape (heads, tokens, size) as (tokens, heads, size)."""
        import torch

        if (share := len(query) // len(key)) > 1:
            key, value = key.repeat_interleave(share, 0), value.repeat_interleave(share, 0)
        out, start = value.new_empty(value.shape[1], *value.shape[::2]), 0
        for count, length, allowed in self.parts:
            rows = slice(start, start := start + count * length)
            q, k, v = (one[:, rows].unflatten(1, (count, length)).transpose(0, 1) for one in (query, key, value))
            some = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed, scale=scale)
            out[rows].unflatten(0, (count, length)).copy_(some.transpose(1, 2))
        return out


class Bounds(NamedTuple):
    """Attention with one call of torch's `varlen_attn` for all texts.

    Attributes:
        starts: int32 tensor of the first token of every text, and the number of all tokens at the end.
        longest: tokens of the longest text.
        window: how many tokens before and after itself a token attends to; -1 stands for all.
    """

    starts: Any
    longest: int
    window: tuple[int, int]

    @classmethod
    def of(cls, lengths: Sequence[int], device: Any, mask_function: MaskFunction) -> Bounds:
        import torch

        starts, longest = [0, *accumulate(lengths)], max(lengths)
        allowed = _allowed(mask_function, starts[lengths.index(longest)], longest, device)
        before, after = (int(allowed[row].sum()) - 1 for row in (-1, 0))
        if not torch.equal(allowed, torch.ones_like(allowed).tril(after).triu(-before)):
            raise ValueError("its attention is not a window around each token")
        window = (before if before < longest - 1 else -1, after if after < longest - 1 else -1)
        return cls(torch.tensor(starts, dtype=torch.int32, device=device), longest, window)

    def __call__(self, query: Any, key: Any, value: Any, scale: float | None) -> Any:
        from torch.nn.attention.varlen import varlen_attn

        q, k, v = (one.transpose(0, 1) for one in (query, key, value))
        starts, longest, window = self
        attend = partial(varlen_attn, scale=scale, window_size=window, enable_gqa=True)
        return attend(q, k, v, starts, starts, longest, longest)


def _attend(_: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any) -> Any:
    return attention_mask(query[0], key[0], value[0], options.get("scaling"))[None], None


def _mask(*, mask_function: MaskFunction, **_: Any) -> Any:
    return _layout.get()(mask_function)


def _allowed(mask_function: MaskFunction, start: int, length: int, device: Any) -> Any:
    """Return to which tokens of a text each of them attends by the model's own rule."""
    import torch

    places = torch.arange(start, start + length, device=device)
    return mask_function(0, 0, places[:, None], places[None]).expand(length, length)
