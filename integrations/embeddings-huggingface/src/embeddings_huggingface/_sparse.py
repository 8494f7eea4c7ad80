"""`SparseEncoderEmbedding`: SPLADE and other sparse models of sentence-transformers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from embed_core import OPERATIONAL, BaseSparseEmbedding, Kind
from pydantic import Field, PositiveInt

from embeddings_huggingface._local import LocalModel, Name
from embeddings_huggingface._runtime import Options
from embeddings_huggingface._weights import Encoded, Encoder


class SparseEncoderEmbedding(BaseSparseEmbedding, LocalModel):
    """A local sparse model: most often a weight for each entry of its tokenizer's vocabulary, and most of them zero.

    Vectors are those of `encode_query` and `encode_document` of a `SparseEncoder` of sentence-transformers. Weights,
    threads, prompts and long texts are handled as by `HuggingFaceEmbedding`, and the settings that are not listed here
    are its own, but for those of dense vectors. `resolve_embed_model` gives dense models only: construct this class.

    Attributes:
        model_name: a folder, or a name on the Hugging Face hub. Without files of sentence-transformers it must be a
            masked language model, whose logits are pooled by their maximum as in SPLADE.
        max_active_dims: how many numbers of each vector to keep, those of largest size; None leaves it to the model.
    """

    provider: ClassVar[str | None] = "huggingface-sparse"  # no plugin: there is no spec for it

    model_name: Name = Field(kw_only=False)  # or pydantic takes it from the first base
    max_active_dims: PositiveInt | None = None

    if not TYPE_CHECKING:  # type checkers see fields as arguments

        def __init__(self, model_name: Annotated[str | os.PathLike[str], OPERATIONAL], **settings: Any) -> None:
            """Configure a model; nothing is loaded or downloaded before it is used.

            Args:
                model_name: a folder, or a name on the Hugging Face hub.
                settings: the fields below, and those of `HuggingFaceEmbedding` that are not about dense vectors.
            """
            super().__init__(**{"model_name": model_name, **settings})

    def _options(self) -> Options:
        return replace(super()._options(), sparse=True)

    def _encode(self, kind: Kind, inputs: Sequence[Any], encoder: Encoder) -> Encoded:
        encoder.max_active_dims = self.max_active_dims  # others share it; one thread does the batches in turn
        return super()._encode(kind, inputs, encoder)
