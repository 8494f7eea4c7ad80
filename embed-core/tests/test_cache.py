"""Section 5 of the contract: what the cache saves, and what it never spoils."""

import asyncio
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from embed_core import Document, IngestionPipeline, MockEmbedding
from embed_core._engine import cache_of, run
from embed_core._io import Blocking, drive
from embed_core._progress import progress
from embed_core._rows import Dense
from embed_core.errors import AuthenticationError, ConfigurationError
from embed_core.kvstore import KVStore, MemoryKVStore, SQLiteKVStore
from embed_core.testing import ScriptedEmbedding
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    store = MemoryKVStore() if request.param == "memory" else SQLiteKVStore(tmp_path / "cache.db")
    yield store
    store.close()


@pytest.fixture(params=["sync", "async"])
def embed(request):
    """Embed texts in one colour or the other."""
    if request.param == "sync":
        return lambda model, texts: model.embed_texts(texts)
    return lambda model, texts: asyncio.run(model.aembed_texts(texts))


class Prompted(MockEmbedding):
    """A mock with instructions, as many local models have them."""

    query_prompt: str = ""
    text_prompt: str = ""


class BrokenStore(MemoryKVStore):
    """Fails at everything, as a full or unmounted disk does, until it is mended."""

    def __init__(self):
        super().__init__()
        self.asked, self.broken = 0, True

    def get_many(self, keys):
        self._ask()
        return super().get_many(keys)

    def put_many(self, items):
        self._ask()
        super().put_many(items)

    def _ask(self):
        self.asked += 1
        if self.broken:
            raise OSError("the disk is gone")


def same_bits(one, other):
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


@pytest.mark.parametrize(
    "other",
    [
        Prompted(embed_dim=16, model_name="another"),
        Prompted(embed_dim=8),
        Prompted(embed_dim=16, query_prompt="query: "),
        Prompted(embed_dim=16, text_prompt="passage: "),
        Prompted(embed_dim=16, long_text="mean"),
        MockEmbedding(embed_dim=16),
    ],
    ids=["model", "dimensions", "query prompt", "text prompt", "long text", "class"],
)
def test_two_spaces_never_share_an_entry(other):
    store = MemoryKVStore()
    model = Prompted(embed_dim=16, embeddings_cache=store)
    model.embed_texts(["a", "b"])
    other.embeddings_cache, before = store, other.input_count
    other.embed_texts(["a", "b"])
    assert other.input_count - before == 2
    assert len(store) == 4


def test_a_query_and_a_text_never_share_an_entry(store):
    model = MockEmbedding(embeddings_cache=store)
    model.get_query_embedding("a")
    model.get_text_embedding("a")
    assert [call.kind for call in model.calls] == ["query", "text"]
    assert len(store) == 2


def test_settings_that_change_no_vector_share_entries(store, embed):
    embed(MockEmbedding(embeddings_cache=store), ["a", "b", "c"])
    other = MockEmbedding(embeddings_cache=store, embed_batch_size=1, num_workers=4)
    embed(other, ["a", "b", "c"])
    assert other.call_count == 0


def test_texts_that_differ_in_the_last_character_or_its_form_are_two(store):
    model = MockEmbedding(embeddings_cache=store)
    model.embed_texts(["caf\u00e9", "cafe\u0301", "café ", "", " "])
    assert len(store) == 5


@given(
    rounds=st.lists(st.lists(st.text(alphabet="abcde", max_size=2), max_size=10), min_size=1, max_size=4),
    batch=st.integers(1, 4),
    workers=st.integers(1, 3),
)
def test_cached_or_not_the_bits_are_the_same_and_each_text_is_paid_once(rounds, batch, workers):
    plain = MockEmbedding(embed_dim=12)
    cached = ScriptedEmbedding(
        embed_dim=12, embed_batch_size=batch, num_workers=workers, embeddings_cache=MemoryKVStore()
    )
    for turn, texts in enumerate(rounds):
        found = cached.embed_texts(texts) if turn % 2 else asyncio.run(cached.aembed_texts(texts))
        assert same_bits(found, plain.embed_texts(texts))
    sent = [text for call in cached.calls for text in call.inputs]
    assert sorted(sent) == sorted({text for texts in rounds for text in texts})


