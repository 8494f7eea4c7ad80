"""An index holds what lies on the disk, embeds nothing twice, and never mixes two models."""

import json
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import hypothesis
import pytest
from embed_core import MockEmbedding, ProviderResponse, TextSplitter, similarity
from embed_core.errors import (
    ConfigurationError,
    EmbedError,
    InvalidInputError,
    QuotaExceededError,
    SpaceMismatchError,
    StoreError,
)
from embed_core.index import Index, Record
from embed_core.index._embedding import JobIds
from embed_core.index._folder import only_writer
from embed_core.index._header import Header
from embed_core.index._store import Store
from embed_core.kvstore import MemoryKVStore, SQLiteKVStore
from embed_core.testing import ScriptedEmbedding
from hypothesis import strategies as st

PARAGRAPHS = [f"Paragraph {number} is about subject {number}." for number in range(30)]
ENTRIES = ["format", "model", "fingerprint", "dimension", "chunk_size"]
AWKWARD = ["it's.txt", 'say "hi".txt', "two\nlines.txt", "ünï 名前.txt", "100%_;--.txt", "back\\slash.txt"]


@pytest.fixture
def model():
    return MockEmbedding(embed_dim=16, embed_batch_size=4)


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(3):
        write(folder / f"{number}.txt", *PARAGRAPHS[number * 10 : number * 10 + 10])
    return folder


@pytest.fixture
def index(tmp_path, model):
    return Index(tmp_path / "index", model, chunk_size=60, chunk_overlap=0)


def write(path, *paragraphs, age=10):
    """Write a file that looks as if it had been there for a while."""
    path.write_text("\n\n".join(paragraphs), "utf-8")
    time_ = path.stat().st_mtime - age
    os.utime(path, (time_, time_))


def texts(index):
    """Return every chunk as (name of the file, text), in order."""
    hits = index.search("anything", k=1_000_000)
    return sorted((Path(hit.source).name, hit.start, hit.text) for hit in hits)


def counts(changes):
    return {name: getattr(changes, name) for name in ("added", "changed", "unchanged", "removed", "chunks")}


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("cuts", ["on the way", "by the model"])
def test_the_changes_tell_how_many_texts_the_model_cut(index, docs, cuts, workers):
    """A model cuts by its own account, or embed-core cuts to a limit that it knows."""

    def cut_one(turn):
        return ProviderResponse(turn.vectors, truncated=1)

    how = {"max_input_tokens": 8} if cuts == "on the way" else {"script": cut_one}
    model = ScriptedEmbedding(embed_batch_size=1, num_workers=workers, embeddings_cache=MemoryKVStore(), **how)
    long = [text for text in PARAGRAPHS if cuts == "by the model" or len(text) > 8 * 4]
    assert 0 < len(long) <= len(PARAGRAPHS)
    index = Index(index.folder, model, chunk_size=60, chunk_overlap=0)
    assert index.add(docs, dry_run=True).truncated == 0
    assert index.add(docs).truncated == len(long)
    write(docs / "more.txt", PARAGRAPHS[0], PARAGRAPHS[29])  # in the cache
    assert index.add(docs).truncated == 0
    write(docs / "more.txt", "A further paragraph that is as long as one can be.")
    changes = index.add(docs)
    changes += index.add_records([Record("1", "A record with a text that is longer than the limit.")], "rows")
    assert changes.truncated == 2


