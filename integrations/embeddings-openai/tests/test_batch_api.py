"""The Batch API: jobs that outlive the process, placed by text, kept in the cache."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from embed_core import RateLimiter, RetryPolicy, Vectors
from embed_core.errors import (
    ConfigurationError,
    EmbeddingIntegrityError,
    InvalidInputError,
    ProviderError,
    ProviderTimeoutError,
    QuotaExceededError,
)
from embed_core.kvstore import MemoryKVStore, SQLiteKVStore
from embed_core.testing import Received, faults
from embed_core.testing.faults import Fault
from embeddings_openai import OpenAIEmbedding
from embeddings_openai.testing import FakeEmbeddingServer

TEXTS = [f"text {number}" for number in range(10)]
KEY = "sk-this-key-stays-at-home"  # the server fixture takes no other

Embed = Callable[..., Vectors]


@pytest.fixture(params=["sync", "async"])
def embed(request: pytest.FixtureRequest) -> Embed:
    if request.param == "sync":
        return OpenAIEmbedding.embed_batch_job
    return lambda model, texts, **options: asyncio.run(model.aembed_batch_job(texts, **options))


def online(server: FakeEmbeddingServer) -> list[list[str]]:
    return [request.inputs for request in server.requests if request.path == "/v1/embeddings"]


def submitted(server: FakeEmbeddingServer) -> list[list[str]]:
    """Return the texts of each job."""
    files = [server.batches.files[job["input_file_id"]] for job in server.batches.jobs.values()]
    return [[text for line in file.splitlines() for text in json.loads(line)["body"]["input"]] for file in files]


class SmallJobs(OpenAIEmbedding):
    inputs_per_job = 4
    bytes_per_job = 500


@pytest.fixture
def small_jobs(server: FakeEmbeddingServer) -> Iterator[OpenAIEmbedding]:
    with SmallJobs(api_key=KEY, api_base=server.base_url) as made:
        yield made


@pytest.fixture
def cached(model: OpenAIEmbedding) -> OpenAIEmbedding:
    """A model with a cache, at a server that takes four inputs a request."""
    model.embeddings_cache = MemoryKVStore()
    model._capabilities().max_inputs = 4
    return model


def test_a_job_gives_what_online_requests_give(
    model: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed
) -> None:
    server.batches.polls = 2
    ids: list[str] = []
    texts = [*TEXTS, *TEXTS[:2]]
    vectors = embed(model, texts, on_submit=ids.append, poll_seconds=0.001)
    assert np.array_equal(vectors, server.vectors(texts))
    assert ids == ["batch_1"]
    assert submitted(server) == [TEXTS]
    assert online(server) == []
    (job,) = server.batches.jobs.values()
    assert (job["endpoint"], job["completion_window"]) == ("/v1/embeddings", "24h")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/files"),
        ("GET", "/v1/batches"),
        ("POST", "/v1/batches"),
        ("GET", "/v1/batches/batch_1"),
        ("GET", "/v1/files/file-2/content"),
    ],
)
def test_no_request_of_a_job_follows_a_redirect(
    model: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed, method: str, path: str
) -> None:
    with FakeEmbeddingServer() as elsewhere:
        redirect = Fault(status=307, body=b"", headers={"location": f"{elsewhere.base_url}/there"})
        server.inject_when(lambda one: (one.method, one.path.partition("?")[0]) == (method, path), redirect)
        with pytest.raises(ProviderError, match=f"leads to {elsewhere.base_url}/there but redirects are not followed"):
            embed(model, TEXTS, poll_seconds=0)
        assert not elsewhere.requests


def test_requests_of_a_job_are_as_large_as_the_provider_takes(
    model: OpenAIEmbedding, server: FakeEmbeddingServer
) -> None:
    texts = [str(number) for number in range(3000)]
    assert np.array_equal(model.embed_batch_job(texts, poll_seconds=0), server.vectors(texts))
    (file,) = [server.batches.files[job["input_file_id"]] for job in server.batches.jobs.values()]
    lines = [json.loads(line) for line in file.splitlines()]
    assert [len(line["body"]["input"]) for line in lines] == [2048, 952]
    assert len({line["custom_id"] for line in lines}) == 2


def test_what_the_cache_holds_is_not_sent_and_what_a_job_gives_is_kept(
    model: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed
) -> None:
    model.embeddings_cache = MemoryKVStore()
    model.embed_texts(TEXTS[:4])
    embed(model, TEXTS, poll_seconds=0)
    assert submitted(server) == [TEXTS[4:]]
    sent = len(server.requests)
    assert np.array_equal(model.embed_texts(TEXTS), server.vectors(TEXTS))
    assert len(server.requests) == sent


def test_large_input_becomes_several_jobs(
    small_jobs: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed
) -> None:
    ids: list[str] = []
    assert np.array_equal(embed(small_jobs, TEXTS, on_submit=ids.append, poll_seconds=0), server.vectors(TEXTS))
    assert ids == ["batch_1", "batch_2", "batch_3"]
    assert [len(texts) for texts in submitted(server)] == [4, 4, 2]


def test_files_stay_below_the_providers_size(small_jobs: OpenAIEmbedding, server: FakeEmbeddingServer) -> None:
    small_jobs.embed_batch_job([f"{number}" + "x" * 100 for number in range(5)], poll_seconds=0)
    assert [len(texts) for texts in submitted(server)] == [2, 2, 1]
    small_jobs.embed_batch_job(["y" * 1000, "z" * 1000], poll_seconds=0)
    assert [len(texts) for texts in submitted(server)[3:]] == [1, 1]


# Going on


def test_a_job_is_resumed_by_its_id(model: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed) -> None:
    ids: list[str] = []
    embed(model, TEXTS, on_submit=ids.append, poll_seconds=0)
    others = ["more", *reversed(TEXTS[2:]), "and more"]
    assert np.array_equal(embed(model, others, job_ids=ids, poll_seconds=0), server.vectors(others))
    assert submitted(server) == [TEXTS, ["more", "and more"]]


def test_a_job_of_other_texts_is_left_alone(model: OpenAIEmbedding, server: FakeEmbeddingServer) -> None:
    ids: list[str] = []
    model.embed_batch_job(["other"], on_submit=ids.append, poll_seconds=0)
    assert np.array_equal(model.embed_batch_job(TEXTS, job_ids=ids, poll_seconds=0), server.vectors(TEXTS))


@pytest.mark.parametrize("change", [{"dimensions": 8}, {"model_name": "text-embedding-ada-002"}])
def test_a_job_of_another_model_is_refused(
    model: OpenAIEmbedding, server: FakeEmbeddingServer, change: dict[str, object]
) -> None:
    ids: list[str] = []
    model.embed_batch_job(TEXTS, on_submit=ids.append, poll_seconds=0)
    other = model.with_(**change)
    with other, pytest.raises(ConfigurationError, match="the job `batch_1` is of"):
        other.embed_batch_job(TEXTS, job_ids=ids, poll_seconds=0)


def test_a_killed_process_goes_on_where_it_was(
    server: FakeEmbeddingServer, tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    code = f"""