def test_scattered_hits_leave_provider_calls_full(store, embed):
    model = MockEmbedding(embed_batch_size=10, embeddings_cache=store)
    embed(model, [str(number) for number in range(0, 100, 2)])
    model.reset()
    embed(model, [str(number) for number in range(100)])
    assert [len(call.inputs) for call in model.calls] == [10] * 5


def test_duplicates_are_embedded_once(store, embed):
    model = MockEmbedding(embed_batch_size=4, embeddings_cache=store)
    vectors = embed(model, ["a", "b", "a", "c", "a", "b"])
    assert [call.inputs for call in model.calls] == [("a", "b", "c")]
    assert same_bits(vectors[0], vectors[2])
    assert same_bits(vectors[1], vectors[5])


def test_another_process_finds_what_the_first_one_paid_for(tmp_path, embed):
    first = SQLiteKVStore(tmp_path / "cache.db")
    vectors = embed(MockEmbedding(embeddings_cache=first), ["a", "b"])
    first.close()
    later = MockEmbedding(embeddings_cache=SQLiteKVStore(tmp_path / "cache.db"))
    assert same_bits(embed(later, ["a", "b"]), vectors)
    assert later.call_count == 0
    later.embeddings_cache.close()


def test_a_failure_keeps_the_batches_before_it(store, embed):
    def fail_at_third(turn):
        if turn.number == 2:
            raise AuthenticationError("the key was revoked")
        return turn.vectors

    model = ScriptedEmbedding(embed_batch_size=2, embeddings_cache=store, script=fail_at_third)
    texts = [str(number) for number in range(8)]
    with pytest.raises(AuthenticationError) as caught:
        embed(model, texts)
    assert sorted(caught.value.completed) == [0, 1, 2, 3]
    assert len(store) == 4
    again = MockEmbedding(embed_dim=model.embed_dim, embed_batch_size=2)
    model.script = lambda turn: turn.vectors
    model.reset()
    assert same_bits(embed(model, texts), again.embed_texts(texts))
    assert model.input_count == 4


def test_an_error_accounts_for_hits_and_duplicates_too(store, embed):
    def refuse(turn):
        raise AuthenticationError("the key was revoked")

    model = ScriptedEmbedding(embeddings_cache=store)
    known = embed(model, ["known"])
    model.script = refuse
    with pytest.raises(AuthenticationError) as caught:
        embed(model, ["new", "known", "new", "known"])
    assert sorted(caught.value.completed) == [1, 3]
    assert sorted(caught.value.failed) == [0, 2]
    assert same_bits(np.array(caught.value.completed[3]), known[0])


def test_a_store_that_fails_is_reported_once_and_left_alone_for_a_while(embed, caplog):
    store, texts = BrokenStore(), [str(number) for number in range(10)]
    model = MockEmbedding(embeddings_cache=store, embed_batch_size=1, num_workers=3)
    for _ in range(3):
        assert same_bits(embed(model, texts), MockEmbedding().embed_texts(texts))
    assert store.asked == 1
    (told,) = caplog.records
    assert told.getMessage() == "the embeddings cache failed and is bypassed for 60 seconds: the disk is gone"
    assert (told.name, told.levelname, bool(told.exc_info)) == ("embed_core.cache", "WARNING", False)


@dataclass(frozen=True, slots=True)
class FrozenBrokenStore(KVStore):
    """A user's own store that takes no new attribute, and fails."""

    asked: list[int]

    def _fail(self, *_):
        self.asked.append(1)
        raise OSError("the disk is gone")

    get_many = put_many = delete_many = clear = __len__ = size_in_bytes = _fail


class UnhashableBrokenStore(FrozenBrokenStore):
    __hash__ = None


class DuckStore:
    """A user's own store that is no subclass; without a hash, and without a place for a weak reference."""

    __slots__ = ("asked",)
    __hash__ = None

    def __init__(self, asked):
        self.asked = asked

    get_many = put_many = keep_many = delete_many = FrozenBrokenStore._fail