class TestSearch:
    def test_the_nearest_chunk_comes_first_with_its_place(self, index, docs):
        index.add(docs)
        hit = index.search(PARAGRAPHS[12], k=3)[0]
        assert hit.score == pytest.approx(1, abs=1e-6)
        assert (hit.source, hit.text) == (os.path.realpath(docs / "1.txt"), PARAGRAPHS[12])
        assert (hit.unit, hit.first, hit.last) == ("line", 5, 5)
        assert Path(hit.source).read_text()[hit.start : hit.end] == hit.text

    def test_all_chunks_are_compared_exactly(self, index, docs, model):
        index.add(docs)
        question = model.get_query_embedding("a question")
        expected = {text: similarity(question, model.get_text_embedding(text)) for text in PARAGRAPHS}
        found = {hit.text: hit.score for hit in index.search("a question", k=100)}
        assert found == pytest.approx(expected, abs=1e-6)
        best = sorted(expected, key=expected.get, reverse=True)[:4]
        assert [hit.text for hit in index.search("a question", k=4)] == best

    def test_equal_chunks_are_ordered_by_name_and_place(self, index, tmp_path):
        for name in ("b.txt", "a.txt"):
            write(tmp_path / name, PARAGRAPHS[0], PARAGRAPHS[1], PARAGRAPHS[0])
        index.add([tmp_path / "a.txt", tmp_path / "b.txt"])
        found = [(Path(hit.source).name, hit.first) for hit in index.search(PARAGRAPHS[0], k=4)]
        assert found == [("a.txt", 1), ("a.txt", 5), ("b.txt", 1), ("b.txt", 5)]

    def test_the_question_is_embedded_as_a_query_by_the_model_that_built_the_index(self, index, docs, model):
        index.add(docs)
        model.reset()
        index.search("a question")
        assert [call.kind for call in model.calls] == ["query"]
        later = Index(index.folder)
        assert later.search("a question") == index.search("a question")
        assert later.model.fingerprint == model.fingerprint

    @pytest.mark.parametrize(
        ("question", "k", "message"),
        [
            (" \n", 5, "question is blank"),
            (["words"], 5, "question is a `list`"),
            ("words", 0, "`k` is 0"),
            ("words", "3", "`k` is '3'"),
        ],
    )
    def test_a_question_that_makes_no_sense_is_refused(self, index, docs, question, k, message):
        index.add(docs)
        with pytest.raises(InvalidInputError, match=message):
            index.search(question, k=k)

    def test_a_folder_without_an_index_is_named_and_not_made(self, tmp_path, model):
        for given in (None, model):
            with pytest.raises(ConfigurationError, match=r"no index in .*absent`; make one with `embed index"):
                Index(tmp_path / "absent", given).search("words")
        with pytest.raises(ConfigurationError, match="no index"):
            Index(tmp_path / "absent").stats()
        assert not (tmp_path / "absent").exists()

    def test_an_index_that_has_become_empty_finds_nothing(self, index, docs):
        index.add(docs)
        shutil.rmtree(docs)
        assert counts(index.add(docs, prune=True)) == {
            "added": 0,
            "changed": 0,
            "unchanged": 0,
            "removed": 3,
            "chunks": 0,
        }
        assert index.search("words") == []

    def test_searches_go_on_while_another_index_object_writes(self, index, docs, tmp_path):
        index.add(docs)
        reader, failures, done = Index(index.folder), [], threading.Event()

        def search():
            while not done.is_set():
                try:
                    assert reader.search(PARAGRAPHS[0], k=1)[0].text == PARAGRAPHS[0]
                except Exception as error:
                    failures.append(error)

        threads = [threading.Thread(target=search) for _ in range(2)]
        for thread in threads:
            thread.start()
        for number in range(50):  # more commits than one tidying up needs
            write(tmp_path / "more.txt", f"Version {number} of the words.")
            index.add(tmp_path / "more.txt")
        done.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(list((index.folder / "chunks.lance" / "_versions").iterdir())) < 40
        assert reader.search("Version 49 of the words.", k=1)[0].score == pytest.approx(1, abs=1e-6)

    def test_a_search_begins_again_when_its_version_is_deleted_under_it(self, index, docs, model):
        index.add(docs)
        store = Store.open(index.folder)

        class Vanishing:
            """A table whose first search finds a file gone, as one does that a writer tidies up meanwhile."""

            failures = iter([RuntimeError("lance error: Not found: data/1.lance")])

            def __getattr__(self, name):
                return getattr(store._table, name)

            def search(self, *args, **options):
                for failure in self.failures:
                    raise failure
                return store._table.search(*args, **options)

        vector = model.embed_queries(["a question"])[0]
        assert Store(Vanishing(), store.header).search(vector, 3) == store.search(vector, 3)


