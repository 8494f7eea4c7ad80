"""Weights: loaded when they are first needed, once in a process for the same configuration."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from embed_core import Kind, Pooling
from embed_core.forks import Lock

from embeddings_huggingface._steps import Steps
from embeddings_huggingface._tokens import Bulk, Tokens
from embeddings_huggingface._worker import Worker

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Encoded:
    """The result of one batch.

    Attributes:
        vectors: float32 array of shape (n, dimension); of a sparse model n pairs of arrays (indices, values).
        tokens: how many tokens went through the model, padding left out; None where that cannot be told.
        truncated: how many inputs were cut to fit.
    """

    vectors: Any
    tokens: int | None = None
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class Parts:
    """A model of torch whose texts are sequences of token ids.

    Attributes:
        module: a `SentenceTransformer`, or with `pooling` a transformers model.
        tokenizer: its own.
        pooling: how the last layer of a transformers model is pooled.
        dimension: how many leading dimensions are kept; None keeps all.
    """

    module: Any
    tokenizer: Any
    pooling: Pooling | None = None
    dimension: int | None = None

    @property
    def transformer(self) -> Any:
        """The transformers model."""
        return self.module if self.pooling is not None else self.module[0].auto_model

    def forward(self, features: Mapping[str, Any]) -> Any:
        """Return the vectors of a padded batch, `input_ids` and `attention_mask`, as a tensor."""
        if self.pooling is not None:
            return self.pooling(self.module(**features)[0], features["attention_mask"])
        return self._behind(self.module[0](dict(features)))

    def pooled(self, tokens: Any, mask: Any) -> Any:
        """Return the vectors of the last hidden states of a padded batch, of shape (n, length, hidden), as a tensor."""
        if self.pooling is not None:
            return self.pooling(tokens, mask)
        return self._behind({"token_embeddings": tokens, "attention_mask": mask})

    def _behind(self, features: Any) -> Any:
        for module in list(self.module.children())[1:]:
            features = module(features)
        return features["sentence_embedding"][:, : self.dimension]


class Encoder:
    """A loaded model. Only its worker thread touches it, but for `bulk` and `steps`.

    Attributes:
        parts: those of a model of torch that may run on another engine; None where it cannot.
        bulk: turns texts into token ids; None where the model takes texts in another form.
        steps: embeds token ids; None where `bulk` is None, and then there is `encode_texts`.
        tokens: counts and splits texts as the model's tokenizer does; None where the model has no known tokenizer.
        max_length: most tokens of one input, prompt and special tokens included; None means any number.
        positions: the largest possible `max_length`; None means no known end.
        cuts: whether the encoder itself cuts a text that is too long.
        precision: the type of its weights, such as "float16".
        takes_images: whether images can be embedded as well as texts.
        max_active_dims: most numbers of a sparse vector, set before every batch; None leaves it to the model.
    """

    parts: Parts | None = None
    bulk: Bulk | None = None
    steps: Steps | None = None
    tokens: Tokens | None
    max_length: int | None
    positions: int | None = None
    cuts: bool = True
    precision: str = ""
    takes_images: bool = False
    max_active_dims: int | None = None

    def prompt(self, kind: Kind) -> str:
        """Return the prompt that the model was saved with for inputs of a kind."""
        return ""

    @property
    def is_usable(self) -> bool:
        """Whether it works in this process, which may be a fork of the one that loaded it."""
        return True

    def token_ids(self, texts: Sequence[str], kind: Kind, prompt: str) -> list[list[int]]:
        """Return the token ids that the library makes of texts; none where they are not all that it makes."""
        return []

    def encode_texts(
        self, texts: Sequence[str], kind: Kind, prompt: str, max_length: int | None, budget: int
    ) -> Encoded:
        """Embed texts, each behind the prompt, cut to `max_length` tokens, at most `budget` tokens in one pass."""
        raise NotImplementedError

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
        return waited(self.submit(job))

    def encoder(self) -> Encoder:
        """Return the loaded model."""
        encoder = self._encoder
        return encoder if encoder is not None and encoder.is_usable else self.run(lambda encoder: encoder)

    @property
    def is_loaded(self) -> bool:
        """Whether there is nothing to wait for."""
        return self._encoder is not None and self._encoder.is_usable

    def _loaded(self) -> Encoder:
        encoder = self._encoder
        if encoder is None or not encoder.is_usable:
            encoder = self._encoder = self._load()
        return encoder


def waited(future: Future[T]) -> T:
    """Return a future's result; Ctrl-C cancels it."""
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


_by_configuration: WeakValueDictionary[Hashable, Weights] = WeakValueDictionary()
_lock = Lock()


def shared(key: Hashable, load: Callable[[], Encoder]) -> Weights:
    """Return the process's weights for a configuration; they go when the last model that holds them does."""
    with _lock:
        weights = _by_configuration.get(key)
        if weights is None:
            weights = _by_configuration[key] = Weights(load)
        return weights
