"""The torch engine: ids of tokens in, vectors out, without padding where the model allows that."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from embed_core.forks import Lock
from numpy.typing import NDArray

from embeddings_huggingface._packed import PackedTransformer
from embeddings_huggingface._runtime import first_position, positions, precision, to_float32
from embeddings_huggingface._steps import Row, padded
from embeddings_huggingface._weights import Parts

_BUDGETS = {"cpu": 1_024, "cuda": 32_768}
_TOLERANCES = {"bfloat16": 3e-2, "float16": 1e-2}
_TOLERANCE = 1e-5
_LONGEST_SAMPLE = 300  # tokens

_log = logging.getLogger("embeddings_huggingface")
_entering = Lock()


class TorchEngine:
    """A loaded model of torch.

    Args:
        parts: the model, on its device and in eval mode.

    Attributes:
        streams: how many threads may call `run` at once; each calls `enter` first.
        budget: most tokens of a step; more gain nothing.
        packed: whether texts go through the transformer without padding.
    """

    def __init__(self, parts: Parts) -> None:
        import torch

        self._parts, self._device = parts, parts.module.device
        self._pad = int(parts.tokenizer.pad_token_id or 0)
        self._left = parts.tokenizer.padding_side == "left"
        kind = self._device.type
        self.streams = torch.get_num_threads() if kind == "cpu" else 1
        self.budget = _BUDGETS.get(kind, _BUDGETS["cpu"])
        self._first = first_position(parts.module)
        self._transformer: PackedTransformer | None = None
        self._entered = threading.local()
        try:
            self._remove_padding(parts.transformer)
        except Exception as error:  # a model of any kind; with padding each of them works
            self._transformer = None
            _log.debug("`%s` runs with padding: %s", type(parts.module).__name__, error)

    @property
    def packed(self) -> bool:
        return self._transformer is not None

    def enter(self) -> None:
        """Give the calling thread one core of a CPU, for good.

        torch gives as many to threads that start later, the user's among them; another thread puts that right.
        """
        import torch

        if self._device.type == "cpu" and not hasattr(self._entered, "yes"):
            self._entered.yes = True
            with _entering:
                before = torch.get_num_threads()
                torch.set_num_threads(1)
                other = threading.Thread(target=torch.set_num_threads, args=(before,))
                other.start()
                other.join()

    def run(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Return the vectors of texts, a float32 array of shape (n, dimension).

        Args:
            rows: the token ids of each text, special tokens included; texts of equal length stand side by side.
        """
        import torch

        lengths = [len(row) for row in rows]
        ids, mask = padded(rows, self._pad, left=False)
        flat = ids[mask == 1]
        counted = not (self._first and (flat == self._first - 1).any())  # RoBERTa does not count its padding token
        with torch.inference_mode():
            if self._transformer is None or not counted or not min(lengths):
                ids, mask = padded(rows, self._pad, left=self._left)
                there = {"input_ids": self._there(ids), "attention_mask": self._there(mask)}
                return to_float32(self._parts.forward(there))
            hidden, filled = self._transformer(self._there(flat[None]), lengths), self._there(mask)
            tokens = hidden.new_zeros(*mask.shape, hidden.shape[-1])
            tokens[filled.bool()] = hidden
            return to_float32(self._parts.pooled(tokens, filled))

    def _there(self, array: NDArray[Any]) -> Any:
        import torch

        return torch.from_numpy(array).to(self._device)

    def _remove_padding(self, model: Any) -> None:
        """Let texts through the transformer without padding, if a few have the same vectors as with it.

        Raises:
            ValueError: their vectors differ.
        """
        sample = _sample(model, self._pad)
        expected = self.run(sample)
        self._transformer = PackedTransformer(model, self._first, varlen=self._device.type != "cpu")
        difference = float(np.abs(self.run(sample) - expected).max())
        if not difference <= _TOLERANCES.get(precision(model), _TOLERANCE) * max(1.0, float(np.abs(expected).max())):
            raise ValueError(f"without it vectors differ by {difference:.0e}")


def _sample(model: Any, padding: int) -> list[Row]:
    """Return tokens of texts of several lengths, one of them longer than a sliding window, if that is short."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None) or 0
    longest = min(max(24, window + 9), _LONGEST_SAMPLE, positions(model) or _LONGEST_SAMPLE)
    random = np.random.default_rng(0)
    tokens = np.flatnonzero(np.arange(config.vocab_size) != padding)
    return [random.choice(tokens, length).tolist() for length in (longest, min(longest, 9), 3, 3, 1)]
