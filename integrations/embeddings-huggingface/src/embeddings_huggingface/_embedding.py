"""`HuggingFaceEmbedding`: any model of sentence-transformers or transformers, from a folder or the hub."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Self

from embed_core import Pooling
from pydantic import Field

from embeddings_huggingface._local import LocalEmbedding
from embeddings_huggingface._pretrained import PretrainedModel, Text
from embeddings_huggingface._runtime import Options
from embeddings_huggingface._source import Source, cache, cached_models, find, looks_like_a_path, understood

_DEFAULT = "BAAI/bge-small-en-v1.5"


class HuggingFaceEmbedding(PretrainedModel, LocalEmbedding):
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

    model_name: Annotated[str, Text] = Field(default=_DEFAULT, min_length=1)
    pooling: Pooling | None = None

    def __init__(self, model_name: str | os.PathLike[str] = _DEFAULT, **settings: Any) -> None:
        """Configure a model; nothing is loaded or downloaded before it is used.

        Args:
            model_name: a folder, or a name on the Hugging Face hub.
            settings: the fields below, and those of `BaseEmbedding`.
        """
        super().__init__(**{"model_name": model_name, **settings})

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

    def _own_normalize(self) -> bool:
        return self._source().normalizes

    def _find(self) -> Source:
        return find(self.model_name, self.revision, cache(self.cache_folder), plain=self.pooling is not None)

    def _options(self) -> Options:
        return replace(super()._options(), pooling=self.pooling, raw=self.normalize is False)