import sys
from embeddings_openai import OpenAIEmbedding
model = OpenAIEmbedding(api_key={KEY!r}, api_base={server.base_url!r})
model.embed_batch_job({TEXTS!r}, on_submit=lambda job: print(job, flush=True), poll_seconds=0.01)
"""
    server.batches.polls = 1_000_000
    process = start(sys.executable, "-c", code)
    assert process.stdout is not None
    job_id = process.stdout.readline().strip()
    process.send_signal(signal.SIGKILL)
    process.wait()
    server.batches.jobs[job_id]["polls"] = 2
    store = SQLiteKVStore(tmp_path / "cache.db")
    with closing(store), OpenAIEmbedding(api_key=KEY, api_base=server.base_url, embeddings_cache=store) as model:
        vectors = model.embed_batch_job(TEXTS, job_ids=[job_id], poll_seconds=0.001)
        assert np.array_equal(vectors, server.vectors(TEXTS))
        assert len(store) == len(TEXTS)
    assert len(server.batches.jobs) == 1


@pytest.mark.parametrize(("outcome", "keeps"), [("expired", 2), ("cancelled", 0), ("failed", 0)])
def test_what_an_earlier_job_did_not_do_is_sent_again(
    cached: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed, outcome: str, keeps: int
) -> None:
    ids: list[str] = []
    server.batches.outcome, server.batches.keeps = outcome, keeps
    with pytest.raises(ProviderError, match="send the rest again"):
        embed(cached, TEXTS, on_submit=ids.append, poll_seconds=0)
    server.batches.outcome = "completed"
    others = ["more", *TEXTS]
    assert np.array_equal(embed(cached, others, job_ids=ids, poll_seconds=0), server.vectors(others))
    assert sorted(map(tuple, submitted(server)[1:])) == sorted([("more",), tuple(TEXTS[4 * keeps :])])
    assert online(server) == []


def test_a_job_that_the_provider_does_not_know_is_named(model: OpenAIEmbedding, embed: Embed) -> None:
    with pytest.raises(ProviderError, match=r"the job `batch_99` or its file is gone, .*; leave it out"):
        embed(model, TEXTS, job_ids=["batch_99"], poll_seconds=0)


class First:
    """Tells the first few requests of a kind from all others."""

    def __init__(self, method: str, path: str, most: int) -> None:
        self.method, self.path, self.left = method, path, most

    def __call__(self, request: Received) -> bool:
        if request.method != self.method or self.path not in request.path or not self.left:
            return False
        self.left -= 1
        return True


def test_a_failing_poll_is_only_a_failing_poll(
    model: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed
) -> None:
    server.batches.polls = 3
    server.inject_when(First("GET", "/batches/", 2), faults.server_error(503))
    assert np.array_equal(embed(model, TEXTS, poll_seconds=0), server.vectors(TEXTS))


def test_a_job_whose_creation_was_not_confirmed_is_not_created_twice(
    model: OpenAIEmbedding, server: FakeEmbeddingServer
) -> None:
    server.inject_when(First("POST", "/batches", 1), faults.cut())
    assert np.array_equal(model.embed_batch_job(TEXTS, poll_seconds=0), server.vectors(TEXTS))
    assert len(server.batches.jobs) == 1


def test_a_process_that_ends_before_it_could_tell_the_id_of_its_job_finds_the_job_again(
    model: OpenAIEmbedding, server: FakeEmbeddingServer
) -> None:
    def end(job_id: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.embed_batch_job(TEXTS, on_submit=end, poll_seconds=0)
    ids: list[str] = []
    vectors = model.embed_batch_job(TEXTS, on_submit=ids.append, poll_seconds=0)
    assert np.array_equal(vectors, server.vectors(TEXTS))
    assert ids == list(server.batches.jobs) == ["batch_1"]
    model.embed_batch_job(TEXTS, on_submit=ids.append, poll_seconds=0)  # that one is over
    assert ids == list(server.batches.jobs) == ["batch_1", "batch_2"]


# What goes wrong


def test_a_failed_job_says_why(model: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed) -> None:
    server.batches.outcome = "failed"
    with pytest.raises(ProviderError, match=r"ended as `failed` \(invalid_json_line: This line"):
        embed(model, TEXTS, poll_seconds=0)


@pytest.mark.parametrize("outcome", ["expired", "cancelled"])
def test_what_an_expired_job_did_is_kept_and_the_rest_is_sent_again(
    cached: OpenAIEmbedding,
    server: FakeEmbeddingServer,
    embed: Embed,
    outcome: str,
) -> None:
    server.batches.outcome, server.batches.keeps = outcome, 2
    with pytest.raises(ProviderError, match="send the rest again") as caught:
        embed(cached, TEXTS, poll_seconds=0)
    assert set(caught.value.completed) == set(range(8))
    assert len(cached.embeddings_cache or ()) == 8
    assert online(server) == []
    server.batches.outcome = "completed"
    assert np.array_equal(embed(cached, TEXTS, poll_seconds=0), server.vectors(TEXTS))
    assert submitted(server)[1:] == [TEXTS[8:]]


def test_a_job_that_is_being_cancelled_is_waited_for(
    cached: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed
) -> None:
    ids: list[str] = []
    server.batches.outcome, server.batches.keeps = "cancelled", 2
    cancelling = {"id": "batch_1", "object": "batch", "status": "cancelling", "input_file_id": "file-1"}
    server.inject_when(First("GET", "/batches/batch_1", 2), faults.payload(cancelling))
    with pytest.raises(ProviderError, match="send the rest again") as caught:
        embed(cached, TEXTS, on_submit=ids.append, poll_seconds=0)
    assert set(caught.value.completed) == set(range(8))
    server.batches.outcome = "completed"
    assert np.array_equal(embed(cached, TEXTS, job_ids=ids, poll_seconds=0), server.vectors(TEXTS))
    assert submitted(server) == [TEXTS, TEXTS[8:]]


def test_an_input_that_a_job_refuses_is_found_online(
    cached: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed
) -> None:
    cached.long_text = "error"
    texts = [*TEXTS[:5], "x" * 8_200 * 5, *TEXTS[6:]]
    with pytest.raises(InvalidInputError) as caught:
        embed(cached, texts, poll_seconds=0)
    assert caught.value.indices == (5,)
    assert set(caught.value.completed) == set(range(10)) - {5}


def test_requests_the_provider_could_not_do_are_not_paid_at_full_price(
    model: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed
) -> None:
    server.models = ["another"]
    with pytest.raises(ProviderError, match="the model is unknown"):
        embed(model, TEXTS, poll_seconds=0)
    assert online(server) == []


@pytest.mark.parametrize("attempts", [1, 3])
def test_a_job_that_finds_no_room_in_the_queue_is_sent_again(
    small_jobs: OpenAIEmbedding, server: FakeEmbeddingServer, attempts: int
) -> None:
    server.batches.error = ("token_limit_exceeded", "Enqueued token limit reached")
    server.batches.outcome = "failed"
    ids: list[str] = []

    def count(job_id: str) -> None:
        ids.append(job_id)
        if len(ids) == 3 + attempts:
            server.batches.outcome = "completed"

    assert np.array_equal(small_jobs.embed_batch_job(TEXTS, on_submit=count, poll_seconds=0.001), server.vectors(TEXTS))


def test_an_answer_that_does_not_fit_is_an_error(model: OpenAIEmbedding, server: FakeEmbeddingServer) -> None:
    ids: list[str] = []
    model.embed_batch_job(TEXTS, on_submit=ids.append, poll_seconds=0)
    job = server.batches.jobs[ids[0]]
    answer = json.loads(server.batches.files[job["output_file_id"]])
    answer["response"]["body"]["data"].pop()
    server.batches.files[job["output_file_id"]] = json.dumps(answer).encode()
    with pytest.raises(EmbeddingIntegrityError, match="answered a request of 10 inputs with the positions"):
        model.embed_batch_job(TEXTS, job_ids=ids, poll_seconds=0)


def changed(**changes: object) -> Callable[[bytes], bytes]:
    return lambda line: json.dumps(json.loads(line) | changes).encode()


DRIPPING = Fault(body=b" " * 10_000, wire="drip")


@pytest.mark.parametrize("asked", ["POST /v1/files", "POST /v1/batches", "GET /v1/batches/", "GET /v1/files/"])
def test_a_request_about_a_file_ends_though_the_server_drips_on(
    server: FakeEmbeddingServer, embed: Embed, asked: str
) -> None:
    server.inject_when(lambda request: f"{request.method} {request.path}".startswith(asked), DRIPPING)
    with (
        SmallJobs(api_key=KEY, api_base=server.base_url, max_retries=0, attempt_timeout=0.1) as model,
        pytest.raises(ProviderTimeoutError, match="no answer in time"),
    ):
        embed(model, TEXTS, poll_seconds=0)


def test_a_file_is_read_no_further_than_the_answers_of_a_job_can_be_long(
    small_jobs: OpenAIEmbedding, server: FakeEmbeddingServer
) -> None:
    packed = Fault(body=gzip.compress(b" " * (64 << 20)), headers={"content-encoding": "gzip"})
    server.inject_when(lambda request: request.path.endswith("/content"), packed)
    with pytest.raises(EmbeddingIntegrityError, match="answered more than 8 MiB"):
        small_jobs.embed_batch_job(TEXTS, poll_seconds=0)


@pytest.mark.parametrize(
    "odd",
    [
        lambda line: b"",
        lambda line: line[:100],
        lambda line: b"\xff",
        lambda line: b"[1, 2]",
        changed(custom_id=None),
        changed(custom_id=["0"]),
        changed(custom_id="no such request"),
        changed(response={"body": {}}),
        changed(response={"status_code": "fine", "body": {}}),
        changed(response="fine"),
    ],
)
def test_an_odd_line_costs_its_own_texts_only(
    model: OpenAIEmbedding, server: FakeEmbeddingServer, odd: Callable[[bytes], bytes]
) -> None:
    ids: list[str] = []
    model._capabilities().max_inputs = 4
    model.embed_batch_job(TEXTS, on_submit=ids.append, poll_seconds=0)
    name = server.batches.jobs[ids[0]]["output_file_id"]
    last, *others = server.batches.files[name].splitlines()
    server.batches.files[name] = b"\n".join([odd(last), *others])
    assert np.array_equal(model.embed_batch_job(TEXTS, job_ids=ids, poll_seconds=0), server.vectors(TEXTS))
    assert online(server) == [TEXTS[8:]]  # as texts that the job leaves out without a word


@pytest.mark.parametrize("status", [429, 503])
def test_a_request_that_failed_within_its_job_is_not_waited_for(
    model: OpenAIEmbedding, server: FakeEmbeddingServer, status: int
) -> None:
    model.retry = RetryPolicy(max_retries=10, initial_seconds=0, max_seconds=0)
    answer = {"custom_id": "0", "response": {"status_code": status, "body": {"error": {"message": "not now"}}}}
    server.inject_when(First("GET", "/files/file-2/content", 1), faults.payload(answer))
    with pytest.raises(ProviderError, match=rf"\({status}: not now\); send the rest again"):
        model.embed_batch_job(TEXTS, poll_seconds=0)
    assert sum(request.path.endswith("/files/file-2/content") for request in server.requests) == 1


def test_an_answer_that_comes_twice_counts_once(model: OpenAIEmbedding, server: FakeEmbeddingServer) -> None:
    ids: list[str] = []
    model.embed_batch_job(TEXTS, on_submit=ids.append, poll_seconds=0)
    used = model.usage.tokens
    name = server.batches.jobs[ids[0]]["output_file_id"]
    server.batches.files[name] = b"\n".join([server.batches.files[name], b""] * 2)
    model.embed_batch_job(TEXTS, job_ids=ids, poll_seconds=0)
    assert model.usage.tokens == 2 * used


# Money and progress


def test_a_job_pays_no_limiter_of_online_requests(
    model: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed
) -> None:
    model.rate_limiter = RateLimiter(requests_per_minute=1, tokens_per_minute=4)
    texts = [*TEXTS, "a text of more tokens than four"]
    assert np.array_equal(embed(model, texts, poll_seconds=0), server.vectors(texts))
    assert model.rate_limiter.reserve(4).seconds == 0


def test_what_a_job_refused_pays_it_when_asked_for_online(cached: OpenAIEmbedding, embed: Embed) -> None:
    cached.long_text, cached.rate_limiter = "error", RateLimiter(tokens_per_minute=100)
    texts = [*TEXTS[:5], "x" * 8_200 * 5, *TEXTS[6:]]
    with pytest.raises(ConfigurationError, match="exceeds the whole budget of 100 tokens") as caught:
        embed(cached, texts, poll_seconds=0)
    assert set(caught.value.completed) == set(range(10)) - {5}


def test_usage_counts_half_the_price(model: OpenAIEmbedding) -> None:
    model.embed_batch_job(["four"] * 1 + ["eight888"], poll_seconds=0)
    assert model.usage.tokens == 3
    assert model.usage.price == pytest.approx(1.5 * 0.02e-6)


def test_max_cost_sends_no_job_that_would_exceed_it(model: OpenAIEmbedding, server: FakeEmbeddingServer) -> None:
    model.price_per_million_tokens, model.max_cost = 1_000_000.0, 10.0
    with pytest.raises(QuotaExceededError, match="max_cost"):
        model.embed_batch_job(["x" * 100], poll_seconds=0)
    assert server.batches.jobs == {}
    assert len(model.embed_batch_job(["x" * 60], poll_seconds=0)) == 1
    assert model._meter.reserved == 0


def test_a_job_that_is_sent_again_is_reserved_once(model: OpenAIEmbedding, server: FakeEmbeddingServer) -> None:
    model.price_per_million_tokens, model.max_cost = 1_000_000.0, 15.0
    server.batches.error, server.batches.outcome = ("token_limit_exceeded", "Enqueued token limit reached"), "failed"
    ids: list[str] = []

    def count(job_id: str) -> None:
        ids.append(job_id)
        if len(ids) == 3:
            server.batches.outcome = "completed"

    assert len(model.embed_batch_job(["x" * 80], on_submit=count, poll_seconds=0)) == 1
    assert (model.usage.price, model._meter.reserved) == (10.0, 0)


def test_a_model_goes_with_its_last_name_after_a_job_too(server: FakeEmbeddingServer) -> None:
    model = OpenAIEmbedding(api_key=KEY, api_base=server.base_url, max_cost=1, rate_limiter=RateLimiter())
    model.embed_batch_job(TEXTS, poll_seconds=0)
    alive = weakref.ref(model)
    gc.collect()
    gc.disable()
    try:
        model.embed_batch_job(TEXTS, poll_seconds=0)
        del model
        assert alive() is None
    finally:
        gc.enable()


def test_a_bar_counts_every_input_once(
    model: OpenAIEmbedding, server: FakeEmbeddingServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.batches.polls = 1
    model.embed_batch_job(TEXTS, poll_seconds=0, show_progress=True)
    assert "10/10" in capsys.readouterr().err
