"""The common part of all models in this process: fields, hooks, files and weights."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from embed_core import OPERATIONAL, Kind, Model, ProviderResponse, in_thread
from embed_core.errors import ConfigurationError
from embed_core.forks import Lock
from pydantic import BeforeValidator, Field, PositiveInt, PrivateAttr, field_validator

from embeddings_huggingface._failures import check_finite, embedding_failed
from embeddings_huggingface._gate import UNSAFE
from embeddings_huggingface._lengths import sure_room
from embeddings_huggingface._loading import load
from embeddings_huggingface._runtime import Options, resolve_device
from embeddings_huggingface._source import Source, absolute, cache_of, find, understood
from embeddings_huggingface._weights import Encoded, Encoder, Weights, shared, waited

_log = logging.getLogger("embeddings_huggingface")


def _text(value: Any) -> Any:
    """Write `torch.device` and `Path` as text and `torch.bfloat16` as "bfloat16", so that a configuration is data."""
    return value if value is None else str(value).removeprefix("torch.")


def _keywords(values: Any) -> Any:
    if not isinstance(values, Mapping):
        return values
    if "trust_remote_code" in values:
        msg = "`trust_remote_code` is a field of its own, so that nothing saved can set it unseen; set that"
        raise ValueError(msg)
    if refused := sorted(UNSAFE & values.keys()):
        msg = f"`{refused[0]}` would let files or code from elsewhere run on this machine; leave it out"
        raise ValueError(msg)
    return {name: _text(value) if type(value).__module__ == "torch" else value for name, value in values.items()}


_BATCH = 256  # texts of one provider call: enough to sort by length
_IMAGES = 32  # of one provider call, which all go through the model at once
_PASS_TOKENS = 8_192  # where the model takes no token ids
_BAGS = ("model_kwargs", "processor_kwargs", "config_kwargs")
_Text = BeforeValidator(_text)
_Keywords: TypeAlias = Annotated[dict[str, Any], BeforeValidator(_keywords)]
if TYPE_CHECKING:
    Name: TypeAlias = Any  # a path too, of which the field has the text
else:
    Name = Annotated[str, Field(min_length=1), _Text]


class LocalModel(Model):
    """A model whose weights are in this process; `HuggingFaceEmbedding` documents the fields."""

    model_name: Name = Field(kw_only=False)
    device: Annotated[str | None, OPERATIONAL, _Text] = None
    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16"] | None, _Text] = None
    max_length: PositiveInt | None = None
    embed_batch_size: Annotated[int, OPERATIONAL] = Field(default=_BATCH, ge=1, le=2048)
    max_pass_tokens: Annotated[PositiveInt | None, OPERATIONAL] = None
    query_instruction: str | None = None
    text_instruction: str | None = None
    revision: str | None = None
    cache_folder: Annotated[str | None, OPERATIONAL, _Text] = None
    trust_remote_code: bool = False
    backend: Annotated[Literal["auto", "openvino", "torch"], OPERATIONAL] = "auto"
    model_kwargs: _Keywords = Field(default_factory=dict)
    processor_kwargs: _Keywords = Field(default_factory=dict)
    config_kwargs: _Keywords = Field(default_factory=dict)

    _found: tuple[Any, Source] | None = PrivateAttr(default=None)
    _held: Weights | None = PrivateAttr(default=None)
    _finding: Any = PrivateAttr(default_factory=Lock)

    @classmethod
    def needs_consent(cls, saved: Mapping[str, Any]) -> dict[str, str]:
        """Return the deeds that only the user may allow: foreign code, and arguments that reach the loaders unseen."""
        bags = {name: "gives the loaders of transformers arguments of its own" for name in _BAGS if saved.get(name)}
        return super().needs_consent(saved) | bags

    @classmethod
    def from_spec(cls, model: str, /, **options: Any) -> Self:
        """Return the model that a spec names; arguments for the loaders are written as JSON.

        Raises:
            ConfigurationError: they are no JSON.
        """
        texts = {name: options[name] for name in _BAGS if isinstance(options.get(name), str)}
        try:
            return super().from_spec(model, **options | {name: json.loads(text) for name, text in texts.items()})
        except json.JSONDecodeError as error:
            msg = f'the arguments for the loaders are no JSON ({error}); write them like `model_kwargs={{"name": 1}}`'
            raise ConfigurationError(msg) from error

    @field_validator("model_name")
    @classmethod
    def _keep_the_folder_when_the_process_moves(cls, name: str) -> str:
        return absolute(understood(name))

    # Hooks

    def _get_query_embedding(self, query: str) -> Any:
        return self._get_query_embeddings([query]).vectors[0]

    def _get_text_embedding(self, text: str) -> Any:
        return self._get_text_embeddings([text]).vectors[0]

    def _get_query_embeddings(self, queries: list[str]) -> ProviderResponse:
        return self._run("query", queries)

    def _get_text_embeddings(self, texts: list[str]) -> ProviderResponse:
        return self._run("text", texts)

    async def _aget_query_embeddings(self, queries: list[str]) -> ProviderResponse:
        return await self._arun("query", queries)

    async def _aget_text_embeddings(self, texts: list[str]) -> ProviderResponse:
        return await self._arun("text", texts)

    def _plan(self, kind: Kind, inputs: Sequence[Any]) -> Iterable[Sequence[int]]:
        """Put texts of similar length together, so that little is padded; longest first, to fail early if at all."""
        size = min(self.embed_batch_size, _IMAGES) if kind == "image" else self.embed_batch_size
        order: Sequence[int] = range(len(inputs))
        if kind != "image" and len(inputs) > size:
            order = sorted(order, key=lambda row: -len(inputs[row]))
        return [order[start : start + size] for start in range(0, len(order), size)]

    def _input_limit(self, kind: Kind) -> int | None:
        """Return how many tokens of a text fit, exactly; None where the encoder cuts, which needs no second look."""
        if self.long_text == "truncate" and self.max_input_tokens is None:
            return None
        return self._weights().run(lambda encoder: self._room(encoder, kind))

    def _sure_room(self) -> int:
        """Return how many bytes fit by the model's files, so that a text that is cached needs no weights."""
        open_ = self.processor_kwargs or self.config_kwargs or self.trust_remote_code  # each may change the length
        if open_ or self.long_text == "truncate" or self._held is not None:
            return 0
        instructions = (self.query_instruction, self.text_instruction)
        return sure_room(self._source(), self.max_length, self.max_input_tokens, instructions)

    def _windows(self, kind: Kind, text: str, limit: int) -> Sequence[tuple[str, int]]:
        def split(encoder: Encoder) -> Sequence[tuple[str, int]] | None:
            if encoder.tokens is None or not encoder.tokens.exact:
                return None
            return encoder.tokens.windows(text, self._prompt(encoder, kind), limit)

        return self._weights().run(split) or super()._windows(kind, text, limit)

    def _price_per_million_tokens(self) -> float:
        return 0.0

    def _space(self) -> dict[str, Any]:
        return {**super()._space(), **self._content()}

    def _load(self) -> None:
        self._weights().run(lambda _: None)

    def _close(self) -> None:
        self._held = None

    # Files and weights

    def _content(self) -> dict[str, Any]:
        """Return the part of the space that stands for files or weights."""
        source = self._source()
        elsewhere = {"elsewhere": source.elsewhere} if source.elsewhere else {}
        return {"model_name": source.identity(), "revision": source.commit, **elsewhere}

    def _source(self) -> Source:
        """Return the model's files, which stay the same for good: its vectors are cached under their digest."""
        wanted = (self.model_name, self.revision, self._is_plain(), self.trust_remote_code)
        with self._finding:
            if self._found is None or self._found[0] != wanted:
                self._found = wanted, self._find()
            return self._found[1]

    def _find(self) -> Source:
        cache = cache_of(self.cache_folder)
        return find(self.model_name, self.revision, cache, plain=self._is_plain(), code=self.trust_remote_code)

    def _is_plain(self) -> bool:
        """Tell whether files of sentence-transformers are left aside."""
        return False

    def _options(self) -> Options:
        return Options(
            device=None if "device_map" in self.model_kwargs else resolve_device(self.device),
            dtype=self.dtype,
            cache_folder=cache_of(self.cache_folder),
            trust_remote_code=self.trust_remote_code,
            backend=self.backend,
            model_kwargs=_snapshot(self.model_kwargs),
            processor_kwargs=_snapshot(self.processor_kwargs),
            config_kwargs=_snapshot(self.config_kwargs),
        )

    def _weights(self) -> Weights:
        """Return the weights for the fields as they are, not loaded; the first call may ask disk or hub for files."""
        source, options = self._source(), self._options()
        weights = self._held = shared((source, options), partial(load, source, options))
        return weights

    # The work

    def _run(self, kind: Kind, inputs: Sequence[Any]) -> ProviderResponse:
        weights = self._weights()
        try:
            return self._response(weights, waited(self._begin(weights, kind, inputs)))
        except Exception as error:
            raise embedding_failed(error, self.model_name, len(inputs)) from error

    async def _arun(self, kind: Kind, inputs: Sequence[Any]) -> ProviderResponse:
        weights = await in_thread(self._weights) if self._held is None else self._weights()
        begin = partial(self._begin, weights, kind, inputs)
        try:
            future = begin() if weights.is_loaded and len(inputs) == 1 else await in_thread(begin)
            return self._response(weights, await asyncio.wrap_future(future))
        except Exception as error:
            raise embedding_failed(error, self.model_name, len(inputs)) from error

    def _begin(self, weights: Weights, kind: Kind, inputs: Sequence[Any]) -> Future[Encoded]:
        """Put a batch into the model's queue; load the model where it is not loaded."""
        encoder = weights.encoder()
        limit, prompt = self._length(encoder), self._prompt(encoder, kind)
        if kind == "image" or encoder.steps is None or encoder.bulk is None:
            return weights.submit(partial(self._encode, kind, inputs))
        rows, truncated = encoder.bulk.rows([prompt + text for text in inputs], limit)
        tokens = sum(map(len, rows))
        return encoder.steps.submit(rows, self.max_pass_tokens, lambda vectors: Encoded(vectors, tokens, truncated))

    def _encode(self, kind: Kind, inputs: Sequence[Any], encoder: Encoder) -> Encoded:
        """Embed a batch in the worker's thread, where the model takes no token ids."""
        limit, prompt = self._length(encoder), self._prompt(encoder, kind)
        return encoder.encode_texts(inputs, kind, prompt, limit, self.max_pass_tokens or _PASS_TOKENS)

    def _response(self, weights: Weights, encoded: Encoded) -> ProviderResponse:
        encoder = weights.encoder()
        check_finite(encoded.vectors, encoder.precision, self.model_name)
        if encoded.truncated and not weights.warned:  # every event still counts them
            weights.warned = True
            _log.warning(
                "`%s` takes %s tokens, and %d texts of this batch had more and were cut; set `long_text` to refuse or "
                "split them",
                *(self.model_name, self._length(encoder), encoded.truncated),
            )
        usage = None if encoded.tokens is None else {"tokens": encoded.tokens}
        return ProviderResponse(self._finished(encoded.vectors), usage=usage, truncated=encoded.truncated)

    def _finished(self, vectors: Any) -> Any:
        """Return the vectors of a batch as the fields want them."""
        return vectors

    # Lengths

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

    def _too_much(self, field: str, value: int, most: str) -> ConfigurationError:
        return ConfigurationError(f"`{field}` is {value}, and `{self.model_name}` has {most}; lower it")


def _snapshot(value: Any) -> Any:
    """Copy collections, which may be changed in place, but not the objects in them, which may be equal to nothing."""
    if isinstance(value, dict):
        return {name: _snapshot(one) for name, one in value.items()}
    return [_snapshot(one) for one in value] if isinstance(value, list) else value