class TestSync:
    def test_a_second_run_embeds_nothing(self, index, docs, model):
        assert counts(index.add(docs)) == {"added": 3, "changed": 0, "unchanged": 0, "removed": 0, "chunks": 30}
        assert model.input_count == 30
        again = Index(index.folder, model)
        assert counts(again.add([str(docs)])) == {"added": 0, "changed": 0, "unchanged": 3, "removed": 0, "chunks": 0}
        assert model.input_count == 30

    def test_of_an_edited_file_only_new_chunks_are_embedded(self, index, docs, model):
        index.add(docs)
        model.reset()
        write(docs / "1.txt", *PARAGRAPHS[10:15], "Something new, as long as the old.", *PARAGRAPHS[16:20], age=5)
        changes = index.add(docs)
        assert (changes.changed, changes.unchanged, changes.chunks) == (1, 2, 10)
        assert [call.inputs for call in model.calls] == [("Something new, as long as the old.",)]
        assert PARAGRAPHS[15] not in [text for _, _, text in texts(index)]
        assert len(texts(index)) == 30

    def test_a_shorter_file_leaves_no_old_chunk_behind(self, index, docs):
        index.add(docs)
        write(docs / "2.txt", PARAGRAPHS[20], age=5)
        index.add(docs)
        assert [text for name, _, text in texts(index) if name == "2.txt"] == [PARAGRAPHS[20]]
        assert index.stats().chunks == 21

    def test_a_file_that_has_lost_its_text_is_changed(self, index, docs):
        index.add(docs)
        write(docs / "2.txt", " ", age=5)
        changes = index.add(docs)
        assert (changes.changed, [one.reason for one in changes.skipped]) == (1, ["is empty"])
        assert index.stats().chunks == 20

    def test_a_renamed_file_costs_nothing(self, index, docs, model):
        index.add(docs)
        model.reset()
        (docs / "0.txt").rename(docs / "zero.txt")
        changes = index.add(docs)
        assert (changes.added, changes.removed, model.input_count) == (1, 1, 0)
        assert {name for name, _, _ in texts(index)} == {"1.txt", "2.txt", "zero.txt"}

    def test_what_is_gone_is_removed_and_what_lies_elsewhere_stays(self, index, docs, tmp_path):
        other = tmp_path / "docs-2"
        shutil.copytree(docs, other)
        index.add([docs, other])
        shutil.rmtree(other)
        (docs / "0.txt").unlink()
        assert index.add(docs).removed == 1
        assert index.stats().files == 5
        assert index.add([other / "1.txt"], prune=True).removed == 1  # the path itself may be gone
        assert index.add([tmp_path]).removed == 2

    @pytest.mark.parametrize("there", [False, True, ".keep", "lost+found/"])
    def test_a_folder_without_files_or_missing_removes_nothing_without_a_word(self, index, docs, tmp_path, there):
        """A disk that is not mounted leaves an empty folder, or none."""
        for disk in (docs, docs / "inner"):
            shutil.copytree(docs, tmp_path / "disk" / "inner", dirs_exist_ok=True)
            index.add([docs, tmp_path / "disk"])
            before = texts(index)
            gone = tmp_path / "disk" / ("inner" if disk != docs else "")
            shutil.rmtree(gone)
            if there or disk != docs:
                gone.mkdir()
            if there == ".keep":
                (gone / there).touch()
            elif there == "lost+found/":
                (gone / there).mkdir(exist_ok=True, parents=True)
            changes = index.add([docs, tmp_path / "disk"])
            assert (changes.removed, texts(index)) == (0, before)
            assert [one.source for one in changes.skipped] == [os.path.realpath(gone)]
            assert "so 3 files of it stay in the index; `--prune`" in changes.skipped[0].reason
            assert index.add([docs, tmp_path / "disk"], prune=True).removed == 3
            assert index.stats().files == 3

    def test_a_touched_file_is_read_and_not_embedded(self, index, docs, model):
        index.add(docs)
        model.reset()
        for path in docs.iterdir():
            os.utime(path, (1_000_000_000, 1_000_000_000))
        assert counts(index.add(docs)) == {"added": 0, "changed": 0, "unchanged": 3, "removed": 0, "chunks": 0}
        before = index.stats().bytes
        index.add(docs)
        assert (model.input_count, index.stats().bytes) == (0, before)  # the new times are known
        assert len(texts(index)) == 30

    def test_a_change_within_the_same_tick_and_of_the_same_size_is_seen(self, index, docs):
        path = docs / "0.txt"
        path.write_text("first words")
        time_ = path.stat().st_mtime_ns
        index.add(docs)
        path.write_text("other words")
        os.utime(path, ns=(time_, time_))
        assert index.add(docs).changed == 1
        assert ("0.txt", 0, "other words") in texts(index)

    @pytest.mark.skipif(os.name == "nt", reason="the system forbids such names")
    @pytest.mark.parametrize("name", AWKWARD)
    def test_no_name_of_a_file_is_too_awkward(self, index, docs, name):
        write(docs / name, "words in an awkward place")
        index.add(docs)
        assert index.search("words in an awkward place", k=1)[0].source == os.path.realpath(docs / name)
        write(docs / name, "changed words", age=5)
        assert index.add(docs).changed == 1
        (docs / name).unlink()
        assert index.add(docs).removed == 1
        assert len(texts(index)) == 30

    def test_what_cannot_be_read_is_listed_each_time_and_stops_nothing(self, index, docs):
        (docs / "binary").write_bytes(bytes(range(256)))
        (docs / "empty").touch()
        (docs / "link").symlink_to(docs / "0.txt")
        (docs / "scan.pdf").write_bytes(b"%PDF-1.4 broken")
        for _ in range(2):
            changes = index.add(docs)
            assert {Path(one.source).name: one.reason.split()[0:2] for one in changes.skipped} == {
                "binary": ["is", "binary"],
                "empty": ["is", "empty"],
                "link": ["is", "a"],
                "scan.pdf": ["is", "no"],
            }
        assert (index.stats().files, index.stats().chunks, len(texts(index))) == (3, 30, 30)

    def test_a_file_that_turns_binary_and_back_leaves_and_returns(self, index, docs):
        index.add(docs)
        (docs / "0.txt").write_bytes(bytes(range(256)))
        index.add(docs)
        assert index.stats().chunks == 20
        write(docs / "0.txt", *PARAGRAPHS[:10])
        index.add(docs)
        assert index.stats().chunks == 30

    def test_text_with_nul_bytes_and_endless_lines_is_indexed(self, index, docs):
        (docs / "nul.log").write_text("a line of a log\n" * 50 + "\0" + "word " * 20_000)
        index.add(docs)
        assert "".join(text for name, _, text in texts(index) if name == "nul.log").count("word") == 20_000

    def test_a_path_that_does_not_exist_costs_nothing(self, index, docs, tmp_path, model):
        with pytest.raises(InvalidInputError, match="there is no file or folder"):
            index.add([docs, tmp_path / "typo"])
        assert model.call_count == 0
        with pytest.raises(InvalidInputError, match="folder of the index"):
            index.add(index.folder)

    def test_a_folder_without_text_makes_no_index(self, index, tmp_path):
        (tmp_path / "empty").mkdir()
        assert counts(index.add(tmp_path / "empty"))["added"] == 0
        (tmp_path / "empty" / "a.bin").write_bytes(bytes(range(256)))
        assert len(index.add(tmp_path / "empty").skipped) == 1
        assert not index.exists

    def test_many_files_take_few_commits(self, index, tmp_path):
        folder = tmp_path / "many"
        folder.mkdir()
        for number in range(1200):
            write(folder / f"{number}.txt", f"words of file {number}")
        index.add(folder)
        assert index.stats().files == 1200
        assert len(list((index.folder / "chunks.lance" / "_versions").iterdir())) < 10
        for path in sorted(folder.iterdir())[:700]:
            path.unlink()
        assert index.add(folder).removed == 700
        assert index.stats().files == 500

    def test_progress_counts_the_bytes_of_the_files(self, index, docs, capsys):
        index.add(docs, show_progress=True)
        assert "100%" in capsys.readouterr().err
        for path in docs.iterdir():
            path.touch()
        index.add(docs, show_progress=True)
        assert "100%" in capsys.readouterr().err


