"""The file of the SQLite store: shared, forked, killed, damaged, full."""

import gc
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from embed_core.errors import ConfigurationError, StoreError
from embed_core.kvstore import SQLiteKVStore

# Writes batches for ever and says after each, on its own line, that it is written.
WRITER = """
import sys
from embed_core.kvstore import SQLiteKVStore
store, name = SQLiteKVStore(sys.argv[1]), sys.argv[2]
for batch in range(int(sys.argv[3])):
    store.put_many({f"{name}-{batch}-{n}".encode(): f"{name}-{batch}-{n}".encode() * 50 for n in range(20)})
    print(batch, flush=True)
"""


@pytest.fixture
def start_writer(start):
    return lambda path, name, batches=10**9: start(sys.executable, "-c", WRITER, path, str(name), str(batches))


def entries(name, batches):
    names = [f"{name}-{batch}-{n}".encode() for batch in range(batches) for n in range(20)]
    return {one: one * 50 for one in names}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache.db"


def test_folders_are_made_and_the_home_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    store = SQLiteKVStore("~/some/where/cache.db")
    assert not (tmp_path / "some").exists()  # opened on first use
    store.put_many({b"a": b"1"})
    store.close()
    assert [one.name for one in (tmp_path / "some" / "where").iterdir()] == ["cache.db"]


def test_a_relative_path_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = SQLiteKVStore("cache.db")
    monkeypatch.chdir("/")
    assert store.path == tmp_path / "cache.db"


@pytest.mark.parametrize("path", [":memory:", "", "file:cache.db?mode=memory"])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(ConfigurationError, match="`MemoryKVStore`"):
        SQLiteKVStore(path)


def test_processes_that_open_a_new_file_at_once_all_write_to_it(path, start_writer):
    writers = [start_writer(path, name, batches=10) for name in range(6)]
    for writer in writers:
        writer.communicate()
    assert [writer.returncode for writer in writers] == [0] * 6
    store = SQLiteKVStore(path)
    assert len(store) == 6 * 10 * 20
    for name in range(6):
        assert store.get_many(list(expected := entries(name, 10))) == expected
    store.close()


def test_what_killed_writers_acknowledged_is_all_there(path, start_writer):
    for generation in range(3):
        writers = {f"{generation}{name}": start_writer(path, f"{generation}{name}") for name in range(3)}
        for turn, writer in enumerate(writers.values()):
            for _ in range(5 + 7 * turn):
                writer.stdout.readline()
        for writer in writers.values():
            writer.send_signal(signal.SIGKILL)
        store = SQLiteKVStore(path)
        for name, writer in writers.items():
            acknowledged = 5 + 7 * list(writers).index(name) + len(writer.communicate()[0].split())
            assert store.get_many(list(expected := entries(name, acknowledged))) == expected
        store.close()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


def in_a_fork(work):
    """Run `work` in a forked child and return its exit status once waited for."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:
        os._exit(1)
    os._exit(0)


def ended_well(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_children_and_their_parent_lose_nothing(path):
    store = SQLiteKVStore(path)
    store.put_many({b"before": b"1"})
    opened, close = os.pipe(), os.pipe()

    def child():
        store.put_many({b"child 1": b"2"})
        os.write(opened[1], b".")
        os.read(close[0], 1)  # until the parent has closed its connections
        store.put_many({b"child 2": b"3"})
        assert len(store.get_many([b"before", b"child 1", b"child 2"])) == 3

    number = in_a_fork(child)
    os.read(opened[0], 1)
    store.close()
    SQLiteKVStore(path).put_many({b"parent": b"4"})
    gc.collect()
    os.write(close[1], b".")
    assert ended_well(number)
    for descriptor in (*opened, *close):
        os.close(descriptor)
    assert len(store.get_many([b"before", b"child 1", b"child 2", b"parent"])) == 4
    store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_process_may_fork_while_its_threads_write(path):
    store, stop = SQLiteKVStore(path), threading.Event()
    written = []

    def write(name):
        for batch in range(10_000):
            store.put_many({f"{name}-{batch}".encode(): b"x" * 200})
            written.append(f"{name}-{batch}".encode())
            if stop.is_set():
                return

    threads = [threading.Thread(target=write, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    children = [
        in_a_fork(lambda name=name: store.put_many({f"child-{name}".encode(): b"x" * 200})) for name in range(8)
    ]
    assert all(ended_well(child) for child in children)
    stop.set()
    for thread in threads:
        thread.join()
    assert len(store) == len(written) + 8 == len(store.get_many([*written, *(b"child-%d" % n for n in range(8))]))
    store.close()


# A thread is in the midst of writing, for longer than the process that forks is patient.
FORKING = """
import faulthandler
from embed_core.errors import StoreError
from embed_core.kvstore import SQLiteKVStore

