"""Models of transformers alone: their last layer, pooled, or the features of CLIP and SigLIP."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from embed_core import Kind, Pooling
from embed_core.errors import ConfigurationError, IntegrationNotInstalledError

from embeddings_huggingface._files import read_json
from embeddings_huggingface._images import batches
from embeddings_huggingface._passes import in_passes
from embeddings_huggingface._runtime import (
    Options,
    dtype_options,
    longest,
    positions,
    precision,
    quiet_loading,
    to_float32,
)
from embeddings_huggingface._source import Source
from embeddings_huggingface._tokens import Tokens, account, plain_ids
from embeddings_huggingface._weights import Encoded, Encoder, Parts


def load(source: Source, options: Options, *, local: bool) -> Encoder:
    """Load a transformers model with its tokenizer, or where it has features of images too with its processor.

    Raises:
        IntegrationNotInstalledError: it is an adapter, and the package for those is missing.
    """
    from transformers import AutoConfig, AutoModel, AutoProcessor, AutoTokenizer

    place = {
        "revision": source.commit,
        "cache_dir": options.cache_folder,
        "local_files_only": local,
        "trust_remote_code": options.trust_remote_code,
    }
    is_adapter = source.marker.name == "adapter_config.json"
    if is_adapter and find_spec("peft") is None:
        msg = f"`{source.name}` is an adapter, and loading one needs the package `peft`; run `pip install peft`"
        raise IntegrationNotInstalledError(msg)
    base = read_json(source.marker).get("base_model_name_or_path") if is_adapter else None
    named = {**place, **({"revision": None} if base else {}), **options.config_kwargs}
    with quiet_loading():
        config = AutoConfig.from_pretrained(base or source.name, **named)
        weights = {**place, **dtype_options(options.dtype), **options.model_kwargs}
        model = AutoModel.from_pretrained(source.name, config=config, **weights)
        both = options.pooling is None and hasattr(model, "get_text_features") and hasattr(model, "get_image_features")
        reader = AutoProcessor if both else AutoTokenizer
        read = reader.from_pretrained(source.name, **{**place, **options.processor_kwargs})
    model = (model if options.device is None else model.to(options.device)).eval()
    return FeatureEncoder(model, read) if both else PooledEncoder(model, read, options.pooling or Pooling.MEAN)


class PlainEncoder(Encoder):
    """A transformers model and its tokenizer in memory."""

    padding: str | bool = True

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model, self._tokenizer = model, tokenizer
        self.tokens = Tokens(tokenizer)
        self.positions = positions(model)
        self.precision = precision(model)
        self.max_length = longest(tokenizer, self.positions)

    def encode_texts(
        self, texts: Sequence[str], kind: Kind, prompt: str, max_length: int | None, budget: int
    ) -> Encoded:
        features = self._tokenised(texts, prompt, self._cutting(max_length))
        tokens, truncated = account(features, self.tokens, texts, prompt, max_length)
        return Encoded(self._vectors(features, budget), tokens, truncated)

    def _cutting(self, max_length: int | None) -> dict[str, Any]:
        if max_length is None:
            return {"truncation": False, "padding": True}
        return {"truncation": True, "padding": self.padding, "max_length": max_length}

    def _tokenised(self, texts: Sequence[str], prompt: str, cutting: Mapping[str, Any]) -> Any:
        prompted = [prompt + text for text in texts]
        return self._tokenizer(prompted, return_attention_mask=True, return_tensors="pt", **cutting)

    @abstractmethod
    def _vectors(self, features: Mapping[str, Any], budget: int) -> Any:
        """Return the vectors of a tokenised batch as an array."""


class PooledEncoder(PlainEncoder):
    """A transformers model whose last layer is pooled."""

    def __init__(self, model: Any, tokenizer: Any, pooling: Pooling) -> None:
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        super().__init__(model, tokenizer)
        self._pooling = pooling
        self.parts = Parts(model, tokenizer, pooling)

    def token_ids(self, texts: Sequence[str], kind: Kind, prompt: str) -> list[list[int]]:
        return plain_ids(self._tokenised(texts, prompt, self._cutting(self.max_length)))

    def _vectors(self, features: Mapping[str, Any], budget: int) -> Any:
        return in_passes(features, budget, self._pooled)

    def _pooled(self, features: Mapping[str, Any]) -> Any:
        import torch

        there = {name: tensor.to(self._model.device) for name, tensor in features.items()}
        with torch.inference_mode():
            return to_float32(self._pooling(self._model(**there)[0], there["attention_mask"]))


class FeatureEncoder(PlainEncoder):
    """A transformers model with `get_text_features` and `get_image_features`, such as CLIP and SigLIP."""

    takes_images = True

    def __init__(self, model: Any, processor: Any) -> None:
        super().__init__(model, processor.tokenizer)
        self._images = processor.image_processor
        if model.config.model_type.startswith("siglip"):
            # trained on texts padded to full length, without a mask: https://huggingface.co/docs/transformers/model_doc/siglip
            self.padding = "max_length"

    def encode_images(self, images: Iterable[Any]) -> Encoded:
        read = batches(images, lambda some: self._images(images=some, return_tensors="pt"))
        vectors = [to_float32(self._features(self._model.get_image_features, features)) for features in read]
        return Encoded(np.concatenate(vectors))

    def _vectors(self, features: Mapping[str, Any], budget: int) -> Any:  # short texts, which SigLIP wants padded
        wanted = {name: features[name] for name in self._tokenizer.model_input_names if name in features}
        return to_float32(self._features(self._model.get_text_features, wanted))

    def _features(self, method: Callable[..., Any], inputs: Mapping[str, Any]) -> Any:
        import torch

        model, known = self._model, inspect.signature(method).parameters
        there = {
            name: tensor.to(model.device, model.dtype if tensor.is_floating_point() else None)
            for name, tensor in inputs.items()
            if name in known
        }
        with torch.inference_mode():
            answer = method(**there)
        features = getattr(answer, "pooler_output", answer)  # since transformers 5 an object, a tensor before
        if not isinstance(features, torch.Tensor) or features.ndim != 2:
            msg = f"`{model.config.model_type}` has no single vector for an input; choose a CLIP or SigLIP model"
            raise ConfigurationError(msg)
        return features
