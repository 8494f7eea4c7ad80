"""Runs of a pipeline: what is embedded again, what keeps its id, what is told."""

import asyncio
import base64
import dataclasses
import signal
import sqlite3
import subprocess
import sys
from io import BytesIO
from typing import ClassVar

import pytest
from embed_core import (
    Document,
    ImageNode,
    IngestionPipeline,
    MockEmbedding,
    MockMultiModalEmbedding,
    TextNode,
    TextSplitter,
)
from embed_core._history import History, key_of
from embed_core.errors import AuthenticationError, ConfigurationError, InvalidInputError
from embed_core.kvstore import KVStore, MemoryKVStore, SQLiteKVStore
from embed_core.testing import ScriptedEmbedding
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture(params=["sync", "async"])
def run(request):
    """Run a pipeline in one colour or the other, and commit its result."""

    def sync(pipeline, *args, **kwargs):
        with pipeline.run(*args, **kwargs) as result:
            return result

    async def async_(pipeline, *args, **kwargs):
        async with await pipeline.arun(*args, **kwargs) as result:
            return result

    return sync if request.param == "sync" else lambda *args, **kwargs: asyncio.run(async_(*args, **kwargs))


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    store = MemoryKVStore() if request.param == "memory" else SQLiteKVStore(tmp_path / "cache.db")
    yield store
    store.close()


def documents(**texts):
    return [Document(id_=id_, text=text) for id_, text in texts.items()]


def sent(model):
    return [text for call in model.calls for text in call.inputs]


def told(result):
    return result.added, result.changed, result.unchanged, result.removed


class Counted(str):
    """An id that counts how often ids are compared."""

    __slots__ = ()
    __hash__ = str.__hash__
    comparisons = 0

    def __eq__(self, other):
        Counted.comparisons += 1
        return str.__eq__(self, other)


@dataclasses.dataclass
class CountedNode:
    id_: Counted

    def get_content(self, metadata_mode=None):
        return "x"


class Upper:
    """A transformation with settings, that counts its runs."""

    def __init__(self, suffix=""):
        self.suffix, self.runs = suffix, 0

    @property
    def fingerprint(self):
        return f"upper:{self.suffix}"

    def __call__(self, nodes):
        self.runs += 1
        return [TextNode(id_=f"{node.id_}-upper", text=node.text.upper() + self.suffix) for node in nodes]


