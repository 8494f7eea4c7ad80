from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from embed_core import resolve_embed_model
from embed_core.errors import AuthenticationError, ConfigurationError, ProviderError
from embed_core.testing import EmbeddingConformance, faults
from embed_core.testing.faults import Fault
from embeddings_openai import AzureOpenAIEmbedding, OpenAICompatibleEmbedding, OpenAIEmbedding
from embeddings_openai.testing import FakeEmbeddingServer

KEY = "azure-key-that-stays-at-home"


@pytest.fixture
def server() -> Iterator[FakeEmbeddingServer]:
    with FakeEmbeddingServer(dimension=1536, api_key=KEY) as running:
        yield running


class TestConformance(EmbeddingConformance):
    @pytest.fixture
    def model(self, server: FakeEmbeddingServer, monkeypatch: pytest.MonkeyPatch) -> AzureOpenAIEmbedding:
        monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
        return AzureOpenAIEmbedding(azure_endpoint=server.azure_endpoint, azure_deployment="mine", api_key=KEY)


def test_requests_go_to_the_deployment(server: FakeEmbeddingServer) -> None:
    with AzureOpenAIEmbedding(
        "text-embedding-3-small",
        azure_endpoint=server.azure_endpoint + "/",
        azure_deployment="mine",
        api_version="2024-06-01",
        api_key=KEY,
    ) as model:
        assert np.array_equal(model.embed_texts(["a"]), server.vectors(["a"]))
        assert np.array_equal(asyncio.run(model.aembed_texts(["a"])), server.vectors(["a"]))
    for request in server.requests:
        assert request.path == "/openai/deployments/mine/embeddings?api-version=2024-06-01"
        assert request.headers["api-key"] == KEY


def test_everything_can_come_from_the_environment(server: FakeEmbeddingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.azure_endpoint)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_VERSION", "2025-01-01")
    with resolve_embed_model("azure:text-embedding-3-small") as model:
        assert model.get_text_embedding("a") == server.vector("a").tolist()
    assert server.requests[0].path == "/openai/deployments/text-embedding-3-small/embeddings?api-version=2025-01-01"


