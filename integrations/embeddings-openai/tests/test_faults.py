"""Every failure a server can produce: sync and async, with and without cache."""

from __future__ import annotations

import gzip
import traceback
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from typing import Any, TypeAlias

import numpy as np
import openai
import pytest
from embed_core import RetryPolicy, Vectors
from embed_core.errors import (
    AuthenticationError,
    EmbeddingIntegrityError,
    EmbedError,
    InvalidInputError,
    ProviderError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitError,
)
from embed_core.kvstore import MemoryKVStore
from embed_core.testing import faults
from embed_core.testing.faults import Fault
from embeddings_openai import AzureOpenAIEmbedding, OpenAICompatibleEmbedding, OpenAIEmbedding
from embeddings_openai.testing import FakeEmbeddingServer

Embed: TypeAlias = Callable[[OpenAIEmbedding, list[str]], Vectors]

KEY = "sk-this-key-stays-at-home"
TEXTS = ["one", "two", "three", "four"]
ATTEMPTS = 4


def answer(embedding: object) -> dict[str, object]:
    return {"data": [{"index": index, "embedding": embedding} for index in range(2)]}


PASSING: dict[str, Callable[[], Fault]] = {
    "429": faults.rate_limited,
    "429 with seconds": lambda: faults.rate_limited("0.05"),
    "429 with a date": lambda: faults.rate_limited(formatdate(usegmt=True)),
    "429 with milliseconds": lambda: faults.rate_limited(retry_after_ms="20"),
    "429 in a 200": lambda: faults.wrapped(faults.rate_limited()),
    "500": faults.server_error,
    "502 as a page": lambda: faults.html_page(502),
    "503": lambda: faults.server_error(503),
    "409": lambda: faults.error(409, "locked"),
    "408": lambda: faults.error(408, "too slow"),
    "reset": faults.reset,
    "cut": faults.cut,
    "truncated JSON": faults.truncated_json,
    "wrong content type": faults.wrong_content_type,
    "a page in a 200": faults.html_page,
}

FINAL: dict[str, tuple[Callable[[], Fault], type[EmbedError]]] = {
    "no quota": (faults.quota_exceeded, QuotaExceededError),
    "no quota in a 200": (lambda: faults.wrapped(faults.quota_exceeded()), QuotaExceededError),
    "payment required": (lambda: faults.error(402, "no credits"), QuotaExceededError),
    "wrong key": (lambda: faults.error(401, "no", code="invalid_api_key"), AuthenticationError),
    "forbidden": (lambda: faults.error(403, "no"), AuthenticationError),
    "unknown model": (lambda: faults.error(404, "no such model", code="model_not_found"), ProviderError),
    "bad request": (lambda: faults.error(400, "unknown parameter"), ProviderError),
    "one missing": (faults.missing_item, EmbeddingIntegrityError),
    "one too many": (faults.extra_item, EmbeddingIntegrityError),
    "one shorter": (faults.wrong_dimension, EmbeddingIntegrityError),
    "all shorter": (faults.every_vector_shorter, EmbeddingIntegrityError),
    "no list": (lambda: faults.payload({"object": "list", "data": 3}), EmbeddingIntegrityError),
    "no object": (lambda: faults.payload([1, 2]), EmbeddingIntegrityError),
    "more than float32 holds": (lambda: faults.payload(answer([1e300, *[0] * 1535])), EmbeddingIntegrityError),
    "more than any float holds": (lambda: faults.payload(answer([10**400])), EmbeddingIntegrityError),
    "no base64": (
        lambda: faults.payload(answer("A")),
        EmbeddingIntegrityError,
    ),
}


