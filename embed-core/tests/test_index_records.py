"""An index holds what a source of records holds: each under its id, none embedded twice, what is gone forgotten."""

import json
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from embed_core import Estimate, MockEmbedding, Places, embed, similarity
from embed_core.errors import ConfigurationError, InvalidInputError, SpaceMismatchError, StoreError
from embed_core.index import Index, Record, Skipped
from embed_core.index._store import Store
from embed_core.kvstore import MemoryKVStore, SQLiteKVStore
from embed_core.testing import ScriptedEmbedding
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import PrivateAttr

QUOTES = [Record(str(number), f"Words of quote {number}.", {"author": f"Author {number % 3}"}) for number in range(9)]


@pytest.fixture
def model():
    return MockEmbedding(embed_dim=16, embed_batch_size=4)


@pytest.fixture
def index(tmp_path, model):
    return Index(tmp_path / "index", model, chunk_size=60, chunk_overlap=0)


def content(index):
    """Return the text and the metadata of every record, by source and id."""
    found = {}
    for hit in sorted(index.search("anything", k=10**6), key=lambda hit: hit.start):
        text, _ = found.get((hit.source, hit.id), ("", {}))
        found[hit.source, hit.id] = f"{text} {hit.text}".strip(), dict(hit.metadata)
    return found


def expected(records, source="quotes", prefix=""):
    return {(source, prefix + one.id): (one.text, dict(one.metadata)) for one in records}


def counts(changes):
    return {
        name: value
        for name in ("added", "changed", "unchanged", "removed", "chunks")
        if (value := getattr(changes, name))
    }


def reasons(changes):
    return [one.reason for one in changes.skipped]


