"""Weights: loaded when they are first needed, once in a process for the same configuration."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from embed_core import Kind
from embed_core.forks import Lock

from embeddings_huggingface._tokens import Tokens
from embeddings_huggingface._worker import Worker

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Encoded:
    """The result of one batch.

    Attributes:
        vectors: float32 array of shape (n, dimension); of a sparse model n pairs of arrays (indices, values).
        tokens: how many tokens went through the model, padding left out; None where that cannot be told.
        truncated: how many inputs were cut to fit.
        limit: the length in tokens to which they were cut.
    """

    vectors: Any
    tokens: int | None = None
    truncated: int = 0
    limit: int | None = None


class Encoder(ABC):
    """A loaded model. Only its worker thread touches it.

    Attributes:
        tokens: counts and splits texts as the model's tokenizer does; None where the model has no known tokenizer.
        max_length: most tokens of one input, prompt and special tokens included; None means any number.
        positions: the largest possible `max_length`; None means no known end.
        cuts: whether the encoder itself cuts a text that is too long.
        precision: the type of its weights, such as "float16".
        takes_images: whether images can be embedded as well as texts.
        max_active_dims: most numbers of a sparse vector, set before every batch; None leaves it to the model.
    """

    tokens: Tokens | None
    max_length: int | None
    positions: int | None = None
    cuts: bool = True
    precision: str = ""
    takes_images: bool = False
    max_active_dims: int | None = None

    @abstractmethod
    def prompt(self, kind: Kind) -> str:
        """Return the prompt that the model was saved with for inputs of a kind."""

    @abstractmethod
    def encode_texts(
        self, texts: Sequence[str], kind: Kind, prompt: str, max_length: int | None, budget: int
    ) -> Encoded:
        """Embed texts, each behind the prompt, cut to `max_length` tokens, at most `budget` tokens in one pass."""

    def encode_images(self, images: Iterable[Any]) -> Encoded:
        """Embed RGB PIL images, taken one at a time, where `takes_images` says so."""
        raise NotImplementedError


class Weights:
    """A model's weights, not loaded before the first job, and the thread that works with them."""

    def __init__(self, load: Callable[[], Encoder]) -> None:
        self._load = load
        self._encoder: Encoder | None = None
        self._worker = Worker()
        self.warned = False

    def submit(self, job: Callable[[Encoder], T]) -> Future[T]:
        """Do `job` with the loaded model after the jobs before it."""
        return self._worker.submit(lambda: job(self._loaded()))

    def run(self, job: Callable[[Encoder], T]) -> T:
        """Do `job` and wait for it; Ctrl-C ends the wait, and the job too if it has not begun."""
        future = self.submit(job)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def arun(self, job: Callable[[Encoder], T]) -> T:
        """Do `job` without blocking the event loop."""
        return await asyncio.wrap_future(self.submit(job))

    def _loaded(self) -> Encoder:
        if self._encoder is None:
            self._encoder = self._load()
        return self._encoder


_by_configuration: WeakValueDictionary[Hashable, Weights] = WeakValueDictionary()
_lock = Lock()


def shared(key: Hashable, load: Callable[[], Encoder]) -> Weights:
    """Return the process's weights for a configuration; they go when the last model that holds them does."""
    with _lock:
        weights = _by_configuration.get(key)
        if weights is None:
            weights = _by_configuration[key] = Weights(load)
        return weights