@pytest.fixture(params=["no cache", "cache"])
def in_twos(request: pytest.FixtureRequest, model: OpenAIEmbedding) -> OpenAIEmbedding:
    """A model that sends two batches of two, one after the other."""
    model.embed_batch_size, model.num_workers = 2, 1
    model.embeddings_cache = MemoryKVStore() if request.param == "cache" else None
    return model


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_what_passes_is_tried_again(
    in_twos: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed, fault: Callable[[], Fault]
) -> None:
    server.inject(None, fault(), fault())
    assert np.array_equal(embed(in_twos, TEXTS), server.vectors(TEXTS))
    assert [request.inputs for request in server.requests] == [TEXTS[:2], *[TEXTS[2:]] * 3]


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_what_does_not_pass_ends_after_the_last_attempt(
    in_twos: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed, fault: Callable[[], Fault]
) -> None:
    server.inject(None, *[fault()] * 10)
    with pytest.raises((RateLimitError, ProviderUnavailableError, ProviderTimeoutError)) as caught:
        embed(in_twos, TEXTS)
    parts = 0 if isinstance(caught.value, RateLimitError) else 2
    assert len(server.requests) == 1 + ATTEMPTS + parts
    assert_the_first_batch_is_kept(in_twos, server, caught.value)


ASKED_ONCE = {
    "no quota",
    "no quota in a 200",
    "payment required",
    "wrong key",
    "unknown model",
    "more than float32 holds",
}


@pytest.mark.parametrize(
    ("fault", "error", "most"), [(*FINAL[name], 1 if name in ASKED_ONCE else 3) for name in FINAL], ids=FINAL
)
def test_what_cannot_pass_is_an_error_at_once(
    in_twos: OpenAIEmbedding,
    server: FakeEmbeddingServer,
    embed: Embed,
    fault: Callable[[], Fault],
    error: type[EmbedError],
    most: int,
) -> None:
    server.inject_when(lambda request: not {"three", "four"}.isdisjoint(request.inputs), fault())
    with pytest.raises(error) as caught:
        embed(in_twos, TEXTS)
    assert isinstance(caught.value, error)
    assert len(server.requests) == 1 + most
    assert_the_first_batch_is_kept(in_twos, server, caught.value)


def test_a_vector_that_is_not_finite_fails_alone(
    in_twos: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed
) -> None:
    server.inject(None, faults.not_a_number())
    with pytest.raises(EmbeddingIntegrityError, match=r"not finite.*; at input 3 \('four'\)") as caught:
        embed(in_twos, TEXTS)
    assert set(caught.value.completed) == {0, 1, 2}
    assert len(server.requests) == 2


POSITIONS: dict[str, Callable[[int], object]] = {
    "all zero": lambda row: 0,
    "none": lambda row: None,
    "from one": lambda row: row + 1,
}


@pytest.mark.parametrize("position", POSITIONS.values(), ids=POSITIONS)
def test_an_answer_without_positions_is_in_the_order_of_the_list(
    model: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed, position: Callable[[int], object]
) -> None:
    vectors = server.vectors(TEXTS).tolist()
    server.inject(
        faults.payload({"data": [{"index": position(row), "embedding": one} for row, one in enumerate(vectors)]})
    )
    assert np.array_equal(embed(model, TEXTS), server.vectors(TEXTS))
    assert len(server.requests) == 1


@pytest.mark.parametrize("position", [0.9, True, "0", 5])
def test_a_position_that_is_none_is_an_error(
    model: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed, position: object
) -> None:
    server.inject(faults.payload({"data": [{"index": position, "embedding": server.vector("one").tolist()}]}))
    with pytest.raises(EmbeddingIntegrityError, match=r"answered with the positions .*; at input 0 \('one'\)"):
        embed(model, ["one"])


def test_a_vector_that_is_null_fails_alone(in_twos: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed) -> None:
    in_twos.embed_batch_size = 4
    items = [{"index": row, "embedding": server.vector(text).tolist()} for row, text in enumerate(TEXTS)]
    server.inject(faults.payload({"data": [*items[:2], {"index": 2, "embedding": None}, items[3]]}))
    with pytest.raises(EmbeddingIntegrityError, match=r"input 2 \('three'\)") as caught:
        embed(in_twos, TEXTS)
    assert set(caught.value.completed) == {0, 1, 3}
    assert len(server.requests) == 1


