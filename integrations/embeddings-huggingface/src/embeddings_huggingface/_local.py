"""What every model in this process has in common: its fields, its hooks, its one worker thread."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
from embed_core import Kind, Model, MultiModalEmbedding, ProviderResponse, Vectors, in_thread, open_image
from embed_core.errors import ConfigurationError
from pydantic import PositiveInt

from embeddings_huggingface._failures import embedding_failed
from embeddings_huggingface._weights import Encoded, Encoder, Weights

_log = logging.getLogger("embeddings_huggingface")

_FOR_IMAGES = "clip:openai/clip-vit-base-patch32"
_SMALLEST_NORM = 1e-12  # as torch.nn.functional.normalize


class LocalModel(Model):
    """A model whose weights are in this process; `HuggingFaceEmbedding` documents the fields."""

    max_length: PositiveInt | None = None
    query_instruction: str | None = None
    text_instruction: str | None = None

    @abstractmethod
    def _weights(self) -> Weights:
        """Return the weights without loading them; may read the disk or ask the hub the first time."""

    @abstractmethod
    def _held_weights(self) -> Weights | None:
        """Return the weights if that takes neither disk nor network."""

    # Hooks

    def _get_query_embedding(self, query: str) -> Any:
        return self._get_query_embeddings([query]).vectors[0]

    def _get_text_embedding(self, text: str) -> Any:
        return self._get_text_embeddings([text]).vectors[0]

    def _get_query_embeddings(self, queries: list[str]) -> ProviderResponse:
        return self._run(self._texts("query", queries))

    def _get_text_embeddings(self, texts: list[str]) -> ProviderResponse:
        return self._run(self._texts("text", texts))

    async def _aget_query_embeddings(self, queries: list[str]) -> ProviderResponse:
        return await self._arun(self._texts("query", queries))

    async def _aget_text_embeddings(self, texts: list[str]) -> ProviderResponse:
        return await self._arun(self._texts("text", texts))

    def _plan(self, kind: Kind, inputs: Sequence[Any]) -> Iterable[Sequence[int]]:
        """Put texts of similar length together, so that little is padded; longest first, to fail early if at all."""
        if kind == "image" or len(inputs) <= self.embed_batch_size:
            return super()._plan(kind, inputs)
        order = sorted(range(len(inputs)), key=lambda row: -len(inputs[row]))
        return [order[start : start + self.embed_batch_size] for start in range(0, len(order), self.embed_batch_size)]

    def _input_limit(self, kind: Kind) -> int | None:
        """Return how many tokens of a text fit, exactly; None where the encoder cuts, which needs no second look."""
        if self.long_text == "truncate" and self.max_input_tokens is None:
            return None
        return self._weights().run(lambda encoder: self._room(encoder, kind))

    def _windows(self, kind: Kind, text: str, limit: int) -> Sequence[tuple[str, int]]:
        def split(encoder: Encoder) -> Sequence[tuple[str, int]] | None:
            if encoder.tokens is None or not encoder.tokens.exact:
                return None
            return encoder.tokens.windows(text, self._prompt(encoder, kind), limit)

        weights = self._weights()
        windows = weights.run(split)
        windows = super()._windows(kind, text, limit) if windows is None else windows
        if self.long_text == "truncate" and len(windows) > 1:
            self._warn(weights, 1, limit)
        return windows

    # The work

    def _run(self, job: Callable[[Encoder], Encoded]) -> ProviderResponse:
        weights = self._weights()
        return self._response(weights, weights.run(job))

    async def _arun(self, job: Callable[[Encoder], Encoded]) -> ProviderResponse:
        held = self._held_weights()
        weights = await in_thread(self._weights) if held is None else held
        return self._response(weights, await weights.arun(job))

    def _texts(self, kind: Kind, texts: Sequence[str]) -> Callable[[Encoder], Encoded]:
        def embed(encoder: Encoder) -> Encoded:
            limit = self._length(encoder)
            return replace(encoder.encode_texts(texts, kind, self._prompt(encoder, kind), limit), limit=limit)

        return self._job(embed, len(texts))

    def _job(self, embed: Callable[[Encoder], Encoded], count: int) -> Callable[[Encoder], Encoded]:
        def job(encoder: Encoder) -> Encoded:
            try:
                self._prepare(encoder)
                encoded = embed(encoder)
            except Exception as error:
                raise embedding_failed(error, self.model_name, count) from error
            return replace(encoded, vectors=self._finished(encoded.vectors))

        return job

    def _prepare(self, encoder: Encoder) -> None:
        """Make the encoder ready for this model's batch, or refuse one that cannot do what the class promises."""

    def _finished(self, vectors: Any) -> Any:
        """Return the vectors of a batch as this model wants them."""
        return vectors

    def _prompt(self, encoder: Encoder, kind: Kind) -> str:
        instruction = self.query_instruction if kind == "query" else self.text_instruction
        return encoder.prompt(kind) if instruction is None else instruction

    def _length(self, encoder: Encoder) -> int | None:
        """Return the most tokens of one input, prompt and special tokens included."""
        if self.max_length is not None and encoder.positions is not None and self.max_length > encoder.positions:
            raise self._too_much("max_length", self.max_length, f"{encoder.positions} positions")
        own = encoder.max_length if self.max_length is None else self.max_length
        return min((length for length in (own, self.max_input_tokens) if length is not None), default=None)

    def _room(self, encoder: Encoder, kind: Kind) -> int | None:
        length = self._length(encoder)
        if length is None or (self.long_text == "truncate" and encoder.cuts):
            return None
        prompt = self._prompt(encoder, kind)
        room = length - (0 if encoder.tokens is None else encoder.tokens.count(prompt))
        if room < 1:
            msg = f"`{self.model_name}` takes {length} tokens, and special tokens and prompt {prompt!r} leave no room"
            raise ConfigurationError(msg)
        return room

    def _too_much(self, field: str, value: int, there: str) -> ConfigurationError:
        return ConfigurationError(f"`{field}` is {value}, and `{self.model_name}` has {there}; lower it")

    def _response(self, weights: Weights, encoded: Encoded) -> ProviderResponse:
        if encoded.truncated:
            self._warn(weights, encoded.truncated, encoded.limit)
        usage = None if encoded.tokens is None else {"tokens": encoded.tokens}
        return ProviderResponse(encoded.vectors, usage=usage, truncated=encoded.truncated)

    def _warn(self, weights: Weights, count: int, limit: int | None) -> None:
        """Say once for each model that texts are cut; every event still counts them."""
        if weights.warned:
            return
        weights.warned = True
        _log.warning(
            "`%s` takes %s tokens, and %d texts of this batch had more and were cut; "
            "set `long_text` for something else",
            self.model_name,
            limit,
            count,
        )


