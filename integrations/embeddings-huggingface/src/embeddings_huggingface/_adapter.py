"""A `SentenceTransformer` in memory, as a model."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Annotated, Any, ClassVar, NoReturn

from embed_core import OPERATIONAL, BaseEmbedding
from embed_core.errors import ConfigurationError
from pydantic import Field, PrivateAttr, field_validator

from embeddings_huggingface._embedding import HuggingFaceEmbedding
from embeddings_huggingface._engines import on_torch
from embeddings_huggingface._sentence import SentenceEncoder
from embeddings_huggingface._weights import Weights, shared

_KNOWN = {"Transformer", "Pooling", "Normalize", "Dense", "LayerNorm", "Dropout", "StaticEmbedding", "CLIPModel"}
"""Modules of sentence-transformers that their parameters, their settings and the tokenizer describe in full."""

_FOR_LOADING = (
    *("device", "dtype", "pooling", "revision", "cache_folder", "trust_remote_code", "backend"),
    *("model_kwargs", "processor_kwargs", "config_kwargs"),
)


class SentenceTransformerEmbedding(HuggingFaceEmbedding):
    """A model around a `SentenceTransformer` in memory, which is used as it is, on its own device.

    Its fingerprint is a digest of parameters, settings and tokenizer at the time of first use: wrap it again after
    training it. It cannot be saved as a configuration. The fields for loading a model are refused.

    Attributes:
        sentence_transformer: the object.
    """

    provider: ClassVar[str | None] = None

    sentence_transformer: Annotated[Any, OPERATIONAL] = Field(exclude=True, repr=False, frozen=True)

    _unknown: str = PrivateAttr(default_factory=lambda: uuid.uuid4().hex)

    def __init__(self, sentence_transformer: Any, **settings: Any) -> None:
        """Wrap a `SentenceTransformer`.

        Args:
            sentence_transformer: the object.
            settings: the fields of `HuggingFaceEmbedding`, but for those that decide how a model is loaded; the name
                of the object's model stands for a missing `model_name`.

        Raises:
            ConfigurationError: the object gives no dense vectors.
        """
        _check_dense(sentence_transformer)
        config = getattr(getattr(sentence_transformer[0], "auto_model", None), "config", None)
        name = getattr(config, "_name_or_path", "") or "SentenceTransformer"
        super().__init__(**{"model_name": name, **settings, "sentence_transformer": sentence_transformer})

    @field_validator(*_FOR_LOADING, mode="before")
    @classmethod
    def _is_loaded(cls, _: Any) -> NoReturn:
        msg = "it is for loading a model, and a `SentenceTransformer` in memory is used as it is; leave it out"
        raise ValueError(msg)

    def to_dict(self) -> NoReturn:
        """Refuse: an object in memory is no configuration.

        Raises:
            ConfigurationError: always.
        """
        msg = "a wrapped `SentenceTransformer` cannot be saved; `save` it to a folder and name that as `local:FOLDER`"
        raise ConfigurationError(msg)

    def _weights(self) -> Weights:
        model = self.sentence_transformer
        # two models around one object must not use its tokenizer from two threads
        weights = self._held = shared(("in memory", id(model)), lambda: on_torch(SentenceEncoder(model)))
        return weights

    def _sure_room(self) -> int:
        return 0

    def _own_dimension(self) -> None:
        return

    def _own_normalize(self) -> bool:
        return any(type(module).__name__ == "Normalize" for module in self.sentence_transformer.children())

    def _content(self) -> dict[str, Any]:
        return {"model_name": f"object:{_digest(self.sentence_transformer) or self._unknown}"}


def adapt(model: Any) -> BaseEmbedding:
    """Return the model around a `SentenceTransformer`, for `resolve_embed_model`.

    Raises:
        ConfigurationError: it is something else of sentence-transformers, which gives no dense vectors.
    """
    return SentenceTransformerEmbedding(model)


def _check_dense(model: Any) -> None:
    from sentence_transformers import SentenceTransformer, SparseEncoder

    if isinstance(model, SparseEncoder):  # in version 5 it is a `SentenceTransformer` too
        msg = "a `SparseEncoder` gives no dense vectors; `save` it to a folder and use `SparseEncoderEmbedding(FOLDER)`"
        raise ConfigurationError(msg)
    if not isinstance(model, SentenceTransformer):
        msg = f"a `{type(model).__name__}` gives no dense vectors; expected a `SentenceTransformer`"
        raise ConfigurationError(msg)


def _digest(model: Any) -> str | None:
    """Return a hash of everything that decides a model's vectors; None where there may be more than is seen."""
    import torch

    first, tokenizer = model[0], _tokenizer(model)
    if tokenizer is None or any(type(module).__name__ not in _KNOWN for module in model.children()):
        return None
    config = getattr(getattr(first, "auto_model", None), "config", None)
    images = getattr(getattr(first, "processor", None), "image_processor", None)
    settings = {
        "modules": repr(model),
        "prompts": dict(model.prompts),
        "default_prompt_name": model.default_prompt_name,
        "max_seq_length": str(model.max_seq_length),
        "truncate_dim": model.truncate_dim,
        "config": None if config is None else config.to_dict(),
        "images": None if images is None else images.to_dict(),
        "tokenizer": tokenizer,
    }
    total = hashlib.sha256(json.dumps(settings, sort_keys=True, default=repr).encode())
    for name, tensor in sorted(model.state_dict().items()):
        total.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        total.update(memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()))
    return total.hexdigest()


def _tokenizer(model: Any) -> dict[str, Any] | None:
    """Return a fast tokenizer as data, without the settings that every call makes anew."""
    tokenizer = getattr(model[0], "tokenizer", None)
    serialised: Any = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(serialised, "to_str"):
        return None
    content = json.loads(serialised.to_str())
    return {name: value for name, value in content.items() if name not in {"truncation", "padding"}}
