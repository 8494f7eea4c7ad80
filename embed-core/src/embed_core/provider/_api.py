"""The base class of models behind an HTTP API: an integration states the API, and has all the rest from here."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, PrivateAttr

from embed_core._state import Places
from embed_core._types import OPERATIONAL, Answers, Kind, ProviderResponse
from embed_core.errors import ConfigurationError, EmbedError
from embed_core.middleware.retried import RetryPolicy
from embed_core.provider._connected import Connected
from embed_core.provider._exchange import Exchange
from embed_core.provider._flow import Throttled
from embed_core.provider._limits import BYTES_OF_ANY_TOKEN, size_of
from embed_core.provider._parts import Parted, unit
from embed_core.provider._usage import Budgeted, Meter, Usage

_log = logging.getLogger("embed_core.provider")


class APIEmbedding(Connected):
    """A model behind an HTTP API.

    A subclass states the API by class variables and two methods, `_request` and `_answer`.

    Attributes:
        model_name: also accepted as `model`, and as the first argument.
        dimensions: length of the vectors, for models that can shorten them; None for the model's own.
        api_key: by default from the environment; never part of a saved configuration.
        api_base: the server's address, by default from the environment, else the provider's own.
        timeout: seconds without a sign of life from the server, after which an attempt is given up.
        attempt_timeout: seconds after which an attempt is given up, also while its body arrives; None for no limit. For
            a sync caller httpx measures `timeout` alone until the headers are whole.
        default_headers: sent with every request; taken for secrets, so not part of a saved configuration.
        http_client: an HTTP client of your own, which you close; or a function that makes one for the model.
        async_http_client: an async HTTP client of your own, for the one event loop it belongs to; or a function that
            makes one for every loop.
        price_per_million_tokens: US dollars; None takes the known price of the model.
        max_cost: US dollars this model may spend, from its making on; a request that is expected to exceed it is not
            sent. Only answers tell how many tokens texts really have: documents wait up to a second for the first one,
            and where later texts have many more, requests in flight by then may exceed it.
    """

    io_bound: ClassVar[bool] = True

    path: ClassVar[str] = "/embeddings"
    """The path of the endpoint below the address."""

    cuts_dimensions: ClassVar[bool] = False
    """Whether vectors that the server does not shorten to `dimensions` are cut here."""

    num_workers: Annotated[int, OPERATIONAL] = Field(default=8, ge=1)
    dimensions: int | None = Field(default=None, ge=1)
    price_per_million_tokens: Annotated[float | None, OPERATIONAL] = Field(default=None, gt=0)
    max_cost: Annotated[float | None, OPERATIONAL] = Field(default=None, gt=0)

    model_name: str = Field(default="unknown", kw_only=False)

    if TYPE_CHECKING:  # arguments beside the fields
        model: str | None = None
        max_retries: int | None = None
    else:

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

    _meter: Meter = PrivateAttr(default_factory=Meter)
    _warned: bool = PrivateAttr(default=False)

    @property
    def usage(self) -> Usage:
        """The use of this model since it was made, by the provider's own count."""
        return self._meter.usage(self._price_per_million_tokens())

    @classmethod
    def known_models(cls) -> Sequence[str]:
        """Return the models that the provider documents, the default first."""
        return list(cls.models)

    # To write

    @abstractmethod
    def _request(self, kind: Kind, inputs: list[Any]) -> Any:
        """Return the JSON body that asks for the vectors of a batch."""

    @abstractmethod
    def _answer(self, payload: Any) -> Answers:
        """Return the vectors in a JSON answer, in a `ProviderResponse` where it tells their positions or usage.

        A `LookupError`, `TypeError`, `ValueError` or `AttributeError` means that the answer makes no sense.
        """

    # May be written

    def _path(self, kind: Kind) -> str:
        """Return the endpoint's path below the address."""
        return self.path

    def _learn(self, body: Any, error: EmbedError) -> None:
        """Learn from a refused body that the server lacks a feature; a batch whose `_request` changes is sent again."""

    def _finished(self, vectors: Any) -> Any:
        """Return the vectors of an answer as the user gets them."""
        dimensions = self.dimensions
        if dimensions and self.cuts_dimensions and isinstance(vectors, np.ndarray) and vectors.shape[1] > dimensions:
            return unit(vectors[:, :dimensions])
        return vectors

    # One batch

    def _embed(self, kind: Kind, inputs: list[Any]) -> ProviderResponse:
        """Send a batch, and after some refusals send it in another form."""
        server = self._settled()
        exchange = Exchange(self, server.endpoint, server.abilities, kind, inputs)
        while exchange.response is None:
            try:
                exchange.answered(server.post(self._path(kind), exchange.body, len(inputs)))
            except EmbedError as error:
                if not exchange.refused(error):
                    raise
        return self._metered(inputs, exchange.response)

    async def _aembed(self, kind: Kind, inputs: list[Any]) -> ProviderResponse:
        """Send a batch; see `_embed`."""
        server = self._settled()
        exchange = Exchange(self, server.endpoint, server.abilities, kind, inputs)
        while exchange.response is None:
            try:
                exchange.answered(await server.apost(self._path(kind), exchange.body, len(inputs)))
            except EmbedError as error:
                if not exchange.refused(error):
                    raise
        return self._metered(inputs, exchange.response)

    def _metered(self, inputs: Sequence[Any], response: ProviderResponse) -> ProviderResponse:
        self._meter.add((response.usage or {}).get("tokens", 0), self._count_tokens(inputs))
        if response.truncated and not self._warned:
            self._warned = True
            words = "`%s` called texts too long and they were cut; set `long_text` for something else"
            _log.warning(words, self.model_name)
        return response

    def _get_query_embedding(self, query: str) -> Any:
        return self._embed("query", [query]).vectors[0]

    def _get_text_embedding(self, text: str) -> Any:
        return self._embed("text", [text]).vectors[0]

    def _get_query_embeddings(self, queries: list[str]) -> ProviderResponse:
        return self._embed("query", queries)

    def _get_text_embeddings(self, texts: list[str]) -> ProviderResponse:
        return self._embed("text", texts)

    async def _aget_query_embeddings(self, queries: list[str]) -> ProviderResponse:
        return await self._aembed("query", queries)

    async def _aget_text_embeddings(self, texts: list[str]) -> ProviderResponse:
        return await self._aembed("text", texts)

    # The way there

    def _places(self) -> Places:
        """Part a text that is too long around a batch, so that each part is a provider call; throttle an attempt."""
        budgeted = None if self.max_cost is None else self._budgeted()
        count = self._count_tokens
        throttled = Throttled(self._settled, count, self.limits.counts_inputs, self.retry.total_seconds)
        return Places(
            batch=(Parted(self._normalizes()),) if self.long_text == "mean" else (),
            attempt=(throttled,) if budgeted is None else (budgeted, throttled),
        )

    def _plan(self, kind: Kind, inputs: Sequence[Any]) -> Iterable[Sequence[int]]:
        """Fill requests in input order up to the server's limits; a text that may be too long goes alone."""
        if len(inputs) == 1:
            return [range(1)]
        return self._capabilities().plan(inputs, self.embed_batch_size, self._input_limit(kind))

    def _declared_dimension(self) -> int | None:
        known = self._known()
        return self.dimensions or (known.dimension if known is not None else None)

    def _input_limit(self, kind: Kind) -> int | None:
        known, learned = self._known(), self._capabilities().input_tokens.get(self._endpoint_model())
        return self.max_input_tokens or learned or (known.max_input_tokens if known is not None else None)

    def _windows(self, kind: Kind, text: str, limit: int) -> Any:
        """Leave the exact length to the server, which counts for nothing; cut only texts that it surely refuses.

        A limit of the user's own is the exception: no server would enforce that. Where a mean is wanted, a limit that
        was learned on the way is none: the same text must have the same parts before and after.
        """
        if self.max_input_tokens is not None:
            return super()._windows(kind, text, limit)
        if self.long_text == "mean":
            known = self._known()
            documented = known.max_input_tokens if known is not None else None
            return [(text, 1)] if documented is None else super()._windows(kind, text, documented // 2)
        return super()._windows(kind, text, limit * BYTES_OF_ANY_TOKEN // 4)

    def _count_tokens(self, inputs: Sequence[Any]) -> int:
        return -int(-size_of(inputs) * (self._abilities or self._capabilities()).tokens_per_byte // 1)

    def _count_requests(self, inputs: Sequence[Any]) -> int:
        return len(inputs) if self.limits.counts_inputs else 1

    # Money

    def _price_per_million_tokens(self) -> float | None:
        known = self._known()
        return self.price_per_million_tokens or (known.price if known is not None else None)

    def _budgeted(self) -> Budgeted | None:
        if self.max_cost is None:
            return None
        if (price := self._price_per_million_tokens()) is None:
            msg = f"no price is known for `{self.model_name}`, so `max_cost` needs `price_per_million_tokens`"
            raise ConfigurationError(msg)
        patience = min(self.timeout, self.retry.total_seconds)
        return Budgeted(self._meter, self.max_cost, price, self._count_tokens, patience)
