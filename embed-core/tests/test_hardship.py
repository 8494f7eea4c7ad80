"""Crowds of threads, tasks, loops and processes; kills, forks, interrupts and cancellations at any moment."""

import asyncio
import contextlib
import gc
import io
import itertools
import logging
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import threading
import weakref
from collections import Counter

import numpy as np
import pytest
from embed_core import MockEmbedding, RateLimiter, RetryPolicy, _threads
from embed_core.errors import (
    EmbedError,
    InvalidInputError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitError,
)
from embed_core.instrumentation import CallbackManager
from embed_core.kvstore import MemoryKVStore, SQLiteKVStore
from embed_core.testing import ScriptedEmbedding

TEXTS = [f"text {number}" for number in range(12)]
NO_RETRIES = RetryPolicy(max_retries=0)

both = pytest.mark.parametrize("colour", ["sync", "async"])
forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
quietly = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


class OnlySync(ScriptedEmbedding):
    """Has no async hook of its own, so its async callers are served by threads."""

    async def _aget_text_embeddings(self, texts):
        return await self._abatch("text", texts)


class Yielding(ScriptedEmbedding):
    """Gives way to other tasks several times in each provider call."""

    async def _aget_text_embeddings(self, texts):
        await asyncio.sleep(0)
        vectors = await super()._aget_text_embeddings(texts)
        await asyncio.sleep(0)
        return vectors


def expected(texts):
    return ScriptedEmbedding().embed_texts(texts)


def embed(model, texts, colour, **more):
    return model.embed_texts(texts, **more) if colour == "sync" else asyncio.run(model.aembed_texts(texts, **more))


def in_flight(model):
    return model._learned().in_flight


def sent(model):
    return Counter(text for call in model.calls for text in call.inputs)


def at_once(*work, patience=60):
    """Run functions in threads of their own, all at once; return what they return, or raise what one raises."""
    results, errors, start = {}, [], threading.Barrier(len(work))

    def run(number, one):
        try:
            start.wait()
            results[number] = one()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=numbered, daemon=True) for numbered in enumerate(work)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience)
    assert not any(thread.is_alive() for thread in threads), "a thread is stuck"
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(work))]


def in_child(work, patience=60):
    """Run `work` in a forked child, and return how it ended; a child that hangs ends by a signal."""
    child = os.fork()
    if not child:
        signal.alarm(patience)
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# Many threads, many processes, one file

CROWD = """
import os, sys, threading
from embed_core.kvstore import SQLiteKVStore
from embed_core.testing import ScriptedEmbedding

def answer(turn):
    if turn.number == int(sys.argv[3]):
        threading.Event().wait()
    return turn.vectors

path, threads, batch = sys.argv[1], int(sys.argv[2]), 5
model = ScriptedEmbedding(script=answer, embed_batch_size=batch, embeddings_cache=SQLiteKVStore(path))

def embed(number):
    for start in range(0, 50, batch):
        texts = [f"text {(number * 20 + start + n) % 800}" for n in range(batch)]
        model.embed_texts(texts)
        os.write(1, ("|".join(texts) + "\\n").encode())

crowd = [threading.Thread(target=embed, args=(number,)) for number in range(threads)]
for one in crowd: one.start()
for one in crowd: one.join()
"""


@pytest.fixture
def start_crowd(start):
    return lambda path, threads, hang_at=-1: start(sys.executable, "-c", CROWD, path, str(threads), str(hang_at))


def all_texts(threads):
    return sorted({f"text {(number * 20 + n) % 800}" for number in range(threads) for n in range(50)})


