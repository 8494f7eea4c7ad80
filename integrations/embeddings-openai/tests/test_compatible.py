"""Servers that are only nearly OpenAI's: found out by asking, remembered by address."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from embed_core import RetryPolicy, Vectors, resolve_embed_model
from embed_core.errors import (
    ConfigurationError,
    EmbeddingIntegrityError,
    InputTooLongError,
    InvalidInputError,
    ProviderError,
)
from embed_core.instrumentation import CallbackManager, EmbeddingEndEvent, EmbeddingEvent
from embed_core.kvstore import MemoryKVStore
from embed_core.testing import EmbeddingConformance, Received, faults
from embeddings_openai import OpenAICompatibleEmbedding, OpenAIEmbedding, presets
from embeddings_openai.testing import FakeEmbeddingServer

Embed = Callable[[OpenAICompatibleEmbedding, list[str]], Vectors]

TEXTS = ["one", "two", "three", "four"]


@pytest.fixture(params=["sync", "async"])
def embed(request: pytest.FixtureRequest) -> Embed:
    if request.param == "sync":
        return OpenAICompatibleEmbedding.embed_texts
    return lambda model, texts: asyncio.run(model.aembed_texts(texts))


@pytest.fixture
def server() -> Iterator[FakeEmbeddingServer]:
    with FakeEmbeddingServer(dimension=16) as running:
        yield running


@pytest.fixture
def model(server: FakeEmbeddingServer) -> Iterator[OpenAICompatibleEmbedding]:
    quick = RetryPolicy(max_retries=2, initial_seconds=0.01, max_seconds=0.02)
    with OpenAICompatibleEmbedding("e5", api_base=server.base_url, retry=quick, num_workers=1) as made:
        yield made


class TestConformance(EmbeddingConformance):
    @pytest.fixture
    def model(self, server: FakeEmbeddingServer) -> OpenAICompatibleEmbedding:
        return OpenAICompatibleEmbedding("e5", api_base=server.base_url)


def test_a_spec_names_model_and_server() -> None:
    model = resolve_embed_model("openai-compatible:BAAI/bge-m3?api_base=http://localhost:8000/v1")
    assert isinstance(model, OpenAICompatibleEmbedding)
    assert (model.model_name, model.api_base) == ("BAAI/bge-m3", "http://localhost:8000/v1")


def test_no_key_is_needed_and_that_of_openai_is_not_sent_to_strangers(
    model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-openai-only")
    model.get_text_embedding("a")
    assert "sk-for-openai-only" not in str(server.requests[0].headers)


def test_a_server_without_an_address_is_a_clear_error() -> None:
    with pytest.raises(ConfigurationError, match="set `OPENAI_COMPATIBLE_BASE_URL` or pass `api_base=`"):
        OpenAICompatibleEmbedding("e5").get_text_embedding("a")


def space(api_base: str | None = None, **settings: Any) -> str:
    return OpenAICompatibleEmbedding("e5", api_base=api_base, **settings).fingerprint


def test_the_address_is_part_of_the_space() -> None:
    here = space("http://here/v1")
    assert here != space("http://elsewhere/v1")
    assert here != space("http://here:8000/v1")
    assert here != space("http://here/v2")
    assert here != space("http://here/v1", query_instruction="query: ")
    assert presets.VLLMEmbedding("e5").fingerprint != presets.VLLMEmbedding("e5", api_base="http://here/v1").fingerprint


@pytest.mark.parametrize("same", ["http://here/v1/", "http://HERE/v1", "HTTP://Here/v1//", None])
def test_another_form_of_an_address_is_the_same_space(monkeypatch: pytest.MonkeyPatch, same: str | None) -> None:
    monkeypatch.setenv("OPENAI_COMPATIBLE_BASE_URL", "http://here/v1/")
    assert space("http://here/v1") == space(same)


def test_an_address_of_the_environment_stays_that_of_the_first_request(
    monkeypatch: pytest.MonkeyPatch, server: FakeEmbeddingServer
) -> None:
    monkeypatch.setenv("OPENAI_COMPATIBLE_BASE_URL", server.base_url)
    with OpenAICompatibleEmbedding("e5") as model:
        model.embed_texts(["a"])
        monkeypatch.setenv("OPENAI_COMPATIBLE_BASE_URL", "http://elsewhere.invalid/v1")
        model.timeout = 5
        model.embed_texts(["b"])
    assert len(server.requests) == 2


def test_servers_of_one_name_share_a_space() -> None:
    ours = space("http://here/v1", server_name="ours")
    assert ours == space("http://elsewhere/v1", server_name="ours") == space(server_name="ours")
    assert ours not in {space("http://here/v1"), space("http://here/v1", server_name="theirs")}


def test_two_servers_never_give_each_others_vectors_from_a_cache(embed: Embed) -> None:
    cache = MemoryKVStore()
    with FakeEmbeddingServer(dimension=16) as one, FakeEmbeddingServer(dimension=8) as other:
        for server in (one, other, one):
            with OpenAICompatibleEmbedding("e5", api_base=server.base_url, embeddings_cache=cache) as model:
                assert np.array_equal(embed(model, TEXTS), server.vectors(TEXTS))
        assert [len(server.requests) for server in (one, other)] == [1, 1]


def test_an_address_is_fixed_after_the_first_call_unless_the_server_has_a_name(server: FakeEmbeddingServer) -> None:
    model = OpenAICompatibleEmbedding("e5", api_base="http://elsewhere/v1")
    before, model.api_base = model.fingerprint, server.base_url
    assert model.fingerprint == space(server.base_url) != before
    with model:
        model.embed_texts(["a"])
        with pytest.raises(ConfigurationError, match=r"`api_base` of .* decides vectors"):
            model.api_base = "http://elsewhere/v1"
    with OpenAICompatibleEmbedding("e5", api_base=server.base_url, server_name="ours") as named:
        named.embed_texts(["a"])
        with FakeEmbeddingServer(dimension=16) as moved:
            named.api_base = moved.base_url
            named.embed_texts(["a"])
            assert len(moved.requests) == 1


# Formats


def formats(server: FakeEmbeddingServer) -> list[str | None]:
    return [request.body.get("encoding_format") for request in server.requests]


@pytest.mark.parametrize("behaviour", ["refuse", "empty"])
def test_base64_refused_means_floats_from_then_on(
    model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer, embed: Embed, behaviour: str
) -> None:
    server.base64 = behaviour  # type: ignore[assignment]  # one of its literals
    for _ in range(2):
        assert np.array_equal(embed(model, TEXTS), server.vectors(TEXTS))
    assert formats(server) == ["base64", "float", "float"]


def test_what_one_model_found_out_another_knows(model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer) -> None:
    server.base64 = "refuse"
    model.get_text_embedding("a")
    with OpenAICompatibleEmbedding("other", api_base=server.base_url) as other:
        other.get_text_embedding("a")
    assert formats(server) == ["base64", "float", "float"]


def test_floats_sent_in_spite_of_base64_are_taken(
    model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer, embed: Embed
) -> None:
    server.base64 = "ignore"
    assert np.array_equal(embed(model, TEXTS), server.vectors(TEXTS))
    assert formats(server) == ["base64"]


def test_a_gateway_that_refuses_the_parameter_itself_is_asked_without(
    model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer, embed: Embed
) -> None:
    unsupported = faults.error(500, "UnsupportedParamsError: ollama does not support parameters: encoding_format")
    server.inject_when(lambda request: "encoding_format" in request.body, unsupported)
    for _ in range(2):
        assert np.array_equal(embed(model, TEXTS), server.vectors(TEXTS))
    assert formats(server) == ["base64", "float", None, None]


def test_a_server_that_never_sends_vectors_is_an_error(
    model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer, embed: Embed
) -> None:
    server.inject_when(lambda request: True, faults.payload({"data": []}))
    with pytest.raises(EmbeddingIntegrityError, match="answered 0 vectors for 1 inputs; at input 0"):
        embed(model, TEXTS)
    most = 8  # failures in a row after which the fault is not in the inputs
    assert formats(server)[:3] == ["base64", "float", None]
    assert len(server.requests) <= 3 + most


def test_one_empty_answer_of_a_server_that_gives_base64_changes_nothing(
    model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer, embed: Embed
) -> None:
    embed(model, TEXTS)
    server.inject(faults.payload({"data": []}))
    assert np.array_equal(embed(model, TEXTS), server.vectors(TEXTS))
    assert formats(server) == ["base64"] * 5  # one input of the second batch, and then the others


@pytest.mark.parametrize("behaviour", ["refuse", "empty"])
def test_many_refusals_at_once_go_down_one_step(server: FakeEmbeddingServer, behaviour: str) -> None:
    server.base64, server.latency = behaviour, 0.05  # type: ignore[assignment]  # one of its literals
    with OpenAICompatibleEmbedding("e5", api_base=server.base_url, embed_batch_size=1) as model:
        assert np.array_equal(model.embed_texts(TEXTS), server.vectors(TEXTS))
    assert set(formats(server)) == {"base64", "float"}


# Dimensions


@pytest.mark.parametrize("supported", [True, False])
def test_dimensions_come_from_the_server_or_are_cut_here(
    server: FakeEmbeddingServer, embed: Embed, supported: bool
) -> None:
    server.dimensions = supported
    with OpenAICompatibleEmbedding("e5", api_base=server.base_url, dimensions=4) as model:
        for _ in range(2):
            vectors = embed(model, TEXTS)
    assert np.allclose(vectors, server.vectors(TEXTS, 4), atol=1e-6)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    asked = ["dimensions" in request.body for request in server.requests]
    assert asked == ([True, True] if supported else [True, False, False])


def test_dimensions_that_the_server_ignores_are_cut_here(server: FakeEmbeddingServer) -> None:
    full = [{"index": 0, "embedding": server.vector("a").tolist()}]
    server.inject(faults.payload({"data": full}))
    with OpenAICompatibleEmbedding("e5", api_base=server.base_url, dimensions=4) as model:
        assert np.allclose(model.embed_texts(["a"]), server.vectors(["a"], 4), atol=1e-6)


def test_openai_itself_knows_which_models_it_can_shorten(server: FakeEmbeddingServer) -> None:
    server.dimensions = False
    model = OpenAIEmbedding("text-embedding-ada-002", dimensions=4, api_key="k", api_base=server.base_url)
    with model, pytest.raises(ProviderError, match="does not support specifying dimensions"):
        model.get_text_embedding("a")
    assert len(server.requests) == 1


def test_vectors_are_made_unit_vectors_on_request(server: FakeEmbeddingServer) -> None:
    server.inject(faults.payload({"data": [{"index": 0, "embedding": [3.0, 4.0]}]}))
    with OpenAICompatibleEmbedding("e5", api_base=server.base_url, normalize=True) as model:
        assert np.allclose(model.embed_texts(["a"]), [[0.6, 0.8]])


def test_an_answer_without_positions_or_usage_is_in_input_order(
    model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer
) -> None:
    data = [{"embedding": server.vector(text).tolist()} for text in TEXTS]
    server.inject(faults.payload({"data": data}))
    assert np.array_equal(model.embed_texts(TEXTS), server.vectors(TEXTS))
    assert model.usage.tokens == 0


@pytest.mark.parametrize("embedding", [[[1, 2], [3, 4]], 5, True, None, "", [], {}, [1e300, 0], [[]]])
def test_what_is_no_vector_is_never_taken_for_one(server: FakeEmbeddingServer, embed: Embed, embedding: object) -> None:
    answer = faults.payload({"data": [{"index": index, "embedding": embedding} for index in range(4)]})
    server.inject_when(lambda request: True, answer)
    with OpenAICompatibleEmbedding("e5", api_base=server.base_url, normalize=True) as model:
        with pytest.raises(EmbeddingIntegrityError):
            embed(model, TEXTS)
        assert len(server.requests) <= 8  # failures in a row after which the fault is not in the inputs


def test_instructions_go_before_queries_and_texts(server: FakeEmbeddingServer) -> None:
    with OpenAICompatibleEmbedding(
        "e5", api_base=server.base_url, query_instruction="query: ", text_instruction="passage: "
    ) as model:
        assert model.get_query_embedding("a") == server.vector("query: a").tolist()
        assert model.get_text_embedding("a") == server.vector("passage: a").tolist()


# Limits


TOO_MANY = {
    "TEI": (413, "batch size 4 > maximum allowed batch size 2"),
    "TEI, older": (422, "batch size 4 > maximum allowed batch size 2"),
    "OpenAI": (400, "Invalid 'input': array too long. Expected an array with maximum length 2, but got length 4."),
    "FastAPI": (422, "{'loc': ['body', 'input'], 'msg': 'List should have at most 2 items after validation, not 4'}"),
    "DashScope": (400, "Value error, batch size is invalid, it should not be larger than 2.: input.contents"),
    "Cohere": (400, "invalid inputs: total number of texts must be at most 2 - received 4"),
}


@pytest.mark.parametrize(("status", "message"), TOO_MANY.values(), ids=TOO_MANY)
def test_a_limit_on_inputs_is_learned_and_kept(
    model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer, embed: Embed, status: int, message: str
) -> None:
    server.inject_when(lambda request: len(request.inputs) > 2, faults.error(status, message))
    texts = [*TEXTS, "five"]
    assert np.array_equal(embed(model, texts), server.vectors(texts))
    assert [len(request.inputs) for request in server.requests] == [5, 2, 2, 1]
    embed(model, [text * 100 for text in texts])
    assert [len(request.inputs) for request in server.requests[4:]] == [2, 2, 1]


def test_a_limit_that_nobody_names_is_found_by_halving(
    model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer, embed: Embed
) -> None:
    server.inject_when(lambda request: len(request.inputs) > 2, faults.error(400, "'$.input' is invalid"))
    assert np.array_equal(embed(model, TEXTS), server.vectors(TEXTS))
    assert [len(request.inputs) for request in server.requests] == [4, 2, 2]


def test_a_limit_on_bytes_is_learned_and_kept(
    model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer, embed: Embed
) -> None:
    server.limits.bytes = 1000
    texts = [f"{number} " + "x" * 198 for number in range(8)]
    assert np.array_equal(embed(model, texts), server.vectors(texts))
    assert [len(request.inputs) for request in server.requests] == [8, 4, 4]
    embed(model, texts)
    assert [len(request.inputs) for request in server.requests[3:]] == [4, 4]


@pytest.mark.parametrize(
    "message",
    [
        "Input 7: at most 3 newlines are allowed",
        "input[3] exceeds the limit of 5 characters",
        "all inputs must have at most 5 characters",
        "Invalid 'input[2]': string too short, must be more than 1 character",
    ],
)
def test_a_limit_on_one_input_is_none_on_their_number(
    model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer, message: str
) -> None:
    texts = [str(number) for number in range(8)]
    server.inject(faults.error(400, message))
    with suppress(InvalidInputError):
        model.embed_texts(texts)
    del server.requests[:]
    assert np.array_equal(model.embed_texts(texts), server.vectors(texts))
    assert len(server.requests) == 1


@pytest.mark.parametrize("workers", [1, 8])
def test_a_limit_on_bytes_is_learned_from_what_was_refused_however_often(
    model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer, embed: Embed, workers: int
) -> None:
    server.limits.bytes, server.latency = 10_000, 0.01
    model.embed_batch_size, model.num_workers = 256, workers
    texts = [f"{number:04} " + "x" * 95 for number in range(2000)]  # 200 kB, so 20 requests at best
    assert np.array_equal(embed(model, texts), server.vectors(texts))
    assert len(server.requests) < 20 * 5  # each of the batches in flight is refused before the first refusal is known
    del server.requests[:]
    embed(model, [text + "y" for text in texts])
    assert len(server.requests) <= 20 * 2  # a refused size is halved, so half of the limit at worst


def test_a_limit_on_bytes_that_turns_out_too_small_grows(
    model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer
) -> None:
    server.inject(faults.error(413, "Request entity too large"))
    texts = ["x" * 100] * 8
    model.embed_texts(texts)
    model.embed_texts(["x" * 800])
    del server.requests[:]
    model.embed_texts(texts)
    assert len(server.requests) == 1


@pytest.mark.parametrize("cached", [False, True])
def test_a_limit_on_tokens_is_learned_and_kept(
    model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer, embed: Embed, cached: bool
) -> None:
    model.embeddings_cache = MemoryKVStore() if cached else None
    server.limits.tokens, server.tokens_of = 100, lambda text: len(text) // 2
    texts = [f"{number} " + "x" * 38 for number in range(10)]
    assert np.array_equal(embed(model, texts), server.vectors(texts))
    assert [len(request.inputs) for request in server.requests] == [10, 5, 5]
    others = [text + "!" for text in texts[:6]]
    embed(model, others)
    assert all(len(request.inputs) < 6 for request in server.requests[3:])
    assert sum(len(request.inputs) for request in server.requests[3:]) == 6


# Long texts


def words(count: int) -> str:
    return " ".join(f"w{number:04}" for number in range(count))


@pytest.fixture
def short_model(server: FakeEmbeddingServer) -> Iterator[OpenAICompatibleEmbedding]:
    """A model of 100 tokens, each five bytes, which only the server knows."""
    server.limits.input_tokens, server.tokens_of = 100, lambda text: -(-len(text.encode()) // 5)
    with OpenAICompatibleEmbedding("e5", api_base=server.base_url, num_workers=1) as made:
        yield made


def test_a_text_too_long_is_cut_to_what_the_server_counts(
    short_model: OpenAICompatibleEmbedding,
    server: FakeEmbeddingServer,
    embed: Embed,
    caplog: pytest.LogCaptureFixture,
) -> None:
    events: list[EmbeddingEvent] = []
    short_model.callback_manager = CallbackManager()
    short_model.callback_manager.add_handler(events.append)
    texts = ["short", words(150), "another"]
    vectors = embed(short_model, texts)
    kept = server.requests[-2].inputs[0]
    assert words(150).startswith(kept)
    assert 90 <= server.tokens_of(kept) <= 100
    assert np.array_equal(vectors, server.vectors(["short", kept, "another"]))
    assert sum(event.truncated for event in events if isinstance(event, EmbeddingEndEvent)) == 1
    embed(short_model, [words(160)])
    assert [record.levelname for record in caplog.records if "they were cut" in record.message] == ["WARNING"]


def test_a_text_that_fits_by_the_servers_count_is_not_cut(
    short_model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer, embed: Embed
) -> None:
    embed(short_model, [words(150)])  # now the limit is known
    just_right = "w" * 500
    assert np.array_equal(embed(short_model, [just_right]), server.vectors([just_right]))


def test_a_text_far_too_long_is_cut_before_it_is_sent(
    short_model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer
) -> None:
    short_model.embed_texts([words(150)])
    del server.requests[:]
    short_model.embed_texts([words(100_000)])
    assert max(len(request.inputs[0]) for request in server.requests) <= 800


def test_a_text_too_long_is_an_error_by_index_where_that_is_the_policy(
    short_model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer, embed: Embed
) -> None:
    short_model.long_text = "error"
    with pytest.raises(InputTooLongError) as caught:
        embed(short_model, ["short", words(150), "another"])
    assert caught.value.indices == (1,)
    assert set(caught.value.completed) == {0, 2}


def test_a_text_too_long_is_the_mean_of_its_parts_where_that_is_the_policy(
    short_model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer, embed: Embed
) -> None:
    short_model.long_text = "mean"
    vectors = embed(short_model, ["short", words(150)])
    halves = [words(150)[:449], words(150)[449:]]
    assert [request.inputs for request in server.requests[-2:]] == [[half] for half in halves]
    expected = np.average(server.vectors(halves).astype(np.float64), axis=0, weights=[449, 450])
    assert np.allclose(vectors[1], expected / np.linalg.norm(expected), atol=1e-6)


def test_parts_that_were_answered_are_not_paid_again_for_one_that_was_not(
    short_model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer, embed: Embed
) -> None:
    short_model.long_text = "mean"
    undisturbed, used = embed(short_model, [words(1000)]), short_model.usage
    asked = len(server.requests)
    server.inject(*[None, faults.rate_limited("0")] * asked)
    assert np.array_equal(embed(short_model, [words(1000)]), undisturbed)
    assert len(server.requests) == asked + 2 * asked - 1
    assert short_model.usage.requests == 2 * used.requests
    assert short_model.usage.tokens == 2 * used.tokens


def test_a_limit_that_was_learned_changes_no_mean(
    short_model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer, embed: Embed
) -> None:
    short_model.long_text = "mean"
    first = embed(short_model, [words(1000)])
    assert short_model._capabilities().input_tokens
    assert np.array_equal(embed(copy.copy(short_model), [words(1000)]), first)


def test_the_mean_of_parts_is_remembered(
    short_model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer, embed: Embed
) -> None:
    short_model.long_text, short_model.embeddings_cache = "mean", MemoryKVStore()
    first = embed(short_model, [words(150), "short"])
    del server.requests[:]
    assert np.array_equal(embed(short_model, [words(150), "short"]), first)
    assert server.requests == []


@pytest.mark.parametrize("text", ["字" * 3000, "é", "a" * 5000, "ab"])
def test_the_parts_of_a_text_are_the_text(
    model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer, text: str
) -> None:
    model.long_text, server.limits.input_tokens, server.tokens_of = "mean", 50, len
    model.embed_texts([text])
    assert "".join(request.inputs[0] for request in server.requests if len(request.inputs[0]) <= 50) == text


def test_an_instruction_goes_before_every_part(server: FakeEmbeddingServer) -> None:
    server.limits.input_tokens, server.tokens_of = 100, len
    with OpenAICompatibleEmbedding(
        "e5", api_base=server.base_url, text_instruction="passage: ", long_text="mean"
    ) as model:
        model.embed_texts([words(30)])
    assert all(request.inputs[0].startswith("passage: ") for request in server.requests)


def test_the_mean_of_vectors_without_unit_length_is_left_as_it_is(
    short_model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer
) -> None:
    short_model.long_text = "mean"
    long, first, second = (faults.error(413, "too long"), *map(one_vector, ([3.0, 0.0], [0.0, 5.0])))
    server.inject(long, first, second)
    assert np.allclose(short_model.embed_texts(["abcd"]), [[1.5, 2.5]])


def one_vector(vector: list[float]) -> faults.Fault:
    return faults.payload({"data": [{"index": 0, "embedding": vector}]})


def test_a_culprit_that_the_server_names_is_cut_in_its_batch(
    model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer, embed: Embed
) -> None:
    named = faults.error(400, "Invalid 'input[2]': maximum input length is 100 tokens.")
    server.inject_when(lambda request: any(len(text) > 500 for text in request.inputs), named)
    texts = ["a", "b", words(150), "d"]
    vectors = embed(model, texts)
    assert all(len(request.inputs) == 4 for request in server.requests)
    assert np.array_equal(vectors, server.vectors(server.requests[-1].inputs))
    assert texts[2].startswith(server.requests[-1].inputs[2])


def test_a_culprit_that_the_server_names_is_left_out_under_the_error_policy(
    model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer, embed: Embed
) -> None:
    model.long_text = "error"

    def has_a_long_one(request: Received) -> bool:
        return any(len(text) > 500 for text in request.inputs)

    server.inject_when(has_a_long_one, faults.error(400, "Invalid 'input[2]': maximum input length is 100 tokens."))
    with pytest.raises(InvalidInputError) as caught:
        embed(model, ["a", "b", words(150), "d"])
    assert caught.value.indices == (2,)
    assert [len(request.inputs) for request in server.requests] == [4, 3]


@pytest.mark.parametrize("policy", ["truncate", "mean"])
@pytest.mark.parametrize(("status", "said"), [(400, "input is too long"), (500, "input is too large to process")])
def test_a_text_that_is_too_long_in_words_without_a_limit_gets_its_vector(
    model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer, embed: Embed, policy: str, status: int, said: str
) -> None:
    server.inject_when(lambda request: any(len(text) > 500 for text in request.inputs), faults.error(status, said))
    with model.with_(long_text=policy) as careful:
        vectors = embed(careful, ["a", "b", words(150), "d"])
    assert vectors.shape == (4, 16)
    assert np.array_equal(vectors[[0, 1, 3]], server.vectors(["a", "b", "d"]))


def test_a_limit_of_the_users_own_cuts_by_estimate(server: FakeEmbeddingServer) -> None:
    with OpenAICompatibleEmbedding("e5", api_base=server.base_url, max_input_tokens=5) as model:
        model.embed_texts(["seven words that make more than enough"])
    assert server.requests[0].inputs == ["seven words that "]


@pytest.mark.parametrize("policy", ["truncate", "mean"])
def test_a_server_that_finds_everything_too_long_ends_in_an_error(
    model: OpenAICompatibleEmbedding, server: FakeEmbeddingServer, policy: str
) -> None:
    model.long_text = policy  # type: ignore[assignment]  # one of its literals
    server.inject_when(lambda request: True, faults.error(400, "input exceeds the context length"))
    with pytest.raises(InputTooLongError):
        model.embed_texts([words(10_000)])
    assert len(server.requests) < 40