@pytest.mark.parametrize("source", ["argument", "environment", "provider"])
def test_a_token_serves_instead_of_a_key(
    server: FakeEmbeddingServer, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    given: dict[str, object] = {}
    if source == "argument":
        given["azure_ad_token"] = KEY
    elif source == "provider":
        given["azure_ad_token_provider"] = lambda: KEY
    else:
        monkeypatch.setenv("AZURE_OPENAI_AD_TOKEN", KEY)
    with AzureOpenAIEmbedding(azure_endpoint=server.azure_endpoint, **given) as model:
        assert model.get_text_embedding("a") == server.vector("a").tolist()
        assert KEY not in repr(model)
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def provided() -> str:
    return "a-wrong-token-that-is-secret"


async def provided_later() -> str:
    return provided()


@pytest.mark.parametrize(("colour", "provider"), [("sync", provided), ("async", provided), ("async", provided_later)])
def test_a_token_that_is_provided_is_nowhere_to_be_seen(
    server: FakeEmbeddingServer, colour: str, provider: Callable[[], str]
) -> None:
    with (
        AzureOpenAIEmbedding(azure_endpoint=server.azure_endpoint, azure_ad_token_provider=provider) as model,
        pytest.raises(AuthenticationError, match=r"\*\*\*") as caught,
    ):
        model.embed_texts(["a"]) if colour == "sync" else asyncio.run(model.aembed_texts(["a"]))
    assert server.requests[0].headers["authorization"] == f"Bearer {provided()}"
    shown = [*traceback.format_exception(caught.value), repr(model), repr(model._endpoint())]
    assert not any(provided() in one for one in shown)


def test_a_missing_address_or_key_is_said_in_words() -> None:
    with pytest.raises(ConfigurationError, match="set `AZURE_OPENAI_ENDPOINT` or pass `azure_endpoint=`"):
        AzureOpenAIEmbedding(api_key=KEY).get_text_embedding("a")
    with pytest.raises(AuthenticationError, match="set `AZURE_OPENAI_API_KEY`"):
        AzureOpenAIEmbedding(azure_endpoint="http://127.0.0.1:1").get_text_embedding("a")


def test_azures_own_words_for_a_rate_limit_are_understood(server: FakeEmbeddingServer) -> None:
    message = "Requests have exceeded call rate limit. Please retry after 0 seconds."
    server.inject(faults.error(429, message, code="429"), faults.error(429, message, code="RateLimitReached"))
    with AzureOpenAIEmbedding(azure_endpoint=server.azure_endpoint, api_key=KEY) as model:
        assert model.get_text_embedding("a") == server.vector("a").tolist()
    assert len(server.requests) == 3


def test_a_missing_deployment_is_said_in_words(server: FakeEmbeddingServer) -> None:
    server.inject(faults.error(404, "The API deployment for this resource does not exist.", code="DeploymentNotFound"))
    model = AzureOpenAIEmbedding(azure_endpoint=server.azure_endpoint, azure_deployment="gone", api_key=KEY)
    with model, pytest.raises(ProviderError, match=r"`gone` at .*: the model is unknown there"):
        model.get_text_embedding("a")


def test_two_deployments_are_two_spaces() -> None:
    one, other = (AzureOpenAIEmbedding(azure_endpoint="http://a", azure_deployment=name) for name in ("a", "b"))
    assert one.fingerprint != other.fingerprint
    elsewhere = AzureOpenAIEmbedding(azure_endpoint="http://b", azure_deployment="a", api_version="2030-01-01")
    assert one.fingerprint == elsewhere.fingerprint


@pytest.mark.parametrize(
    ("path", "version"),
    [
        ("/openai/deployments/my%20own/embeddings?api-version=2024-06-01", ', api_version="2024-06-01"'),
        ("/openai/deployments/my%20own/embeddings", ""),
        ("/openai/deployments/my%20own/chat/completions?api-version=1#x", ', api_version="1"'),
        ("/openai/deployments/my%20own/", ""),
    ],
)
@pytest.mark.parametrize("field", ["azure_endpoint", "api_base", "environment"])
def test_a_pasted_url_is_refused_with_the_settings_that_it_holds(
    monkeypatch: pytest.MonkeyPatch, path: str, version: str, field: str
) -> None:
    with FakeEmbeddingServer() as server:
        pasted = server.azure_endpoint + "/gateway" + path
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", pasted)
        model = AzureOpenAIEmbedding(api_key=KEY, **({} if field == "environment" else {field: pasted}))
        with model, pytest.raises(ConfigurationError) as caught:
            model.embed_texts(["a"])
        named = f'azure_endpoint="{server.azure_endpoint}/gateway", azure_deployment="my own"{version})'
        assert named in str(caught.value)
        assert not server.requests


@pytest.mark.parametrize("cls", [OpenAIEmbedding, OpenAICompatibleEmbedding])
def test_a_pasted_url_is_refused_by_other_classes_too(cls: type[OpenAIEmbedding]) -> None:
    pasted = "https://name.openai.azure.com/openai/deployments/mine/embeddings?api-version=1"
    with cls("m", api_key=KEY, api_base=pasted) as model, pytest.raises(ConfigurationError) as caught:
        model.embed_texts(["a"])
    assert 'AzureOpenAIEmbedding(…, azure_endpoint="https://name.openai.azure.com", azure_depl' in str(caught.value)


def test_a_deployments_address_works_for_other_classes(server: FakeEmbeddingServer) -> None:
    base = f"{server.azure_endpoint}/openai/deployments/mine"
    more = {"extra_query": {"api-version": "1"}}
    with OpenAICompatibleEmbedding("m", api_key=KEY, api_base=base, additional_kwargs=more) as model:
        assert np.array_equal(model.embed_texts(["a"]), server.vectors(["a"]))


def test_words_about_the_address_name_azures_field(server: FakeEmbeddingServer) -> None:
    for fault in (faults.html_page(404), faults.html_page(), Fault(307, b"", {"location": "/there"})):
        server.inject(fault)
        with AzureOpenAIEmbedding(azure_endpoint=server.azure_endpoint, api_key=KEY) as model:
            with pytest.raises(ProviderError, match=r"(check|change) `azure_endpoint`") as caught:
                model.embed_texts(["a"])
            assert "api_base" not in str(caught.value)
