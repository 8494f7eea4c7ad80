"""Models of transformers that know nothing of sentence-transformers: their hidden states, pooled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from embed_core import Kind, Pooling
from embed_core.errors import ConfigurationError

from embeddings_huggingface._features import FeatureEncoder, has_features
from embeddings_huggingface._runtime import Options, dtype_options, longest, positions, quiet_loading, to_float32
from embeddings_huggingface._source import Source
from embeddings_huggingface._tokens import Tokens, account
from embeddings_huggingface._weights import Encoded, Encoder


def load(source: Source, options: Options, *, local: bool) -> Encoder:
    """Load a transformers model with its tokenizer, or where it has features of images too with its processor.

    Raises:
        ConfigurationError: another backend than torch is asked for, which needs sentence-transformers' files.
    """
    from transformers import AutoConfig, AutoModel, AutoProcessor, AutoTokenizer

    if options.backend != "torch":
        msg = f"`backend={options.backend!r}` needs a model saved by sentence-transformers, and `{source.name}` is none"
        raise ConfigurationError(msg)
    place = {
        "revision": source.commit,
        "cache_dir": options.cache_folder,
        "local_files_only": local,
        "trust_remote_code": options.trust_remote_code,
    }
    with quiet_loading():
        config = AutoConfig.from_pretrained(source.name, **{**place, **options.config_kwargs})
        weights = {**place, **dtype_options(options.dtype), **options.model_kwargs}
        model = AutoModel.from_pretrained(source.name, config=config, **weights)
        both = options.pooling is None and has_features(model)
        reader = AutoProcessor if both else AutoTokenizer
        read = reader.from_pretrained(source.name, **{**place, **options.processor_kwargs})
    model = model if options.device is None else model.to(options.device)
    return FeatureEncoder(model, read) if both else PlainEncoder(model, read, options.pooling or Pooling.MEAN)


class PlainEncoder(Encoder):
    """A transformers model and its tokenizer in memory."""

    def __init__(self, model: Any, tokenizer: Any, pooling: Pooling) -> None:
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._model, self._tokenizer, self._pooling = model.eval(), tokenizer, pooling
        self.tokens = Tokens(tokenizer)
        self.positions = positions(model)
        self.max_length = longest(tokenizer, self.positions)

    def prompt(self, kind: Kind) -> str:
        return ""

    def encode_texts(self, texts: Sequence[str], kind: Kind, prompt: str, max_length: int | None) -> Encoded:
        import torch

        prompted = [prompt + text for text in texts]
        cutting = {"truncation": True, "max_length": max_length} if max_length is not None else {"truncation": False}
        features = self._tokenizer(prompted, padding=True, return_tensors="pt", **cutting)
        tokens, truncated = account(features, self.tokens, texts, prompt, max_length)
        features = features.to(self._model.device)
        with torch.inference_mode():
            hidden = self._model(**features)[0]
            vectors = self._pooling(hidden, features["attention_mask"])
        return Encoded(to_float32(vectors), tokens, truncated)