@pytest.mark.parametrize("make", [FrozenBrokenStore, UnhashableBrokenStore])
def test_a_store_that_fails_need_not_take_an_attribute_or_have_a_hash(make, embed, caplog):
    store = make([])
    model = MockEmbedding(embeddings_cache=store, embed_batch_size=1)
    assert same_bits(embed(model, ["a", "b"]), MockEmbedding().embed_texts(["a", "b"]))
    assert (len(store.asked), len(caplog.records)) == (1, 1)


def test_a_store_that_fails_need_not_be_a_subclass(caplog):
    store = DuckStore([])
    (node,) = IngestionPipeline([MockEmbedding()], cache=store).run(documents=[Document(text="a")])
    assert node.embedding == MockEmbedding().get_text_embedding("a")
    assert (len(store.asked), len(caplog.records)) == (1, 1)


def test_a_store_that_works_again_is_used_again(embed):
    store = BrokenStore()
    store.rest_seconds = 0
    model = MockEmbedding(embeddings_cache=store)
    embed(model, ["a"])
    store.broken = False
    embed(model, ["a"])
    embed(model, ["a"])
    assert model.input_count == 2


def test_a_file_that_another_program_keeps_locked_costs_one_wait(tmp_path, embed, caplog):
    class Counted(SQLiteKVStore):
        puts = 0

        def put_many(self, items):
            self.puts += 1
            super().put_many(items)

    store = Counted(tmp_path / "cache.db", timeout=0.02)
    store.put_many({})
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    model = MockEmbedding(embeddings_cache=store, embed_batch_size=1)
    embed(model, [str(number) for number in range(10)])
    other.close()
    assert store.puts == 2
    (told,) = caplog.messages
    assert f"`{store.path}` cannot be used (database is locked); another process keeps it locked" in told
    store.close()


def test_a_file_that_is_no_database_is_reported_and_bypassed(tmp_path, embed, caplog):
    (tmp_path / "cache.db").write_text("my diary, which nobody may overwrite")
    model = MockEmbedding(embeddings_cache=SQLiteKVStore(tmp_path / "cache.db"))
    assert same_bits(embed(model, ["a"]), MockEmbedding().embed_texts(["a"]))
    assert "is not a database" in caplog.text
    assert (tmp_path / "cache.db").read_text() == "my diary, which nobody may overwrite"


def test_a_damaged_entry_is_a_miss_and_is_replaced(tmp_path, embed):
    path = tmp_path / "cache.db"
    model = MockEmbedding(embeddings_cache=SQLiteKVStore(path))
    texts = [str(number) for number in range(20)]
    expected = embed(model, texts)
    model.embeddings_cache.close()
    db = sqlite3.connect(path)
    for rowid, damage in enumerate([b"", b"\x00", bytes(36), b"not a vector at all", bytes(8)], start=1):
        db.execute("UPDATE kv SET v = ? WHERE rowid = ?", (damage, rowid))
    db.execute("UPDATE kv SET v = 'text' WHERE rowid = 6")
    db.execute("UPDATE kv SET v = NULL WHERE rowid = 7")
    db.commit()
    db.close()
    model.reset()
    assert same_bits(embed(model, texts), expected)
    assert model.input_count == 7
    assert same_bits(embed(model, texts), expected)
    assert model.input_count == 7
    model.embeddings_cache.close()


def test_a_whole_entry_under_the_key_of_another_is_a_miss(store, embed):
    model, texts = MockEmbedding(embeddings_cache=store), [str(number) for number in range(20)]
    expected = embed(model, texts)
    keys = cache_of(model, store).keys("text", texts)
    values = store.get_many(keys)
    store.put_many(dict(zip(keys, [values[key] for key in keys[1:] + keys[:1]], strict=True)))
    model.reset()
    assert same_bits(embed(model, texts), expected)
    assert model.input_count == 20


class Undeclared(MockEmbedding):
    """A mock that, as many providers do, shows its dimension only with its first answer, and may change it."""

    def _declared_dimension(self):
        return None

    def _space(self):
        return {"class": "undeclared"}


@pytest.mark.parametrize("found", [["a", "b"], ["a", "b", "new"], ["new", "a"]])
def test_leftovers_of_another_dimension_are_embedded_again(store, embed, found):
    embed(Undeclared(embed_dim=4, embeddings_cache=store), ["a", "b", "c"])
    model = Undeclared(embed_dim=6, embeddings_cache=store)
    embed(model, ["warm"])  # from here on the dimension is known
    assert same_bits(embed(model, found), MockEmbedding(embed_dim=6).embed_texts(found))