REFUSALS: dict[str, Fault] = {
    "a NaN that is no JSON": faults.error(500, "failed to encode response: json: unsupported value: NaN"),
    "a crash": faults.error(500, "do embedding request: Post http://127.0.0.1:1/embedding: EOF"),
    "a filter": faults.error(400, "The response was filtered", code="content_filter"),
    "a firewall": faults.html_page(403),
    "another firewall": faults.html_page(406),
    "validation": faults.error(422, "Unprocessable Entity"),
    "a tokenizer": faults.error(500, "failed to tokenize prompt"),
    "a reset": faults.reset(),
    "a bad gateway": faults.html_page(502),
}


@pytest.mark.parametrize("on_error", ["raise", "none"])
@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_text_that_is_refused_in_whatever_words_never_fails_its_neighbours(
    model: OpenAIEmbedding, server: FakeEmbeddingServer, refusal: Fault, on_error: str
) -> None:
    model.retry = RetryPolicy(max_retries=1, initial_seconds=0)
    texts = [f"text {number}" for number in range(40)]
    server.inject_when(lambda request: not {texts[7], texts[30]}.isdisjoint(request.inputs), refusal)
    if on_error == "none":
        found = model.get_text_embedding_batch(texts, on_error="none")
        assert [row for row, vector in enumerate(found) if vector is None] == [7, 30]
    else:
        with pytest.raises(InvalidInputError, match=r"input 7 \('text 7'\)(.|\n)*input 30 \('text 30'\)") as caught:
            model.embed_texts(texts)
        assert caught.value.indices == (7, 30)
        assert len(caught.value.completed) == 38
    assert len(server.requests) <= 30


def test_a_server_that_hangs_is_given_up(in_twos: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed) -> None:
    in_twos.timeout = 0.1
    server.inject(None, faults.hang())
    assert np.array_equal(embed(in_twos, TEXTS), server.vectors(TEXTS))
    server.inject_when(lambda request: True, faults.hang())
    with pytest.raises(ProviderTimeoutError, match="raise `timeout`"):
        embed(in_twos, ["other"])


SPACES = b" " * (64 << 20)
LONG: dict[str, Fault] = {
    "packed": Fault(body=gzip.compress(SPACES), headers={"content-encoding": "gzip"}),
    "plain": Fault(body=SPACES),
}


@pytest.mark.parametrize("fault", LONG.values(), ids=LONG)
@pytest.mark.parametrize(("status", "words"), [(200, "answered more than 8 MiB"), (400, "the request was refused")])
def test_an_answer_is_read_and_unpacked_no_further_than_one_can_be_long(
    model: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed, fault: Fault, status: int, words: str
) -> None:
    server.inject(None, replace(fault, status=status))
    embed(model, ["a"])
    tracemalloc.start()
    try:
        with pytest.raises(EmbedError, match=words) as caught:
            embed(model, ["b"])
        assert tracemalloc.get_traced_memory()[1] < len(SPACES)
    finally:
        tracemalloc.stop()
    assert isinstance(caught.value, EmbeddingIntegrityError if status == 200 else ProviderError)
    assert len(server.requests) == 2


def test_a_packed_answer_is_unpacked(model: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed) -> None:
    embed(model, ["a"])
    plain = server.answer(server.requests[0], None)
    assert server.requests[0].headers["accept-encoding"] == "gzip"
    server.inject(replace(plain, body=gzip.compress(plain.body or b""), headers={"content-encoding": "gzip"}))
    assert np.array_equal(embed(model, ["b"]), server.vectors(["a"]))


def test_a_client_of_the_users_reads_its_other_answers_whole(server: FakeEmbeddingServer) -> None:
    seen: list[int] = []
    with openai.DefaultHttpxClient(
        event_hooks={"response": [lambda response: seen.append(response.status_code)]}
    ) as own:
        for _ in range(2):
            model = OpenAIEmbedding(api_key=KEY, api_base=server.base_url, http_client=own, max_retries=0)
            assert np.array_equal(model.embed_texts(["a"]), server.vectors(["a"]))
        server.inject(LONG["plain"])
        assert len(own.post(f"{server.base_url}/embeddings", json={}).content) == len(SPACES)
    assert seen == [200] * 3
    assert len(own.event_hooks["response"]) == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("cls", [OpenAIEmbedding, AzureOpenAIEmbedding, OpenAICompatibleEmbedding])
