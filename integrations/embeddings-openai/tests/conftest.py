from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import openai
import pytest
from embed_core import RetryPolicy, Vectors
from embed_core.provider import _flow, _limits
from embed_core.testing.faults import Fault
from embeddings_openai import OpenAIEmbedding
from embeddings_openai.testing import FakeEmbeddingServer

Embed: TypeAlias = Callable[[OpenAIEmbedding, list[str]], Vectors]

KEY = "sk-this-key-stays-at-home"


@pytest.fixture(autouse=True)
def _only_our_own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "OPENAI_API_BASE",
        "OPENAI_ORG_ID",
        "OPENAI_PROJECT_ID",
        "AZURE_OPENAI_API_KEY",
        "AZURE_OPENAI_ENDPOINT",
        "AZURE_OPENAI_AD_TOKEN",
        "OPENAI_API_VERSION",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


class HoldingServer(FakeEmbeddingServer):
    """Holds requests until it is told to go on, or until so many have come, and knows which are under way.

    Attributes:
        held: requests for these texts wait until `release`.
        crowd: every request waits until so many have been there at once.
        most: how many there have been at once.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.held, self.crowd, self.most = set[str](), 0, 0
        self._there: list[Any] = []
        self._changed = threading.Condition()

    @property
    def under_way(self) -> int:
        """How many requests there are."""
        return len(self._there)

    def respond(self, received: Any) -> tuple[Fault, Fault]:
        with self._changed:
            self._there.append(received)
            self.most = max(self.most, self.under_way)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.most >= self.crowd and self.held.isdisjoint(received.inputs), 60)
            self._there.remove(received)
        return super().respond(received)

    def wait_for(self, text: str) -> None:
        """Wait until a request for a text is there."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(text in one.inputs for one in self._there), 60)

    def release(self, *texts: str) -> None:
        """Answer the held requests for these texts, or all of them."""
        with self._changed:
            self.held -= set(texts) or self.held
            self._changed.notify_all()


@pytest.fixture
def server() -> Iterator[HoldingServer]:
    with HoldingServer(dimension=1536, api_key=KEY) as running:
        yield running


@pytest.fixture
def model(server: FakeEmbeddingServer) -> Iterator[OpenAIEmbedding]:
    quick = RetryPolicy(max_retries=3, initial_seconds=0.01, max_seconds=0.02)
    with OpenAIEmbedding(api_key=KEY, api_base=server.base_url, retry=quick) as made:
        yield made


@pytest.fixture(params=["sync", "async", "async by aiohttp"])
def embed(request: pytest.FixtureRequest) -> Embed:
    """How a model is asked: by each library that can carry a request."""

    def by_asyncio(model: OpenAIEmbedding, texts: list[str]) -> Vectors:
        if request.param == "async by aiohttp":
            model.async_http_client = openai.DefaultAioHttpClient
        return asyncio.run(model.aembed_texts(texts))

    return OpenAIEmbedding.embed_texts if request.param == "sync" else by_asyncio


@pytest.fixture(autouse=True)
def _no_memory_of_other_servers() -> None:
    """Forget what was learned: the system gives a port again."""
    _limits._learned.clear()
    _flow._last.clear()
