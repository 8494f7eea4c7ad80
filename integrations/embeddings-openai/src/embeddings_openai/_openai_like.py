"""What the models of all OpenAI-like servers have in common."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar

from embed_core import OPERATIONAL, Kind, Places, ProviderResponse, RetryPolicy
from embed_core.errors import ConfigurationError
from pydantic import Field, PrivateAttr

from embeddings_openai import _models
from embeddings_openai._connected import Connected
from embeddings_openai._exchange import BYTES_OF_ANY_TOKEN, Exchange, Talk, aconverse, converse
from embeddings_openai._pace import Paced
from embeddings_openai._parted import Parted
from embeddings_openai._usage import Budgeted, Meter, Usage, price_of

_log = logging.getLogger("embeddings_openai")


class OpenAILike(Connected):
    """A model behind OpenAI's embeddings protocol; see its subclasses.

    Attributes:
        model_name: also accepted as `model`, and as the first argument.
        dimensions: length of the vectors, for models that can shorten them; None for the model's own.
        api_key: by default from the environment; never part of a saved configuration.
        timeout: seconds without a sign of life from the server, after which an attempt is given up.
        default_headers: sent with every request; taken for secrets, so not part of a saved configuration.
        additional_kwargs: further parameters of every request, such as `{"user": "…"}`.
        http_client: an `httpx.Client` of your own, which you close; or a function that makes one for the model.
        async_http_client: an `httpx.AsyncClient` of your own, for the one event loop it belongs to; or a function that
            makes one for every loop, such as `openai.DefaultAioHttpClient`.
        price_per_million_tokens: US dollars; None takes the known price of an OpenAI model.
        max_cost: US dollars this model may spend, from its making on; a request that is expected to exceed it is not
            sent. Only answers tell how many tokens texts really have: documents wait up to a second for the first one,
            and where later texts have many more, what is in flight by then may exceed it.
    """

    io_bound: ClassVar[bool] = True

    num_workers: Annotated[int, OPERATIONAL] = Field(default=8, ge=1)
    dimensions: int | None = Field(default=None, ge=1)
    additional_kwargs: dict[str, Any] = Field(default_factory=dict)
    price_per_million_tokens: Annotated[float | None, OPERATIONAL] = Field(default=None, gt=0)
    max_cost: Annotated[float | None, OPERATIONAL] = Field(default=None, gt=0)

    _meter: Meter = PrivateAttr(default_factory=Meter)
    _warned: bool = PrivateAttr(default=False)

    def __init__(
        self,
        model: Annotated[str | None, OPERATIONAL] = None,
        *,
        max_retries: Annotated[int | None, OPERATIONAL] = None,
        **settings: Any,
    ) -> None:
        """Set up the model; `model` is short for `model_name`, and `max_retries` for a `retry` with that many."""
        if model is not None:
            settings["model_name"] = model
        if settings.get("model_name") == "":
            del settings["model_name"]
        if max_retries is not None:
            settings["retry"] = RetryPolicy(**dict(settings.get("retry", {})) | {"max_retries": max_retries})
        super().__init__(**settings)

    @property
    def usage(self) -> Usage:
        """What this model has used since it was made, by the provider's own count."""
        return Usage(
            self._meter.requests, self._meter.tokens, price_of(self._meter.charged, self._price_per_million_tokens())
        )

    # Hooks

    def _get_query_embedding(self, query: str) -> Any:
        return self._get_query_embeddings([query]).vectors[0]

    def _get_text_embedding(self, text: str) -> Any:
        return self._get_text_embeddings([text]).vectors[0]

    def _get_query_embeddings(self, queries: list[str]) -> ProviderResponse:
        return self._metered(queries, converse(self._about("query", queries), self._post))

    def _get_text_embeddings(self, texts: list[str]) -> ProviderResponse:
        return self._metered(texts, converse(self._about("text", texts), self._post))

    async def _aget_query_embeddings(self, queries: list[str]) -> ProviderResponse:
        return self._metered(queries, await aconverse(self._about("query", queries), self._apost))

    async def _aget_text_embeddings(self, texts: list[str]) -> ProviderResponse:
        return self._metered(texts, await aconverse(self._about("text", texts), self._apost))

    def _places(self) -> Places:
        """Part a text that is too long around a batch, which makes each part a provider call; pay and pace an attempt."""
        budgeted = self._budgeted()
        return Places(
            batch=(Parted(self._normalizes()),) if self.long_text == "mean" else (),
            attempt=(
                *([budgeted] if budgeted is not None else []),
                Paced(lambda: self._settled().pace, self._count_tokens, self.retry.total_seconds),
            ),
        )

    def _plan(self, kind: Kind, inputs: Sequence[str]) -> Iterable[Sequence[int]]:
        """Fill requests in input order up to the server's limits; a text that may be too long goes alone."""
        return self._requests(kind, inputs, self.embed_batch_size)

    def _requests(self, kind: Kind, inputs: Sequence[str], most: int) -> Iterable[Sequence[int]]:
        known = self._capabilities()
        most = min(most, known.max_inputs or most)
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

        A limit of the user's own is the exception: no server would enforce that. Where a mean is wanted, a limit that
        was learned on the way is none: the same text must have the same parts before and after.
        """
        if self.max_input_tokens is not None:
            return super()._windows(kind, text, limit)
        if self.long_text == "mean":
            known = _models.KNOWN.get(self.model_name)
            return [(text, 1)] if known is None else super()._windows(kind, text, known.max_input_tokens // 2)
        return super()._windows(kind, text, limit * BYTES_OF_ANY_TOKEN // 4)

    def _count_tokens(self, inputs: Sequence[Any]) -> int:
        size = sum(len(one.encode()) for one in inputs)
        return -int(-size * self._capabilities().tokens_per_byte // 1)

    # One batch

    def _about(self, kind: Kind, texts: list[str]) -> Talk:
        """Return the talk with the server about one batch."""
        return self._exchange().about(texts)

    def _exchange(self) -> Exchange:
        where, known = self._settled().endpoint, self._capabilities()
        return Exchange(
            where,
            known,
            dimensions=self.dimensions,
            may_cut=False,
            long_text=self.long_text,
            more=self.additional_kwargs,
        )

    def _metered(self, texts: list[str], response: ProviderResponse) -> ProviderResponse:
        self._meter.add((response.usage or {}).get("tokens", 0), self._count_tokens(texts))
        if response.truncated and not self._warned:
            self._warned = True
            words = "`%s` called texts too long and they were cut; set `long_text` for something else"
            _log.warning(words, self.model_name)
        return response

    def _price_per_million_tokens(self) -> float | None:
        known = _models.KNOWN.get(self.model_name)
        return self.price_per_million_tokens or (known.price if known is not None else None)

    def _budgeted(self) -> Budgeted | None:
        if self.max_cost is None:
            return None
        if (price := self._price_per_million_tokens()) is None:
            msg = f"no price is known for `{self.model_name}`, so `max_cost` needs `price_per_million_tokens`"
            raise ConfigurationError(msg)
        patience = min(self.timeout, self.retry.total_seconds)
        return Budgeted(self._meter, self.max_cost, price, self._count_tokens, patience)
