"""Whatever a server's limits are: every input in one request, in order, and the right vectors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from embed_core import RetryPolicy
from embed_core.provider import _limits
from embeddings_openai import OpenAICompatibleEmbedding, OpenAIEmbedding
from embeddings_openai.testing import FakeEmbeddingServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60), min_size=1, max_size=40)
limit = st.none() | st.integers(1, 50)


@pytest.fixture(scope="module")
def one_server() -> Iterator[FakeEmbeddingServer]:
    with FakeEmbeddingServer(dimension=4) as running:
        yield running


@given(inputs=texts, size=st.integers(1, 50), inputs_limit=limit, bytes_limit=limit, tokens_limit=limit)
def test_a_plan_holds_every_input_once_in_order_and_keeps_the_limits(
    inputs: list[str], size: int, inputs_limit: int | None, bytes_limit: int | None, tokens_limit: int | None
) -> None:
    model = OpenAICompatibleEmbedding("m", api_base="http://nowhere", embed_batch_size=size, max_input_tokens=8)
    known = model._capabilities()
    known.max_inputs, known.max_bytes, known.max_tokens = inputs_limit, bytes_limit, tokens_limit
    plan = list(model._plan("text", inputs))
    assert [row for batch in plan for row in batch] == list(range(len(inputs)))
    for batch in plan:
        total = sum(len(inputs[row].encode()) for row in batch)
        assert 1 <= len(batch) <= min(size, inputs_limit or size)
        assert len(batch) == 1 or total <= min(bytes_limit or total, (tokens_limit or total) * 4)
        assert len(batch) == 1 or all(len(inputs[row].encode()) <= 32 for row in batch)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    inputs=texts,
    most_inputs=st.integers(1, 10),
    most_tokens=st.integers(60, 200),
    density=st.sampled_from([1, 2, 4]),
    refuses_base64=st.booleans(),
    asynchronous=st.booleans(),
)
def test_limits_of_any_server_are_found_out_without_losing_a_vector(
    one_server: FakeEmbeddingServer,
    inputs: list[str],
    most_inputs: int,
    most_tokens: int,
    density: int,
    refuses_base64: bool,
    asynchronous: bool,
) -> None:
    _limits._learned.clear()
    one_server.limits.inputs, one_server.limits.tokens = most_inputs, most_tokens
    one_server.tokens_of = lambda text: -(-len(text) // density)
    one_server.base64 = "refuse" if refuses_base64 else "accept"
    with OpenAICompatibleEmbedding(
        "m", api_base=one_server.base_url, num_workers=3, embed_batch_size=20, retry=RetryPolicy(max_retries=0)
    ) as model:
        vectors = asyncio.run(model.aembed_texts(inputs)) if asynchronous else model.embed_texts(inputs)
    assert np.array_equal(vectors, one_server.vectors(inputs))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=400_000), st.sampled_from(["truncate", "mean"]))
@settings(max_examples=20)
def test_windows_of_a_long_text_are_the_text(text: str, policy: str) -> None:
    model = OpenAIEmbedding(long_text=policy)
    pieces = model._windows("text", text, 8192)
    assert "".join(piece for piece, _ in pieces) == text
