"""`HuggingFaceEmbedding`: any model of sentence-transformers or transformers, from a folder or the hub."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from embed_core import OPERATIONAL, Pooling
from pydantic import BeforeValidator, Field, PrivateAttr, field_validator

from embeddings_huggingface import _plain, _sentence
from embeddings_huggingface._failures import is_out_of_memory, loading_failed
from embeddings_huggingface._local import LocalEmbedding
from embeddings_huggingface._runtime import Options, resolve_device
from embeddings_huggingface._source import Source, absolute, cache, cached_models, find, looks_like_a_path, understood
from embeddings_huggingface._weights import SHARED, Encoder, Weights

_DEFAULT = "BAAI/bge-small-en-v1.5"


def _text(value: Any) -> Any:
    """Write `torch.device` and `Path` as text and `torch.bfloat16` as "bfloat16", so that a configuration is data."""
    return value if value is None else str(value).removeprefix("torch.")


def _plain_keywords(values: Any) -> Any:
    if not isinstance(values, Mapping):
        return values
    if "trust_remote_code" in values:
        msg = "`trust_remote_code` is a field of its own, so that nothing saved can set it unseen; set that"
        raise ValueError(msg)
    return {name: _text(one) if type(one).__module__ == "torch" else one for name, one in values.items()}


_Text = BeforeValidator(_text)
_Keywords: TypeAlias = Annotated[dict[str, Any], BeforeValidator(_plain_keywords)]


class HuggingFaceEmbedding(LocalEmbedding):
    """A local model: sentence-transformers' own, or any encoder of transformers with pooling over its last layer.

    Vectors are those of `SentenceTransformer.encode`, with the prompts that the model was saved with for queries and
    for documents. Weights load on first use, once in a process for equal settings, and one thread works with them, so
    a model is safe to use from any number of threads and event loops.

    Attributes:
        model_name: a folder, or a name on the Hugging Face hub. A folder becomes an absolute path.
        device: "cuda", "cuda:1", "mps", "cpu"; None takes the best there is.
        dtype: "float32", "bfloat16", "float16", or "auto" for what the weights were saved as; None leaves it to
            sentence-transformers.
        max_length: most tokens of one input, prompt and special tokens included; None means the model's own number.
        normalize: True makes vectors unit length, False leaves out the model's own step that does, None takes vectors
            as the model gives them. With `truncate_dim`, None means True.
        truncate_dim: how many leading dimensions to keep, for models trained for it (Matryoshka).
        query_instruction: what to put in front of a query. None means the prompt that the model was saved with, if
            any; an empty string means no prompt.
        text_instruction: the same for documents and passages.
        pooling: "cls" or "mean" loads the model through transformers and pools its last layer, whatever files of
            sentence-transformers lie beside it. None follows those files; where there are none it means "mean", or for
            a model with features of texts and images those.
        revision: branch, tag or commit on the hub. None takes the commit in the local cache, or the newest one where
            there is none: a model never changes under its vectors.
        cache_folder: where downloaded models are kept; None means the hub's own place.
        trust_remote_code: whether Python code that comes with the model may run.
        backend: "torch", or with sentence-transformers' extras "onnx" or "openvino".
        model_kwargs, processor_kwargs, config_kwargs: more arguments for what transformers loads.
    """

    provider: ClassVar[str | None] = "huggingface"

    model_name: Annotated[str, _Text] = Field(default=_DEFAULT, min_length=1)
    device: Annotated[str | None, OPERATIONAL, _Text] = None
    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16"] | None, _Text] = None
    pooling: Pooling | None = None
    revision: str | None = None
    cache_folder: Annotated[str | None, OPERATIONAL, _Text] = None
    trust_remote_code: Annotated[bool, OPERATIONAL] = False
    backend: Literal["torch", "onnx", "openvino"] = "torch"
    model_kwargs: _Keywords = Field(default_factory=dict)
    processor_kwargs: _Keywords = Field(default_factory=dict)
    config_kwargs: _Keywords = Field(default_factory=dict)

    _found: Source | None = PrivateAttr(default=None)
    _kept: Weights | None = PrivateAttr(default=None)
    _settled: bool = PrivateAttr(default=False)

    def __init__(self, model_name: str | os.PathLike[str] = _DEFAULT, **settings: Any) -> None:
        """Configure a model; nothing is loaded or downloaded before it is used.

        Args:
            model_name: a folder, or a name on the Hugging Face hub.
            settings: the fields below, and those of `BaseEmbedding`.
        """
        super().__init__(**{"model_name": model_name, **settings})

    @field_validator("model_name")
    @classmethod
    def _keep_the_folder_when_the_process_moves(cls, name: str) -> str:
        return absolute(name)

    @classmethod
    def from_spec(cls, model: str, /, **options: Any) -> Self:
        """Return the model that `local:FOLDER` or `local:NAME` means; `BAAI/bge-small` is `BAAI/bge-small-en-v1.5`.

        Raises:
            ConfigurationError: the folder does not exist or holds no model.
        """
        if looks_like_a_path(model):
            find(model, plain="pooling" in options)
        return super().from_spec(understood(model), **options)

    @classmethod
    def known_models(cls) -> Sequence[str]:
        """Return the default model and those of sentence-transformers in the hub's cache on this machine."""
        return [_DEFAULT, *(name for name in cached_models() if name != _DEFAULT)]

    def _weights(self) -> Weights:
        held = self._held_weights()
        if held is None:
            source, options = self._source(), self._options()
            held = SHARED.get((source, options, self.pooling), partial(_load, source, options, self.pooling))
            self._kept, self._settled = held, True
        return held

    def _held_weights(self) -> Weights | None:
        return self._kept if self._settled else None

    def _own_normalize(self) -> bool:
        return self._source().normalizes

    def _space(self) -> dict[str, Any]:
        source = self._source()
        return {**super()._space(), "model_name": source.identity(), "revision": source.commit}

    def _source(self) -> Source:
        if self._found is None:
            plain = self.pooling is not None
            self._found = find(self.model_name, self.revision, cache(self.cache_folder), plain=plain)
        return self._found

    def _options(self) -> Options:
        return Options(
            device=None if "device_map" in self.model_kwargs else resolve_device(self.device),
            dtype=self.dtype,
            cache_folder=cache(self.cache_folder),
            trust_remote_code=self.trust_remote_code,
            backend=self.backend,
            raw=self.normalize is False,
            model_kwargs=dict(self.model_kwargs),
            processor_kwargs=dict(self.processor_kwargs),
            config_kwargs=dict(self.config_kwargs),
        )

    def _changed(self, *, operational: bool) -> None:
        super()._changed(operational=operational)
        self._found, self._settled = None, False

    def _close(self) -> None:
        self._found, self._kept, self._settled = None, None, False


def _load(source: Source, options: Options, pooling: Pooling | None) -> Encoder:
    """Load a model from what is on this machine if that is enough, else with the hub.

    Left to themselves, the loaders ask the hub for every file that a repository might have, cached model or not.
    """
    try:
        source.check_unchanged()
        if source.commit is not None and source.is_complete(options.cache_folder):
            try:
                return _load_from(source, options, pooling, local=True)
            except Exception as error:  # something is missing: the hub has it, or knows what is wrong
                if is_out_of_memory(error):
                    raise
        return _load_from(source, options, pooling, local=source.commit is None)
    except Exception as error:
        raise loading_failed(error, source.name) from error


def _load_from(source: Source, options: Options, pooling: Pooling | None, *, local: bool) -> Encoder:
    if source.is_sentence_transformer:
        return _sentence.load(source, options, local=local)
    return _plain.load(source, options, pooling, local=local)