class TestVectors:
    def test_only_what_changed_is_embedded_again(self, run, store):
        model = MockEmbedding()
        pipeline = IngestionPipeline([TextSplitter(20), model], cache=store)
        run(pipeline, documents(a="One two three.\n\nFour five six.", b="Seven eight."))
        assert sorted(sent(model)) == ["Four five six.", "One two three.", "Seven eight."]
        model.reset()
        run(pipeline, documents(a="One two three.\n\nFour five six.", b="Seven eight."))
        assert sent(model) == []
        nodes = run(pipeline, documents(a="Zero.\n\nOne two three.\n\nFour five six!", b="Seven eight."))
        assert sorted(sent(model)) == ["Four five six!", "Zero."]
        assert [node.embedding for node in nodes] == MockEmbedding().get_text_embedding_batch(
            node.text for node in nodes
        )

    def test_vectors_are_those_of_the_model_called_directly(self, run, store):
        pipeline = IngestionPipeline([MockEmbedding(embed_batch_size=2)], cache=store)
        for _ in range(2):
            nodes = run(pipeline, [TextNode(text="a", metadata={"k": "v"}), TextNode(text="b"), TextNode(text="a")])
            expected = MockEmbedding().get_text_embedding_batch(["k: v\n\na", "b", "a"])
            assert [node.embedding for node in nodes] == expected

    def test_a_run_without_any_model_or_document_works(self, run):
        assert run(IngestionPipeline([]), documents(a="x"))[0].text == "x"
        assert run(IngestionPipeline([TextSplitter(), MockEmbedding()])) == []

    @given(
        rounds=st.lists(st.lists(st.text("ab \n", max_size=12), max_size=4), min_size=2, max_size=4),
        size=st.integers(1, 6),
    )
    def test_a_run_with_memories_gives_what_a_run_without_gives(self, rounds, size):
        remembering = IngestionPipeline([TextSplitter(size), MockEmbedding()])
        for texts in rounds:
            given = [Document(id_=str(number), text=text) for number, text in enumerate(texts)]
            fresh = IngestionPipeline([TextSplitter(size), MockEmbedding()]).run(given)
            assert remembering.run(given) == list(fresh)

    def test_text_that_runs_together_alike_is_not_mixed_up(self, run, store):
        model = MockEmbedding()
        pipeline = IngestionPipeline([model], cache=store)
        first = run(pipeline, nodes=[TextNode(id_="1", text="ab"), TextNode(id_="2", text="c")])
        second = run(pipeline, nodes=[TextNode(id_="3", text="a"), TextNode(id_="4", text="bc")])
        assert [node.id_ for node in first] == ["1", "2"]
        assert [node.id_ for node in second] == ["3", "4"]
        assert sent(model) == ["ab", "c", "a", "bc"]

    def test_equal_text_under_two_ids_is_embedded_once_and_keeps_both(self, run, store):
        model = MockEmbedding()
        nodes = run(IngestionPipeline([TextSplitter(), model], cache=store), documents(a="same", b="same"))
        assert sent(model) == ["same"]
        assert [node.ref_doc_id for node in nodes] == ["a", "b"]
        assert nodes[0].id_ != nodes[1].id_
        assert nodes[0].embedding == nodes[1].embedding

    def test_another_model_or_another_splitting_is_embedded_again(self, run, store):
        run(IngestionPipeline([MockEmbedding(embed_dim=4)], cache=store), documents(a="x"))
        other = MockEmbedding(embed_dim=6)
        (node,) = run(IngestionPipeline([other], cache=store), documents(a="x"))
        assert len(node.embedding) == 6
        split = MockEmbedding(embed_dim=6)
        run(IngestionPipeline([TextSplitter(3), split], cache=store), documents(a="x yy"))
        assert sent(split) == ["yy"]  # "x" is known already

    def test_metadata_that_the_model_sees_counts(self, run, store):
        model = MockEmbedding()
        pipeline = IngestionPipeline([model], cache=store)
        for metadata in ({"page": 1}, {"page": 2}, {"page": 2}):
            run(pipeline, [Document(id_="a", text="x", metadata=metadata)])
        assert sent(model) == ["page: 1\n\nx", "page: 2\n\nx"]

    def test_a_model_s_own_cache_is_used_where_it_has_one(self, run):
        model = MockEmbedding(embeddings_cache=MemoryKVStore())
        pipeline = IngestionPipeline([model])
        run(pipeline, documents(a="x", b="y"))
        run(pipeline, documents(a="x", b="z"))
        assert sorted(sent(model)) == ["x", "y", "z"]
        assert len(model.embeddings_cache) == 3

    def test_leftovers_of_another_dimension_are_embedded_again(self, run, store):
        class Undeclared(MockEmbedding):
            def _declared_dimension(self):
                return None

            def _space(self):
                return {"class": "undeclared"}

        run(IngestionPipeline([Undeclared(embed_dim=4)], cache=store), documents(a="x", b="y"))
        nodes = run(IngestionPipeline([Undeclared(embed_dim=6)], cache=store), documents(a="x", b="new"))
        assert [len(node.embedding) for node in nodes] == [6, 6]

    def test_images_are_embedded_as_images_once_for_a_content(self, run, store, tmp_path):
        pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed; it is in the extra `images`")
        buffer = BytesIO()
        pillow.new("L", (2, 2), 7).save(buffer, format="PNG")
        (tmp_path / "a.png").write_bytes(buffer.getvalue())
        model = MockMultiModalEmbedding()
        pipeline = IngestionPipeline([TextSplitter(), model], cache=store)
        for _ in range(2):
            image, copy, text = run(
                pipeline,
                [
                    ImageNode(id_="i", image_path=str(tmp_path / "a.png"), text="caption"),
                    ImageNode(id_="j", image=buffer.getvalue()),
                    Document(id_="t", text="caption"),
                ],
            )
            assert image.embedding == copy.embedding == MockMultiModalEmbedding().get_image_embedding(buffer.getvalue())
            assert text.embedding == MockEmbedding().get_text_embedding("caption")
        assert [call.kind for call in model.calls] == ["image", "text"]

    @pytest.mark.parametrize("order", [("pipeline", "model"), ("model", "pipeline")])
    def test_an_image_is_paid_for_once_by_a_pipeline_and_the_model_alone_on_one_store(self, run, tmp_path, order):
        pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed; it is in the extra `images`")
        pillow.new("L", (2, 2), 7).save(tmp_path / "a.png")
        vectors = []
        for number, user in enumerate(order):
            store = SQLiteKVStore(tmp_path / "cache.db")
            if user == "pipeline":
                model = MockMultiModalEmbedding()
                pipeline = IngestionPipeline([model], cache=store)
                (node,) = run(pipeline, [ImageNode(id_="i", image_path=str(tmp_path / "a.png"))])
                vectors.append(node.embedding)
            else:
                model = MockMultiModalEmbedding(embeddings_cache=store)
                vectors.append(model.get_image_embedding((tmp_path / "a.png").read_bytes()))
            store.close()
            assert model.call_count == (0 if number else 1)
        assert vectors[0] == vectors[1]

    def test_a_data_uri_and_a_foreign_image_are_remembered_too(self, run, store):
        pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed; it is in the extra `images`")
        buffer = BytesIO()
        pillow.new("L", (2, 2), 7).save(buffer, format="PNG")
        uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()

        class Foreign:
            id_, embedding, image_path, image_url = "f", None, None, None

            def __init__(self, image):
                self.image = image

            def get_content(self, metadata_mode="all"):
                return ""

        model = MockMultiModalEmbedding()
        pipeline = IngestionPipeline([model], cache=store)
        for _ in range(2):
            nodes = run(pipeline, [ImageNode(id_="u", image=uri), Foreign(buffer.getvalue())])
            expected = MockMultiModalEmbedding().get_image_embedding(buffer.getvalue())
            assert [node.embedding for node in nodes] == [expected] * 2
        assert nodes.unchanged == ["u", "f"]
        assert model.call_count == 1


