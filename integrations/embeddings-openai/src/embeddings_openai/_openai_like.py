"""What the models of all OpenAI-like servers have in common."""

from __future__ import annotations

import asyncio
import math
import os
import sys
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar

from embed_core import OPERATIONAL, BaseEmbedding, Kind, ProviderResponse, RetryPolicy
from embed_core.errors import AuthenticationError, ConfigurationError, InvalidInputError
from pydantic import Field, PrivateAttr, SecretStr

from embeddings_openai import _models
from embeddings_openai._capabilities import Capabilities, capabilities
from embeddings_openai._client import Clients
from embeddings_openai._errors import Endpoint, translated
from embeddings_openai._exchange import BYTES_OF_ANY_TOKEN, Answer, Body, Exchange, Talk, aconverse, converse
from embeddings_openai._pace import PACES, Pace, Paced
from embeddings_openai._usage import Budgeted, Estimate, Meter, Usage, price_of


class OpenAILike(BaseEmbedding):
    """A model behind OpenAI's embeddings protocol; see its subclasses.

    Attributes:
        model_name: also accepted as `model`, and as the first argument.
        dimensions: length of the vectors, for models that can shorten them; None for the model's own.
        api_key: by default from the environment; never part of a saved configuration.
        timeout: seconds for one attempt.
        default_headers: sent with every request; taken for secrets, so not part of a saved configuration.
        http_client: an `httpx.Client` of your own, which you close.
        async_http_client: an `httpx.AsyncClient` of your own, for the one event loop it belongs to.
        price_per_million_tokens: US dollars; None takes the known price of an OpenAI model.
        max_cost: US dollars this model may spend, from its making on; a request that would exceed it is not sent.
    """

    io_bound: ClassVar[bool] = True
    key_variable: ClassVar[str]
    """The environment variable that holds the key."""

    num_workers: Annotated[int, OPERATIONAL] = Field(default=8, ge=1)
    dimensions: int | None = Field(default=None, ge=1)
    api_key: Annotated[SecretStr | None, OPERATIONAL] = None
    timeout: Annotated[float, OPERATIONAL] = Field(default=60.0, gt=0)
    default_headers: Annotated[dict[str, SecretStr] | None, OPERATIONAL] = None
    http_client: Annotated[Any, OPERATIONAL] = Field(default=None, exclude=True, repr=False)
    async_http_client: Annotated[Any, OPERATIONAL] = Field(default=None, exclude=True, repr=False)
    price_per_million_tokens: Annotated[float | None, OPERATIONAL] = Field(default=None, gt=0)
    max_cost: Annotated[float | None, OPERATIONAL] = Field(default=None, gt=0)

    _clients: Clients | None = PrivateAttr(default=None)
    _meter: Meter = PrivateAttr(default_factory=Meter)
    _pace: tuple[Endpoint, Pace] | None = PrivateAttr(default=None)

    def __init__(self, model: str | None = None, *, max_retries: int | None = None, **settings: Any) -> None:
        """Set up the model; `max_retries` is short for `retry=RetryPolicy(max_retries=…)`."""
        if model is not None:
            settings["model_name"] = model
        if settings.get("model_name") == "":
            del settings["model_name"]
        if max_retries is not None:
            settings["retry"] = RetryPolicy(max_retries=max_retries)
        super().__init__(**settings)

    @property
    def usage(self) -> Usage:
        """What this model has used since it was made, by the provider's own count."""
        return Usage(self._meter.requests, self._meter.tokens, price_of(self._meter.charged, self._price()))

    def estimate(self, texts: Iterable[str]) -> Estimate:
        """Say what embedding these texts would take, without sending anything.

        Tokens are a quarter of the UTF-8 bytes, which is near the truth for English and too few for many other scripts.
        """
        texts = _list_of(texts)
        sent = texts
        if self.embeddings_cache is not None:
            sent = list(dict.fromkeys(texts))
            keys = self._keys()("text", sent)
            known = self.embeddings_cache.get_many(keys)
            sent = [text for text, key in zip(sent, keys, strict=True) if key not in known]
        most = self._input_limit("text") if self.long_text == "truncate" else None
        tokens = sum(min(self._count_tokens([text]), most or sys.maxsize) for text in sent)
        return Estimate(len(texts), len(texts) - len(sent), tokens, price_of(tokens, self._price()))

    async def aestimate(self, texts: Iterable[str]) -> Estimate:
        """Say what embedding these texts would take; see `estimate`."""
        return await asyncio.to_thread(self.estimate, texts)

    # Hooks

    def _get_query_embedding(self, query: str) -> Any:
        return self._get_query_embeddings([query]).vectors[0]

    def _get_text_embedding(self, text: str) -> Any:
        return self._get_text_embeddings([text]).vectors[0]

    def _get_query_embeddings(self, queries: list[str]) -> ProviderResponse:
        return self._metered(converse(self._about("query", queries), self._post))

    def _get_text_embeddings(self, texts: list[str]) -> ProviderResponse:
        return self._metered(converse(self._about("text", texts), self._post))

    async def _aget_query_embeddings(self, queries: list[str]) -> ProviderResponse:
        return self._metered(await aconverse(self._about("query", queries), self._apost))

    async def _aget_text_embeddings(self, texts: list[str]) -> ProviderResponse:
        return self._metered(await aconverse(self._about("text", texts), self._apost))

    def _middleware(self, dimension: Any) -> list[Any]:
        budgeted = self._budgeted()
        return [
            *super()._middleware(dimension),
            *([budgeted] if budgeted is not None else []),
            Paced(self._current_pace, self._count_tokens, self.retry.total_seconds),
        ]

    def _plan(self, kind: Kind, inputs: Sequence[str]) -> Iterable[Sequence[int]]:
        """Fill requests in input order up to the server's limits; a text that may be too long goes alone."""
        known = self._capabilities()
        most = min(self.embed_batch_size, known.max_inputs or self.embed_batch_size)
        room = min(known.max_bytes or math.inf, (known.max_tokens or math.inf) / known.tokens_per_byte)
        alone = (self._input_limit(kind) or math.inf) / known.tokens_per_byte
        start, size, before = 0, 0, 0
        for position, text in enumerate(inputs):
            length = len(text.encode())
            full = position - start == most or size + length > room or max(length, before) > alone
            if full and position > start:
                yield range(start, position)
                start, size = position, 0
            size, before = size + length, length
        yield range(start, len(inputs))

    def _input_limit(self, kind: Kind) -> int | None:
        known = _models.KNOWN.get(self.model_name)
        learned = self._capabilities().input_tokens.get(self._endpoint_model())
        return self.max_input_tokens or learned or (known.max_input_tokens if known is not None else None)

    def _windows(self, kind: Kind, text: str, limit: int) -> Any:
        """Leave the exact length to the server, which counts for nothing; cut only what it surely refuses.

        A limit of the user's own is the exception: no server would enforce that.
        """
        if self.max_input_tokens is not None or self.long_text == "mean":
            return super()._windows(kind, text, limit if self.max_input_tokens is not None else limit // 2)
        return super()._windows(kind, text, limit * BYTES_OF_ANY_TOKEN // 4)

    def _count_tokens(self, inputs: Sequence[Any]) -> int:
        size = sum(len(one.encode()) for one in inputs)
        return -int(-size * self._capabilities().tokens_per_byte // 1)

    # One request

    def _about(self, kind: Kind, texts: list[str]) -> Talk:
        """Return the talk with the server about one batch."""
        return self._exchange().about(texts)

    def _exchange(self) -> Exchange:
        where, known = self._endpoint(), self._capabilities()
        return Exchange(where, known, self.dimensions, False, self.long_text, self._normalizes())

    def _post(self, body: Body) -> Answer:
        with translated(self._endpoint()):
            import openai

            client = self._connections().sync()
            response = client.post("/embeddings", body=body, cast_to=openai.HttpxBinaryResponseContent)
            return self._observed(response.content, response.response.headers)

    async def _apost(self, body: Body) -> Answer:
        with translated(self._endpoint()):
            import openai

            client = await self._connections().current()
            response = await client.post("/embeddings", body=body, cast_to=openai.HttpxBinaryResponseContent)
            return self._observed(response.content, response.response.headers)

    def _observed(self, content: bytes, headers: Any) -> Answer:
        self._current_pace().observe(headers)
        return content, headers

    def _metered(self, response: ProviderResponse) -> ProviderResponse:
        self._meter.add((response.usage or {}).get("tokens", 0))
        return response

    def _current_pace(self) -> Pace:
        where = self._endpoint()
        if self._pace is None or self._pace[0] != where:
            self._pace = where, PACES.of(where.base_url, where.secret, where.model)
        return self._pace[1]

    def _price(self) -> float | None:
        known = _models.KNOWN.get(self.model_name)
        return self.price_per_million_tokens or (known.price if known is not None else None)

    def _budgeted(self) -> Budgeted | None:
        if self.max_cost is None:
            return None
        if (price := self._price()) is None:
            msg = f"no price is known for `{self.model_name}`, so `max_cost` needs `price_per_million_tokens`"
            raise ConfigurationError(msg)
        return Budgeted(self._meter, self.max_cost, price, self._count_tokens)

    # Where it goes

    @abstractmethod
    def _base_url(self) -> str:
        """Return the server's address, without a slash at the end."""

    @abstractmethod
    def _client_settings(self) -> dict[str, Any]:
        """Return what the SDK's client is made with."""

    @abstractmethod
    def _client_classes(self) -> tuple[Any, Any]:
        """Return the SDK's sync and async client."""

    def _endpoint_model(self) -> str:
        return self.model_name

    def _endpoint(self) -> Endpoint:
        return Endpoint(self._endpoint_model(), self._base_url(), self._key(), self.key_variable)

    def _capabilities(self) -> Capabilities:
        return capabilities(self._base_url())

    def _key(self) -> str:
        key = self.api_key.get_secret_value() if self.api_key is not None else os.environ.get(self.key_variable, "")
        if not key.strip():
            msg = (
                f"`{self.model_name}` needs an API key and there is none; set `{self.key_variable}` or pass `api_key=`"
            )
            raise AuthenticationError(msg)
        return key.strip()

    # Clients

    def _shared_settings(self) -> dict[str, Any]:
        headers = self.default_headers or {}
        return {
            "timeout": self.timeout,
            "max_retries": 0,  # the engine retries; two layers would multiply
            "default_headers": {name: value.get_secret_value() for name, value in headers.items()},
        }

    def _connections(self) -> Clients:
        """Return the clients for the settings of this moment; those for former ones are closed."""
        settings, pid = (self._client_settings(), self.http_client, self.async_http_client), os.getpid()
        with self._making:
            former = self._clients
            if former is not None and former.pid == pid and former.settings == settings:
                return former
            owned = self.http_client is None, self.async_http_client is None
            self._clients = clients = Clients(settings, pid, self._make_client, self._make_async_client, *owned)
        if former is not None and former.pid == pid:
            former.close()
        return clients

    def _make_client(self) -> Any:
        return self._client_classes()[0](**self._client_settings(), http_client=self.http_client)

    def _make_async_client(self) -> Any:
        return self._client_classes()[1](**self._client_settings(), http_client=self.async_http_client)

    def _close(self) -> None:
        if self._clients is not None:
            self._clients.close()

    async def _aclose(self) -> None:
        if self._clients is not None:
            await self._clients.aclose()


def _list_of(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, str):
        msg = "got one `str` where several texts belong; wrap it in a list"
        raise InvalidInputError(msg)
    return list(texts)
