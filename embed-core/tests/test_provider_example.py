"""A new integration on the kit, over real HTTP: sync and async, batches, errors, retries, limits, jobs, money."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import subprocess
import sys
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from embed_core import RateLimiter, RetryPolicy, Vectors
from embed_core.errors import (
    AuthenticationError,
    ConfigurationError,
    EmbeddingIntegrityError,
    EmbedError,
    InputTooLongError,
    IntegrationNotInstalledError,
    ProviderError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExceededError,
)
from embed_core.provider import Endpoint, Usage, _flow, _limits
from embed_core.testing import EmbeddingConformance, FakeServer, Received, faults
from embed_core.testing.faults import Edit, Fault
from provider_example import ExampleEmbedding

KEY = "example-key-that-stays-at-home"
Embed = Callable[[ExampleEmbedding, list[str]], Vectors]


@dataclass(slots=True)
class ExampleServer(FakeServer):
    """Answers in Cohere's style; a job is done at once."""

    files: dict[str, bytes] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def answer(self, received: Received, edit: Edit | None) -> Fault:
        if received.headers.get("x-api-key") != KEY:
            return faults.error(401, f"invalid api token {received.headers.get('x-api-key')}")
        match received.method, received.path.split("/")[2:]:
            case "POST", ["embed"]:
                return self._embedded(received.body, edit)
            case "POST", ["files"]:
                return faults.payload({"id": self._stored(received.body)})
            case "GET", ["files", name]:
                return Fault(body=self.files[name], content_type="application/octet-stream")
            case "POST", ["jobs"]:
                lines = [json.loads(line) for line in self.files[received.body["file"]].splitlines()]
                answers = [
                    {
                        "custom_id": line["custom_id"],
                        "response": {"status_code": 200, "body": self._payload(line["body"])},
                    }
                    for line in lines
                ]
                name = self._stored(b"\n".join(json.dumps(one).encode() for one in answers))
                self.jobs["job"] = {"file": received.body["file"], "answers": [name], "state": "completed"}
                return faults.payload({"id": "job"})
            case "GET", ["jobs", "job"]:
                return faults.payload(self.jobs["job"])
        return faults.error(404, "no such page")

    def _stored(self, content: Any) -> str:
        name = str(len(self.files))
        self.files[name] = content if isinstance(content, bytes) else json.dumps(content).encode()
        return name

    def _embedded(self, body: Any, edit: Edit | None) -> Fault:
        if len(body["texts"]) > 96:
            return faults.error(400, "at most 96 texts can be embedded in one request")
        if (most := max(len(text) for text in body["texts"])) > 2048:
            return faults.error(400, f"maximum context length is 2048 tokens, however you requested {most} tokens")
        return faults.payload(self._payload(body, edit))

    def _payload(self, body: Any, edit: Edit | None = None) -> dict[str, Any]:
        vectors = [vector for _, vector in (edit or list)(list(enumerate(self.vectors(body["texts"]))))]
        rows = [base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors]
        tokens = sum(len(text) for text in body["texts"])
        return {"embeddings": {"base64": rows}, "meta": {"billed_units": {"input_tokens": tokens}}}


@pytest.fixture
def server() -> Iterator[ExampleServer]:
    _limits._learned.clear()
    _flow._last.clear()
    with ExampleServer() as running:
        yield running


@pytest.fixture
def model(server: ExampleServer) -> Iterator[ExampleEmbedding]:
    quick = RetryPolicy(max_retries=2, initial_seconds=0.01, max_seconds=0.02)
    with ExampleEmbedding(api_key=KEY, api_base=server.base_url, retry=quick) as made:
        yield made


@pytest.fixture(params=["sync", "async"])
def embed(request: pytest.FixtureRequest) -> Embed:
    if request.param == "sync":
        return ExampleEmbedding.embed_texts
    return lambda model, texts: asyncio.run(model.aembed_texts(texts))


class TestConformance(EmbeddingConformance):
    @pytest.fixture
    def model(self, server: ExampleServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExampleEmbedding]:
        monkeypatch.setenv("EXAMPLE_API_KEY", KEY)
        with ExampleEmbedding(api_base=server.base_url) as made:
            yield made


