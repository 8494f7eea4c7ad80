"""Failures in words: what happened, what to do, the provider's request id, and never the key."""

from __future__ import annotations

import json
import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from embed_core import Vectors
from embed_core.errors import (
    AuthenticationError,
    ConfigurationError,
    EmbedError,
    ProviderError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitError,
)
from embed_core.testing import faults
from embed_core.testing.faults import Fault
from embeddings_openai import OpenAIEmbedding
from embeddings_openai.testing import FakeEmbeddingServer

Embed: TypeAlias = Callable[[OpenAIEmbedding, list[str]], Vectors]
Unreachable: TypeAlias = Callable[..., EmbedError]

KEY = "sk-this-key-stays-at-home"  # the server fixture takes no other


def failure(model: OpenAIEmbedding) -> EmbedError:
    with pytest.raises(EmbedError) as caught:
        model.get_text_embedding("a")
    return caught.value


SAID: dict[str, tuple[Fault, type[EmbedError], str]] = {
    "wrong key": (
        faults.error(401, f"Incorrect API key provided: {KEY}.", code="invalid_api_key"),
        AuthenticationError,
        "the key was refused; set `OPENAI_API_KEY`",
    ),
    "no quota": (faults.quota_exceeded(), QuotaExceededError, "add credit or raise its limit"),
    "unknown model": (
        faults.error(404, "The model `x` does not exist", code="model_not_found"),
        ProviderError,
        "the model is unknown there",
    ),
    "wrong path": (faults.html_page(404), ProviderError, "check `api_base`, which usually ends in `/v1`"),
    "forbidden": (faults.error(403, "not here"), AuthenticationError, "check its permissions"),
    "down": (faults.server_error(503), ProviderUnavailableError, "try again later"),
    "busy": (faults.rate_limited("0"), RateLimitError, "lower `num_workers` or set a `rate_limiter`"),
    "no JSON": (faults.html_page(), ProviderError, "answered text/html, not whole JSON"),
}


@pytest.mark.parametrize(("fault", "kind", "words"), SAID.values(), ids=SAID)
def test_each_failure_is_one_line_that_says_what_to_do(
    model: OpenAIEmbedding, server: FakeEmbeddingServer, fault: Fault, kind: type[EmbedError], words: str
) -> None:
    server.inject_when(lambda request: True, fault)
    error = failure(model)
    assert type(error) is kind
    assert words in str(error)
    assert "`text-embedding-3-small` at http://127.0.0.1" in str(error)
    assert "\n" not in str(error)
    assert KEY not in str(error)
    assert KEY not in str(error.__cause__)


def test_nonsense_from_a_server_never_heard_of_means_a_wrong_address(
    model: OpenAIEmbedding, server: FakeEmbeddingServer
) -> None:
    server.inject(faults.html_page())
    failure(model)
    assert len(server.requests) == 1


def test_a_server_that_says_not_to_retry_is_obeyed(model: OpenAIEmbedding, server: FakeEmbeddingServer) -> None:
    server.inject(faults.server_error(503, x_should_retry="false"))
    assert type(failure(model)) is ProviderError
    assert len(server.requests) == 1


def test_the_providers_request_id_is_said_and_kept(model: OpenAIEmbedding, server: FakeEmbeddingServer) -> None:
    server.inject(faults.quota_exceeded())
    error = failure(model)
    assert "request id req_1" in str(error)
    assert isinstance(error, ProviderError)
    assert (error.request_id, error.status_code) == ("req_1", 429)


def test_the_providers_own_exception_is_the_cause(model: OpenAIEmbedding, server: FakeEmbeddingServer) -> None:
    import openai

    server.inject(faults.quota_exceeded())
    assert isinstance(failure(model).__cause__, openai.RateLimitError)


@pytest.fixture
def unreachable(embed: Embed) -> Unreachable:
    def ask(address: str, **settings: object) -> EmbedError:
        with (
            OpenAIEmbedding(api_key=KEY, api_base=address, max_retries=0, **settings) as model,
            pytest.raises(EmbedError) as caught,
        ):
            embed(model, ["a"])
        return caught.value

    return ask


def test_nobody_listening(unreachable: Unreachable) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = unreachable(f"http://127.0.0.1:{port}/v1")
    assert isinstance(error, ProviderUnavailableError)
    assert "nobody listens there; check `api_base`" in str(error)


def test_an_unknown_host(unreachable: Unreachable) -> None:
    error = unreachable("http://nowhere.invalid/v1")
    assert "the host name is unknown; check `api_base`" in str(error)


