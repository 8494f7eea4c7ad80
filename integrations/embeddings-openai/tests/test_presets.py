"""Body fields of compatible servers, arguments as the SDK has them, and servers by name."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from embed_core.errors import AuthenticationError, ConfigurationError, ProviderError, ProviderTimeoutError
from embed_core.testing import faults
from embeddings_openai import OpenAICompatibleEmbedding, OpenAIEmbedding, presets
from embeddings_openai.testing import FakeEmbeddingServer

KEY = "sk-this-key-stays-at-home"
CLASSES = [getattr(presets, name) for name in presets.__all__]


@pytest.fixture
def server() -> Iterator[FakeEmbeddingServer]:
    with FakeEmbeddingServer(dimension=16) as running:
        yield running


def bodies(server: FakeEmbeddingServer) -> list[Any]:
    return [request.body for request in server.requests]


# Body fields per kind


def test_queries_and_texts_have_body_fields_of_their_own(server: FakeEmbeddingServer) -> None:
    with OpenAICompatibleEmbedding(
        "m", api_base=server.base_url, query_body={"input_type": "query"}, text_body={"input_type": "document"}
    ) as model:
        model.get_query_embedding("a")
        asyncio.run(model.aget_text_embedding("a"))
        assert [body["input_type"] for body in bodies(server)] == ["query", "document"]
        other = model.with_(text_body={"input_type": "passage"})
    assert other.fingerprint != model.fingerprint


def test_a_field_of_a_kind_may_be_the_form_of_the_vectors(server: FakeEmbeddingServer) -> None:
    with OpenAICompatibleEmbedding("m", api_base=server.base_url, text_body={"encoding_format": "float"}) as model:
        assert np.array_equal(model.embed_texts(["a"]), server.vectors(["a"]))
    assert bodies(server)[0]["encoding_format"] == "float"


# additional_kwargs


Make = Callable[..., Any]


@pytest.fixture(params=[OpenAIEmbedding, OpenAICompatibleEmbedding])
def make(request: pytest.FixtureRequest, server: FakeEmbeddingServer) -> Make:
    return lambda **more: request.param(
        "m", api_key=KEY, api_base=server.base_url, max_retries=0, additional_kwargs=more
    )


def test_an_encoding_format_of_the_users_own_wins(make: Make, server: FakeEmbeddingServer) -> None:
    with make(encoding_format="float") as model:
        assert np.array_equal(model.embed_texts(["a"]), server.vectors(["a"]))
    assert bodies(server)[0]["encoding_format"] == "float"


def test_an_encoding_format_of_the_users_own_that_is_refused_is_an_error(
    make: Make, server: FakeEmbeddingServer
) -> None:
    server.base64 = "refuse"
    with make(encoding_format="base64") as model, pytest.raises(ProviderError, match="base64 is not supported"):
        model.embed_texts(["a"])
    assert len(server.requests) == 1


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_arguments_mean_what_they_mean_in_the_sdk(make: Make, server: FakeEmbeddingServer, colour: str) -> None:
    with make(
        user="me",
        extra_body={"truncate": "END"},
        extra_headers={"x-mine": "yes"},
        extra_query={"version": "2"},
        timeout=9,
    ) as model:
        model.embed_texts(["a"]) if colour == "sync" else asyncio.run(model.aembed_texts(["a"]))
    (request,) = server.requests
    assert request.body == {"model": "m", "input": ["a"], "encoding_format": "base64", "user": "me", "truncate": "END"}
    assert request.headers["x-mine"] == "yes"
    assert request.path.endswith("/embeddings?version=2")


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_none_is_what_it_is_in_the_sdk(make: Make, server: FakeEmbeddingServer, colour: str) -> None:
    with make(extra_headers=None, extra_query=None, extra_body=None, timeout=None) as model:
        model.embed_texts(["a"]) if colour == "sync" else asyncio.run(model.aembed_texts(["a"]))
    assert server.requests[0].path.endswith("/embeddings")


def test_a_header_in_the_arguments_stays_out_of_messages(make: Make, server: FakeEmbeddingServer) -> None:
    server.inject(faults.error(400, "bad token my-other-secret"))
    with make(extra_headers={"x-mine": "my-other-secret"}) as model, pytest.raises(ProviderError) as caught:
        model.embed_texts(["a"])
    assert "my-other-secret" not in f"{caught.value} {caught.value.__cause__!r}"


def test_a_timeout_in_the_arguments_is_that_of_the_request_and_no_part_of_the_space(
    make: Make, server: FakeEmbeddingServer
) -> None:
    server.inject(faults.hang())
    with make(timeout=0.1) as model, pytest.raises(ProviderTimeoutError):
        model.embed_texts(["a"])
    assert make(timeout=0.1).fingerprint == make().fingerprint != make(user="me").fingerprint


@pytest.mark.parametrize("fault", [faults.drip(), faults.Fault(status=400, body=b"no " * 1000, wire="drip")])
@pytest.mark.parametrize("colour", ["sync", "async", "async by aiohttp"])
def test_an_attempt_ends_though_the_server_drips_on(
    server: FakeEmbeddingServer, colour: str, fault: faults.Fault
) -> None:
    import openai

    server.inject(fault)
    client = openai.DefaultAioHttpClient if colour == "async by aiohttp" else None
    with (
        OpenAIEmbedding(
            api_key=KEY, api_base=server.base_url, max_retries=0, attempt_timeout=0.1, async_http_client=client
        ) as model,
        pytest.raises(ProviderTimeoutError, match="no answer in time"),
    ):
        model.embed_texts(["a"]) if colour == "sync" else asyncio.run(model.aembed_texts(["a"]))


# Servers by name


@pytest.mark.parametrize("cls", CLASSES)
def test_a_named_server_is_made_from_a_spec_copied_and_saved(cls: type[OpenAICompatibleEmbedding]) -> None:
    model = cls.from_spec("some-model", num_workers="3")
    assert (model.model_name, model.num_workers) == ("some-model", 3)
    for twin in (copy.deepcopy(model), cls.from_dict(json.loads(json.dumps(model.to_dict())))):
        assert type(twin) is cls
        assert twin.fingerprint == model.fingerprint
    assert model.to_dict()["provider"] == cls.provider


@pytest.mark.parametrize("cls", CLASSES)
def test_a_named_server_gets_its_own_key_and_no_other(
    cls: type[OpenAICompatibleEmbedding], server: FakeEmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_COMPATIBLE_API_KEY"):
        monkeypatch.setenv(name, "for another")
    monkeypatch.setenv("OPENAI_COMPATIBLE_BASE_URL", "http://elsewhere/v1")
    if cls.needs_key:
        with pytest.raises(AuthenticationError, match=f"set `{cls.key_variables[0]}`"):
            cls("m").embed_texts(["a"])
        monkeypatch.setenv(cls.key_variables[0], KEY)
    with cls("m", api_base=server.base_url, base64_dtype="float32") as model:
        model.embed_texts(["a"])
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY if cls.needs_key else 'none'}"
    assert cls("m").to_dict()["api_base"] is None
    assert cls.needs_consent({"api_base": "http://elsewhere/v1"}) or not cls.needs_key


def test_nvidia_is_told_queries_and_passages_apart(server: FakeEmbeddingServer) -> None:
    with presets.NvidiaEmbedding("m", api_key=KEY, api_base=server.base_url) as model:
        model.get_query_embedding("a")
        model.get_text_embedding("a")
    assert [(body["input_type"], body["truncate"]) for body in bodies(server)] == [
        ("query", "NONE"),
        ("passage", "NONE"),
    ]


def test_perplexitys_integers_are_read_as_integers(server: FakeEmbeddingServer) -> None:
    rows = np.random.default_rng(0).integers(-128, 127, (2, 1024), dtype=np.int8)
    items = [{"index": row, "embedding": base64.b64encode(rows[row].tobytes()).decode()} for row in (1, 0)]
    server.inject(faults.payload({"data": items}))
    with presets.PerplexityEmbedding(api_key=KEY, api_base=server.base_url) as model:
        vectors = model.embed_texts(["a", "b"])
    expected = rows / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    assert np.allclose(vectors, expected, atol=1e-6)
    assert bodies(server)[0]["encoding_format"] == "base64_int8"


def test_numbers_of_another_size_are_no_vector(server: FakeEmbeddingServer) -> None:
    server.inject(faults.payload({"data": [{"index": 0, "embedding": base64.b64encode(b"12345").decode()}]}))
    with (
        OpenAICompatibleEmbedding("m", api_base=server.base_url) as model,
        pytest.raises(Exception, match="holds no embeddings"),
    ):
        model.embed_texts(["a"])


def test_an_unknown_type_of_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="base64_dtype"):
        OpenAICompatibleEmbedding("m", base64_dtype="int4")


def test_tei_gets_no_more_than_it_takes(server: FakeEmbeddingServer) -> None:
    server.limits.inputs = 32
    with presets.TEIEmbedding("m", api_base=server.base_url, embed_batch_size=100) as model:
        texts = [str(number) for number in range(100)]
        assert np.array_equal(model.embed_texts(texts), server.vectors(texts))
    assert max(len(body["input"]) for body in bodies(server)) == 32
    with pytest.raises(ConfigurationError, match="set `OPENAI_COMPATIBLE_BASE_URL` or pass `api_base=`"):
        OpenAICompatibleEmbedding("m").embed_texts(["a"])
