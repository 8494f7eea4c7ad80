from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import weakref
from concurrent.futures import CancelledError

import pytest
from embeddings_huggingface._weights import Encoder, Weights, shared
from embeddings_huggingface._worker import Worker


def test_jobs_run_one_after_the_other_in_one_thread() -> None:
    worker, ran = Worker(), []

    def job(number: int) -> int:
        ran.append((number, threading.get_ident()))
        return number * 2

    futures = [worker.submit(lambda number=number: job(number)) for number in range(50)]
    assert [future.result() for future in futures] == [number * 2 for number in range(50)]
    assert [number for number, _ in ran] == list(range(50))
    assert len({thread for _, thread in ran}) == 1


def test_what_a_job_raises_reaches_the_caller_and_the_next_job_runs() -> None:
    worker = Worker()

    def fails() -> None:
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        worker.submit(fails).result()
    assert worker.submit(lambda: 1).result() == 1


def test_a_job_that_has_not_begun_can_be_cancelled() -> None:
    worker, gate, ran = Worker(), threading.Event(), []
    first = worker.submit(gate.wait)
    second = worker.submit(lambda: ran.append(2))
    assert second.cancel()
    gate.set()
    assert first.result()
    assert worker.submit(lambda: 3).result() == 3
    assert ran == []
    with pytest.raises(CancelledError):
        second.result()


def test_an_idle_worker_keeps_nothing_alive_and_its_thread_ends_with_it() -> None:
    class Heavy:
        pass

    heavy, worker = Heavy(), Worker()
    kept = weakref.ref(heavy)
    thread = worker.submit(lambda heavy=heavy: (heavy, threading.current_thread())).result()[1]
    del heavy
    worker.submit(lambda: None).result()
    gc.collect()
    assert kept() is None
    del worker
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


def test_weights_are_loaded_by_the_first_job_and_again_after_a_failure() -> None:
    loads = []

    def load() -> Encoder:
        loads.append(threading.get_ident())
        if len(loads) == 1:
            raise OSError("no disk")
        return Encoder()

    weights = Weights(load)
    assert loads == []
    with pytest.raises(OSError, match="no disk"):
        weights.run(lambda encoder: encoder)
    assert weights.run(lambda encoder: encoder) is weights.run(lambda encoder: encoder)
    assert len(loads) == 2


def test_equal_configurations_share_weights_until_nobody_holds_them() -> None:
    first = shared("key", never)
    assert shared("key", never) is first
    assert shared("other", never) is not first
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_gets_a_thread_of_its_own() -> None:
    script = """
        import os, sys
        from embeddings_huggingface._worker import Worker
        worker = Worker()
        worker.submit(lambda: None).result()
        child = os.fork()
        if not child:
            os._exit(worker.submit(lambda: 42).result(timeout=60))
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert run(script).returncode == 42


def test_the_process_ends_when_the_running_job_does_and_drops_the_others() -> None:
    script = """
        import atexit, threading
        from embeddings_huggingface._worker import Worker
        worker, begun, ending = Worker(), threading.Event(), threading.Event()
        atexit.register(ending.set)
        def running():
            begun.set()
            ending.wait()
            print("finished", flush=True)
        worker.submit(running)
        worker.submit(lambda: print("not wanted", flush=True))
        begun.wait()
    """
    done = run(script)
    assert done.returncode == 0
    assert done.stdout == "finished\n"
    assert done.stderr == ""


def test_stopping_never_waits_for_a_job_that_the_thread_took_first() -> None:
    script = """
        import sys, threading
        from embeddings_huggingface._worker import Worker
        sys.setswitchinterval(1e-6)
        for _ in range(100):
            worker = Worker()
            for _ in range(200):
                worker.submit(lambda: None)
            stopping = threading.Thread(target=worker.stop, daemon=True)
            stopping.start()
            stopping.join(60)
            if stopping.is_alive():
                sys.exit(1)
    """
    assert run(script).returncode == 0


def test_nothing_can_be_embedded_while_the_process_ends() -> None:
    script = """
        import atexit
        def late():
            try:
                worker.submit(lambda: None)
            except RuntimeError as error:
                print(error)
        atexit.register(late)
        from embeddings_huggingface._worker import Worker
        worker = Worker()
        worker.submit(lambda: None).result()
    """
    assert "shutting down" in run(script).stdout


def never() -> Encoder:
    raise AssertionError


def run(script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
