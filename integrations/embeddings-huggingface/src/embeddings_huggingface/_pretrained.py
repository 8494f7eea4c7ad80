"""What a model from a folder or the hub needs: its fields, its files, its weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias

from embed_core import OPERATIONAL
from embed_core.errors import EmbedError
from pydantic import BeforeValidator, Field, PrivateAttr, field_validator

from embeddings_huggingface import _plain, _sentence
from embeddings_huggingface._failures import is_out_of_memory, loading_failed
from embeddings_huggingface._local import LocalModel
from embeddings_huggingface._runtime import Options, resolve_device
from embeddings_huggingface._source import Source, absolute, cache, find
from embeddings_huggingface._weights import SHARED, Encoder, Weights


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


_OUT_OF_REACH = "if that is because files are missing from the cache: the Hugging Face hub is out of reach"

Text = BeforeValidator(_text)
Keywords: TypeAlias = Annotated[dict[str, Any], BeforeValidator(_plain_keywords)]


class PretrainedModel(LocalModel):
    """A local model that is loaded from files; `HuggingFaceEmbedding` documents the fields."""

    model_name: Annotated[str, Text] = Field(min_length=1)
    device: Annotated[str | None, OPERATIONAL, Text] = None
    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16"] | None, Text] = None
    revision: str | None = None
    cache_folder: Annotated[str | None, OPERATIONAL, Text] = None
    trust_remote_code: Annotated[bool, OPERATIONAL] = False
    backend: Literal["torch", "onnx", "openvino"] = "torch"
    model_kwargs: Keywords = Field(default_factory=dict)
    processor_kwargs: Keywords = Field(default_factory=dict)
    config_kwargs: Keywords = Field(default_factory=dict)

    _found: Source | None = PrivateAttr(default=None)
    _kept: Weights | None = PrivateAttr(default=None)
    _settled: bool = PrivateAttr(default=False)

    def __init__(self, model_name: str | os.PathLike[str], **settings: Any) -> None:
        """Configure a model; nothing is loaded or downloaded before it is used.

        Args:
            model_name: a folder, or a name on the Hugging Face hub.
            settings: the fields, and those of `BaseEmbedding`.
        """
        super().__init__(**{"model_name": model_name, **settings})

    @field_validator("model_name")
    @classmethod
    def _keep_the_folder_when_the_process_moves(cls, name: str) -> str:
        return absolute(name)

    def _weights(self) -> Weights:
        with self._making:  # what is found for a setting must not outlive it
            held = self._held_weights()
            if held is None:
                source, options = self._source(), self._options()
                held = SHARED.get((source, options), partial(_load, source, options))
                self._kept, self._settled = held, True
            return held

    def _held_weights(self) -> Weights | None:
        return self._kept if self._settled else None

    def _space(self) -> dict[str, Any]:
        source = self._source()
        return {**super()._space(), "model_name": source.identity(), "revision": source.commit}

    def _source(self) -> Source:
        with self._making:
            if self._found is None:
                self._found = self._find()
            return self._found

    def _find(self) -> Source:
        return find(self.model_name, self.revision, cache(self.cache_folder))

    def _options(self) -> Options:
        return Options(
            device=None if "device_map" in self.model_kwargs else resolve_device(self.device),
            dtype=self.dtype,
            cache_folder=cache(self.cache_folder),
            trust_remote_code=self.trust_remote_code,
            backend=self.backend,
            model_kwargs=self.model_kwargs,
            processor_kwargs=self.processor_kwargs,
            config_kwargs=self.config_kwargs,
        )

    def _changed(self, name: str) -> None:
        super()._changed(name)
        with self._making:
            self._found, self._settled = None, False

    def _close(self) -> None:
        with self._making:
            self._found, self._kept, self._settled = None, None, False


def _load(source: Source, options: Options) -> Encoder:
    """Load a model from what is on this machine if that is enough, else with the hub.

    Left to themselves, the loaders ask the hub for every file that a repository might have, cached model or not.
    """
    try:
        source.check_unchanged()
        source.fetch_optional(options.cache_folder)
        try:
            return _load_from(source, options, local=True)
        except Exception as error:  # something is missing: the hub has it, or knows what is wrong
            if source.commit is None or isinstance(error, EmbedError) or is_out_of_memory(error):
                raise
            if not source.is_reachable():
                told = loading_failed(error, source.name)
                raise type(told)(f"{told} ({_OUT_OF_REACH})") from error
        return _load_from(source, options, local=False)
    except EmbedError:
        raise
    except Exception as error:
        raise loading_failed(error, source.name) from error


def _load_from(source: Source, options: Options, *, local: bool) -> Encoder:
    options = deepcopy(options)  # the libraries change what they are given
    if options.sparse or source.is_sentence_transformer:
        return _sentence.load(source, options, local=local)
    return _plain.load(source, options, local=local)
