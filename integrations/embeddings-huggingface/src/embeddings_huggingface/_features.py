"""Models with features of texts and of images in one space: CLIP, SigLIP and their relatives in transformers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from embed_core import Kind
from embed_core.errors import ConfigurationError

from embeddings_huggingface._runtime import longest, positions, to_float32
from embeddings_huggingface._tokens import Tokens, account
from embeddings_huggingface._weights import Encoded, Encoder


def has_features(model: Any) -> bool:
    """Tell whether a transformers model embeds texts and images each on their own."""
    return hasattr(model, "get_text_features") and hasattr(model, "get_image_features")


class FeatureEncoder(Encoder):
    """A transformers model with `get_text_features` and `get_image_features`, and its processor, in memory."""

    def __init__(self, model: Any, processor: Any) -> None:
        self._model, self._tokenizer, self._images = model.eval(), processor.tokenizer, processor.image_processor
        self.tokens = Tokens(self._tokenizer)
        self.positions = positions(model)
        self.max_length = longest(self._tokenizer, self.positions)
        # SigLIP was trained on texts padded to full length, without a mask: https://huggingface.co/docs/transformers/model_doc/siglip
        self._padding: str | bool = "max_length" if model.config.model_type.startswith("siglip") else True

    @property
    def takes_images(self) -> bool:
        """Whether images can be embedded as well as texts."""
        return True

    def prompt(self, kind: Kind) -> str:
        return ""

    def encode_texts(self, texts: Sequence[str], kind: Kind, prompt: str, max_length: int | None) -> Encoded:
        cutting = {"truncation": True, "max_length": max_length} if max_length is not None else {"truncation": False}
        read = self._tokenizer(
            [prompt + text for text in texts],
            padding=self._padding if max_length is not None else True,
            return_attention_mask=True,
            return_tensors="pt",
            **cutting,
        )
        tokens, truncated = account(read, self.tokens, texts, prompt, max_length)
        wanted = {name: read[name] for name in self._tokenizer.model_input_names if name in read}
        return Encoded(self._features(self._model.get_text_features, wanted), tokens, truncated)

    def encode_images(self, images: Sequence[Any]) -> Encoded:
        read = self._images(images=list(images), return_tensors="pt")
        return Encoded(self._features(self._model.get_image_features, read))

    def _features(self, method: Callable[..., Any], inputs: Mapping[str, Any]) -> Any:
        import torch

        known = inspect.signature(method).parameters
        model = self._model
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
        return to_float32(features)