class LocalEmbedding(LocalModel, MultiModalEmbedding):
    """A local model of dense vectors; `HuggingFaceEmbedding` documents the fields."""

    normalize: bool | None = None
    truncate_dim: PositiveInt | None = None

    @abstractmethod
    def _own_normalize(self) -> bool:
        """Tell whether the model's own last step makes vectors unit length, without loading its weights."""

    def _get_image_embedding(self, image: BytesIO) -> Any:
        return self._get_image_embeddings([image]).vectors[0]

    def _get_image_embeddings(self, images: list[BytesIO]) -> ProviderResponse:
        return self._run(self._images(images))

    async def _aget_image_embeddings(self, images: list[BytesIO]) -> ProviderResponse:
        return await self._arun(self._images(images))

    def _normalizes(self) -> bool:
        """Tell whether vectors are known to have unit length; the model's files are asked where a mean needs it."""
        if self.normalize is not None:
            return self.normalize
        if self.truncate_dim is not None:
            return True
        return self.long_text == "mean" and self._own_normalize()  # it may take the hub

    def _images(self, images: Sequence[BytesIO]) -> Callable[[Encoder], Encoded]:
        def embed(encoder: Encoder) -> Encoded:
            if not encoder.takes_images:
                msg = f"`{self.model_name}` embeds texts only; for images choose a CLIP model, such as `{_FOR_IMAGES}`"
                raise ConfigurationError(msg)
            return encoder.encode_images([open_image(image) for image in images])

        return self._job(embed, len(images))

    def _finished(self, vectors: Vectors) -> Vectors:
        """Cut vectors to `truncate_dim` and make them unit length where they should be."""
        if self.truncate_dim is not None:
            if self.truncate_dim > vectors.shape[1]:
                raise self._too_much("truncate_dim", self.truncate_dim, f"{vectors.shape[1]} dimensions")
            vectors = vectors[:, : self.truncate_dim]
        if self.normalize or (self.truncate_dim is not None and self._normalizes()):
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _SMALLEST_NORM)
        return vectors