def test_batches_are_as_large_as_the_api_takes(model: ExampleEmbedding, server: ExampleServer, embed: Embed) -> None:
    texts = [f"text {number}" for number in range(200)]
    assert np.array_equal(embed(model, texts), server.vectors(texts))
    assert sorted(len(request.body["texts"]) for request in server.requests) == [8, 96, 96]


def test_queries_and_documents_are_told_apart(model: ExampleEmbedding, server: ExampleServer) -> None:
    model.get_query_embedding("a")
    asyncio.run(model.aget_text_embedding("a"))
    assert [one.body["input_type"] for one in server.requests] == ["search_query", "search_document"]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (faults.error(400, "unknown parameter"), ProviderError),
        (faults.error(402, "pay first", code="no_credit"), QuotaExceededError),
        (faults.error(403, "not for you", code="NO_CREDIT"), QuotaExceededError),
        (faults.error(401, f"invalid api token {KEY}"), AuthenticationError),
        (faults.Fault(status=302, body=b"", headers={"location": "http://elsewhere/"}), ProviderError),
        (faults.missing_item(), EmbeddingIntegrityError),
        (faults.payload({"answer": 42}), EmbeddingIntegrityError),
        (faults.payload({"embeddings": {"base64": [[KEY], [KEY]]}}), EmbeddingIntegrityError),
        (faults.html_page(), ProviderError),
        (faults.Fault(body=b"x" * 70 + KEY.encode(), content_type="text/html"), ProviderError),
    ],
)
def test_a_failure_is_an_error_of_ours_without_the_key(
    model: ExampleEmbedding, server: ExampleServer, embed: Embed, fault: Fault, kind: type[EmbedError]
) -> None:
    server.inject_when(lambda request: True, fault)
    with pytest.raises(EmbedError) as caught:
        embed(model, ["a", "b"])
    assert isinstance(caught.value, kind)
    assert KEY[:11] not in f"{caught.value} {caught.value.__cause__!r}"
    assert len(server.requests) <= 3


@pytest.mark.parametrize(
    "fault",
    [faults.rate_limited("0"), faults.server_error(503), faults.reset(), faults.cut(), faults.error(408, "slow")],
)
def test_a_failure_that_can_pass_is_tried_again(
    model: ExampleEmbedding, server: ExampleServer, embed: Embed, fault: Fault
) -> None:
    server.inject(fault)
    assert np.array_equal(embed(model, ["a"]), server.vectors(["a"]))
    assert len(server.requests) == 2


DRIPPING_ERROR = Fault(status=400, body=b"no " * 1000, wire="drip")


@pytest.mark.parametrize(
    ("limits", "fault"),
    [
        ({"timeout": 0.1}, faults.hang()),
        ({"attempt_timeout": 0.1}, faults.drip()),
        ({"attempt_timeout": 0.1}, DRIPPING_ERROR),
    ],
)
def test_an_attempt_ends_when_the_server_is_silent_and_when_it_takes_too_long(
    server: ExampleServer, embed: Embed, limits: dict[str, float], fault: Fault
) -> None:
    server.inject(fault)
    with (
        ExampleEmbedding(api_key=KEY, api_base=server.base_url, max_retries=0, **limits) as model,
        pytest.raises(ProviderTimeoutError, match="no answer in time"),
    ):
        embed(model, ["a"])


SPACES = b" " * (64 << 20)
LONG: dict[str, Fault] = {
    "packed": Fault(body=gzip.compress(SPACES), headers={"content-encoding": "gzip"}),
    "plain": Fault(body=SPACES),
}