def holds_up(path, acknowledged, texts):
    """Check that the file is clean, has what was acknowledged, and that only the rest is embedded again."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with contextlib.closing(SQLiteKVStore(path)) as store:
        kept = len(store)
        model = ScriptedEmbedding(embeddings_cache=store)
        assert np.array_equal(model.embed_texts(texts), expected(texts))
        assert not acknowledged & sent(model).keys()
        assert model.input_count == len(texts) - kept
    return kept


def test_a_process_killed_amid_sixty_four_threads_keeps_what_it_acknowledged(tmp_path, start_crowd):
    path, acknowledged = tmp_path / "cache.db", set()
    crowd = start_crowd(path, 64, hang_at=155)  # of 160 batches
    for line in itertools.islice(crowd.stdout, 150):
        acknowledged |= set(line.strip().split("|"))
    crowd.kill()
    for line in crowd.stdout:
        acknowledged |= set(line.strip().split("|")) if line.endswith("\n") else set()
    crowd.wait()
    texts = all_texts(64)
    assert len(acknowledged) <= holds_up(path, acknowledged, texts) < len(texts)


def test_processes_full_of_threads_share_a_file_while_one_of_them_is_killed(tmp_path, start_crowd):
    path = tmp_path / "cache.db"
    crowds = [start_crowd(path, 16) for _ in range(3)]
    acknowledged = {text for line in itertools.islice(crowds[0].stdout, 20) for text in line.strip().split("|")}
    crowds[0].kill()
    for crowd in crowds:
        out, _ = crowd.communicate()
        acknowledged |= {
            text for line in out.splitlines(keepends=True) if line.endswith("\n") for text in line.strip().split("|")
        }
    assert [crowd.returncode for crowd in crowds[1:]] == [0, 0]
    texts = all_texts(16)
    assert holds_up(path, acknowledged, texts) == len(texts)


def test_sixty_four_threads_embed_each_text_once_although_their_texts_overlap(tmp_path):
    model = ScriptedEmbedding(embed_batch_size=7, num_workers=2, embeddings_cache=SQLiteKVStore(tmp_path / "cache.db"))
    texts = all_texts(64)
    mine = [[texts[(number * 11 + n) % len(texts)] for n in range(50)] for number in range(64)]
    found = at_once(*(lambda some=some: model.embed_texts(some) for some in mine))
    assert all(np.array_equal(vectors, expected(some)) for vectors, some in zip(found, mine, strict=True))
    assert set(sent(model).values()) == {1}
    assert len(in_flight(model)) == 0
    model.embeddings_cache.close()


def test_closing_a_store_that_many_threads_use_ends_and_harms_nobody(tmp_path):
    store = SQLiteKVStore(tmp_path / "cache.db", timeout=60)
    model, stop = ScriptedEmbedding(embed_batch_size=4, embeddings_cache=store), threading.Event()

    def work(number):
        for turn in itertools.count():
            some = [f"{number} {turn} {n}" for n in range(4)]
            assert np.array_equal(model.embed_texts(some), expected(some))
            if stop.is_set():
                return

    def close():
        for _ in range(5):
            store.close()
        stop.set()

    at_once(*(lambda number=number: work(number) for number in range(16)), close)
    store.close()


def test_a_thousand_tasks_over_a_file_open_few_files_and_threads(tmp_path):
    threads = []

    class Counting(SQLiteKVStore):
        def get_many(self, keys):
            threads.append(sum(one.name == "embed-core-worker" for one in threading.enumerate()))
            return super().get_many(keys)

    model = MockEmbedding(embeddings_cache=Counting(tmp_path / "cache.db"))
    texts = [f"text {number}" for number in range(1000)]

    async def main():
        return await asyncio.gather(*(model.aget_text_embedding(text) for text in texts))

    assert np.array_equal(np.array(asyncio.run(main()), dtype=np.float32), expected(texts))
    assert 1 < max(threads) <= 2 * _threads._MOST_THREADS  # idle ones of tests before this one included
    model.embeddings_cache.close()


# One model, every way of calling it


def test_threads_and_loops_share_a_model_at_the_same_time_and_one_after_the_other():
    model = Yielding(embed_batch_size=2, num_workers=3, embeddings_cache=MemoryKVStore())
    right = expected(TEXTS)

    async def inside():
        task = asyncio.create_task(model.aembed_texts(TEXTS))
        await asyncio.sleep(0)
        return [model.embed_texts(TEXTS), await task, await model.aembed_texts(TEXTS)]

    def streamed():
        return [np.concatenate(list(model.stream_texts(iter(TEXTS))))]

    for _ in range(5):
        model.embeddings_cache.clear()
        crowd = [lambda: [model.embed_texts(TEXTS)], lambda: asyncio.run(inside()), streamed] * 4
        for found in at_once(*crowd):
            assert all(np.array_equal(vectors, right) for vectors in found)
        assert len(in_flight(model)) == 0


def test_a_model_may_be_pickled_copied_and_closed_while_it_is_in_use():
    limiter, manager = RateLimiter(requests_per_minute=10**6), CallbackManager()
    model = ScriptedEmbedding(embed_batch_size=2, num_workers=2, rate_limiter=limiter, callback_manager=manager)
    model.embeddings_cache = MemoryKVStore()
    right = expected(TEXTS)

    def embed_often():
        return all(np.array_equal(model.embed_texts(TEXTS), right) for _ in range(20))

    def pickle_often():
        twins = [pickle.loads(pickle.dumps(model)) for _ in range(20)]
        return all(np.array_equal(MockEmbedding(embed_dim=twin.embed_dim).embed_texts(TEXTS), right) for twin in twins)

    def close_often():
        for _ in range(20):
            model.close()
            asyncio.run(model.aclose())
        return True

    assert at_once(*[embed_often] * 4, pickle_often, close_often) == [True] * 6


def test_a_pickled_limiter_keeps_its_budget_and_a_pickled_manager_its_handlers():
    limiter = RateLimiter(requests_per_minute=1)
    limiter.reserve(0)
    assert pickle.loads(pickle.dumps(limiter)).reserve(0).seconds > 0
    assert pickle.loads(pickle.dumps(CallbackManager([print]))).handlers == (print,)


def test_a_setting_changed_while_the_model_makes_itself_ready_takes_effect():
    making, go_on = threading.Event(), threading.Event()

    class Slow(MockEmbedding):
        def _declared_dimension(self):
            making.set()
            go_on.wait(60)
            return super()._declared_dimension()

    def change():
        making.wait(60)
        threading.Thread(target=go_on.set).start()
        model.embed_batch_size = 1

    model = Slow(embed_batch_size=10)
    at_once(lambda: model.embed_texts(["warm"]), change)
    model.reset()
    model.embed_texts(["a", "b", "c"])
    assert model.call_count == 3


# Forks


@forking
@quietly
def test_a_forked_child_waits_for_no_thread_of_its_parent():
    began, go_on = threading.Event(), threading.Event()

    def slowly(turn):
        began.set()
        go_on.wait(20)
        return turn.vectors

    model = ScriptedEmbedding(script=slowly, embeddings_cache=MemoryKVStore())

    def child():
        model.script = lambda turn: turn.vectors
        assert np.array_equal(model.embed_texts(TEXTS), expected(TEXTS))

    thread = threading.Thread(target=model.embed_texts, args=(TEXTS,))
    thread.start()
    began.wait(20)
    ended = in_child(child)
    go_on.set()
    thread.join()
    assert ended == 0


@forking
@quietly
def test_a_forked_child_finds_every_lock_open():
    held, go_on = threading.Event(), threading.Event()

    class Holding(dict):
        def items(self):  # is called with the store's lock held
            held.set()
            go_on.wait(20)
            return super().items()

    store = MemoryKVStore()
    store.put_many({b"before": b"1"})
    thread = threading.Thread(target=store.put_many, args=(Holding(),))
    thread.start()
    held.wait(20)

    def child():
        assert store.get_many([b"before"]) == {b"before": b"1"}

    ended = in_child(child)
    go_on.set()
    thread.join()
    assert ended == 0


@forking
@quietly
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_process_may_fork_while_its_threads_embed(kind, tmp_path):
    store = MemoryKVStore() if kind == "memory" else SQLiteKVStore(tmp_path / "cache.db", timeout=60)
    limiter = RateLimiter(requests_per_minute=10**9)
    model = ScriptedEmbedding(embed_batch_size=4, num_workers=2, embeddings_cache=store, rate_limiter=limiter)
    stop = threading.Event()

    def work(number):
        for turn in itertools.count():
            model.embed_texts([f"{number} {turn} {n}" for n in range(8)])
            if stop.is_set():
                return

    def fork():
        try:
            for turn in range(8):
                some = [*(f"{number} {turn} 1" for number in range(8)), f"child {turn}"]
                assert (
                    in_child(lambda some=some: np.testing.assert_array_equal(model.embed_texts(some), expected(some)))
                    == 0
                )
        finally:
            stop.set()

    at_once(*(lambda number=number: work(number) for number in range(8)), fork)
    store.close()


# Interrupts


def in_the_hook(model):
    def interrupt(turn):
        if turn.number == 5:
            raise KeyboardInterrupt
        return turn.vectors

    model.script = interrupt
    return TEXTS


def in_a_handler(model):
    turns = itertools.count()

    def interrupt(event):
        if next(turns) == 9:
            raise KeyboardInterrupt

    model.callback_manager = CallbackManager([interrupt])
    return TEXTS


def in_an_async_handler(model):
    turns = itertools.count()

    async def interrupt(event):
        if next(turns) == 9:
            raise KeyboardInterrupt

    model.callback_manager = CallbackManager([interrupt])
    return TEXTS


class Interrupting(MemoryKVStore):
    turns = 0

    def put_many(self, items):
        self.turns += 1
        if self.turns == 5:
            raise KeyboardInterrupt
        super().put_many(items)


class InterruptingInAThread(Interrupting):
    waits = True


def in_the_store(model):
    model.embeddings_cache = Interrupting()
    return TEXTS


def in_a_store_that_waits(model):
    model.embeddings_cache = InterruptingInAThread()
    return TEXTS


def in_the_source(model):
    model.embed_texts(TEXTS[:6])

    def source():
        yield from TEXTS
        raise KeyboardInterrupt

    return source()


PLACES = [in_the_hook, in_a_handler, in_an_async_handler, in_the_store, in_a_store_that_waits, in_the_source]


@both
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("kind", [ScriptedEmbedding, OnlySync])
@pytest.mark.parametrize("place", PLACES)
def test_an_interrupt_is_never_swallowed_and_finished_batches_are_kept(place, kind, workers, colour, caplog):
    model = kind(embed_batch_size=1, num_workers=workers, embeddings_cache=MemoryKVStore())
    texts = place(model)
    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
        embed(model, texts, colour)
    gc.collect()
    assert caplog.records == []  # no "exception was never retrieved"
    assert len(model.embeddings_cache) >= 2
    model.callback_manager, model.script = None, lambda turn: turn.vectors
    assert np.array_equal(embed(model, TEXTS, colour), expected(TEXTS))


class Interrupted:
    """A terminal on which Ctrl-C arrives as the bar is drawn."""

    encoding, turns = "utf-8", 0

    def write(self, text):
        self.turns += 1
        if self.turns > 2:
            raise KeyboardInterrupt

    def flush(self):
        pass


@both
@pytest.mark.parametrize("workers", [1, 3])
def test_an_interrupt_in_the_progress_bar_is_never_swallowed(workers, colour, monkeypatch):
    model = ScriptedEmbedding(embed_batch_size=1, num_workers=workers, embeddings_cache=MemoryKVStore())
    monkeypatch.setattr(sys, "stderr", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        embed(model, [f"text {n}" for n in range(2000)], colour, show_progress=True)
    monkeypatch.undo()
    assert len(model.embeddings_cache) >= 1
    assert np.array_equal(embed(model, TEXTS, colour), expected(TEXTS))


@both
@pytest.mark.parametrize("workers", [1, 3])
def test_a_bar_that_nobody_reads_any_more_costs_no_vector(workers, colour, monkeypatch):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def leave(turn):
        if turn.number == 5:
            os.close(reading)
        return turn.vectors

    texts = [f"text {number}" for number in range(300)]
    model = OnlySync(script=leave, embed_batch_size=1, num_workers=workers)
    with io.TextIOWrapper(os.fdopen(writing, "wb", buffering=0), write_through=True) as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        (vectors,) = at_once(lambda: embed(model, texts, colour, show_progress=True))
        monkeypatch.undo()
    assert np.array_equal(vectors, expected(texts))


def test_where_there_is_no_terminal_at_all_there_is_no_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert np.array_equal(MockEmbedding().embed_texts(TEXTS, show_progress=True), expected(TEXTS))


@both
def test_an_interrupted_stream_keeps_the_blocks_before_it(colour):
    model = ScriptedEmbedding(embed_batch_size=2, embeddings_cache=MemoryKVStore())  # a window has 8 texts

    def source():
        yield from (f"text {number}" for number in range(30))
        raise KeyboardInterrupt

    async def stream():
        return [block async for block in model.astream_texts(source())]

    with pytest.raises(KeyboardInterrupt):
        list(model.stream_texts(source())) if colour == "sync" else asyncio.run(stream())
    assert 16 <= len(model.embeddings_cache) <= 24  # the third window may be in flight


def test_an_interrupt_passes_through_the_users_own_task_group():
    model = ScriptedEmbedding(embed_batch_size=1, num_workers=3, embeddings_cache=MemoryKVStore())
    in_the_hook(model)

    async def main():
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.Event().wait())
            group.create_task(model.aembed_texts(TEXTS))

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    gc.collect()
    assert len(model.embeddings_cache) == 5
    assert len(in_flight(model)) == 0


CTRL_C = """
import asyncio, itertools
from embed_core import RateLimiter
from embed_core.errors import RateLimitError
from embed_core.instrumentation import CallbackManager, EmbeddingStartEvent
from embed_core.kvstore import MemoryKVStore
from embed_core.testing import ScriptedEmbedding