class TestRuns:
    def test_records_are_found_by_their_texts_with_id_and_metadata(self, index):
        assert counts(index.add_records(QUOTES, "quotes")) == {"added": 9, "chunks": 9}
        hit = index.search(QUOTES[4].text, k=1)[0]
        assert hit.score == pytest.approx(1, abs=1e-6)
        assert (hit.source, hit.id, hit.text, hit.metadata) == ("quotes", "4", QUOTES[4].text, {"author": "Author 1"})
        assert (hit.unit, hit.first, hit.last, hit.start, hit.end) == ("line", 1, 1, 0, len(QUOTES[4].text))
        assert (index.stats().records, index.stats().files, index.stats().chunks) == (9, 0, 9)

    def test_a_second_run_embeds_nothing(self, index, model):
        index.add_records(QUOTES, "quotes")
        model.reset()
        assert counts(Index(index.folder, model).add_records(iter(QUOTES), "quotes")) == {"unchanged": 9}
        assert model.input_count == 0

    def test_only_a_changed_text_is_embedded_and_its_old_vector_goes(self, index, model):
        index.add_records(QUOTES, "quotes")
        model.reset()
        now = [*QUOTES[:4], Record("4", "Something new."), *QUOTES[5:]]
        assert counts(index.add_records(now, "quotes")) == {"changed": 1, "unchanged": 8, "chunks": 1}
        assert [call.inputs for call in model.calls] == [("Something new.",)]
        assert content(index) == expected(now)

    def test_changed_metadata_are_kept_without_embedding(self, index, model):
        long = Record("long", " ".join(f"word{number}" for number in range(60)), {"year": 1999})
        index.add_records([*QUOTES, long], "quotes")
        model.reset()
        now = [*QUOTES[:8], Record("8", QUOTES[8].text), Record("long", long.text, {"year": 2000, "deep": {"é": [1]}})]
        assert counts(index.add_records(now, "quotes")) == {"changed": 2, "unchanged": 8}
        assert model.input_count == 0
        assert content(index) == expected(now)
        assert all(hit.metadata["year"] == 2000 for hit in index.search("x", k=99) if hit.id == "long")

    def test_a_shorter_text_leaves_no_old_chunk_behind(self, index):
        long = " ".join(f"word{number}" for number in range(60))
        index.add_records([Record("a", long), Record("b", long)], "quotes")
        assert index.stats().chunks > 10
        now = [Record("a", "Short."), Record("b", long)]
        index.add_records(now, "quotes")
        assert content(index) == expected(now)

    def test_what_is_gone_from_the_source_is_removed_and_other_sources_stay(self, index):
        index.add_records(QUOTES, "quotes")
        index.add_records(QUOTES[:2], "others")
        assert counts(index.add_records(QUOTES[3:], "quotes")) == {"unchanged": 6, "removed": 3}
        assert content(index) == expected(QUOTES[3:]) | expected(QUOTES[:2], "others")
        kept = index.add_records([], "others")
        assert reasons(kept) == [
            "holds no rows, so 2 records of it stay in the index; `--prune` (`prune=True`) removes them"
        ]
        assert content(index) == expected(QUOTES[3:]) | expected(QUOTES[:2], "others")
        assert counts(index.add_records([], "others", prune=True)) == {"removed": 2}

    def test_each_list_on_standard_input_adds_to_those_before(self, index):
        index.add_records(QUOTES[:5], "-")
        assert counts(index.add_records(QUOTES[4:], "-")) == {"added": 4, "unchanged": 1, "chunks": 4}
        assert content(index) == expected(QUOTES, "-")
        assert counts(index.add_records(QUOTES[6:], "-", prune=True)) == {"unchanged": 3, "removed": 6}

    def test_equal_texts_under_two_ids_are_both_kept_and_embedded_once(self, index, model):
        twins = [Record("a", "The same words."), Record("b", "The same words.")]
        index.add_records(twins, "quotes")
        assert model.input_count == 1
        assert content(index) == expected(twins)
        assert [hit.id for hit in index.search("The same words.", k=2)] == ["a", "b"]

    def test_records_and_files_live_side_by_side(self, index, tmp_path):
        path = tmp_path / "docs" / "a.csv"
        path.parent.mkdir()
        path.write_text("id,text\n1,some words\n")
        index.add_records(QUOTES, path)
        index.add(path.parent)
        path.unlink()
        assert index.add(path.parent, prune=True).removed == 1
        assert content(index) == expected(QUOTES, str(path.resolve()))

    def test_without_ids_equal_texts_and_another_order_are_no_change(self, index, model):
        texts = ["One.", "Two.", "One.", "Three.", "One."]
        index.add_records([Record(None, text) for text in texts], "lines")
        assert sorted(text for text, _ in content(index).values()) == sorted(texts)
        again = [Record(None, text, {"n": 1}) for text in ["New.", *reversed(texts)]]
        assert counts(index.add_records(again, "lines")) == {"added": 1, "changed": 5, "chunks": 1}
        assert counts(index.add_records(again[:4], "lines")) == {"unchanged": 4, "removed": 2}
        assert {metadata["n"] for _, metadata in content(index).values()} == {1}

    @pytest.mark.parametrize("id_", ["it's", 'say "hi"', "two\nlines", "ünï 名前", "100%_;--", "a\\'b", "nul\0", " x "])
    def test_no_id_is_too_awkward(self, index, id_):
        index.add_records([Record(id_, "Words."), Record("other", "Others.")], id_)
        assert counts(index.add_records([Record(id_, "Changed."), Record("other", "Others.")], id_))["changed"] == 1
        index.add_records([Record(id_, "Changed.", {"a": 1}), Record("other", "Others.")], id_)
        assert index.similar("other", source=id_)[0].id == id_
        assert content(index)[id_, id_] == ("Changed.", {"a": 1})
        assert index.add_records([Record("other", "Others.")], id_).removed == 1
        assert list(content(index)) == [(id_, "other")]

    def test_many_records_take_few_commits(self, index):
        many = [Record(str(number), f"Words {number}") for number in range(3000)]
        index.add_records(many, "many")
        index.add_records([Record(one.id, one.text, {"new": True}) for one in many], "many")
        index.add_records(many[:10], "many")
        assert len(list((index.folder / "chunks.lance" / "_versions").iterdir())) < 15
        assert index.stats().records == 10

    def test_a_bar_counts_records(self, index, capsys):
        index.add_records(QUOTES, "quotes", show_progress=True)
        assert "9.00 records" in capsys.readouterr().err