@pytest.mark.parametrize("fault", LONG.values(), ids=LONG)
@pytest.mark.parametrize(("status", "words"), [(200, "answered more than 8 MiB"), (400, "the request was refused")])
def test_an_answer_is_read_and_unpacked_no_further_than_one_can_be_long(
    model: ExampleEmbedding, server: ExampleServer, embed: Embed, fault: Fault, status: int, words: str
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


def test_a_packed_answer_is_unpacked(model: ExampleEmbedding, server: ExampleServer, embed: Embed) -> None:
    embed(model, ["a"])
    plain = server.answer(server.requests[0], None)
    assert server.requests[0].headers["accept-encoding"] == "gzip"
    server.inject(replace(plain, body=gzip.compress(plain.body or b""), headers={"content-encoding": "gzip"}))
    assert np.array_equal(embed(model, ["b"]), server.vectors(["a"]))


RESETS = {
    f"x-ratelimit-{part}-{name}": value
    for name in ("requests", "tokens")
    for part, value in {"limit": "60", "remaining": "0", "reset": "1790000000"}.items()
}


@pytest.mark.parametrize("headers", [{"retry-after": "1790000000"}, RESETS], ids=["Retry-After", "reset"])
@pytest.mark.parametrize("status", [200, 429])
def test_an_epoch_is_no_pause(
    model: ExampleEmbedding, server: ExampleServer, embed: Embed, status: int, headers: dict[str, str]
) -> None:
    server.inject(Fault(headers=headers) if status == 200 else Fault(status, b"slow down", headers))
    assert np.array_equal(embed(model, ["a"]), server.vectors(["a"]))
    assert np.array_equal(embed(model, ["b"]), server.vectors(["b"]))
    assert len(server.requests) == (2 if status == 200 else 3)


@pytest.mark.parametrize("way", ["online", "job"])
def test_a_redirect_is_not_followed_and_the_new_address_is_named(
    model: ExampleEmbedding, server: ExampleServer, embed: Embed, way: str
) -> None:
    with ExampleServer() as elsewhere:
        there = f"{elsewhere.base_url}/there"
        server.inject_when(lambda request: True, Fault(307, b"", {"location": f"{there}?key=hidden"}))
        with pytest.raises(ProviderError) as caught:
            embed(model, ["a"]) if way == "online" else model.embed_batch_job(["a"], poll_seconds=0)
        assert f"leads to {there}?key=*** but redirects are not followed" in str(caught.value)
        assert "hidden" not in "".join(traceback.format_exception(caught.value))
        assert not elsewhere.requests


def test_a_server_that_is_not_there_is_said_in_words(embed: Embed) -> None:
    with (
        ExampleEmbedding(api_key=KEY, api_base="http://127.0.0.1:9/v1", max_retries=0) as model,
        pytest.raises(ProviderUnavailableError, match="nobody listens there"),
    ):
        embed(model, ["a"])


def test_a_text_that_is_too_long_is_cut_refused_or_averaged(
    model: ExampleEmbedding, server: ExampleServer, embed: Embed
) -> None:
    texts = ["short", "x" * 3000]
    assert embed(model, texts).shape == (2, 8)
    with model.with_(long_text="error") as strict, pytest.raises(InputTooLongError) as caught:
        embed(strict, texts)
    assert caught.value.indices == (1,)
    with model.with_(long_text="mean") as averaging:
        assert embed(averaging, texts).shape == (2, 8)


def test_dimensions_that_the_server_does_not_know_are_cut_here(model: ExampleEmbedding, server: ExampleServer) -> None:
    with model.with_(dimensions=4) as short:
        assert np.allclose(short.embed_texts(["a"]), server.vectors(["a"], 4))


def test_a_key_a_model_and_an_address_are_checked_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXAMPLE_API_KEY", raising=False)
    with pytest.raises(AuthenticationError, match="set `EXAMPLE_API_KEY` or pass `api_key=`"):
        ExampleEmbedding().embed_texts(["a"])
    with pytest.raises(ConfigurationError, match="was retired on 2026-01-31; use `example-2`"):
        ExampleEmbedding("example-1", api_key=KEY).embed_texts(["a"])
    for address in ("http://me:secret@here/v1", "http://here/v1?key=secret", "http://here/v1?a=1&api-key=secret"):
        with pytest.raises(ValueError, match="an address must not hold a user, password or key") as caught:
            ExampleEmbedding(api_base=address)
        assert "secret" not in str(caught.value)
    for address in ("http://here:port/v1", "http://here:99999/v1", "http://[::1/v1"):
        monkeypatch.setenv("EXAMPLE_BASE_URL", address)
        with pytest.raises(ConfigurationError, match="makes no sense"):
            ExampleEmbedding(api_key=KEY).embed_texts(["a"])
    monkeypatch.delenv("EXAMPLE_BASE_URL")
    assert ExampleEmbedding.needs_consent({"api_base": "http://elsewhere/v1"})
    assert not ExampleEmbedding.needs_consent({"api_base": "https://api.example.com/v1/"})


def test_a_users_own_authorization_is_the_only_one(server: ExampleServer, embed: Embed) -> None:
    with ExampleEmbedding(api_key=KEY, api_base=server.base_url, default_headers={"authorization": "mine"}) as model:
        embed(model, ["a"])
    assert server.requests[0].headers["authorization"] == "mine"


def test_a_limiter_is_charged_for_inputs_where_the_quota_counts_them(model: ExampleEmbedding) -> None:
    model.rate_limiter = RateLimiter(requests_per_minute=10)
    model.embed_texts([f"text {number}" for number in range(10)])
    assert model.rate_limiter.reserve(1).seconds > 0
    with pytest.raises(ConfigurationError, match="exceeds the whole budget of 10 requests"):
        model.embed_texts([f"text {number}" for number in range(11)])


def test_inputs_that_are_no_texts_are_planned_by_their_number_and_count_no_tokens(model: ExampleEmbedding) -> None:
    images = [object()] * 100
    assert [len(batch) for batch in model._plan("image", images)] == [96, 4]
    assert model._count_tokens(images) == 0


def test_a_refusal_of_inputs_that_are_no_texts_makes_no_request_of_texts_smaller() -> None:
    abilities, texts = _limits.Capabilities(), ["a", "b" * 100]
    where = Endpoint("m", "http://here/v1")
    abilities.refused("m", [object(), object()], where.meaning(_too_large(), ()))
    abilities.answered("m", ["a"])
    assert list(abilities.plan(texts, 10, None)) == [range(2)]


def _too_large() -> Exception:
    import httpx

    request = httpx.Request("POST", "http://here/v1")
    return httpx.HTTPStatusError("", request=request, response=httpx.Response(413, request=request))


def test_usage_cost_and_cap(model: ExampleEmbedding, server: ExampleServer) -> None:
    model.embed_texts(["four"])
    assert model.usage == Usage(requests=1, tokens=4, price=pytest.approx(4 * 0.1e-6))
    model.max_cost = 1e-9
    with pytest.raises(QuotaExceededError, match="max_cost"):
        model.embed_texts(["a text"])


def test_a_batch_job_gives_the_vectors_of_online_requests(model: ExampleEmbedding, server: ExampleServer) -> None:
    texts, ids = [f"text {number}" for number in range(200)], list[str]()
    jobs = [model.embed_batch_job(texts, on_submit=ids.append, poll_seconds=0)]
    jobs.append(asyncio.run(model.aembed_batch_job(texts, job_ids=ids, poll_seconds=0)))
    assert all(np.array_equal(vectors, server.vectors(texts)) for vectors in jobs)
    assert ids == ["job"]
    assert not any(request.path.endswith("/embed") for request in server.requests)


def test_a_setting_takes_effect_at_once_and_a_loop_after_another_leaks_nothing(
    model: ExampleEmbedding, server: ExampleServer
) -> None:
    for number in range(3):
        model.default_headers = {"x-number": str(number)}
        model.embed_texts([f"sync {number}"])
        asyncio.run(model.aembed_texts([f"async {number}"]))
    assert [one.headers["x-number"] for one in server.requests] == ["0", "0", "1", "1", "2", "2"]


def test_clients_of_the_user_are_used_and_left_open(server: ExampleServer) -> None:
    import httpx

    with httpx.Client(headers={"x-mine": "yes"}) as mine:
        with ExampleEmbedding(api_key=KEY, api_base=server.base_url, http_client=mine) as model:
            model.embed_texts(["a"])
        assert not mine.is_closed
    assert server.requests[0].headers["x-mine"] == "yes"


def test_a_missing_httpx_is_said_with_the_command(
    model: ExampleEmbedding, embed: Embed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(IntegrationNotInstalledError, match=r"pip install 'embed-core\[http\]'"):
        embed(model, ["a"])


def test_httpx_is_imported_with_the_first_request() -> None:
    code = "import embed_core.provider, sys; assert 'httpx' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