class TestTransformations:
    def test_a_transformation_with_a_fingerprint_runs_again_only_for_what_changed(self, run, store):
        upper = Upper()
        pipeline = IngestionPipeline([upper, MockEmbedding()], cache=store)
        first = run(pipeline, documents(a="x", b="y"))
        second = run(pipeline, documents(a="x", b="z"))
        assert upper.runs == 3
        assert [node.text for node in second] == ["X", "Z"]
        assert second[0] == first[0]

    def test_it_runs_again_when_its_settings_change(self, run, store):
        run(IngestionPipeline([Upper("!")], cache=store), documents(a="x"))
        (node,) = run(IngestionPipeline([Upper("?")], cache=store), documents(a="x"))
        assert node.text == "X?"

    def test_it_runs_again_when_a_model_before_it_changes(self, run, store):
        class Halved:
            fingerprint = "halved"

            def __call__(self, nodes):
                for node in nodes:
                    node.embedding = [number / 2 for number in node.embedding]
                return nodes

        for dimension in (4, 6, 4):
            (node,) = run(
                IngestionPipeline([MockEmbedding(embed_dim=dimension), Halved()], cache=store), documents(a="x")
            )
            whole = MockEmbedding(embed_dim=dimension).get_text_embedding("x")
            assert node.embedding == [number / 2 for number in whole]

    def test_one_without_a_fingerprint_runs_every_time(self, run, store):
        runs = []

        def noted(nodes):
            runs.append([node.id_ for node in nodes])
            return nodes

        pipeline = IngestionPipeline([noted], cache=store)
        run(pipeline, documents(a="x", b="y"))
        run(pipeline, documents(a="x", b="y"))
        assert runs == [["a"], ["b"]] * 2

    def test_results_that_json_would_change_are_made_anew(self, run, store):
        class Dated(Upper):
            def __call__(self, nodes):
                self.runs += 1
                return [TextNode(id_=node.id_, metadata={"pair": (1, 2), "odd": {1, 2}}) for node in nodes]

        class Own(TextNode):
            pass

        class Owned(Upper):
            def __call__(self, nodes):
                self.runs += 1
                return [Own(id_=node.id_) for node in nodes]

        dated, owned = Dated("dated"), Owned("owned")
        for _ in range(2):
            (node,) = run(IngestionPipeline([dated], cache=store), documents(a="x"))
            assert node.metadata == {"pair": (1, 2), "odd": {1, 2}}
            (node,) = run(IngestionPipeline([owned], cache=store), documents(a="x"))
            assert type(node) is Own
        assert (dated.runs, owned.runs) == (2, 2)

    def test_arun_awaits_a_transformation_s_acall(self):
        class Awaited(Upper):
            async def acall(self, nodes):
                await asyncio.sleep(0)
                return [TextNode(id_=node.id_, text="awaited") for node in nodes]

        (node,) = asyncio.run(IngestionPipeline([Awaited()]).arun(documents(a="x")))
        assert node.text == "awaited"

    @pytest.mark.parametrize("workers", [1, 4])
    def test_documents_may_be_transformed_side_by_side(self, run, workers):
        pipeline = IngestionPipeline([Upper(), TextSplitter(5), MockEmbedding()], num_workers=workers)
        texts = {str(number): f"text number {number}" for number in range(30)}
        expected = IngestionPipeline([Upper(), TextSplitter(5), MockEmbedding()]).run(documents(**texts))
        assert run(pipeline, documents(**texts)) == list(expected)