faulthandler.dump_traceback_later(60, exit=True)  # where something hangs
patience, forkers = float(sys.argv[2]), int(sys.argv[3])
interrupted = patience > 5
writing, go_on = threading.Event(), threading.Event()
busy, idle = SQLiteKVStore(sys.argv[1] + "/busy.db", timeout=patience), SQLiteKVStore(sys.argv[1] + "/idle.db")

class Slow(dict):
    def items(self):
        writing.set()
        go_on.wait()
        yield b"slow", b"1"

def use(*stores):
    for number, store in enumerate((*stores, SQLiteKVStore(f"{sys.argv[1]}/{os.getpid()}.db"))):
        store.put_many({b"%d" % number: b"2"})
        store.close()

def fork():
    child = os.fork()
    if child:
        return child
    if not interrupted:
        try:
            busy.put_many({b"child": b"1"})
        except StoreError:  # the thread has not ended its transaction
            pass
    use(idle)
    os._exit(0)

def fork_and_wait():
    assert os.waitpid(fork(), 0)[1] == 0

idle.put_many({b"before": b"1"})
writer = threading.Thread(target=busy.put_many, args=(Slow(),))
writer.start()
writing.wait()
others = [threading.Thread(target=fork_and_wait) for _ in range(forkers - 1)]
for other in others:
    other.start()
if interrupted:
    press_ctrl_c()
child = fork()
go_on.set()
for thread in (writer, *others):
    thread.join()
assert os.waitpid(child, 0)[1] == 0
use(busy, idle)
fork_and_wait()
print("nothing hangs", len(busy.get_many([b"slow"])))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize(
    ("patience", "forkers"),
    [
        pytest.param(0.2, 1, id="the patience runs out"),
        pytest.param(0.2, 2, id="it runs out for two threads that fork"),
        pytest.param(30, 1, id="Ctrl-C ends the waiting"),
        pytest.param(30, 2, id="Ctrl-C ends the waiting for another thread that forks"),
    ],
)
def test_a_fork_in_the_midst_of_a_long_transaction_wedges_nobody(tmp_path, press, patience, forkers):
    command = [sys.executable, "-W", "ignore", "-c", press + FORKING, str(tmp_path), str(patience), str(forkers)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "nothing hangs 1\n"), done.stderr
    assert ("KeyboardInterrupt" in done.stderr) == (patience > 5)  # Python shows what a hook raises, and goes on


