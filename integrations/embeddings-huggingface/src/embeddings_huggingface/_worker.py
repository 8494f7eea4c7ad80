"""The threads of a loaded model."""

from __future__ import annotations

import atexit
import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

from embed_core.forks import reset_in_children

T = TypeVar("T")

_Jobs: TypeAlias = "queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]"

_PATIENCE_SECONDS = 10.0


class Worker:
    """Runs jobs in daemon threads of its own, in the order in which they came.

    Every thread that runs a model gets a memory arena of its own, and with torch most often an OpenMP pool too: 16
    threads on MiniLM peak at four times the memory of one. A forked child starts fresh threads, so it does not inherit
    a pool whose threads are gone.
    """

    def __init__(self, threads: int = 1) -> None:
        self._most = threads
        self.reset()
        reset_in_children(self)
        _ALL.add(self)

    def reset(self) -> None:
        """Forget the threads; a forked child has none."""
        self._lock = threading.Lock()
        self._jobs: _Jobs | None = None
        self._threads: list[threading.Thread] = []

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Begin `job` after those before it; the future can be cancelled until it starts.

        Raises:
            RuntimeError: the interpreter is shutting down.
        """
        future: Future[T] = Future()
        with self._lock:
            if _ENDING.is_set():
                raise RuntimeError("a model cannot embed any more: the interpreter is shutting down")
            if self._jobs is None:
                self._jobs = queue.SimpleQueue()
                weakref.finalize(self, _end, self._jobs, self._most).atexit = False
            self._jobs.put((future, job))
            if len(self._threads) < self._most:
                name = "embeddings-huggingface"
                self._threads.append(threading.Thread(target=_serve, args=(self._jobs,), name=name, daemon=True))
                self._threads[-1].start()
        return future

    def stop(self) -> None:
        """Drop the jobs that have not begun, and let those that run finish.

        For the end of the process: an interpreter that goes down while a daemon thread is inside torch aborts instead
        of exiting, and only other daemon threads can still wait for a job by then.
        """
        with self._lock:
            jobs, threads = self._jobs, self._threads
            self._jobs, self._threads = None, []
        if jobs is None:
            return
        with suppress(queue.Empty):  # the thread takes jobs too, so none may be left where one was seen
            while True:
                jobs.get_nowait()
        _end(jobs, len(threads))
        for thread in threads:
            thread.join(_PATIENCE_SECONDS)


def _end(jobs: _Jobs, threads: int) -> None:
    for _ in range(threads):
        jobs.put(None)


def _serve(jobs: _Jobs) -> None:
    while (entry := jobs.get()) is not None:
        future, job = entry
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(job())
            except BaseException as error:  # raised again where the future is awaited
                future.set_exception(error)
        del entry, future, job  # an idle thread keeps no model alive


_ALL: weakref.WeakSet[Worker] = weakref.WeakSet()
_ENDING = threading.Event()


def _stop_all() -> None:
    _ENDING.set()
    for worker in list(_ALL):
        worker.stop()


atexit.register(_stop_all)
