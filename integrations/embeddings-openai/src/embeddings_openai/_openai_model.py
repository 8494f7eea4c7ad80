"""OpenAI's own models, wherever they run."""

from __future__ import annotations

from typing import Annotated, ClassVar

from embed_core import OPERATIONAL
from pydantic import Field

from embeddings_openai import _models
from embeddings_openai._capabilities import Capabilities
from embeddings_openai._openai_like import OpenAILike


class OpenAIModel(OpenAILike):
    """A model of OpenAI's; see its subclasses."""

    accepts_blank: ClassVar[bool] = False
    normalizes: ClassVar[bool] = True

    model_name: str = _models.DEFAULT
    embed_batch_size: Annotated[int, OPERATIONAL] = Field(default=256, ge=1, le=_models.MAX_INPUTS)

    def _declared_dimension(self) -> int | None:
        known = _models.KNOWN.get(self.model_name)
        return self.dimensions or (known.dimension if known is not None else None)

    def _capabilities(self) -> Capabilities:
        known = super()._capabilities()
        if known.max_tokens is None:
            known.max_tokens = _models.MAX_REQUEST_TOKENS
        return known