class TestChanges:
    def test_a_result_tells_what_is_new_what_changed_and_what_is_gone(self, run, store):
        pipeline = IngestionPipeline([TextSplitter(20), MockEmbedding()], cache=store)
        first = run(pipeline, documents(a="One two three.\n\nFour five six.", b="Seven.", c="Eight."))
        assert told(first) == (["a", "b", "c"], [], [], [])
        assert first.fresh == list(first)
        assert first.stale == []
        ids = {node.text: node.id_ for node in first}
        second = run(pipeline, documents(a="One two three.\n\nFour five!", b="Seven.", d="Nine."), delete_missing=True)
        assert told(second) == (["d"], ["a"], ["b"], ["c"])
        assert [node.text for node in second.fresh] == ["Four five!", "Nine."]
        assert sorted(second.stale) == sorted([ids["Four five six."], ids["Eight."]])
        third = run(pipeline, documents(a="One two three.\n\nFour five!", c="Eight."), delete_missing=True)
        assert told(third) == (["c"], [], ["a"], ["b", "d"])

    def test_what_is_not_given_is_left_alone_unless_it_is_said_to_be_gone(self, run, store):
        pipeline = IngestionPipeline([MockEmbedding()], cache=store)
        run(pipeline, documents(a="x", b="y"))
        assert told(run(pipeline, documents(c="z"))) == (["c"], [], [], [])
        assert told(run(pipeline, documents(b="y"), delete_missing=True)) == ([], [], ["b"], ["a", "c"])

    def test_everything_can_be_gone(self, run, store):
        pipeline = IngestionPipeline([MockEmbedding()], cache=store)
        run(pipeline, documents(a="x"))
        result = run(pipeline, [], delete_missing=True)
        assert (result, result.removed, result.stale) == ([], ["a"], ["a"])
        assert told(run(pipeline, [], delete_missing=True)) == ([], [], [], [])

    def test_notes_are_never_forgotten_to_make_room(self, run, tmp_path):
        small = MemoryKVStore(max_entries=50)
        pipeline = IngestionPipeline([Upper(), MockEmbedding()], cache=small)
        first = run(pipeline, documents(**{str(number): f"text {number}" for number in range(200)}))
        result = run(pipeline, documents(**{"0": "text 0"}), delete_missing=True)
        assert sorted(result.stale) == sorted(node.id_ for node in first[1:])
        assert (result.fresh, len(result.removed)) == ([], 199)

    def test_one_more_document_costs_the_same_however_many_there_are(self, run):
        class Weighed(MemoryKVStore):
            weight = 0

            def get_many(self, keys):
                found = super().get_many(keys)
                self.weight += sum(map(len, found.values()))
                return found

            def put_many(self, items):
                self.weight += sum(map(len, items.values()))
                super().put_many(items)

            def keep_many(self, items):
                self.weight += sum(map(len, items.values()))
                super().keep_many(items)

        pipeline = IngestionPipeline([], cache=(store := Weighed()))
        run(pipeline, [CountedNode(f"document {number}") for number in range(20_000)])
        store.weight = 0
        run(pipeline, [CountedNode("one more")])
        assert store.weight < 5_000  # the ids alone take 300,000

    def test_documents_that_are_gone_take_a_few_comparisons_each(self, run):
        pipeline, nodes = IngestionPipeline([]), [CountedNode(Counted(number)) for number in range(2000)]
        run(pipeline, nodes)
        Counted.comparisons = 0
        assert len(run(pipeline, nodes[:1000], delete_missing=True).removed) == 1000
        assert Counted.comparisons < 10 * len(nodes)

    def test_a_chunk_that_only_moved_is_fresh_but_not_embedded_again(self, run, store):
        model = MockEmbedding()
        pipeline = IngestionPipeline([TextSplitter(20), model], cache=store)
        run(pipeline, documents(a="One two three.\n\nFour five six."))
        model.reset()
        result = run(pipeline, documents(a="Zero.\n\nOne two three.\n\nFour five six."))
        assert sent(model) == ["Zero."]
        assert len(result.fresh) == 3  # its offsets changed
        assert result.stale == []

    def test_another_model_makes_every_node_fresh(self, run, store):
        run(IngestionPipeline([MockEmbedding(embed_dim=4)], cache=store), documents(a="x"))
        result = run(IngestionPipeline([MockEmbedding(embed_dim=6)], cache=store), documents(a="x"))
        assert result.changed == ["a"]
        assert result.fresh == list(result)
        assert result.stale == []

    def test_a_node_that_moves_to_another_document_is_not_stale(self, run, store):
        def by_text(nodes):
            return [TextNode(id_=word, text=word) for node in nodes for word in node.text.split()]

        pipeline = IngestionPipeline([by_text], cache=store)
        run(pipeline, documents(a="one two", b="three"))
        assert run(pipeline, documents(a="one", b="two three")).stale == []

    def test_pipelines_that_share_a_cache_tell_their_own_documents(self, run, store):
        one = IngestionPipeline([MockEmbedding()], cache=store, name="one")
        other = IngestionPipeline([MockEmbedding()], cache=store, name="other")
        run(one, documents(a="x"))
        assert told(run(other, documents(a="x"), delete_missing=True)) == (["a"], [], [], [])
        assert told(run(one, documents(a="x"), delete_missing=True)) == ([], [], ["a"], [])