def test_no_tls_where_tls_was_expected(unreachable: Unreachable, server: FakeEmbeddingServer) -> None:
    error = unreachable(server.base_url.replace("http:", "https:"))
    assert isinstance(error, ConfigurationError)
    assert "this port speaks no TLS; begin `api_base`, or the address of your proxy, with `http://`" in str(error)


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("HTTP_PROXY", "http://here.invalid/v1"),
        ("HTTPS_PROXY", "https://here.invalid/v1"),
        ("ALL_PROXY", "https://here.invalid/v1"),
    ],
)
@pytest.mark.parametrize("proxy", ["127.0.0.1", "nowhere.invalid"])
def test_a_dead_proxy(
    unreachable: Unreachable, monkeypatch: pytest.MonkeyPatch, variable: str, address: str, proxy: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv(variable, f"http://{proxy}:{port}")
    error = unreachable(address)
    assert isinstance(error, ProviderUnavailableError)
    assert f"most likely to the proxy that `{variable}` names; check it, `NO_PROXY` and `api_base`" in str(error)


def test_a_proxy_that_is_not_for_the_server_is_not_blamed(
    unreachable: Unreachable, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("HTTP_PROXY", "http://nowhere.invalid")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert "nobody listens there; check `api_base`" in str(unreachable(f"http://127.0.0.1:{port}/v1"))


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_certificates_that_cannot_be_read(
    unreachable: Unreachable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "root.pem").write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "root.pem"))
    error = unreachable("https://127.0.0.1:1/v1")
    assert isinstance(error, ConfigurationError)
    assert "no certificates can be read from the file that `SSL_CERT_FILE` names" in str(error)


@pytest.mark.parametrize("status", [400, 404, 500, 501, 503])
@pytest.mark.parametrize(
    "said",
    [
        "this model does not support embeddings",
        "This server does not support embeddings. Start it with `--embeddings`",
        "The model does not support Embeddings API",
        "model doesn't support embedding!",
    ],
)
def test_a_model_without_embeddings_is_no_outage(
    model: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed, status: int, said: str
) -> None:
    server.inject_when(lambda request: True, faults.error(status, said))
    with pytest.raises(ConfigurationError, match="choose another `model`") as caught:
        embed(model, [f"text {number}" for number in range(100)])
    assert said in str(caught.value)
    assert len(server.requests) == 1


def test_a_proxy_that_refuses(
    unreachable: Unreachable, monkeypatch: pytest.MonkeyPatch, server: FakeEmbeddingServer
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", server.azure_endpoint)  # it answers CONNECT with 501
    error = unreachable("https://api.example.invalid/v1")
    assert "the proxy refused the connection; check `HTTPS_PROXY`" in str(error)


def test_a_key_with_a_line_break_is_not_shown() -> None:
    with pytest.raises(ConfigurationError, match=r"the key for .* holds a line break") as caught:
        OpenAIEmbedding(api_key="sk-secret\nsk-other").get_text_embedding("a")
    assert "sk-" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="the header `x-token` holds") as caught:
        OpenAIEmbedding(api_key=KEY, default_headers={"x-token": "tökèn"}).get_text_embedding("a")
    assert "tökèn" not in str(caught.value)


def test_a_header_that_a_gateway_echoes_is_not_shown(unreachable: Unreachable, server: FakeEmbeddingServer) -> None:
    token = "token-of-the-gateway"
    server.inject(faults.error(403, f"token {token} is not allowed here"))
    error = unreachable(server.base_url, default_headers={"x-token": token})
    assert token not in str(error)
    assert token not in str(error.__cause__)


def test_a_short_header_is_no_secret_that_garbles_words(unreachable: Unreachable, server: FakeEmbeddingServer) -> None:
    server.inject(faults.error(403, "the region is not allowed"))
    error = unreachable(server.base_url, default_headers={"x-version": "1", "x-on": "e"})
    assert "(403: the region is not allowed; request id req_1)" in str(error)


def test_an_error_that_is_kept_holds_no_key(unreachable: Unreachable, server: FakeEmbeddingServer) -> None:
    server.inject(faults.error(401, f"Incorrect API key provided: {KEY}.", x_echo=KEY))
    error = unreachable(server.base_url)
    assert KEY not in repr(vars(error))
    assert KEY.encode() not in pickle.dumps(error)


def test_a_provider_that_does_not_answer(unreachable: Unreachable, server: FakeEmbeddingServer) -> None:
    server.inject(faults.hang())
    error = unreachable(server.base_url, timeout=0.1)
    assert isinstance(error, ProviderTimeoutError)
    assert "raise `timeout`" in str(error)


def wrong(*place: object, said: str = "Input should be a valid string") -> dict[str, object]:
    """Return what pydantic says of a field, and all that it repeats."""
    return {"type": "string_type", "loc": place, "msg": said, "input": ["a text with `input` and token", 5]}


def test_a_wrong_argument_is_named_after_few_requests(model: OpenAIEmbedding, server: FakeEmbeddingServer) -> None:
    body = json.dumps({"detail": [wrong("body", "user")]})
    server.inject_when(lambda request: "user" in request.body, Fault(status=422, body=body.encode()))
    model.additional_kwargs = {"user": 5}
    with pytest.raises(ProviderError, match=r"\(422: body.user: Input should be a valid string; request id") as caught:
        model.embed_texts([f"text {number}" for number in range(100)])
    assert len(server.requests) <= 8
    assert "a text with" not in str(caught.value)


def test_the_known_models_are_listed_with_the_default_first() -> None:
    assert OpenAIEmbedding.known_models()[0] == OpenAIEmbedding().model_name