@given(
    st.lists(
        st.tuples(
            st.dictionaries(
                st.sampled_from("abcd'é"),
                st.tuples(st.sampled_from(["", " ", "one", "two", "three " * 30]), st.sampled_from([None, 1, "x"])),
            ),
            st.sampled_from(["", "p"]),
        ),
        max_size=5,
    )
)
@settings(max_examples=15)
def test_after_any_runs_the_index_holds_the_last_state_of_each_source(runs):
    model = MockEmbedding(embed_dim=4)
    states = {}
    with tempfile.TemporaryDirectory() as folder:
        index = Index(Path(folder) / "index", model, chunk_size=60, chunk_overlap=0)
        for rows, prefix in runs:
            records = [Record(id_, text, {"m": extra}) for id_, (text, extra) in rows.items()]
            index.add_records(records, f"source {prefix}", prefix=prefix, prune=True)
            states[prefix] = {
                (f"source {prefix}", prefix + one.id): (one.text.strip(), dict(one.metadata))
                for one in records
                if one.text.strip()
            }
            wanted = {key: value for state in states.values() for key, value in state.items()}
            assert (content(index) if index.exists else {}) == wanted
        asked = [text for call in model.calls if call.kind == "text" for text in call.inputs]
        assert len(asked) == len(set(asked))


class TestPrefix:
    def test_two_queries_of_one_database_stand_side_by_side(self, index):
        index.add_records(QUOTES[:3], "blog.db", prefix="post-")
        index.add_records(QUOTES[:4], "blog.db", prefix="comment-")
        assert counts(index.add_records(QUOTES[:2], "blog.db", prefix="post-")) == {"unchanged": 2, "removed": 1}
        posts, comments = (expected(QUOTES[:n], "blog.db", prefix) for n, prefix in ((2, "post-"), (4, "comment-")))
        assert content(index) == posts | comments

    def test_a_search_can_be_kept_to_a_prefix(self, index):
        index.add_records(QUOTES, "blog.db", prefix="post-")
        index.add_records(QUOTES, "blog.db", prefix="comment-é")
        found = index.search(QUOTES[0].text, k=99, prefix="comment-")
        assert len(found) == 9
        assert found[0].id == "comment-é0"
        assert index.search("words", prefix="nothing") == []

    def test_an_id_that_moves_to_another_prefix_is_one_record(self, index):
        index.add_records([Record("bc", "Words.")], "s", prefix="a")
        assert counts(index.add_records([Record("c", "Words.")], "s", prefix="ab")) == {"changed": 1, "chunks": 1}
        assert counts(index.add_records([], "s", prefix="a")) == {}
        assert list(content(index)) == [("s", "abc")]