class Database(dict):
    """A vector database: node ids with the states of their nodes."""

    def delete(self, ids):
        for id_ in ids:
            self.pop(id_, None)

    def upsert(self, nodes):
        self.update((node.id_, (node.text, node.embedding)) for node in nodes)


def by_position(nodes):
    return [TextNode(id_=f"{node.id_}-{at}", text=word) for node in nodes for at, word in enumerate(node.text.split())]


class TestCommits:
    def test_differences_stay_until_they_are_stored(self, run, store):
        pipeline = IngestionPipeline([by_position, MockEmbedding()], cache=store)
        run(pipeline, documents(a="one two", b="three", c="four"))
        for _ in range(2):
            result = pipeline.run(documents(a="one", b="five", d="six"), delete_missing=True)
            assert told(result) == (["d"], ["a", "b"], [], ["c"])
            assert [node.id_ for node in result.fresh] == ["b-0", "d-0"]
            assert sorted(result.stale) == ["a-1", "c-0"]
        result.commit()
        again = run(pipeline, documents(a="one", b="five", d="six"), delete_missing=True)
        assert told(again) == ([], [], ["a", "b", "d"], [])
        assert (again.fresh, again.stale) == ([], [])

    def test_a_block_that_fails_commits_nothing(self, store):
        pipeline = IngestionPipeline([MockEmbedding()], cache=store)

        async def fail():
            async with await pipeline.arun(documents(a="x")):
                raise OSError("the database is down")

        with pytest.raises(OSError, match="down"), pipeline.run(documents(a="x")):
            raise OSError("the database is down")
        with pytest.raises(OSError, match="down"):
            asyncio.run(fail())
        assert pipeline.run(documents(a="x")).added == ["a"]

    def test_a_document_that_goes_back_to_what_is_stored_no_longer_is_told_too(self, run, store):
        pipeline = IngestionPipeline([by_position], cache=store)
        run(pipeline, documents(a="one two"))
        pipeline.run(documents(a="three four five"))  # stored in part, perhaps
        result = run(pipeline, documents(a="one two"))
        assert [node.text for node in result.fresh] == ["one", "two"]
        assert result.stale == ["a-2"]

    def test_results_that_overlap_leave_no_node_behind(self, run, store):
        pipeline, database = IngestionPipeline([by_position], cache=store), Database()
        first = pipeline.run(documents(a="one two three"))
        second = pipeline.run(documents(a="one"))
        for result in (second, first, second):
            database.delete(result.stale)
            database.upsert(result.fresh)
            result.commit()
        result = run(pipeline, documents(a="one"))
        database.delete(result.stale)
        assert list(database) == ["a-0"]

    @given(st.data())
    @settings(max_examples=60)
    def test_whatever_crashes_the_next_commit_makes_it_good(self, data):
        texts = st.dictionaries(st.sampled_from("abc"), st.text("xy ", max_size=5), max_size=3)
        pipeline, database = IngestionPipeline([by_position, MockEmbedding(embed_dim=2)]), Database()
        for outcome in [*data.draw(st.lists(st.sampled_from(["stored", "part", "nothing"]), max_size=6)), "stored"]:
            delete = data.draw(st.booleans()) or outcome == "stored"
            result = pipeline.run(documents(**data.draw(texts)), delete_missing=delete)
            part = data.draw(st.integers(0, 3)) if outcome == "part" else None
            if outcome != "nothing":
                database.delete(result.stale[:part])
                database.upsert(result.fresh[:part])
            if outcome == "stored":
                result.commit()
                assert database == {node.id_: (node.text, node.embedding) for node in result}

    def test_the_notes_of_an_older_file_are_understood(self, run, store):
        history = History(store)
        notes = {key_of("document", "default", id_): {f"{id_}-0": "some state"} for id_ in "ab"}
        history.write(notes | {key_of("documents", "default"): ["a", "b"]})
        result = run(IngestionPipeline([by_position], cache=store), documents(a="one"), delete_missing=True)
        assert (told(result), result.stale) == (([], ["a"], [], ["b"]), ["b-0"])
        result = run(IngestionPipeline([by_position], cache=store), documents(a="one"), delete_missing=True)
        assert told(result) == ([], [], ["a"], [])


