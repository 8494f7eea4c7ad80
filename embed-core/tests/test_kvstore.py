"""What every store does, and what each does beyond that."""

import copy
import pickle
import threading

import pytest
from embed_core.errors import ConfigurationError
from embed_core.kvstore import MemoryKVStore, SQLiteKVStore
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

keys = st.binary(min_size=0, max_size=3)
items = st.dictionaries(keys, st.binary(max_size=40), max_size=6)
FEWER = settings(max_examples=40, stateful_step_count=25)  # a thousand steps


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    store = MemoryKVStore() if request.param == "memory" else SQLiteKVStore(tmp_path / "cache.db")
    yield store
    store.close()


def machine(make):
    class BehavesLikeADict(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            self.store, self.model = make(), {}

        @rule(items=items, method=st.sampled_from(["put_many", "keep_many"]))
        def put(self, items, method):
            getattr(self.store, method)(items)
            self.model |= items

        @rule(keys=st.lists(keys))
        def get(self, keys):
            assert self.store.get_many(keys) == {key: self.model[key] for key in keys if key in self.model}

        @rule(keys=st.lists(keys))
        def delete(self, keys):
            self.store.delete_many(keys)
            for key in keys:
                self.model.pop(key, None)

        @precondition(lambda self: len(self.model) > 8)
        @rule()
        def clear(self):
            self.store.clear()
            self.model.clear()

        @rule()
        def close(self):
            self.store.close()

        @invariant()
        def counts_its_entries(self):
            assert len(self.store) == len(self.model)

        def teardown(self):
            assert self.store.get_many(list(self.model)) == self.model
            self.store.close()

    return BehavesLikeADict


def test_a_store_in_memory_behaves_like_a_dict():
    run_state_machine_as_test(machine(MemoryKVStore), settings=FEWER)


def test_a_store_in_a_file_behaves_like_a_dict(tmp_path):
    numbers = iter(range(10_000))
    run_state_machine_as_test(machine(lambda: SQLiteKVStore(tmp_path / str(next(numbers)))), settings=FEWER)


def test_more_keys_than_one_query_takes_are_all_looked_up(store):
    entries = {number.to_bytes(4, "big"): bytes([number % 256]) * 9 for number in range(40_000)}
    store.put_many(entries)
    assert store.get_many([*entries, b"absent"]) == entries
    assert len(store) == 40_000


def test_nothing_asked_is_nothing_answered(store):
    store.put_many({})
    store.delete_many([])
    assert store.get_many([]) == {}
    assert len(store) == 0


def test_size_grows_with_the_entries_and_clearing_gives_it_back(store):
    empty = store.size_in_bytes()
    store.put_many({number.to_bytes(2, "big"): bytes(1000) for number in range(1000)})
    assert 1_000_000 < store.size_in_bytes() - empty < 1_300_000
    store.clear()
    assert store.size_in_bytes() == empty


def test_a_closed_store_opens_again(store):
    store.put_many({b"a": b"1"})
    store.close()
    store.close()
    store.put_many({b"b": b"2"})
    assert store.get_many([b"b"]) == {b"b": b"2"}


def test_many_threads_share_a_store(store):
    wrong = []

    def work(name):
        for turn in range(20):
            mine = {f"{name}-{turn}-{n}".encode(): bytes([name]) * 50 for n in range(10)}
            store.put_many(mine)
            if store.get_many(list(mine)) != mine:
                wrong.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(store) == 16 * 20 * 10


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60), st.integers(1, 6))
def test_the_least_recently_used_entry_makes_room(steps, room):
    store, order = MemoryKVStore(max_entries=room), []
    for writes, number in steps:
        key = bytes([number])
        if writes:
            store.put_many({key: key})
        if writes or key in order:
            order = [*(one for one in order if one != key), key][-room:]
        if not writes:
            assert (key in store.get_many([key])) == (key in order)
        assert len(store) == len(order)
    assert set(store.get_many([bytes([number]) for number in range(10)])) == set(order)


@pytest.mark.parametrize("kind", [MemoryKVStore, SQLiteKVStore])
def test_entries_that_are_kept_never_make_room(tmp_path, kind):
    limited = {MemoryKVStore: lambda: MemoryKVStore(50), SQLiteKVStore: lambda: SQLiteKVStore(path, max_bytes=800_000)}
    path = tmp_path / "cache.db"
    store, kept = limited[kind](), {bytes([number]): bytes(500) for number in range(200)}
    for start in range(0, 200, 20):
        store.keep_many(dict(list(kept.items())[start : start + 20]))
        store.put_many({number.to_bytes(4, "big"): bytes(1000) for number in range(10 * start, 10 * start + 200)})
    assert store.get_many(list(kept)) == kept
    assert 200 < len(store) < 1000
    store.close()


def test_a_store_in_memory_needs_room():
    with pytest.raises(ConfigurationError, match="`max_entries` is 0"):
        MemoryKVStore(max_entries=0)


def test_a_pickled_store_in_memory_is_empty_but_as_large():
    store = MemoryKVStore(max_entries=7)
    store.put_many({b"a": b"1"})
    again = pickle.loads(pickle.dumps(store))
    assert (again.max_entries, len(again)) == (7, 0)


def test_a_pickled_or_copied_store_in_a_file_is_the_same_file(tmp_path):
    store = SQLiteKVStore(tmp_path / "cache.db", max_bytes=10_000_000, timeout=3)
    store.put_many({b"a": b"1"})
    for again in (pickle.loads(pickle.dumps(store)), copy.deepcopy(store)):
        assert again.get_many([b"a"]) == {b"a": b"1"}
        assert (again.max_bytes, again.timeout, repr(again)) == (10_000_000, 3, repr(store))
