"""`ClipEmbedding`: texts and images in one space."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from embed_core import OPERATIONAL, Kind
from embed_core.errors import ConfigurationError
from pydantic import Field

from embeddings_huggingface._embedding import HuggingFaceEmbedding
from embeddings_huggingface._local import Name
from embeddings_huggingface._weights import Encoded, Weights

_DEFAULT = "openai/clip-vit-base-patch32"


class ClipEmbedding(HuggingFaceEmbedding):
    """A local model that embeds texts and images into one space: CLIP, SigLIP, or another with features for both.

    Vectors are those of `get_text_features` and `get_image_features`, which have no unit length unless `normalize` is
    True; cosine similarity does not mind. All settings are those of `HuggingFaceEmbedding`. A CLIP folder of
    sentence-transformers works too, and so do OpenAI's short names, such as `ViT-B/32`.
    """

    provider: ClassVar[str | None] = "clip"

    model_name: Name = Field(default=_DEFAULT, kw_only=False)

    if not TYPE_CHECKING:  # type checkers see fields as arguments

        def __init__(
            self, model_name: Annotated[str | os.PathLike[str], OPERATIONAL] = _DEFAULT, **settings: Any
        ) -> None:
            """Configure a model; nothing is loaded or downloaded before it is used.

            Args:
                model_name: a folder, or a name on the Hugging Face hub.
                settings: the fields of `HuggingFaceEmbedding`.
            """
            super().__init__(model_name, **settings)

    @classmethod
    def known_models(cls) -> Sequence[str]:
        """Return the default model."""
        return [_DEFAULT]

    def _begin(self, weights: Weights, kind: Kind, inputs: Sequence[Any]) -> Future[Encoded]:
        if not weights.encoder().takes_images:
            msg = f"`{self.model_name}` embeds texts only; use it as `local:{self.model_name}`, or choose a CLIP model"
            raise ConfigurationError(msg)
        return super()._begin(weights, kind, inputs)