RUN = """
import sys, threading
from embed_core import Document, IngestionPipeline, MockEmbedding, TextSplitter
from embed_core.kvstore import SQLiteKVStore

class Slow(MockEmbedding):
    def _get_text_embeddings(self, texts):
        if self.call_count == int(sys.argv[3]):
            threading.Event().wait()
        print(len(texts), flush=True)
        return super()._get_text_embeddings(texts)

store = SQLiteKVStore(sys.argv[1])
pipeline = IngestionPipeline([TextSplitter(30), Slow(embed_batch_size=5)], cache=store)
text = "\\n\\n".join(f"This is paragraph {number}." for number in range(int(sys.argv[2])))
result = pipeline.run([Document(id_="a", text=text)])
print("done", len(result.unchanged), len(result))
result.commit()
"""


class TestPersistence:
    def ask(self, path, paragraphs):
        done = subprocess.run(
            [sys.executable, "-c", RUN, str(path), str(paragraphs), "-1"], capture_output=True, text=True, check=True
        )
        *batches, last = done.stdout.splitlines()
        return sum(map(int, batches)), last

    def test_a_second_process_embeds_nothing_that_is_unchanged(self, tmp_path):
        path = tmp_path / "cache.db"
        assert self.ask(path, 50) == (50, "done 0 50")
        assert self.ask(path, 50) == (0, "done 1 50")
        assert self.ask(path, 53) == (3, "done 0 53")

    def test_a_killed_process_loses_at_most_a_window(self, tmp_path, start):
        path = tmp_path / "cache.db"
        process = start(sys.executable, "-c", RUN, path, "6000", "1000")
        for _ in range(200):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        embedded = 200 * 5 + sum(int(line) for line in process.communicate()[0].split() if line.isdigit())
        window = 5 * 4
        again, last = self.ask(path, 6000)
        assert last == "done 0 6000"
        assert 6000 - embedded <= again <= 6000 - embedded + window


