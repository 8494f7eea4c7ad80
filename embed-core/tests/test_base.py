"""The public methods: each kind has its single, its batch and its array, in both colours."""

import asyncio
import re
from importlib.metadata import version
from unittest.mock import AsyncMock, MagicMock

import embed_core
import numpy as np
import pytest
from embed_core import BaseEmbedding, MockEmbedding, MockMultiModalEmbedding, TextNode
from embed_core.errors import ConfigurationError, InvalidInputError, QuotaExceededError
from embed_core.kvstore import MemoryKVStore
from embed_core.testing import ScriptedEmbedding

QUERIES = [f"question {number}" for number in range(5)]


def get_batch(model, queries, colour, **options):
    if colour == "sync":
        return model.get_query_embedding_batch(queries, **options)
    return asyncio.run(model.aget_query_embedding_batch(queries, **options))


@pytest.mark.parametrize("colour", ["sync", "async"])
class TestQueryBatches:
    def test_they_are_lists_in_input_order_by_the_query_hook(self, colour):
        model = MockEmbedding(embed_batch_size=2)
        found = get_batch(model, iter(QUERIES), colour)
        assert found == [MockEmbedding().get_query_embedding(query) for query in QUERIES]
        assert [call.kind for call in model.calls] == ["query"] * 3
        assert get_batch(model, [], colour) == []

    def test_they_share_the_cache_with_every_other_way_to_a_query_and_not_with_texts(self, colour):
        model = MockEmbedding(embeddings_cache=MemoryKVStore())
        model.embed_texts(QUERIES)
        model.get_query_embedding(QUERIES[0])
        model.reset()
        found = get_batch(model, QUERIES, colour)
        assert model.input_count == 4
        assert np.array_equal(model.embed_queries(QUERIES), np.array(found, dtype=np.float32))
        assert get_batch(model, QUERIES, colour) == found
        assert model.input_count == 4

    def test_a_query_that_fails_leaves_a_gap_where_the_caller_goes_on(self, colour):
        def refuse(turn):
            if QUERIES[3] in turn.inputs:
                raise QuotaExceededError("no credit")
            return turn.vectors

        model = ScriptedEmbedding(script=refuse, embed_batch_size=1)
        found = get_batch(model, [*QUERIES, None], colour, on_error="none")
        assert [one is None for one in found] == [False, False, False, True, False, True]
        with pytest.raises(QuotaExceededError):
            get_batch(model, QUERIES, colour)
        with pytest.raises(InvalidInputError, match="wrap it in a list or use `get_query_embedding`"):
            get_batch(model, QUERIES[0], colour)

    def test_a_bar_counts_them(self, colour, capsys):
        get_batch(MockEmbedding(), QUERIES, colour, show_progress=True)
        assert "5/5" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["queries", "texts"])
def test_an_array_has_no_gaps_and_names_the_method_that_has(kind):
    model = MockEmbedding()
    with pytest.raises(ConfigurationError, match="an array has no place for `None`") as caught:
        getattr(model, f"embed_{kind}")(["a"], on_error="none")
    with pytest.raises(ConfigurationError, match="an array has no place for `None`"):
        asyncio.run(getattr(model, f"aembed_{kind}")(["a"], on_error="none"))
    named = re.search("use `(.*)` for", str(caught.value))[1]
    assert getattr(model, named)(["a", None], on_error="none")[1] is None


class Plain(BaseEmbedding):
    """Writes the two hooks that every integration writes."""

    def _get_query_embedding(self, query):
        return [0.0]

    def _get_text_embedding(self, text):
        return [0.0]


@pytest.mark.parametrize(("hook", "answer"), [("_aget_text_embedding", [1.0]), ("_aget_text_embeddings", [[1.0]])])
def test_a_mock_in_place_of_an_async_hook_is_called(monkeypatch, hook, answer):
    monkeypatch.setattr(Plain, hook, AsyncMock(return_value=answer))
    assert asyncio.run(Plain().aget_text_embedding_batch(["a"])) == [[1.0]]
    getattr(Plain, hook).assert_awaited_once()


def test_a_mock_in_place_of_a_batch_hook_is_called_in_both_colours(monkeypatch):
    monkeypatch.setattr(Plain, "_get_text_embeddings", MagicMock(return_value=[[1.0]]))
    assert Plain().get_text_embedding_batch(["a"]) == asyncio.run(Plain().aget_text_embedding_batch(["a"])) == [[1.0]]
    assert Plain._get_text_embeddings.call_count == 2


@pytest.mark.parametrize("model", [MockEmbedding(), MockMultiModalEmbedding()])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("words", "input 0 is a `str`, no list of nodes; pass nodes like"),
        (["words"], "input 0 is a `str`, no node; pass nodes like"),
        (None, "input 0 is a `NoneType`, no list of nodes"),
        ([TextNode(text="a"), 5], "input 1 is a `int`, no node"),
    ],
)
def test_anything_else_than_nodes_is_refused_by_its_index(model, given, message):
    with pytest.raises(InvalidInputError, match=message):
        model(given)
    with pytest.raises(InvalidInputError, match=message):
        asyncio.run(model.acall(given))


class NAType:
    """Named like pandas' missing value, which cannot be compared."""

    def __ne__(self, other):
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = None


@pytest.mark.parametrize(
    "missing", [None, float("nan"), np.float64("nan"), np.float32("nan"), np.datetime64("NaT"), NAType()]
)
def test_a_missing_value_is_to_be_left_out_and_not_made_a_text(missing):
    with pytest.raises(InvalidInputError, match=r"input 1 is .*; leave it out"):
        MockEmbedding().embed_texts(["words", missing])


@pytest.mark.parametrize("method", ["embed_texts", "get_text_embedding_batch", "stream_texts"])
def test_a_table_is_refused_where_a_column_belongs(method):
    class DataFrame(dict):
        columns = ("id", "text")

    with pytest.raises(InvalidInputError, match=r"got a table, a `DataFrame`; pass one column of it"):
        next(iter(getattr(MockEmbedding(), method)(DataFrame(id=[1], text=["words"]))))


def test_fields_are_given_by_name():
    with pytest.raises(ConfigurationError, match=r"takes its fields by name, as in `MockEmbedding\(model_name=…\)`"):
        MockEmbedding("name")


def test_the_version_is_told():
    assert embed_core.__version__ == version("embed-core")
    with pytest.raises(AttributeError, match="has no attribute `nothing`"):
        _ = embed_core.nothing


def test_loading_calls_the_hook_in_both_colours_and_needs_none():
    loads = []

    class Heavy(MockEmbedding):
        def _load(self):
            loads.append("loaded")

    model = Heavy(embed_dim=2)
    model.load()
    asyncio.run(model.aload())
    assert loads == ["loaded", "loaded"]
    MockEmbedding(embed_dim=2).load()