class TestWhatIsLeftOut:
    def test_a_repeated_id_is_listed_and_the_first_is_kept(self, index):
        changes = index.add_records([QUOTES[0], Record("0", "Another.", place="line 7"), QUOTES[1]], "quotes")
        assert reasons(changes) == ["line 7 has the id `0` of an earlier one, which is kept"]
        assert content(index) == expected(QUOTES[:2])

    def test_what_no_index_could_keep_is_listed_by_its_place(self, index):
        odd = [
            Record("", "no id", place="row 1"),
            Record(7, "a number"),
            Record("b", b"bytes"),
            Record("c", "lone \ud800"),
            Record("d\ud800", "words"),
            Record("e", "words", {"x": float("nan")}),
            Record("f", "words", {"x": object()}),
            Record(None, " \n"),
            QUOTES[0],
        ]
        changes = index.add_records(odd, "quotes")
        with pytest.raises(ValueError, match="Out of range") as not_json:  # Python 3.13 names the value too
            json.dumps(float("nan"), allow_nan=False)
        assert reasons(changes) == [
            "row 1 has no id",
            "record 2 has a `int` for its id; expected a `str`",
            "record 3 has a `bytes` for its text; expected a `str`",
            "record 4 holds bytes that are no text, or a lone surrogate; repair its source or choose other columns",
            "record 5 holds bytes that are no text, or a lone surrogate; repair its source or choose other columns",
            f"record 6 has metadata that are no JSON ({not_json.value})",
            "record 7 has metadata that are no JSON (Object of type object is not JSON serializable)",
            "record 8 holds no text",
        ]
        assert content(index) == expected(QUOTES[:1])

    def test_a_record_without_text_is_listed_each_time_and_returns_when_it_has_one(self, index, model):
        index.add_records(QUOTES[:2], "quotes")
        empty = [Record("0", " ", {"a": 1}), QUOTES[1]]
        for _ in range(2):
            assert reasons(index.add_records(empty, "quotes")) == ["record `0` holds no text"]
        assert reasons(index.add_records([Record("0", " ", {"a": 2}), QUOTES[1]], "quotes")) == [
            "record `0` holds no text"
        ]
        assert content(index) == expected(QUOTES[1:2])
        assert index.add_records(QUOTES[:2], "quotes").changed == 1

    def test_what_the_model_refuses_is_listed_and_not_asked_for_again(self, tmp_path):
        def picky(turn):
            bad = [row for row, text in enumerate(turn.inputs) if text == QUOTES[3].text]
            if bad:
                raise InvalidInputError("words it does not like", indices=bad)
            return turn.vectors

        model = ScriptedEmbedding(embed_dim=8, script=picky)
        index = Index(tmp_path / "index", model)
        assert [reason[:41] for reason in reasons(index.add_records(QUOTES, "quotes"))] == [
            "record `3` is left out from line 1 to 1: ",
            "record `3` holds nothing that the model t",
        ]
        before = model.call_count
        assert reasons(index.add_records(QUOTES, "quotes")) == ["record `3` holds nothing that the model takes"]
        assert model.call_count == before
        assert content(index) == expected(QUOTES[:3] + QUOTES[4:])

    def test_nothing_is_removed_while_a_row_cannot_be_read(self, index):
        index.add_records(QUOTES, "quotes")
        partial = [*QUOTES[:5], Skipped("quotes", "line 6 is no JSON")]
        changes = index.add_records(partial, "quotes")
        assert reasons(changes) == [
            "line 6 is no JSON",
            "could be read only in part, so nothing that it held before is removed (4 not found)",
        ]
        assert content(index) == expected(QUOTES)
        assert reasons(index.add_records([*QUOTES, partial[-1]], "quotes")) == ["line 6 is no JSON"]
        assert index.add_records(QUOTES[:5], "quotes").removed == 4

    def test_a_source_of_which_nothing_can_be_read_is_an_error_and_costs_nothing(self, index):
        index.add_records(QUOTES, "quotes")
        for count in (1, 5000):
            rows = iter([Skipped("quotes", f"line {number} is no JSON") for number in range(1, count + 1)])
            with pytest.raises(InvalidInputError, match="`quotes` holds no record that can be read: line 1 is no JSON"):
                index.add_records(rows, "quotes")
            assert len(list(rows)) == max(0, count - 1000)
        assert content(index) == expected(QUOTES)

    def test_a_list_of_what_is_left_out_does_not_grow_without_end(self, index):
        rows = [QUOTES[0], *(Skipped("quotes", f"line {number} is no JSON") for number in range(11_000))]
        listed = reasons(index.add_records(rows, "quotes"))
        assert len(listed) == 10_001
        assert listed[-1] == "has more than 10000 rows that are left out; the rest of them is not listed"

    def test_a_source_that_breaks_off_keeps_what_was_done_and_removes_nothing(self, index, model):
        index.add_records(QUOTES[7:], "quotes")

        def rows():
            for number in range(1500):
                yield Record(f"n{number}", f"New words {number}")
            raise OSError("the disk is gone")

        with pytest.raises(OSError, match="the disk is gone"):
            index.add_records(rows(), "quotes")
        assert index.stats().records == 2 + 1024
        assert len(content(index)) == 2 + 1024

    def test_rows_without_text_alone_make_no_index(self, index):
        changes = index.add_records([Record("a", " ")], "quotes")
        assert (reasons(changes), index.exists) == (["record `a` holds no text"], False)


