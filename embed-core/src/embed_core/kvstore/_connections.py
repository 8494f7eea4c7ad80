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
        self.reset()
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
        try:
            self.pause()
        finally:
            self.resume()

    def pause(self) -> None:
        """Close every connection, and lend none until `resume`; where Ctrl-C ends the waiting, too."""
        self._turn.acquire()
        self._pauses += 1
        try:
            self._turn.wait_for(lambda: not self._lent, self._patience)
        finally:
            _close_all(self._idle)

    def resume(self) -> None:
        """Lend again."""
        self._pauses -= 1
        self._turn.notify_all()
        self._turn.release()

    def reset(self) -> None:
        """Forget who has borrowed and who waits: in a forked child none of them is there."""
        self._turn = threading.Condition(threading.Lock())
        self._lent = self._pauses = 0
        _close_all(self._idle)


_every: weakref.WeakSet[Connections] = weakref.WeakSet()
_forking = threading.Lock()
_paused: dict[int, list[Connections]] = {}
"""What a thread that is forking has paused, by the thread's identifier."""


def _close_all(connections: list[Connection]) -> None:
    while connections:
        connections.pop().close()


def _before_fork() -> None:
    _forking.acquire()
    paused = _paused[threading.get_ident()] = []
    interrupt: BaseException | None = None
    for connections in list(_every):
        try:
            connections.pause()
        except BaseException as error:  # Ctrl-C: Python prints what a hook raises, and forks all the same
            interrupt = error
        paused.append(connections)
    if interrupt is not None:
        raise interrupt


def _after_fork() -> None:
    paused = _paused.pop(threading.get_ident(), None)
    if paused is None:  # Ctrl-C, while it waited for another thread that was forking
        return
    for connections in paused:
        connections.resume()
    _forking.release()


def _in_child() -> None:
    _paused.clear()
    for connections in _every:
        connections.reset()
    if _forking.locked():
        _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
