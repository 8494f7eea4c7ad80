"""`HuggingFaceEmbedding`: any model of sentence-transformers or transformers, from a folder or the hub."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeAlias

import numpy as np
from embed_core import OPERATIONAL, Kind, MultiModalEmbedding, Pooling, ProviderResponse, Vectors, open_image
from embed_core.errors import ConfigurationError
from pydantic import Field, PositiveInt

from embeddings_huggingface._dimension import dimension_of
from embeddings_huggingface._local import LocalModel, Name
from embeddings_huggingface._runtime import Options
from embeddings_huggingface._source import cache_of, cached_models, find, looks_like_a_path
from embeddings_huggingface._weights import Encoded, Encoder

_DEFAULT = "BAAI/bge-small-en-v1.5"
_FOR_IMAGES = "clip:openai/clip-vit-base-patch32"
_SMALLEST_NORM = 1e-12  # as torch.nn.functional.normalize

if TYPE_CHECKING:
    PoolingName: TypeAlias = Pooling | Literal["cls", "mean"]  # the field has the `Pooling`
else:
    PoolingName = Pooling


class HuggingFaceEmbedding(LocalModel, MultiModalEmbedding):
    """A local model: sentence-transformers' own, or any encoder of transformers with pooling over its last layer.

    Vectors are those of `SentenceTransformer.encode`, with the prompts that the model was saved with for queries and
    for documents. Weights load on first use, once in a process for equal settings, and one thread works with them, so
    a model is safe to use from any number of threads and event loops.

    Attributes:
        model_name: a folder, or a name on the Hugging Face hub. A folder becomes an absolute path.
        device: "cuda", "cuda:1", "mps", "cpu"; None takes the best there is.
        dtype: "float32", "bfloat16", "float16", or "auto" for the type that the weights were saved in; None leaves it
            to sentence-transformers.
        max_length: most tokens of one input, prompt and special tokens included; None means the model's own number.
        embed_batch_size: most texts of one batch, which is what a cache writes and an event reports at once. The texts
            of a batch are sorted by their tokens and cut into passes.
        max_pass_tokens: most tokens that go through the model at once, padding included, so memory stays bounded for
            texts of any length; a longer text goes alone. None means the number with which the engine is fast: 1,024 on
            a CPU, 32,768 on a GPU, and 8,192 where a model takes no token ids.
        normalize: True makes vectors unit length, False leaves out the model's own step that does, None takes vectors
            as the model gives them. With `truncate_dim`, None means True.
        truncate_dim: how many leading dimensions to keep, for models trained for it (Matryoshka).
        query_instruction: a text to put in front of a query. None means the prompt that the model was saved with, if
            any; an empty string means no prompt.
        text_instruction: the same for documents and passages.
        pooling: "cls" or "mean" loads the model through transformers and pools its last layer, whether files of
            sentence-transformers lie beside it or not. None follows those files; where there are none it means "mean",
            or for a model with features of texts and images those.
        revision: branch, tag or commit on the hub. None takes the commit in the local cache, or the newest one where
            there is none: a model never changes under its vectors.
        cache_folder: where downloaded models are kept; None means the hub's own place.
        trust_remote_code: whether Python code that comes with the model may run.
        backend: "openvino" or "torch"; "auto" takes OpenVINO for a model on a CPU where it is installed. In float32 the
            vectors are the same within 1e-5, so the choice is no part of the fingerprint.
        model_kwargs, processor_kwargs, config_kwargs: more arguments for the loaders of transformers.
    """

    provider: ClassVar[str | None] = "huggingface"

    model_name: Name = Field(default=_DEFAULT, kw_only=False)
    normalize: bool | None = None
    truncate_dim: PositiveInt | None = None
    pooling: PoolingName | None = None

    if not TYPE_CHECKING:  # type checkers see fields as arguments

        def __init__(
            self, model_name: Annotated[str | os.PathLike[str], OPERATIONAL] = _DEFAULT, **settings: Any
        ) -> None:
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
        return super().from_spec(model, **options)

    @classmethod
    def known_models(cls) -> Sequence[str]:
        """Return the default model and those of sentence-transformers in the hub's cache on this machine."""
        return [_DEFAULT, *(name for name in cached_models() if name != _DEFAULT)]

    def _get_image_embedding(self, image: BytesIO) -> Any:
        return self._get_image_embeddings([image]).vectors[0]

    def _get_image_embeddings(self, images: list[BytesIO]) -> ProviderResponse:
        return self._run("image", images)

    async def _aget_image_embeddings(self, images: list[BytesIO]) -> ProviderResponse:
        return await self._arun("image", images)

    def _encode(self, kind: Kind, inputs: Sequence[Any], encoder: Encoder) -> Encoded:
        if kind != "image":
            return super()._encode(kind, inputs, encoder)
        if encoder.takes_images:
            return encoder.encode_images(open_image(image) for image in inputs)
        msg = f"`{self.model_name}` embeds texts only; for images choose a CLIP model, such as `{_FOR_IMAGES}`"
        raise ConfigurationError(msg)

    def _declared_dimension(self) -> int | None:
        return self.truncate_dim or self._own_dimension()

    def _own_dimension(self) -> int | None:
        """Return the length of the model's vectors where files on this machine tell it; no weights are loaded."""
        return dimension_of(self.model_name, self.revision, cache_of(self.cache_folder), pooled=self._is_plain())

    def _normalizes(self) -> bool:
        """Tell whether vectors are known to have unit length; the model's files are asked where a mean needs it."""
        if self.normalize is not None:
            return self.normalize
        if self.truncate_dim is not None:
            return True
        return self.long_text == "mean" and self._own_normalize()  # it may take the hub

    def _own_normalize(self) -> bool:
        """Tell whether the model's own last step makes vectors unit length, without loading its weights."""
        return self._source().normalizes

    def _finished(self, vectors: Vectors) -> Vectors:
        """Cut vectors to `truncate_dim` and make them unit length where they should be."""
        if self.truncate_dim is not None:
            if self.truncate_dim > vectors.shape[1]:
                raise self._too_much("truncate_dim", self.truncate_dim, f"{vectors.shape[1]} dimensions")
            vectors = vectors[:, : self.truncate_dim]
        if self.normalize or (self.truncate_dim is not None and self._normalizes()):
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _SMALLEST_NORM)
        return vectors

    def _is_plain(self) -> bool:
        return self.pooling is not None

    def _options(self) -> Options:
        return replace(super()._options(), pooling=self.pooling and Pooling(self.pooling), raw=self.normalize is False)