class TestSimilar:
    def test_the_nearest_others_come_first(self, index, model):
        index.add_records(QUOTES, "quotes")
        found = index.similar("4", k=3)
        mine = model.get_text_embedding(QUOTES[4].text)
        scores = {one.id: similarity(mine, model.get_text_embedding(one.text)) for one in QUOTES if one.id != "4"}
        assert [hit.id for hit in found] == sorted(scores, key=scores.get, reverse=True)[:3]
        assert [hit.score for hit in found] == pytest.approx([scores[hit.id] for hit in found], abs=1e-5)
        assert len(index.similar("4", k=99)) == 8

    def test_equal_texts_under_other_ids_are_kept(self, index):
        index.add_records([*QUOTES, Record("twin", QUOTES[4].text)], "quotes")
        assert index.similar("4")[0].id == "twin"
        assert index.similar("4")[0].score == pytest.approx(1, abs=1e-6)

    def test_each_item_comes_once_by_its_nearest_chunk(self, tmp_path):
        """A long text is compared by the mean of its vectors, weighted by length."""
        axis = {"east": 0, "north": 1, "up": 2}

        def script(turn):
            return np.stack([np.eye(3, dtype=np.float32)[axis[text.split()[0]]] for text in turn.inputs])

        index = Index(tmp_path / "index", ScriptedEmbedding(embed_dim=3, script=script), chunk_size=30, chunk_overlap=0)
        east, north = " ".join(["east"] * 6), "north north"
        records = [
            Record("both", f"{east}\n\n{north}"),
            Record("east", east),
            Record("up", "up"),
            Record("north", north),
        ]
        index.add_records([*records, Record("many", "\n\n".join([east] * 50))], "s")
        assert index.stats().chunks == 55
        found = index.similar("both", k=9)
        assert [hit.id for hit in found] == ["east", "many", "north", "up"]
        mean = np.array([len(east), len(north), 0]) / np.hypot(len(east), len(north))
        assert [hit.score for hit in found] == pytest.approx([mean[0], mean[0], mean[1], 0], abs=1e-6)
        assert [hit.id for hit in index.similar("many", k=2)] == ["both", "east"]

    def test_files_are_items_too(self, index, tmp_path, monkeypatch):
        (tmp_path / "docs").mkdir()
        monkeypatch.chdir(tmp_path)
        for number in range(3):
            Path(f"docs/{number}.txt").write_text(QUOTES[number].text)
        index.add("docs")
        index.add_records(QUOTES, "quotes")
        assert index.similar("docs/1.txt", k=1)[0].id == "1"
        assert index.similar("1", k=1)[0].source.endswith("1.txt")

    def test_one_id_in_several_sources_needs_the_source(self, index, tmp_path):
        index.add_records(QUOTES, "quotes")
        index.add_records(QUOTES[:2], tmp_path / "a.csv")
        with pytest.raises(InvalidInputError, match=r"records of several sources have the id `1`: `.*name one"):
            index.similar("1")
        assert index.similar("1", k=1, source="quotes")[0].source == str(tmp_path / "a.csv")
        assert index.similar("1", k=1, source=tmp_path / "a.csv")[0].source == "quotes"

    def test_an_unknown_id_is_told_with_near_ones(self, index, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("garden.txt").write_text("words")
        index.add("garden.txt")
        index.add_records([Record("quote-17", "Words."), Record("quote-18", "Others.")], "quotes")
        index.add_records([Record("empty", ""), Record("x", "y")], "more")
        for wrong, near in {
            "quote17": "near to it: `quote-17`, `quote-18`",
            "gardn.txt": "near to it: `garden.txt`",
        }.items():
            with pytest.raises(InvalidInputError, match=f"holds no record and no file `{wrong}`; {near}"):
                index.similar(wrong)
        for wrong in ("zzz", ""):
            with pytest.raises(InvalidInputError, match=f"no file `{wrong}`$"):
                index.similar(wrong)
        with pytest.raises(InvalidInputError, match="no record of `quotes` and no file `quote-19`; near"):
            index.similar("quote-19", source="quotes")
        with pytest.raises(InvalidInputError, match="`empty` has no vector, because it holds no text"):
            index.similar("empty")
        with pytest.raises(InvalidInputError, match="`k` is 0"):
            index.similar("x", k=0)
        with pytest.raises(ConfigurationError, match="no index"):
            Index(tmp_path / "absent").similar("x")


class TestTextsNotKept:
    def test_no_text_is_on_the_disk_and_search_works(self, tmp_path, model):
        model.embeddings_cache = MemoryKVStore()
        index = Index(tmp_path / "index", model, store_text=False)
        index.add_records([Record("a", "very secret words", {"year": 1}), *QUOTES], "quotes")
        hit = Index(index.folder, model).search("very secret words", k=1)[0]
        assert (hit.id, hit.text, hit.metadata) == ("a", None, {"year": 1})
        files = [path for path in index.folder.rglob("*") if path.is_file()]
        assert not [path for path in files if b"very secret" in path.read_bytes()]

    def test_it_is_fixed_when_the_index_is_made(self, tmp_path, model):
        Index(tmp_path / "index", model, store_text=False).add_records(QUOTES, "quotes")
        assert Index(tmp_path / "index", model).add_records(QUOTES, "quotes").unchanged == 9
        with pytest.raises(ConfigurationError, match="`store_text` is True, but the index was built with False"):
            Index(tmp_path / "index", model, store_text=True).add_records(QUOTES, "quotes")


class TestDryRun:
    def test_it_says_what_would_be_done_and_does_nothing(self, index, model, tmp_path):
        twice = [*QUOTES, Record("twin", QUOTES[0].text)]
        changes = index.add_records(twice, "quotes", dry_run=True)
        assert counts(changes) == {"added": 10, "chunks": 10}
        tokens = sum(-(-len(one.text) // 4) for one in QUOTES)
        assert changes.estimate == Estimate(inputs=10, cached=1, tokens=tokens, price=None)
        assert (model.call_count, index.folder.exists()) == (0, False)

    def test_it_knows_what_the_index_and_the_cache_hold(self, index, model):
        index.add_records(QUOTES, "quotes")
        model.reset()
        before = sorted((path, path.stat().st_mtime_ns) for path in (index.folder / "chunks.lance").rglob("*"))
        now = [
            *QUOTES[:5],
            Record("5", QUOTES[5].text, {"a": 1}),
            Record("6", QUOTES[8].text),
            Record("new", "12345678"),
        ]
        changes = Index(index.folder, model).add_records(now, "quotes", dry_run=True)
        assert counts(changes) == {"added": 1, "changed": 2, "unchanged": 5, "removed": 2, "chunks": 2}
        assert changes.estimate == Estimate(inputs=2, cached=1, tokens=2, price=None)
        assert model.call_count == 0
        assert sorted((path, path.stat().st_mtime_ns) for path in (index.folder / "chunks.lance").rglob("*")) == before
        assert content(index) == expected(QUOTES)

    def test_a_text_that_comes_again_much_later_is_counted_once(self, index):
        rows = [Record(str(number), f"Words {number % 1500}") for number in range(3000)]
        estimate = index.add_records(rows, "s", dry_run=True).estimate
        assert (estimate.inputs, estimate.cached) == (3000, 1500)

    def test_it_is_for_files_too(self, index, model, tmp_path):
        (tmp_path / "docs").mkdir()
        (tmp_path / "docs" / "a.txt").write_text("some words")
        changes = index.add(tmp_path / "docs", dry_run=True)
        assert (changes.added, changes.estimate.inputs, index.folder.exists()) == (1, 1, False)
        index.add(tmp_path / "docs")
        assert index.add(tmp_path / "docs", dry_run=True).estimate == Estimate()

    def test_a_model_that_knows_its_prices_is_asked(self, tmp_path):
        class Priced(MockEmbedding):
            batch_discount: ClassVar[float] = 0.25

            def _price_per_million_tokens(self):
                return 2.0

            def embed_batch_job(self, texts, **options):
                raise AssertionError

        index = Index(tmp_path / "index", Priced())
        whole = index.add_records(QUOTES, "s", dry_run=True).estimate
        assert whole == index.model.estimate([one.text for one in QUOTES])
        assert whole.price == pytest.approx(whole.tokens * 2.0 / 1_000_000)
        assert index.add_records(QUOTES, "s", dry_run=True, batch_jobs=True).estimate == whole.at(0.25)

    @pytest.mark.parametrize("long_text", ["truncate", "mean"])
    def test_long_texts_damaged_entries_and_twins_are_estimated_as_they_are_paid(self, tmp_path, long_text):
        """The tokens of an estimate are those that the next run sends."""

        class Counting(MockEmbedding):
            _tokens: list[int] = PrivateAttr(default_factory=list)

            def _get_text_embeddings(self, texts):
                self._tokens.append(self._count_tokens(texts))
                return super()._get_text_embeddings(texts)

        cache = SQLiteKVStore(tmp_path / "cache.sqlite")
        model = Counting(embed_dim=4, max_input_tokens=8, long_text=long_text, embeddings_cache=cache)
        same = " ".join(f"shared{number}" for number in range(5))
        records = [*QUOTES, Record("long", f"{same} one end"), Record("other", f"{same} another end")]
        index = Index(tmp_path / "index", model)
        index.add_records([*QUOTES[:4], records[-2]], "some")
        with closing(sqlite3.connect(tmp_path / "cache.sqlite")) as database, database:
            first = database.execute("SELECT rowid FROM kv LIMIT 1").fetchone()
            database.execute("UPDATE kv SET v = x'00' WHERE rowid = ?", first)
        model._tokens.clear()
        estimate = index.add_records(records, "all", dry_run=True).estimate
        assert model._tokens == []
        index.add_records(records, "all")
        assert estimate.tokens == sum(model._tokens) > 0
        assert index.add_records(records, "again", dry_run=True).estimate == Estimate(inputs=11, cached=11)

    def test_it_lists_the_texts_that_the_model_would_refuse(self, tmp_path):
        model = MockEmbedding(max_input_tokens=8, long_text="error")
        index = Index(tmp_path / "index", model)
        records = [QUOTES[0], Record("long", "words " * 50), QUOTES[1]]
        dry, real = (index.add_records(records, "s", dry_run=dry_run) for dry_run in (True, False))
        assert (counts(dry), reasons(dry)) == (counts(real), reasons(real))
        assert (dry.added, dry.estimate.inputs, len(dry.skipped)) == (2, 2, 2)

    def test_estimates_add_up(self):
        assert Estimate(1, 0, 2, 1.5) + Estimate(2, 1, 3, 0.5) == Estimate(3, 1, 5, 2.0)
        assert (Estimate(price=None) + Estimate()).price is None


class Jobs(MockEmbedding):
    """A provider that does jobs, and notes how many texts and which former jobs it was given."""

    _asked: list[Any] = PrivateAttr(default_factory=list)
    _failure: Any = PrivateAttr(default=None)

    def embed_batch_job(self, texts, *, job_ids=(), on_submit=None, cache=None, show_progress=False):
        async def send(request, onward, io):
            self._asked.append((len(request.inputs), tuple(job_ids)))
            on_submit(f"job-{len(self._asked)}")
            failure, self._failure = self._failure, None
            if failure is not None:
                raise failure
            return await onward(request)

        return embed(self, "text", texts, cache=cache, places=Places(missing=(send,)), show_progress=show_progress)


class TestJobs:
    def test_texts_are_sent_as_jobs_and_stored(self, tmp_path):
        model = Jobs(embed_dim=4)
        index = Index(tmp_path / "index", model)
        assert index.add_records(QUOTES, "quotes", batch_jobs=True).added == 9
        assert model._asked == [(9, ())]
        assert content(index) == expected(QUOTES)
        assert not (index.folder / "jobs.json").exists()

    def test_a_run_that_was_stopped_goes_on_with_its_jobs(self, tmp_path):
        model = Jobs(embed_dim=4)
        index = Index(tmp_path / "index", model)
        model._failure = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            index.add_records(QUOTES, "quotes", batch_jobs=True)
        assert list(json.loads((index.folder / "jobs.json").read_text()).values()) == [["job-1"]]
        model._failure = None
        again = Index(index.folder, model)
        again.add_records(QUOTES, "quotes", batch_jobs=True)
        assert model._asked == [(9, ()), (9, ("job-1",))]
        assert not (index.folder / "jobs.json").exists()

    def test_a_run_over_another_source_leaves_its_jobs_alone(self, tmp_path):
        model = Jobs(embed_dim=4)
        index = Index(tmp_path / "index", model)
        model._failure = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            index.add_records(QUOTES, "quotes", batch_jobs=True)
        model._failure = None
        (tmp_path / "a.txt").write_text("words")
        index.add(tmp_path / "a.txt", batch_jobs=True)
        index.add_records(QUOTES[:3], "others", batch_jobs=True)
        index.add_records(QUOTES, "quotes", batch_jobs=True)
        assert model._asked == [(9, ()), (1, ()), (3, ()), (6, ("job-1",))]
        assert not (index.folder / "jobs.json").exists()

    @pytest.mark.parametrize("own_cache", [False, True])
    def test_what_jobs_have_made_is_not_made_again_for_another_table(self, tmp_path, own_cache):
        model = Jobs(embed_dim=4, embeddings_cache=MemoryKVStore() if own_cache else None)
        for _ in range(2):
            index = Index(tmp_path / "index", model)
            assert index.add_records(QUOTES, "quotes", batch_jobs=True).added == 9
            assert content(index) == expected(QUOTES)
            shutil.rmtree(index.folder / "chunks.lance")
        assert (model._asked, [call.kind for call in model.calls].count("text")) == ([(9, ())], 1)

    def test_a_text_longer_than_the_model_is_made_by_jobs_once(self, tmp_path):
        model = Jobs(embed_dim=4, max_input_tokens=4, long_text="mean")
        index = Index(tmp_path / "index", model)
        index.add_records([Record("long", "words " * 50)], "s", batch_jobs=True)
        assert model.call_count == 1

    def test_what_other_jobs_hold_is_taken_from_them_when_one_refuses_a_text(self, tmp_path):
        model = Jobs(embed_dim=4)
        refusal = InvalidInputError("words it does not like")
        refusal.failed = {1: refusal}
        refusal.completed = dict(enumerate(model.embed_texts([QUOTES[0].text])))
        model._failure = refusal
        changes = Index(tmp_path / "index", model).add_records(QUOTES, "quotes", batch_jobs=True)
        assert (changes.added, reasons(changes)[0][-21:]) == (8, "words it does not like"[-21:])
        assert model._asked == [(9, ()), (7, ("job-1",))]

    def test_jobs_are_kept_until_their_vectors_are_in_the_table(self, tmp_path):
        class Misfitting(Jobs):
            def embed_batch_job(self, texts, **options):
                return super().embed_batch_job(texts, **options)[:, :3]

        index = Index(tmp_path / "index", Misfitting(embed_dim=4, embeddings_cache=MemoryKVStore()))
        index.add_records(QUOTES[:1], "others")
        with pytest.raises(StoreError, match="length"):
            index.add_records(QUOTES, "quotes", batch_jobs=True)
        assert list(json.loads((index.folder / "jobs.json").read_text()).values()) == [["job-1"]]

    def test_jobs_of_another_model_are_none_of_ours(self, tmp_path):
        for dimension, failure in ((4, KeyboardInterrupt()), (8, None)):
            model = Jobs(embed_dim=dimension)
            model._failure = failure
            index = Index(tmp_path / "index", model)
            try:
                index.add_records(QUOTES, "quotes", batch_jobs=True)
            except KeyboardInterrupt:
                assert dimension == 4
        assert model._asked == [(9, ())]

    def test_a_model_without_jobs_is_named(self, index):
        for dry_run in (False, True):
            with pytest.raises(ConfigurationError, match="`mock` has no batch jobs; leave out `--batch-api`"):
                index.add_records(QUOTES, "quotes", batch_jobs=True, dry_run=dry_run)

    def test_a_refusal_that_names_no_text_is_an_error(self, tmp_path):
        model = Jobs(embed_dim=4)
        model._failure = InvalidInputError("all of it")
        with pytest.raises(InvalidInputError, match="all of it"):
            Index(tmp_path / "index", model).add_records(QUOTES, "quotes", batch_jobs=True)


class TestFormat:
    def test_an_index_of_an_older_format_is_told_what_to_do(self, tmp_path):
        import lancedb
        import pyarrow as pa

        header = json.dumps({"format": 1, "embed_core": "0.1.0"}).encode()
        schema = pa.schema([("source", pa.string())], metadata={b"embed_core": header})
        lancedb.connect(tmp_path / "old").create_table("chunks", schema=schema)
        with pytest.raises(StoreError, match=r"in an older format; delete `.*chunks\.lance` and index again"):
            Index(tmp_path / "old").stats()

    def test_an_index_whose_header_says_more_is_read(self, tmp_path, model):
        """Earlier versions of this format kept the model's space too."""
        import lancedb

        Index(tmp_path / "new", model).add_records(QUOTES, "quotes")
        rows = lancedb.connect(tmp_path / "new").open_table("chunks").to_arrow()
        header = json.loads(rows.schema.metadata[b"embed_core"]) | {"space": {"class": "mock"}}
        old = rows.replace_schema_metadata({b"embed_core": json.dumps(header).encode()})
        lancedb.connect(tmp_path / "old").create_table("chunks", old)
        model.reset()
        assert Index(tmp_path / "old", model).add_records(QUOTES, "quotes").unchanged == 9
        assert Index(tmp_path / "old").search(QUOTES[3].text, k=1)[0].id == "3"
        assert model.input_count == 0

    def test_another_model_is_refused(self, index):
        index.add_records(QUOTES, "quotes")
        with pytest.raises(SpaceMismatchError):
            Index(index.folder, MockEmbedding(embed_dim=8)).add_records(QUOTES, "quotes")

    def test_reads_begin_again_when_their_version_is_deleted_under_them(self, index):
        index.add_records(QUOTES, "quotes")
        store = Store.open(index.folder)

        class Vanishing:
            """A table of which a read finds a file gone now and then, as when a writer tidies up meanwhile."""

            failures = iter([RuntimeError("lance error: Not found: data/1.lance")])

            def __getattr__(self, name):
                return getattr(store._table, name)

            def search(self, *args, **options):
                for failure in self.failures:
                    raise failure
                return store._table.search(*args, **options)

        assert [item.id for item in Store(Vanishing(), store.header).find("3")] == ["3"]