TEXTS = [f"text {number}" for number in range(9)]

class OnlySync(ScriptedEmbedding):
    async def _aget_text_embeddings(self, texts):
        return await self._abatch("text", texts)

# The user presses Ctrl-C once `workers + 2` batches have begun: then two are finished.

def in_back_off(model):
    def script(turn):
        if turn.number == workers + 1:
            press_ctrl_c()
        if turn.number >= 3:
            raise RateLimitError("slow down", retry_after=299)
        return turn.vectors
    model.script = script

def before_the_limiter(model):
    turns = itertools.count()
    class Limiter(RateLimiter):
        def reserve(self, *amounts):
            if next(turns) == workers + 1:
                press_ctrl_c()
            return super().reserve(*amounts)
    model.rate_limiter = Limiter(requests_per_minute=3)

def behind_another_call(model):
    began = threading.Event()
    def script(turn):
        if turn.inputs == ["text 4"]:
            press_ctrl_c()
        if turn.inputs == ["text 5"]:
            began.set()
            threading.Event().wait()
        return turn.vectors
    model.script = script
    threading.Thread(target=model.embed_texts, args=(["text 5"],), daemon=True).start()
    began.wait()

def in_a_handler(model):
    turns = itertools.count()
    def handler(event):
        if isinstance(event, EmbeddingStartEvent) and next(turns) == workers + 1:
            press_ctrl_c()
            threading.Event().wait()
    async def later(event):
        if isinstance(event, EmbeddingStartEvent) and next(turns) == workers + 1:
            press_ctrl_c()
            await asyncio.Event().wait()
    model.callback_manager = CallbackManager([handler if colour == "sync" else later])

