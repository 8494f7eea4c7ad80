"""Connections to one SQLite file, each used by one caller at a time and none kept open across a fork.

No lock guards them: Ctrl-C may end any statement, and a fork copies a lock that another thread holds. Every use is in a
set while it lasts, and a thread that waits for its end polls the set.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from sqlite3 import Connection

_POLL_SECONDS = 0.001


class Connections:
    """Opens as many connections as are in use at once, and closes them with the owner, at exit and before a fork.

    SQLite keeps its view of the file's locks per process: a child that opened the file anew while it still knew its
    parent's connections would believe it held locks that it does not, and lose its own writes.
    https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_across_a_fork_
    """

    def __init__(self, open_: Callable[[], Connection], *, timeout: float) -> None:
        """Take a function that opens a connection; closing waits up to `timeout` seconds for connections in use."""
        self._open = open_
        self._timeout = timeout
        self._idle: list[Connection] = []
        self._uses: set[object] = set()
        weakref.finalize(self, _close_all, self._idle)
        _every[id(self)] = self

    @contextmanager
    def use(self) -> Iterator[Connection]:
        """Give a connection that nobody else uses; an error in the block closes it, which rolls back."""
        use, connection = object(), None
        try:
            self._begin(use)
            with suppress(IndexError):
                connection = self._idle.pop()
            if connection is None:
                connection = self._open()
            yield connection
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        else:
            if _forking:
                connection.close()
            else:
                self._idle.append(connection)
        finally:
            self._uses.discard(use)

    def close(self) -> None:
        """Wait for the present uses, and close every connection; the next use opens a new one."""
        self.wait_for_uses()
        self.close_idle()

    def wait_for_uses(self) -> None:
        """Wait until the present uses have ended, at most until the timeout; later uses do not prolong it."""
        present, deadline = self._uses.copy(), time.monotonic() + self._timeout
        while not present.isdisjoint(self._uses) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def close_idle(self) -> None:
        """Close the connections that are not in use."""
        _close_all(self._idle)

    def reset(self) -> None:
        """Forget the uses of the parent's threads, which a forked child does not have."""
        self._uses.clear()
        self.close_idle()

    def _begin(self, use: object) -> None:
        while use not in self._uses:
            if not _forking:
                self._uses.add(use)
            if _forking:  # perhaps only now: the forking thread may have seen no use
                self._uses.discard(use)
                time.sleep(_POLL_SECONDS)


_every: weakref.WeakValueDictionary[int, Connections] = weakref.WeakValueDictionary()
_forking: list[None] = []
"""One entry for each thread that forks; no use begins meanwhile."""
_waiting = threading.Lock()
"""Held by the one thread that waits before it forks: another fork may end the use that it waits for."""


def _close_all(connections: list[Connection]) -> None:
    with suppress(IndexError):  # another thread may close some of them
        while True:
            connections.pop().close()


def _all() -> list[Connections]:
    return [connections for reference in _every.valuerefs() if (connections := reference()) is not None]


def _before_fork() -> None:
    every = _all()
    try:
        with _waiting:
            for connections in every:
                connections.wait_for_uses()
    finally:  # Ctrl-C: Python prints the error of a hook, and forks all the same
        for connections in every:
            connections.close_idle()


def _in_child() -> None:
    _forking.clear()
    if _waiting.locked():
        _waiting.release()
    for connections in _all():
        connections.reset()


if hasattr(os, "register_at_fork"):
    # The hook registered last runs first. Ctrl-C cannot keep a list's own methods from running, as it can a function.
    os.register_at_fork(before=_before_fork, after_in_parent=_forking.pop, after_in_child=_in_child)
    os.register_at_fork(before=partial(_forking.append, None))