def test_a_redirect_takes_no_text_and_no_header_elsewhere_and_the_new_address_is_named(
    server: FakeEmbeddingServer, embed: Embed, cls: type[Any], status: int
) -> None:
    with FakeEmbeddingServer() as elsewhere:
        there = f"{elsewhere.azure_endpoint}/v2/embeddings?version=2"
        server.inject(Fault(status=status, body=b"", headers={"location": there}))
        with cls("m", api_key=KEY, api_base=server.base_url) as model, pytest.raises(ProviderError) as caught:
            embed(model, TEXTS)
        assert f"the address leads to {there} but redirects are not followed" in str(caught.value)
        assert len(server.requests) == 1
        assert not elsewhere.requests


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://me:hidden-password@there/v1?key=hidden-key", "leads to https://***@there/v1?key=***"),
        ("//me:hidden-password@there/v1", "leads to http://***@there/v1"),
        ("/v2/embeddings?api_key=hidden-key", "/v2/embeddings?api_key=***"),
        ("https://there/v1#access_token=hidden-key", "leads to https://there/v1 but"),
        ("https://me:hidden pass@there/v1", "leads to https://***@there/v1"),
    ],
)
def test_a_secret_in_the_new_address_is_not_shown(
    model: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed, location: str, shown: str
) -> None:
    server.inject(Fault(status=307, body=b"", headers={"location": location}))
    with pytest.raises(ProviderError) as caught:
        embed(model, ["a"])
    assert shown in str(caught.value)
    assert "hidden" not in "".join(traceback.format_exception(caught.value))


def test_a_shuffled_answer_is_put_right(in_twos: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed) -> None:
    server.inject(faults.shuffled(), faults.shuffled())
    assert np.array_equal(embed(in_twos, TEXTS), server.vectors(TEXTS))


@pytest.mark.parametrize("tokens", ["n/a", [4], float("inf"), float("nan"), -5, 1e30, None, {}])
def test_an_account_that_makes_no_sense_is_none_and_costs_no_vector(
    model: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed, tokens: object
) -> None:
    vectors = [{"index": row, "embedding": server.vector(text).tolist()} for row, text in enumerate(TEXTS)]
    server.inject(faults.payload({"data": vectors, "usage": {"prompt_tokens": tokens}}))
    assert np.array_equal(embed(model, TEXTS), server.vectors(TEXTS))
    assert (model.usage.requests, model.usage.tokens) == (1, 0)


@pytest.mark.parametrize(
    "fault",
    [faults.rate_limited("-5"), faults.rate_limited(x_ratelimit_remaining_tokens="0")],
    ids=["negative", "no reset"],
)
def test_a_time_that_makes_no_sense_is_waited_for_as_if_none_was_named(
    model: OpenAIEmbedding, server: FakeEmbeddingServer, fault: Fault
) -> None:
    model.retry = RetryPolicy(max_retries=8, initial_seconds=0.1, max_seconds=0.1)
    server.inject(*[fault] * 8)
    model.get_text_embedding("a")
    assert server.requests[-1].at - server.requests[0].at > 0.1  # 0.4 on average


def test_an_input_the_provider_refuses_never_fails_its_neighbours(
    in_twos: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed
) -> None:
    server.inject_when(lambda request: "three" in request.inputs, faults.error(400, "'$.input' is invalid"))
    with pytest.raises(InvalidInputError) as caught:
        embed(in_twos, TEXTS)
    assert caught.value.indices == (2,)
    assert set(caught.value.completed) == {0, 1, 3}


def assert_the_first_batch_is_kept(model: OpenAIEmbedding, server: FakeEmbeddingServer, error: EmbedError) -> None:
    assert np.array_equal(np.stack([error.completed[0], error.completed[1]]), server.vectors(TEXTS[:2]))
    assert set(error.failed) == {2, 3}
    if model.embeddings_cache is not None:
        assert len(model.embeddings_cache) == 2
        sent = len(server.requests)
        server.heal()
        assert np.array_equal(model.embed_texts(TEXTS), server.vectors(TEXTS))
        assert [request.inputs for request in server.requests[sent:]] == [TEXTS[2:]]
