"""Connections to one SQLite file, each lent to one user at a time and none carried across a fork."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from sqlite3 import Connection


class Connections:
    """Opens as many connections as are in use at once, and closes them with the owner, at exit and before a fork.

    SQLite keeps its view of the file's locks per process: a child that opened the file anew while it still knew its
    parent's connections would believe it held locks that it does not, and lose what it writes.
    https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_across_a_fork_
    """

    def __init__(self, open_: Callable[[], Connection], *, patience: float) -> None:
        """Lend what `open_` makes; closing waits up to `patience` seconds for what is lent."""
        self._open = open_
        self._patience = patience
        self._idle: list[Connection] = []
        self._lent = 0
        self._pauses = 0
        self._turn = threading.Condition(threading.Lock())
        weakref.finalize(self, _close_all, self._idle)
        with _forking:
            _every.add(self)

    @contextmanager
    def lend(self) -> Iterator[Connection]:
        """Give a connection that nobody else uses; one whose user fails is closed, which rolls back."""
        with self._turn:
            self._turn.wait_for(lambda: not self._pauses)  # where many threads take turns, some would always be lent
            self._lent += 1
            connection = self._idle.pop() if self._idle else None
        try:
            if connection is None:
                connection = self._open()
            yield connection
        except BaseException:
            if connection is not None:
                connection.close()
                connection = None
            raise
        finally:
            with self._turn:
                self._lent -= 1
                if connection is not None:
                    self._idle.append(connection)
                self._turn.notify_all()

    def close(self) -> None:
        """Close every connection; the next user opens new ones."""
        self.pause()
        self.resume()

    def pause(self) -> None:
        """Close every connection, and lend none until `resume`."""
        self._turn.acquire()
        self._pauses += 1
        try:
            self._turn.wait_for(lambda: not self._lent, self._patience)
            _close_all(self._idle)
        except BaseException:  # Ctrl-C
            self.resume()
            raise

    def resume(self) -> None:
        """Lend again."""
        self._pauses -= 1
        self._turn.notify_all()
        self._turn.release()


_every: weakref.WeakSet[Connections] = weakref.WeakSet()
_forking = threading.Lock()
_paused: list[Connections] = []


def _close_all(connections: list[Connection]) -> None:
    while connections:
        connections.pop().close()


def _before_fork() -> None:
    _forking.acquire()
    _paused.extend(_every)
    for connections in _paused:
        connections.pause()


def _after_fork() -> None:
    while _paused:
        _paused.pop().resume()
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