waits = [in_back_off, before_the_limiter, behind_another_call, in_a_handler]
for wait, colour, workers in itertools.product(waits, ["sync", "async"], [1, 3]):
    model = OnlySync(embed_batch_size=1, num_workers=workers, embeddings_cache=MemoryKVStore())
    wait(model)
    try:
        model.embed_texts(TEXTS) if colour == "sync" else asyncio.run(model.aembed_texts(TEXTS))
    except KeyboardInterrupt:
        print(wait.__name__, colour, workers, "kept", len(model.embeddings_cache) >= 2, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals to oneself are a POSIX matter")
def test_ctrl_c_ends_every_kind_of_waiting_and_keeps_finished_batches(press):
    command = [sys.executable, "-c", press + CTRL_C]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    lines = done.stdout.splitlines()
    assert len(lines) == 16
    assert all(line.endswith("kept True") for line in lines), done.stdout
    assert [line for line in done.stderr.splitlines() if "trying again in" not in line] == []


CTRL_C_WHILE_CLOSING = """
from embed_core.kvstore import SQLiteKVStore

began, go_on = threading.Event(), threading.Event()

class Slow(dict):
    def items(self):
        began.set()
        go_on.wait(60)
        return super().items()

store = SQLiteKVStore(sys.argv[1], timeout=600)
thread = threading.Thread(target=store.put_many, args=(Slow({b"a": b"1"}),))
thread.start()
began.wait()
press_ctrl_c()
try:
    store.close()
except KeyboardInterrupt:
    go_on.set()
thread.join()
print(store.get_many([b"a"]))
store.close()
"""


@pytest.mark.skipif(os.name == "nt", reason="signals to oneself are a POSIX matter")
def test_a_store_whose_closing_was_interrupted_goes_on(tmp_path, press):
    command = [sys.executable, "-c", press + CTRL_C_WHILE_CLOSING, str(tmp_path / "cache.db")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "{b'a': b'1'}\n"


def test_nobody_waits_for_a_thread_that_an_interrupted_call_left_behind():
    hanging, release = threading.Event(), threading.Event()

    def hang_first(turn):
        if turn.number == 0:
            hanging.set()
            release.wait(60)
        elif turn.number == 1:
            hanging.wait(60)
            raise KeyboardInterrupt
        return turn.vectors

    model = ScriptedEmbedding(script=hang_first, embed_batch_size=1, num_workers=2, embeddings_cache=MemoryKVStore())
    with pytest.raises(KeyboardInterrupt):
        model.embed_texts(TEXTS)
    (again,) = at_once(lambda: model.embed_texts(TEXTS), patience=50)
    release.set()
    assert np.array_equal(again, expected(TEXTS))


# Cancellation


def cancelled_after(steps, call):
    """Run the loop for so many turns, cancel; return whether it was cancelled before it was done."""

    async def main():
        task = asyncio.ensure_future(call())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        done = await asyncio.gather(task, return_exceptions=True)
        assert asyncio.all_tasks() == {asyncio.current_task()}, "a task is left"
        return isinstance(done[0], asyncio.CancelledError)

    return asyncio.run(main(), debug=False)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("cached", [True, False])
def test_a_task_cancelled_at_any_await_leaves_nothing_behind(cached, workers, caplog):
    async def handler(event):
        await asyncio.sleep(0)

    for steps in itertools.count():
        store = MemoryKVStore() if cached else None
        model = Yielding(embed_batch_size=2, num_workers=workers, embeddings_cache=store)
        model.callback_manager = CallbackManager([handler])
        cancelled = cancelled_after(steps, lambda model=model: model.aembed_texts(TEXTS))
        assert not cached or len(in_flight(model)) == 0
        assert np.array_equal(asyncio.run(model.aembed_texts(TEXTS)), expected(TEXTS))
        if not cancelled:
            break
    gc.collect()
    assert steps > 10
    assert caplog.records == []


@pytest.mark.parametrize("workers", [1, 4])
def test_a_task_cancelled_at_any_await_pays_the_limiter_only_for_what_it_sent(workers):
    for steps in range(40):
        limiter = RateLimiter(requests_per_minute=3, clock=lambda: 0.0)
        model = Yielding(embed_batch_size=2, num_workers=workers, rate_limiter=limiter)
        assert cancelled_after(steps, lambda model=model: model.aembed_texts(TEXTS))
        begun = min(3, limiter.reserve(0).seconds / 20 + 3)
        assert begun == 3 or limiter.reserve(0).seconds in {0, 20}
        assert limiter.reserve(0).seconds <= 60


def test_cancelled_and_waiting_tasks_never_wait_for_each_other():
    model = Yielding(embed_batch_size=2, num_workers=2, embeddings_cache=MemoryKVStore())

    async def main(steps):
        tasks = [asyncio.create_task(model.aembed_texts(TEXTS[n:] + TEXTS[:n])) for n in range(6)]
        for task in tasks[:-1]:
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
        async with asyncio.timeout(60):
            return await tasks[-1]

    for steps in range(12):
        model.embeddings_cache.clear()
        assert np.array_equal(asyncio.run(main(steps)), expected(TEXTS[5:] + TEXTS[:5]))
        assert len(in_flight(model)) == 0


@pytest.mark.parametrize("workers", [1, 3])
def test_a_hook_that_cancels_itself_cancels_the_call_and_leaves_no_row_unfilled(workers):
    class Selfish(Yielding):
        async def _aget_text_embeddings(self, texts):
            vectors = await super()._aget_text_embeddings(texts)
            if "text 3" in texts:
                raise asyncio.CancelledError
            return vectors

    async def main():
        with pytest.raises(asyncio.CancelledError):
            await Selfish(embed_batch_size=1, num_workers=workers).aembed_texts(TEXTS)

    asyncio.run(main())


def test_what_was_paid_for_is_kept_although_every_thread_is_busy(tmp_path):
    store, release = SQLiteKVStore(tmp_path / "cache.db"), threading.Event()

    class Busy(ScriptedEmbedding):
        async def _aget_text_embeddings(self, texts):
            turns = [_threads.in_thread(lambda: release.wait(60), brief=True) for _ in range(_threads._MOST_THREADS)]
            busy.extend(map(asyncio.create_task, turns))
            await asyncio.sleep(0)
            asked.set()
            return await super()._aget_text_embeddings(texts)

    async def main():
        task = asyncio.create_task(Busy(embeddings_cache=store).aembed_texts(TEXTS))
        await asked.wait()
        for _ in range(50):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        release.set()
        await asyncio.gather(*busy)

    busy, asked = [], asyncio.Event()
    asyncio.run(main())
    assert len(store) == len(TEXTS)
    store.close()


def test_a_cached_text_does_not_queue_behind_a_slow_provider(tmp_path):
    store, release, begun = SQLiteKVStore(tmp_path / "cache.db"), threading.Event(), threading.Semaphore(0)

    def slowly(turn):
        begun.release()
        assert release.wait(60)
        return turn.vectors

    async def main():
        slow = OnlySync(script=slowly, embeddings_cache=store)
        texts = [f"text {number}" for number in range(_threads._MOST_THREADS + 9)]
        waiting = [asyncio.create_task(slow.aget_text_embedding(text)) for text in texts]
        await asyncio.to_thread(lambda: [begun.acquire(timeout=60) for _ in range(_threads._MOST_THREADS)])
        async with asyncio.timeout(50):
            found = await slow.aget_query_embedding("known")
        release.set()
        await asyncio.gather(*waiting)
        return found

    known = OnlySync(embeddings_cache=store).get_query_embedding("known")
    assert asyncio.run(main()) == known
    store.close()


# Loops that end, callers that wait for one another


def test_a_task_of_a_loop_that_has_stopped_holds_up_nobody():
    class Stalling(ScriptedEmbedding):
        async def _aget_text_embeddings(self, texts):
            if self.call_count == 0:
                self._get_text_embeddings(texts)
                stalling.set()
                await asyncio.Event().wait()
            return await super()._aget_text_embeddings(texts)

    async def begin():
        stalled.append(asyncio.create_task(model.aembed_texts(TEXTS)))
        await stalling.wait()

    async def again():
        async with asyncio.timeout(60):
            return await model.aembed_texts(TEXTS)

    stalling, stalled, loop = asyncio.Event(), [], asyncio.new_event_loop()
    model = Stalling(embeddings_cache=MemoryKVStore())
    loop.run_until_complete(begin())
    assert np.array_equal(asyncio.run(again()), expected(TEXTS))
    stalled[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(stalled[0])
    loop.close()
    assert len(in_flight(model)) == 0


@pytest.mark.parametrize("cached", [False, True])
def test_a_loop_is_let_go_although_its_tasks_have_waited_for_one_another(cached, tmp_path):
    store = SQLiteKVStore(tmp_path / "cache.db") if cached else None
    model = (MockEmbedding if cached else OnlySync)(embeddings_cache=store)

    async def crowd():
        await asyncio.gather(*(model.aget_text_embedding(str(n)) for n in range(3 * _threads._MOST_THREADS)))
        return weakref.ref(asyncio.get_running_loop())

    loops = [asyncio.run(crowd()) for _ in range(3)]
    gc.collect()
    assert [loop() for loop in loops] == [None] * 3
    if store is not None:
        store.close()


def test_a_flight_that_lands_after_a_waiting_loop_has_closed_troubles_nobody(caplog):
    began, go_on = threading.Event(), threading.Event()

    def slowly(turn):
        began.set()
        go_on.wait(20)
        return turn.vectors

    async def impatient():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await model.aembed_texts(TEXTS)

    model = ScriptedEmbedding(script=slowly, embeddings_cache=MemoryKVStore())
    thread = threading.Thread(target=model.embed_texts, args=(TEXTS,))
    thread.start()
    began.wait(20)
    asyncio.run(impatient())
    go_on.set()
    thread.join()
    gc.collect()
    assert caplog.records == []


def test_where_nobody_succeeds_nobody_waits_for_the_failures_of_all_others():
    class Down(ScriptedEmbedding):
        async def _aget_text_embeddings(self, texts):
            crowd[0] += 1
            most.append(crowd[0])
            for _ in range(5):
                await asyncio.sleep(0)
            crowd[0] -= 1
            if texts == ["warm"]:
                return self._get_text_embeddings(texts)
            raise ProviderUnavailableError("down")

    async def main():
        calls = (model.aget_text_embedding("a question of many") for _ in range(300))
        return await asyncio.gather(*calls, return_exceptions=True)

    crowd, most = [0], []
    model = Down(retry=NO_RETRIES, embeddings_cache=MemoryKVStore())
    model.get_text_embedding("warm")
    assert {type(error) for error in asyncio.run(main())} == {ProviderUnavailableError}
    assert max(most) == 299


def test_an_error_in_a_joined_batch_tells_what_was_completed():
    first, second = threading.Event(), threading.Event()

    def script(turn):
        if turn.inputs == ["bad"]:
            first.set()
            second.wait(20)
            raise QuotaExceededError("no credit")
        second.set()
        return turn.vectors

    model = ScriptedEmbedding(script=script, embeddings_cache=MemoryKVStore())

    def doomed():
        with pytest.raises(QuotaExceededError):
            model.embed_texts(["bad"])

    def joining():
        first.wait(20)
        return model.get_text_embedding_batch(["bad", "good"], on_error="none")

    _, (bad, good) = at_once(doomed, joining)
    assert bad is None
    assert good == expected(["good"])[0].tolist()


# Retries and limits in a crowd


@both
def test_a_storm_of_refusals_makes_no_more_attempts_than_the_policy_allows(colour):
    tried = Counter()

    def refuse_twice(turn):
        tried[tuple(turn.inputs)] += 1
        if tried[tuple(turn.inputs)] <= 2:
            raise RateLimitError("slow down", retry_after=0.01)
        return turn.vectors

    texts = [f"text {number}" for number in range(64)]
    model = OnlySync(script=refuse_twice, embed_batch_size=2, num_workers=8, retry=RetryPolicy(max_retries=2))
    assert np.array_equal(embed(model, texts, colour), expected(texts))
    assert set(tried.values()) == {3}
    tried.clear()
    model.retry = RetryPolicy(max_retries=1)
    with pytest.raises(RateLimitError):
        embed(model, texts, colour)
    assert set(tried.values()) <= {1, 2}
    assert len(tried) <= 16


class Announced(RateLimiter):
    """Tells how many requests have asked for a place."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.asked = threading.Semaphore(0)

    def reserve(self, tokens, requests=1):
        try:
            return super().reserve(tokens, requests)
        finally:
            self.asked.release()


@both
@pytest.mark.parametrize("waiting", ["for the provider", "for the limiter"])
def test_the_first_failure_ends_the_waiting_of_the_other_batches(waiting, colour):
    limiter = Announced(requests_per_minute=3, clock=lambda: 0.0) if waiting == "for the limiter" else None
    others = threading.Semaphore(0)

    def script(turn):
        if turn.inputs == ["text 0"]:
            for _ in range(6 if limiter else 2):  # three that were sent, and three that wait
                (limiter.asked if limiter else others).acquire(timeout=50)
            raise QuotaExceededError("no credit")
        others.release()
        if waiting == "for the provider":
            raise RateLimitError("slow down", retry_after=250)
        return turn.vectors

    def fail():
        with pytest.raises(QuotaExceededError) as caught:
            embed(model, TEXTS, colour)
        return caught.value

    model = OnlySync(script=script, embed_batch_size=1, num_workers=4 if limiter else 3, rate_limiter=limiter)
    (error,) = at_once(fail)
    assert list(error.failed) == [0]
    assert sorted(error.completed) == ([1, 2] if limiter else [])
    assert limiter is None or limiter.reserve(0).seconds == 20  # what waited has given its place back


# Memory and work


class Deaths:
    """Waits for the end of objects; worker threads let go of them a moment after a call."""

    def __init__(self):
        self._watched, self._ended = [], threading.Semaphore(0)

    def watch(self, one):
        self._watched.append(weakref.ref(one, lambda _: self._ended.release()))

    def all_happen(self):
        return all(self._ended.acquire(timeout=60) for _ in self._watched)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("workers", [1, 3])
@both
def test_vectors_die_with_the_last_name_for_them(colour, workers, cached):
    deaths = Deaths()

    def track(turn):
        vectors = turn.vectors.copy()
        deaths.watch(vectors)
        return vectors

    store = MemoryKVStore() if cached else None
    model = Yielding(script=track, embed_batch_size=2, num_workers=workers, embeddings_cache=store)
    gc.collect()
    gc.disable()
    try:
        vectors = embed(model, TEXTS, colour)
        deaths.watch(vectors)
        del vectors
        assert deaths.all_happen()
    finally:
        gc.enable()


class Watched(str):
    """A text whose end can be seen: plain ones take no weak references."""

    __slots__ = ("__weakref__",)


def refuse(turn):
    raise QuotaExceededError("no credit")


def break_down(turn):
    raise ZeroDivisionError("a bug in a hook")


def be_down(turn):
    raise ProviderUnavailableError("down")


def be_down_once(turn):
    if turn.number < 3:
        raise ProviderUnavailableError("down")
    return turn.vectors


def refuse_some(turn):
    if len(turn.inputs) > 1 or turn.inputs == ["text 3"]:
        raise InvalidInputError("too much")
    return turn.vectors


def refuse_many(turn):
    if len(turn.inputs) > 1:
        raise InvalidInputError("too much at once")
    return turn.vectors


def fail_in_two_ways(turn):
    if "text 0" in turn.inputs:
        raise QuotaExceededError("no credit")
    return turn.vectors[:-1]


FAILURES = [refuse, break_down, be_down, be_down_once, refuse_some, refuse_many, fail_in_two_ways]


@pytest.mark.parametrize(("workers", "cached"), [(1, False), (3, False), (3, True)])
@pytest.mark.parametrize("on_error", ["raise", "none"])
@pytest.mark.parametrize("failure", FAILURES)
@both
def test_inputs_and_vectors_die_with_the_last_name_for_an_error(colour, failure, on_error, workers, cached):
    deaths = Deaths()

    def track(turn):
        vectors = failure(turn).copy()
        deaths.watch(vectors)
        return vectors

    async def fail():
        texts = [Watched(text) for text in TEXTS]
        for text in texts:
            deaths.watch(text)
        del text
        with contextlib.suppress(EmbedError):
            if colour == "sync":
                model.get_text_embedding_batch(texts, on_error=on_error)
            else:
                await model.aget_text_embedding_batch(texts, on_error=on_error)

    model = OnlySync(script=track, embed_batch_size=2, num_workers=workers)
    model.retry = RetryPolicy(max_retries=1, initial_seconds=0)
    model.embeddings_cache = MemoryKVStore() if cached else None
    asyncio.run(ScriptedEmbedding().aembed_texts(["warm"]))
    gc.collect()
    gc.disable()
    try:
        asyncio.run(fail())
        model.reset()
        assert deaths.all_happen()
    finally:
        gc.enable()


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("workers", [1, 3])
@both
def test_a_model_dies_with_the_last_name_for_it(colour, workers, cached):
    model = MockEmbedding(
        embed_batch_size=2,
        num_workers=workers,
        embeddings_cache=MemoryKVStore() if cached else None,
        rate_limiter=RateLimiter(requests_per_minute=1000),
        callback_manager=CallbackManager([lambda event: hasattr(event, "origin") and event.origin.describe()]),
    )
    gc.collect()
    gc.disable()
    try:
        embed(model, TEXTS, colour)
        deaths = Deaths()
        deaths.watch(model)
        del model
        assert deaths.all_happen()
    finally:
        gc.enable()


STREAM = """
import asyncio, resource, sys
from embed_core import MockEmbedding
from embed_core.kvstore import MemoryKVStore
from embed_core.testing import ScriptedEmbedding

way, dimension = sys.argv[1], 256
store = MemoryKVStore(max_entries=100) if way.endswith("cached") else None
model = ScriptedEmbedding(embed_dim=dimension, num_workers=4, embeddings_cache=store)
model.embed_texts(["warm"])
texts = (f"text {number}" for number in range(100_000))

async def main():
    return sum([len(block) async for block in model.astream_texts(texts)])

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = asyncio.run(main()) if way.startswith("async") else sum(len(block) for block in model.stream_texts(texts))
print(count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("way", ["async", "threads", "async cached"])
def test_a_hundred_thousand_texts_leave_no_trace_in_memory(way):
    pytest.importorskip("resource", reason="peak memory is read the POSIX way")
    done = subprocess.run([sys.executable, "-c", STREAM, way], capture_output=True, text=True, check=True)
    count, grown = map(int, done.stdout.split())
    assert count == 100_000
    assert grown < 40  # the vectors are 98 MiB


@both
def test_ten_times_the_texts_take_about_ten_times_as_many_steps(colour):
    class Text(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other):
            return str.__eq__(self, other)  # a call, so that it is counted

    def calls(count):
        def profile(frame, event, argument):
            nonlocal made
            made += event == "call"

        made, texts, model = 0, [Text(f"text {number}") for number in range(count)], MockEmbedding(embed_dim=8)
        sys.setprofile(profile)
        try:
            assert len(embed(model, texts, colour)) == count
        finally:
            sys.setprofile(None)
        return made

    assert calls(30_000) < 11 * calls(3_000)