class TestModels:
    def test_another_model_is_refused_in_plain_words(self, index, docs):
        index.add(docs)
        other = MockEmbedding(embed_dim=8)
        for use in (lambda: Index(index.folder, other).search("words"), lambda: Index(index.folder, other).add(docs)):
            with pytest.raises(
                SpaceMismatchError, match=r"built with `mock:mock`.*`embed_dim` was 16 and is 8.*leave out"
            ):
                use()

    @pytest.mark.parametrize(
        ("maker", "words"),
        [
            ("0.0.1", r"made by embed-core 0\.0\.1.* delete `.*` and index again"),
            (None, "equal settings, other weights"),
        ],
    )
    def test_a_space_of_equal_settings_is_told_by_the_version_that_made_it(self, model, tmp_path, maker, words):
        header = Header.of(model, 16, TextSplitter(60, 0), store_text=True)
        header = replace(header, fingerprint="0" * 32, embed_core=maker or header.embed_core)
        with pytest.raises(SpaceMismatchError, match=words):
            header.check(model, tmp_path)

    def test_settings_that_change_no_vector_make_no_other_model(self, index, docs):
        index.add(docs)
        same = Index(index.folder, MockEmbedding(embed_dim=16, embed_batch_size=99, num_workers=2))
        assert same.add(docs).unchanged == 3

    def test_a_difference_in_something_long_is_told_in_short(self, index, docs, tmp_path):
        Index(tmp_path / "long", MockEmbedding(model_name="a" * 100)).add(docs)
        with pytest.raises(SpaceMismatchError, match=r"`model_name` was \"a{36}… and is \"mock\""):
            Index(tmp_path / "long", "mock").search("words")

    def test_specs_and_saved_configurations_are_models(self, docs, tmp_path, model):
        Index(tmp_path / "spec", "mock:?embed_dim=16", chunk_size=60, chunk_overlap=0).add(docs)
        assert Index(tmp_path / "spec", model.to_dict()).search(PARAGRAPHS[3])[0].text == PARAGRAPHS[3]

    def test_a_model_without_a_cache_is_lent_one_in_the_folder(self, index, docs, model):
        index.add(docs)
        assert model.embeddings_cache is None
        assert len(SQLiteKVStore(index.folder / "cache.sqlite")) == 30

    def test_runs_that_share_a_model_keep_their_vectors_apart(self, docs, tmp_path):
        class Meeting(MockEmbedding):
            def _get_text_embeddings(self, texts):
                both.wait()
                assert self.embeddings_cache is None
                return super()._get_text_embeddings(texts)

        both, model = threading.Barrier(2, timeout=10), Meeting()
        write(tmp_path / "other.txt", "Other words.")
        threads = [
            threading.Thread(target=Index(tmp_path / name, model).add, args=(source,))
            for name, source in (("first", docs), ("second", tmp_path / "other.txt"))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (model.call_count, model.embeddings_cache) == (2, None)
        assert [len(SQLiteKVStore(tmp_path / name / "cache.sqlite")) for name in ("first", "second")] == [3, 1]

    def test_a_model_with_a_cache_uses_its_own(self, index, docs, model):
        model.embeddings_cache = MemoryKVStore()
        index.add(docs)
        assert len(model.embeddings_cache) == 30
        assert not (index.folder / "cache.sqlite").exists()

    def test_a_dimension_that_the_model_does_not_declare_is_learned(self, docs, tmp_path):
        class Undeclared(MockEmbedding):
            def _declared_dimension(self):
                return None

        index = Index(tmp_path / "index", Undeclared(embed_dim=5))
        index.add(docs)
        assert index.stats().dimension == 5

    def test_what_the_model_refuses_is_listed_and_the_rest_is_indexed(self, docs, tmp_path):
        def picky(turn):
            bad = [row for row, text in enumerate(turn.inputs) if text in {PARAGRAPHS[4], PARAGRAPHS[25]}]
            if bad:
                raise InvalidInputError("words it does not like", indices=bad)
            return turn.vectors

        write(docs / "bad.txt", PARAGRAPHS[4])
        index = Index(
            tmp_path / "index", ScriptedEmbedding(embed_dim=8, embed_batch_size=4, script=picky), chunk_size=60
        )
        changes = index.add(docs)
        assert [(Path(one.source).name, one.reason[:33]) for one in changes.skipped] == [
            ("0.txt", "is left out from line 9 to 9: wor"),
            ("2.txt", "is left out from line 11 to 11: w"),
            ("bad.txt", "is left out from line 1 to 1: wor"),
            ("bad.txt", "holds nothing that the model take"),
        ]
        assert index.stats().chunks == 28

    def test_a_model_that_refuses_all_it_is_asked_first_is_asked_on(self, docs, tmp_path):
        class Undeclared(ScriptedEmbedding):
            def _declared_dimension(self):
                return None

        def picky(turn):
            bad = [row for row, text in enumerate(turn.inputs) if text in PARAGRAPHS[:10]]
            if bad:
                raise InvalidInputError("words it does not like", indices=bad)
            return turn.vectors

        model = Undeclared(embed_dim=8, embed_batch_size=1, script=picky)
        changes = Index(tmp_path / "index", model, chunk_size=60, chunk_overlap=0).add(docs)
        assert (changes.added, changes.chunks, len(changes.skipped)) == (2, 20, 11)

    def test_a_provider_that_fails_loses_nothing_that_was_finished(self, docs, tmp_path):
        def failing(turn):
            if turn.number == 4:
                raise QuotaExceededError("no more")
            return turn.vectors

        model = ScriptedEmbedding(embed_dim=8, embed_batch_size=4, script=failing)
        index = Index(tmp_path / "index", model, chunk_size=60, chunk_overlap=0)
        with pytest.raises(QuotaExceededError, match="no more"):
            index.add(docs)
        assert not index.exists
        index.add(docs)
        assert model.input_count == 30 + 4
        assert index.stats().chunks == 30

    def test_a_model_that_names_no_input_is_not_asked_forever(self, docs, tmp_path):
        class Refusing(MockEmbedding):
            def _plan(self, kind, inputs):
                raise InvalidInputError("all of it")

        with pytest.raises(InvalidInputError, match="all of it"):
            Index(tmp_path / "index", Refusing()).add(docs)


class TestContent:
    @pytest.fixture
    def filled(self, index, docs):
        index.add(docs)
        index.add_records([Record("a", "Words."), Record("b", "Other words."), Record("c", "")], "-")
        index.add_records([Record("a", "Words.")], docs / "0.txt")
        return index

    def test_files_and_sources_are_listed_by_name(self, filled, docs):
        names = [os.path.realpath(docs / f"{number}.txt") for number in range(3)]
        (docs / "2.txt").unlink()
        assert [(one.source, one.records, one.chunks, one.gone) for one in filled.sources()] == [
            ("-", 3, 2, False),
            (names[0], 0, 10, False),
            (names[0], 1, 1, False),
            (names[1], 0, 10, False),
            (names[2], 0, 10, True),
        ]

    def test_files_folders_and_sources_are_removed_by_name(self, filled, docs, model):
        model.reset()
        assert filled.remove(docs / "1.txt").removed == 1
        assert filled.remove(["-"]).removed == 3
        moved = docs.rename(docs.with_name("moved"))
        filled.add(moved)
        assert filled.remove(str(docs)).removed == 3  # two files, and the record of a file
        assert {one.source for one in filled.sources()} == {os.path.realpath(path) for path in moved.iterdir()}
        assert model.input_count == 0

    def test_records_are_removed_by_their_ids(self, filled):
        assert Index(filled.folder).remove(["a", "c"], source="-").removed == 2
        assert [hit.id for hit in filled.search("Words.", k=99) if hit.source == "-"] == ["b"]
        assert filled.stats().records == 2

    def test_a_name_of_nothing_is_an_error_and_removes_nothing(self, filled, docs):
        before = filled.sources()
        with pytest.raises(InvalidInputError, match="the index holds nothing named `nothing`; `embed sources` lists"):
            filled.remove([docs, "nothing"])
        with pytest.raises(InvalidInputError, match="the index holds nothing of `-` named `x`"):
            filled.remove(["a", "x"], source="-")
        assert filled.sources() == before


class TestFolder:
    def test_an_index_is_not_spread_among_other_things(self, docs, model):
        with pytest.raises(ConfigurationError, match=r"holds other things, such as `0\.txt`"):
            Index(docs, model).add(docs)
        with pytest.raises(ConfigurationError, match="is a file"):
            Index(docs / "0.txt", model).add(docs)

    def test_an_index_may_lie_among_what_it_indexes(self, docs, model):
        index = Index(docs / "index", model)
        index.add(docs)
        assert index.add(docs).skipped == []
        assert index.stats().files == 3

    def test_how_texts_are_cut_is_fixed(self, index, docs, model):
        index.add(docs)
        assert Index(index.folder, model, chunk_size=60).add(docs).unchanged == 3
        with pytest.raises(ConfigurationError, match=r"`chunk_size` is 70, but the index was built with 60"):
            Index(index.folder, model, chunk_size=70).add(docs)
        with pytest.raises(ConfigurationError, match=r"`chunk_overlap` is 20; it must be"):
            Index(index.folder.with_name("new"), model, chunk_size=20, chunk_overlap=20).add(docs)

    def test_stats_tell_what_it_holds(self, index, docs, model):
        index.add(docs)
        stats = Index(index.folder).stats()
        assert (stats.model, stats.dimension, stats.files, stats.chunks) == ("mock:mock", 16, 3, 30)
        assert stats.fingerprint == model.fingerprint
        assert stats.bytes > 30 * 16 * 4
        assert repr(index) == f"Index({str(index.folder)!r})"

    def test_one_process_writes_at_a_time(self, index, docs):
        index.add(docs)
        with (
            only_writer(index.folder),
            pytest.raises(EmbedError, match=rf"being written by another run \(process {os.getpid()}\)"),
        ):
            index.add(docs)
        assert index.add(docs).unchanged == 3

    def test_a_lock_file_that_a_dead_process_left_blocks_nobody(self, index, docs):
        index.folder.mkdir()
        (index.folder / "write.lock").write_text("1")
        assert index.add(docs).added == 3

    @pytest.mark.parametrize("name", ["write.lock", "write.pid", "jobs.json", "jobs.json.draft", "cache.sqlite"])
    @pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
    def test_no_name_of_ours_leads_out_of_the_folder(self, index, docs, tmp_path, model, name, link):
        precious = tmp_path / "precious"
        precious.write_text("words of the user")
        for prepare in (index.folder.mkdir, lambda: index.add(docs)):
            prepare()
            (index.folder / name).unlink(missing_ok=True)
            link(index.folder / name, precious)
            for use in (Index(index.folder, model).add, Index(index.folder, model).search):
                with pytest.raises(ConfigurationError, match=rf"{name}` is a link"):
                    use(str(docs))
            assert precious.read_text() == "words of the user"
            (index.folder / name).unlink()

    def test_a_table_that_leads_elsewhere_is_refused(self, index, docs, tmp_path):
        index.add(docs)
        data = index.folder / "chunks.lance" / "data"
        data.rename(tmp_path / "elsewhere")
        data.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        with pytest.raises(ConfigurationError, match="data` is a link"):
            Index(index.folder).search("words")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
    def test_a_pipe_by_a_name_of_ours_blocks_nobody(self, index, docs):
        index.folder.mkdir()
        os.mkfifo(index.folder / "write.pid")
        with pytest.raises(ConfigurationError, match="is a device, pipe or socket"):
            index.add(docs)

    @pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * 10_000])
    def test_the_holder_of_the_lock_is_told_whatever_its_note_says(self, index, docs, content):
        index.add(docs)
        with only_writer(index.folder), pytest.raises(EmbedError, match="being written by another run") as raised:
            (index.folder / "write.pid").write_bytes(content)
            index.add(docs)
        assert len(str(raised.value)) < 500

    def test_a_table_that_was_begun_and_not_finished_is_no_index(self, index, docs):
        (index.folder / "chunks.lance" / "_versions").mkdir(parents=True)
        assert not Index(index.folder).exists
        assert index.add(docs).added == 3

    def test_a_damaged_index_is_named(self, index, docs):
        index.add(docs)
        for path in (index.folder / "chunks.lance" / "_versions").iterdir():
            path.write_bytes(b"")
        with pytest.raises(StoreError, match="is damaged"):
            Index(index.folder).search("words")

    def test_a_table_damaged_under_an_open_index_is_named(self, index, docs):
        index.add(docs)
        for path in (index.folder / "chunks.lance" / "data").iterdir():
            path.write_bytes(b"no table" * 100)
        for use in (lambda: index.search("words"), index.sources, lambda: index.similar(str(docs / "0.txt"))):
            with pytest.raises(StoreError, match="the table of the index cannot be read"):
                use()

    @hypothesis.given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda one: (
                st.lists(one)
                | st.dictionaries(
                    st.sampled_from(["format", "embed_core", "model", "fingerprint", "dimension", "chunk_size", "x"]),
                    one,
                )
            ),
        )
    )
    def test_a_header_of_any_shape_is_an_error_of_ours(self, header):
        with pytest.raises(StoreError):
            Header.from_json(json.dumps(header).encode(), Path("idx"))

    @pytest.mark.parametrize("header", [b"", b"\xff", b"{", b"[" * 100_000])
    def test_a_header_that_is_no_json_is_an_error_of_ours(self, header):
        with pytest.raises(StoreError, match="is damaged"):
            Header.from_json(header, Path("idx"))

    @pytest.mark.parametrize("content", [b"\xff", b"{", b"[1]", b'{"a": 1}'])
    def test_ids_of_jobs_of_any_shape_are_an_error_of_ours(self, tmp_path, content):
        (tmp_path / "jobs.json").write_bytes(content)
        with pytest.raises(StoreError, match=r"jobs\.json` holds no ids of jobs; delete it"):
            JobIds(tmp_path / "jobs.json", "scope")

    def test_a_table_of_another_program_is_no_index(self, tmp_path):
        import lancedb

        lancedb.connect(tmp_path / "other").create_table("chunks", [{"text": "words", "vector": [1.0, 2.0]}])
        with pytest.raises(StoreError, match="damaged"):
            Index(tmp_path / "other").stats()

    def test_an_index_of_a_newer_version_is_refused(self, tmp_path):
        import lancedb
        import pyarrow as pa

        header = json.dumps({"format": 99, "embed_core": "7.0"}).encode()
        schema = pa.schema([("source", pa.string())], metadata={b"embed_core": header})
        lancedb.connect(tmp_path / "new").create_table("chunks", schema=schema)
        with pytest.raises(StoreError, match=r"made by embed-core 7\.0, which is newer"):
            Index(tmp_path / "new").stats()

    def test_no_secret_is_written(self, docs, tmp_path):
        from pydantic import SecretStr

        class Keyed(MockEmbedding):
            api_key: SecretStr

        index = Index(tmp_path / "index", Keyed(api_key="sk-very-secret"))
        index.add(docs)
        assert not [path for path in index.folder.rglob("*") if path.is_file() and b"very-secret" in path.read_bytes()]


def test_a_chunk_whose_vector_makes_no_sense_is_left_out_and_said(docs, tmp_path):
    def blank(turn):
        vectors = turn.vectors.copy()
        vectors[[text == PARAGRAPHS[0] for text in turn.inputs]] = 0
        return vectors

    index = Index(tmp_path / "index", ScriptedEmbedding(embed_dim=8, script=blank), chunk_size=60, chunk_overlap=0)
    changes = index.add(docs)
    assert ["a vector of zeros" in one.reason for one in changes.skipped] == [True]
    assert index.search(PARAGRAPHS[7])[0].text == PARAGRAPHS[7]
    assert PARAGRAPHS[0] not in {hit.text for hit in index.search("a question", k=30)}