@pytest.mark.parametrize("found", [["a", "b", "new"], ["new", "a"]])
def test_leftovers_are_embedded_again_even_where_only_the_answer_shows_it(store, embed, found):
    embed(Undeclared(embed_dim=4, embeddings_cache=store), ["a", "b", "c"])
    model = Undeclared(embed_dim=6, embeddings_cache=store)
    assert same_bits(embed(model, found), MockEmbedding(embed_dim=6).embed_texts(found))


def test_a_cache_that_mixes_dimensions_is_trusted_in_neither(embed):
    store = MemoryKVStore()
    model = Undeclared(embed_dim=6, embeddings_cache=store)
    embed(model, ["a", "b", "c"])
    key = next(iter(store._entries))
    store.put_many(Dense().encode([key], np.ones((1, 4))))
    fresh = Undeclared(embed_dim=6, embeddings_cache=store)
    assert same_bits(embed(fresh, ["a", "b", "c"]), MockEmbedding(embed_dim=6).embed_texts(["a", "b", "c"]))


def test_vectors_of_a_configuration_that_changed_on_the_way_are_kept_under_no_key(store, embed):
    began, changed = threading.Event(), threading.Event()

    class Waiting(MockEmbedding):
        prompts: dict[str, str] = Field(default_factory=dict)

        def _get_text_embeddings(self, texts):
            began.set()
            changed.wait(60)
            return super()._get_text_embeddings([self.prompts["text"] + text for text in texts])

    def change():
        began.wait(60)
        model.prompts["text"] = "query: "
        changed.set()

    model = Waiting(prompts={"text": "passage: "}, embeddings_cache=store)
    changing = threading.Thread(target=change)
    changing.start()
    with pytest.raises(ConfigurationError, match="was changed in place while it embedded"):
        embed(model, ["a", "b"])
    changing.join()
    assert len(store) == 0
    for prompt in ("passage: ", "query: "):
        fresh = Waiting(prompts={"text": prompt}, embeddings_cache=store)
        assert same_bits(embed(fresh, ["a"]), MockEmbedding().embed_texts([f"{prompt}a"]))


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_is_a_store_in_that_file(tmp_path, kind):
    model = MockEmbedding(embeddings_cache=kind(tmp_path / "cache.db"))
    model.embed_texts(["a"])
    model.embeddings_cache.close()
    again = MockEmbedding()
    again.embeddings_cache = kind(tmp_path / "cache.db")
    again.embed_texts(["a"])
    assert again.call_count == 0
    again.embeddings_cache.close()


def test_an_empty_store_is_a_store():
    model = MockEmbedding(embeddings_cache=(store := MemoryKVStore()))
    assert not store
    model.embed_texts(["a"])
    assert len(store) == 1


def test_a_vector_of_1536_numbers_takes_six_kibibytes(store):
    before = store.size_in_bytes()
    MockEmbedding(embed_dim=1536, embeddings_cache=store).embed_texts(str(number) for number in range(500))
    assert (store.size_in_bytes() - before) / 500 < 6.6 * 1024


def test_a_progress_bar_counts_hits_too(store, capsys):
    model = MockEmbedding(embeddings_cache=store)
    model.embed_texts(["a", "b"])
    model.embed_texts(["a", "b", "c", "c"], show_progress=True)
    assert "4/4" in capsys.readouterr().err


def test_what_is_not_sent_moves_the_bar_but_is_no_speed(store):
    model = MockEmbedding(embeddings_cache=store)
    model.embed_texts(["a", "b"])
    bar = progress("text", 4, show=True)
    drive(run(model, Blocking(), "text", ["a", "b"], show_progress=bar))
    shown = bar._bar.format_dict
    assert (shown["n"], shown["initial"], bar._bar.last_print_n) == (2, 2, 2)
    drive(run(model, Blocking(), "text", ["c", "c"], show_progress=bar))
    shown = bar._bar.format_dict
    bar.close()
    assert (shown["n"], shown["n"] - shown["initial"]) == (4, 1)