class TestFailures:
    def test_a_failure_keeps_what_was_paid_for_and_names_the_node(self, run, store):
        def fail_at_third(turn):
            if turn.number == 2:
                raise AuthenticationError("the key was revoked")
            return turn.vectors

        model = ScriptedEmbedding(embed_batch_size=2, script=fail_at_third)
        pipeline = IngestionPipeline([model], cache=store)
        texts = {f"id{number}": f"text {number}" for number in range(8)}
        with pytest.raises(AuthenticationError) as caught:
            run(pipeline, documents(**texts))
        assert "input 4 is the node `id4`" in caught.value.__notes__
        model.script = lambda turn: turn.vectors
        model.reset()
        nodes = run(pipeline, documents(**texts))
        assert sent(model) == [f"text {number}" for number in range(4, 8)]
        assert nodes.added == list(texts)

    @pytest.mark.parametrize("own_cache", [False, True])
    def test_a_failure_names_inputs_by_their_position_among_all_nodes(self, run, own_cache):
        class Strict(MockEmbedding):
            accepts_blank: ClassVar[bool] = False

        model = Strict(embeddings_cache=MemoryKVStore() if own_cache else None)
        nodes = [TextNode(id_=f"id{number}", text="same" if number % 2 else f"text {number}") for number in range(300)]
        nodes[200].text = " "
        with pytest.raises(InvalidInputError, match="input 200 is") as caught:
            run(IngestionPipeline([model]), nodes=nodes)
        assert caught.value.indices == (200,)
        assert caught.value.__notes__ == ["input 200 is the node `id200`"]

    @pytest.mark.parametrize("workers", [0, -1])
    def test_no_workers_are_refused_when_it_is_made(self, workers):
        with pytest.raises(ConfigurationError, match=f"`num_workers` is {workers}; it must be at least 1"):
            IngestionPipeline([MockEmbedding()], num_workers=workers)

    def test_a_cache_that_fails_is_reported_and_bypassed(self, run, caplog):
        class BrokenStore(KVStore):
            def get_many(self, keys):
                raise OSError("the disk is gone")

            put_many = delete_many = get_many

            def clear(self):
                raise OSError("the disk is gone")

            __len__ = size_in_bytes = clear

        pipeline = IngestionPipeline([Upper(), MockEmbedding()], cache=BrokenStore())
        result = run(pipeline, documents(a="x"), delete_missing=True)
        assert result[0].embedding == MockEmbedding().get_text_embedding("X")
        (told,) = caplog.messages
        assert "is bypassed" in told

    def test_a_damaged_cache_costs_work_and_nothing_else(self, run, tmp_path):
        path = tmp_path / "cache.db"
        store = SQLiteKVStore(path)
        pipeline = IngestionPipeline([Upper(), MockEmbedding()], cache=store)
        expected = list(run(pipeline, documents(a="x", b="y")))
        store.close()
        db = sqlite3.connect(path)
        for rowid, value in db.execute("SELECT rowid, v FROM kv").fetchall():
            damaged = bytearray(value)
            damaged[len(value) // 2] ^= 1
            db.execute("UPDATE kv SET v = ? WHERE rowid = ?", (bytes(damaged), rowid))
        db.commit()
        db.close()
        again = run(pipeline, documents(a="x", b="y"))
        assert again == expected
        assert again.added == ["a", "b"]
        assert run(pipeline, documents(a="x", b="y")).unchanged == ["a", "b"]
        store.close()

    def test_a_note_under_the_key_of_another_is_not_believed(self, run):
        store = MemoryKVStore()
        pipeline = IngestionPipeline([Upper()], cache=store)
        run(pipeline, documents(a="x", b="y"))
        entries = {**store._entries, **store._kept}
        store.put_many(dict(zip(entries, [*entries.values()][1:] + [*entries.values()][:1], strict=True)))
        again = run(pipeline, documents(a="x", b="y"))
        assert [node.text for node in again] == ["X", "Y"]
        assert (again.added, again.stale) == (["a", "b"], [])

    @pytest.mark.parametrize("wrong", [["text"], "text", Document(text="x"), [None], [{"text": "x"}]])
    def test_what_is_no_node_is_refused_at_once(self, run, wrong):
        model = MockEmbedding()
        with pytest.raises(InvalidInputError, match=r"input 0 is a .*no node"):
            run(IngestionPipeline([model]), wrong)
        assert model.call_count == 0

    def test_an_image_that_is_gone_is_named_at_once(self, run, tmp_path):
        model = MockMultiModalEmbedding()
        with pytest.raises(InvalidInputError, match="node `a` has an image that cannot be read"):
            run(IngestionPipeline([model]), [ImageNode(id_="a", image_path=str(tmp_path / "gone.png"))])
        assert model.call_count == 0

    def test_metadata_that_a_transformation_adds_must_be_plain_too(self, run, store):
        class Careless(Upper):
            def __call__(self, nodes):
                return [TextNode(id_="made", metadata={"thing": object()}) for _ in nodes]

        with pytest.raises(InvalidInputError, match="node `made` has no stable hash"):
            run(IngestionPipeline([Careless()], cache=store), documents(a="x"))

    def test_a_failure_that_leaves_nothing_keeps_nothing(self, run, store):
        def refuse(turn):
            raise AuthenticationError("the key was revoked")

        with pytest.raises(AuthenticationError):
            run(IngestionPipeline([ScriptedEmbedding(script=refuse)], cache=store), documents(a="x"))
        assert len(store) == 0

    def test_two_documents_of_one_id_are_refused(self, run):
        with pytest.raises(InvalidInputError, match="input 1 has the id `a`") as caught:
            run(IngestionPipeline([]), documents(a="x"), nodes=documents(a="y"))
        assert caught.value.indices == (1,)

    def test_metadata_that_cannot_be_compared_is_refused_before_anything_is_paid(self, run):
        model = MockEmbedding()
        with pytest.raises(InvalidInputError, match="node `a` has no stable hash"):
            run(IngestionPipeline([model]), [Document(id_="a", metadata={"thing": object()})])
        assert model.call_count == 0

    @pytest.mark.parametrize("result", [None, "text", 5, [None], ["text"]])
    def test_a_transformation_that_gives_no_nodes_is_named(self, run, result):
        def careless(nodes):
            return result

        with pytest.raises(InvalidInputError, match=r"`careless` made a .* of document `a`"):
            run(IngestionPipeline([careless]), documents(a="x"))

    def test_a_failing_transformation_fails_the_run(self, run):
        def failing(nodes):
            raise LookupError("no such title")

        with pytest.raises((LookupError, ExceptionGroup)):
            run(IngestionPipeline([failing], num_workers=3), documents(a="x", b="y"))


def test_a_progress_bar_counts_every_node(run, capsys):
    pipeline = IngestionPipeline([TextSplitter(5), MockEmbedding()])
    run(pipeline, documents(a="one two", b="one"))
    run(pipeline, documents(a="one two three", b="one"), show_progress=True)
    assert "4/4" in capsys.readouterr().err


def test_foreign_nodes_can_be_run_too(run, store):
    class Foreign:
        def __init__(self, id_, content):
            self.id_, self.content, self.embedding = id_, content, None

        def get_content(self, metadata_mode="all"):
            return self.content

    model = MockEmbedding()
    pipeline = IngestionPipeline([model], cache=store)
    assert run(pipeline, [Foreign("a", "x"), Foreign("b", "y")]).added == ["a", "b"]
    result = run(pipeline, [Foreign("a", "x"), Foreign("b", "z")])
    assert (result.unchanged, result.changed) == (["a"], ["b"])
    assert sent(model) == ["x", "y", "z"]


@pytest.mark.parametrize("given", [MockEmbedding(), "words", None])
def test_transformations_that_are_no_list_of_callables_are_refused(given):
    with pytest.raises(ConfigurationError, match=r"it must be a list, as in `\[TextSplitter\(\), model\]`"):
        IngestionPipeline(given)


def test_an_item_that_is_no_transformation_and_a_cache_that_is_no_store_are_named():
    with pytest.raises(ConfigurationError, match=r"`transformations\[1\]` is a `int`; it must be a model, a splitter"):
        IngestionPipeline([MockEmbedding(), 5])
    with pytest.raises(ConfigurationError, match=r"`cache` is a `str`; it must be a store, as in `SQLiteKVStore"):
        IngestionPipeline([MockEmbedding()], cache="pipeline.sqlite")
