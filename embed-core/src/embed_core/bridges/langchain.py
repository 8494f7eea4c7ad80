"""LangChain's `Embeddings` as a model, and a model as LangChain's `Embeddings` (extra `langchain`)."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar
from uuid import uuid4

from pydantic import BaseModel, Field, SecretBytes, SecretStr

from embed_core import OPERATIONAL, BaseEmbedding, Embedding
from embed_core.errors import ConfigurationError, IntegrationNotInstalledError

try:
    from langchain_core.embeddings import Embeddings
except ImportError as error:
    msg = f"`langchain_core` does not import ({error}); `pip install langchain-core`"
    raise IntegrationNotInstalledError(msg) from error


def adapt(foreign: Any) -> BaseEmbedding:
    """Return a LangChain `Embeddings` object as a model.

    Raises:
        ConfigurationError: it is another object of LangChain's.
    """
    if not isinstance(foreign, Embeddings):
        msg = f"a `{type(foreign).__name__}` of LangChain is no `Embeddings` object and makes no vectors"
        raise ConfigurationError(msg)
    return LangChainEmbedding(langchain=foreign, model_name=_model_name(foreign))


class LangChainEmbedding(BaseEmbedding):
    """Embeds with a LangChain `Embeddings` object, which should not be changed afterwards.

    Two such models share cached vectors when their objects have the same class and the same public fields. Where an
    object does not show all its fields (it is no pydantic model, or holds more than plain data), only copies of the
    same model share its vectors. It cannot be saved: `to_dict` leaves out the object.
    """

    io_bound: ClassVar[bool] = True

    langchain: Annotated[Any, OPERATIONAL] = Field(exclude=True, repr=False, frozen=True)
    identity: Annotated[str, OPERATIONAL] = Field(default_factory=lambda: uuid4().hex, exclude=True, repr=False)

    def _space(self) -> dict[str, Any]:
        config = _public_config(self.langchain)
        kind = f"{type(self.langchain).__module__}:{type(self.langchain).__qualname__}"
        return {**super()._space(), "langchain": kind, "config": self.identity if config is None else config}

    def _get_query_embedding(self, query: str) -> Embedding:
        vector: Embedding = self.langchain.embed_query(query)
        return vector

    def _get_text_embedding(self, text: str) -> Embedding:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        vectors: list[Embedding] = self.langchain.embed_documents(texts)
        return vectors

    async def _aget_query_embedding(self, query: str) -> Any:
        if self._is_async("aembed_query"):
            return await self.langchain.aembed_query(query)
        return await super()._aget_query_embedding(query)

    async def _aget_text_embeddings(self, texts: list[str]) -> Any:
        if self._is_async("aembed_documents"):
            return await self.langchain.aembed_documents(texts)
        return await super()._aget_text_embeddings(texts)

    def _is_async(self, method: str) -> bool:
        """Return whether the class has the method itself; LangChain's own holds up the end of the event loop."""
        return getattr(type(self.langchain), method) is not getattr(Embeddings, method)


class EmbedCoreEmbeddings(Embeddings):
    """A model as a LangChain `Embeddings` object."""

    def __init__(self, model: BaseEmbedding) -> None:
        self.model = model

    def embed_documents(self, texts: list[str]) -> list[Embedding]:
        return self.model.get_text_embedding_batch(texts)

    def embed_query(self, text: str) -> Embedding:
        return self.model.get_query_embedding(text)

    async def aembed_documents(self, texts: list[str]) -> list[Embedding]:
        return await self.model.aget_text_embedding_batch(texts)

    async def aembed_query(self, text: str) -> Embedding:
        return await self.model.aget_query_embedding(text)


def _model_name(foreign: Embeddings) -> str:
    names = (getattr(foreign, attribute, None) for attribute in ("model", "model_name"))
    return next((name for name in names if isinstance(name, str) and name), type(foreign).__name__)


def _public_config(foreign: Embeddings) -> dict[str, Any] | None:
    """Return the fields that are no secrets, or None where they may not be all that decides the vectors."""
    if not isinstance(foreign, BaseModel):
        return None
    if type(foreign).__module__ == "__main__" or "<locals>" in type(foreign).__qualname__:
        return None  # two scripts, or two functions, may have different classes with the same name
    hidden = set(getattr(foreign, "lc_secrets", ()))
    hidden.update(
        name for name, field in type(foreign).model_fields.items() if field.exclude
    )  # derived, as clients are
    config = {
        name: value
        for name, value in foreign
        if name not in hidden and not isinstance(value, SecretStr | SecretBytes | None)
    }
    try:
        return config if json.loads(json.dumps(config, allow_nan=False)) == config else None
    except (TypeError, ValueError):  # a value is no plain data
        return None