# Ctrl-C ends each `close` while another thread waits to fork.
INTERRUPTED = """
import faulthandler
from embed_core.kvstore import SQLiteKVStore

faulthandler.dump_traceback_later(60, exit=True)  # where something hangs
stores = [SQLiteKVStore(f"{sys.argv[1]}/{number}.db") for number in range(4)]
for store in stores:
    store.put_many({b"a": b"1"})

def fork():
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)

writing, go_on = threading.Event(), threading.Event()

class Slow(dict):
    def items(self):
        writing.set()
        go_on.wait()
        yield b"slow", b"1"

threads = [threading.Thread(target=stores[0].put_many, args=(Slow(),)), threading.Thread(target=fork)]
threads[0].start()
writing.wait()
threads[1].start()
while sys._current_frames()[threads[1].ident].f_code.co_name in {"fork", "run"}:
    pass  # until it waits for the writer
for store in stores:
    press_ctrl_c()
    try:
        store.close()
        threading.Event().wait()
    except KeyboardInterrupt:
        pass
go_on.set()
for thread in threads:
    thread.join()
fork()
for store in stores:
    assert store.get_many([b"a"]) == {b"a": b"1"}
    store.close()
print("nothing hangs")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_close_interrupted_while_a_thread_forks_wedges_nobody(tmp_path, press):
    command = [sys.executable, "-W", "ignore", "-c", press + INTERRUPTED, str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "nothing hangs\n"), done.stderr


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted in /proc")
def test_threads_that_end_and_stores_that_go_leave_no_file_open(path):
    def opened():
        return sum(str(path) in str(one.readlink()) for one in Path("/proc/self/fd").iterdir() if one.is_symlink())

    store = SQLiteKVStore(path)
    store.put_many({b"a": b"1"})
    one_connection = opened()
    for _ in range(20):
        thread = threading.Thread(target=store.get_many, args=([b"a"],))
        thread.start()
        thread.join()
    assert opened() == one_connection
    del store, thread
    gc.collect()
    assert opened() == 0


def test_an_interrupted_write_is_rolled_back_and_blocks_nobody(path):
    store = SQLiteKVStore(path)

    class Interrupting(dict):
        def items(self):
            yield b"half", b"written"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.put_many(Interrupting())
    store.put_many({b"a": b"1"})
    assert store.get_many([b"half", b"a"]) == {b"a": b"1"}
    store.close()


def test_closing_waits_for_a_thread_that_is_writing(path):
    store, writing, closed = SQLiteKVStore(path), threading.Event(), threading.Event()

    class Slow(dict):
        def items(self):
            writing.set()
            assert not closed.wait(0.05)
            yield b"a", b"1"

    def close():
        writing.wait()
        store.close()
        closed.set()

    thread = threading.Thread(target=close)
    thread.start()
    store.put_many(Slow())
    thread.join()
    assert store.get_many([b"a"]) == {b"a": b"1"}
    store.close()


@pytest.mark.parametrize("content", [b"this is no database at all, just some text", bytes(5000)])
def test_a_file_that_is_no_database_is_named(path, content):
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"cache\.db.*not a database.*move it away"):
        SQLiteKVStore(path).get_many([b"a"])
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_left_alone(path):
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE kv (k BLOB PRIMARY KEY, v BLOB)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program's database"):
        SQLiteKVStore(path).put_many({b"a": b"1"})
    assert path.read_bytes() == before


def test_a_damaged_page_is_named_and_the_rest_of_the_process_lives(path):
    store = SQLiteKVStore(path)
    store.put_many({number.to_bytes(2, "big"): bytes(1000) for number in range(1000)})
    store.close()
    with path.open("r+b") as file:
        file.seek(3 * 32768)
        file.write(os.urandom(20 * 32768))
    with pytest.raises(StoreError, match=r"cache\.db.*move it away"):
        store.get_many([number.to_bytes(2, "big") for number in range(1000)])
    store.close()


def test_a_folder_in_the_way_or_no_permission_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "cache.db"):
        with pytest.raises(StoreError, match="check the path"):
            SQLiteKVStore(path).put_many({b"a": b"1"})


def test_a_lock_that_is_never_released_ends_in_a_named_error(path):
    store = SQLiteKVStore(path, timeout=0.05)
    store.put_many({b"a": b"1"})
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="end that process"):
        store.put_many({b"b": b"2"})
    assert store.get_many([b"a", b"b"]) == {b"a": b"1"}  # reading never waits
    other.execute("COMMIT")
    other.close()
    store.put_many({b"b": b"2"})
    store.close()


def test_threads_that_queue_for_a_locked_file_share_one_wait(path, monkeypatch):
    statements, connect_, together, errors = [], sqlite3.connect, threading.Barrier(8), []

    def connect(*args, **options):
        connection = connect_(*args, **options)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect)
    store = SQLiteKVStore(path, timeout=1)
    store.put_many({b"a": b"1"})
    other = connect_(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    statements.clear()

    def write():
        together.wait()
        try:
            store.put_many({b"b": b"2"})
        except StoreError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert len(errors) == 8
    assert all("end that process" in error for error in errors)
    assert statements.count("BEGIN IMMEDIATE") < 8
    store.put_many({b"b": b"2"})
    store.close()


def test_a_new_file_that_stays_locked_ends_in_a_named_error(path):
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="end that process"):
        SQLiteKVStore(path, timeout=0.05).put_many({b"b": b"2"})
    other.close()


def test_clearing_works_while_another_process_reads(path):
    store = SQLiteKVStore(path, timeout=0.05)
    store.put_many({number.to_bytes(2, "big"): bytes(1000) for number in range(100)})
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT * FROM kv").fetchone()
    store.clear()
    assert len(store) == 0
    other.close()
    store.close()


def test_the_oldest_entries_make_room_for_new_ones(path):
    store = SQLiteKVStore(path, max_bytes=1_000_000)
    for start in range(0, 5000, 50):
        store.put_many({number.to_bytes(2, "big"): bytes(1000) for number in range(start, start + 50)})
        assert store.size_in_bytes() <= 1_000_000
    kept = sorted(int.from_bytes(key, "big") for key in store.get_many([n.to_bytes(2, "big") for n in range(5000)]))
    assert kept == list(range(kept[0], 5000))
    assert len(kept) > 600
    store.close()


@pytest.mark.parametrize("room", [0, -5])
def test_room_for_nothing_is_refused(path, room):
    with pytest.raises(ConfigurationError, match="`max_bytes`"):
        SQLiteKVStore(path, max_bytes=room)


def test_an_item_larger_than_the_room_is_not_kept_and_harms_nothing(path):
    store = SQLiteKVStore(path, max_bytes=200_000)
    store.put_many({b"large": bytes(1_000_000)})
    store.put_many({b"small": b"1"})
    assert store.get_many([b"large", b"small"]) == {b"small": b"1"}
    store.close()


def test_a_vector_takes_little_more_room_than_its_bytes(path):
    store = SQLiteKVStore(path)
    entries = {number.to_bytes(24, "big"): bytes(1540) for number in range(10_000)}
    names = list(entries)
    for start in range(0, 10_000, 100):
        store.put_many({name: entries[name] for name in names[start : start + 100]})
    assert store.get_many(names) == entries
    store.close()
    assert path.stat().st_size < 1.15 * 10_000 * (1540 + 24)


def random_keys(start, stop):
    return [hashlib.blake2b(b"%d" % number, digest_size=24).digest() for number in range(start, stop)]


def test_a_batch_writes_few_pages_however_many_entries_there_are(path):
    store = SQLiteKVStore(path)
    for start in range(0, 150_000, 10_000):
        store.put_many(dict.fromkeys(random_keys(start, start + 10_000), b"x"))
    other = sqlite3.connect(path)
    other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for start in range(150_000, 150_000 + 640, 32):
        store.put_many(dict.fromkeys(random_keys(start, start + 32), bytes(1540)))
    written = path.with_name("cache.db-wal").stat().st_size
    assert written / 640 < 12_000  # with one index of all keys, it is 32,000 here and grows with the file
    other.close()
    store.close()


def test_entries_move_through_the_indexes_and_stay_known(path):
    store, keys = SQLiteKVStore(path), random_keys(0, 140_000)
    for start in range(0, 140_000, 700):
        store.put_many({key: key[:1] for key in keys[start : start + 700]})
    assert store.get_many(keys) == {key: key[:1] for key in keys}
    store.put_many(dict.fromkeys(keys[::1000], b"again"))
    store.delete_many(keys[1::1000])
    assert len(store) == 140_000 - 140
    found = store.get_many(keys)
    assert [found.get(key) for key in keys[:2000:1000] + keys[1:2000:1000]] == [b"again"] * 2 + [None] * 2
    with sqlite3.connect(path) as db:
        counts = [db.execute(f"SELECT count(*) FROM {one}").fetchone()[0] for one in ("recent", "former", "settled")]
        assert db.execute("SELECT count(*) FROM kv").fetchone()[0] == sum(counts) == len(store)
    db.close()
    assert counts[0] < 3000
    assert counts[1] < 70_000
    store.close()


def older_file(path, entries):
    """Make a file as it was before there were several indexes."""
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE kv (k BLOB PRIMARY KEY, v BLOB)")
        db.execute("PRAGMA application_id = 0x656D6264")
        db.executemany("INSERT INTO kv VALUES (?, ?)", entries.items())
    db.close()


def test_an_older_file_is_adopted_with_its_entries(path):
    entries = {key: key[:3] for key in random_keys(0, 3000)}
    older_file(path, entries)
    store = SQLiteKVStore(path)
    assert store.get_many(list(entries)) == entries
    new = dict.fromkeys(random_keys(2000, 4000), b"new")
    store.put_many(new)
    assert store.get_many(random_keys(0, 4000)) == entries | new
    assert len(store) == 4000
    store.delete_many(random_keys(0, 1500))
    store.close()
    assert len(SQLiteKVStore(path).get_many(random_keys(0, 4000))) == 2500


@pytest.mark.parametrize("older", [False, True])
def test_an_index_that_leads_to_the_row_of_another_key_is_a_miss(path, older):
    keys = random_keys(0, 100)
    if older:
        older_file(path, {key: key for key in keys})
    store = SQLiteKVStore(path)
    store.put_many({} if older else {key: key for key in keys})
    store.get_many(keys)
    with sqlite3.connect(path) as db:
        for index in ("recent", "settled"):
            db.execute(f"UPDATE {index} SET id = 101 - id")
    db.close()
    for key in keys:
        assert store.get_many([key]).get(key) is None
    assert all(key == value for key, value in store.get_many(keys).items())
    store.close()


def test_a_batch_is_one_transaction(path, monkeypatch):
    statements, connect_ = [], sqlite3.connect

    def connect(*args, **options):
        connection = connect_(*args, **options)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect)
    store = SQLiteKVStore(path)
    store.put_many({b"first": b"1"})
    statements.clear()
    store.put_many({number.to_bytes(2, "big"): b"1" for number in range(1000)})
    assert sum(one.startswith("COMMIT") for one in statements) == 1  # each waits for the disk
    store.close()
