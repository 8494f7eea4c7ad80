"""Connections to one SQLite file, each lent to one user at a time and none carried across a fork.

No lock guards them: Ctrl-C may end any statement, and a fork copies a lock that another thread holds. Whoever uses or
closes connections is in a set as long as that lasts, and whoever waits looks again and again whether a set is empty.
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

_MOMENT = 0.001  # seconds between two looks


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
        self._users: set[object] = set()
        self._closers: set[object] = set()
        weakref.finalize(self, _close_all, self._idle)
        _every[id(self)] = self

    @contextmanager
    def lend(self) -> Iterator[Connection]:
        """Give a connection that nobody else uses; one whose user fails is closed, which rolls back."""
        user, connection = object(), None
        try:
            self._wait_for_turn(user)
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
            if self._is_paused():
                connection.close()
            else:
                self._idle.append(connection)
        finally:
            self._users.discard(user)

    def close(self) -> None:
        """Close every connection; the next user opens new ones."""
        closer = object()
        try:
            self._closers.add(closer)  # where many threads take turns, some would always be lent
            self.wait_for_users()
        finally:
            self.close_idle()
            self._closers.discard(closer)

    def wait_for_users(self) -> None:
        """Wait for what is lent, as long as the patience lasts."""
        deadline = time.monotonic() + self._patience
        while self._users and time.monotonic() < deadline:
            time.sleep(_MOMENT)

    def close_idle(self) -> None:
        """Close what is not lent."""
        _close_all(self._idle)

    def reset(self) -> None:
        """Forget who uses and who closes: in a forked child none of them is there."""
        self._users.clear()
        self._closers.clear()
        self.close_idle()

    def _wait_for_turn(self, user: object) -> None:
        while user not in self._users:
            if not self._is_paused():
                self._users.add(user)
            if self._is_paused():  # perhaps only now: who pauses may have seen no user
                self._users.discard(user)
                time.sleep(_MOMENT)

    def _is_paused(self) -> bool:
        return bool(self._closers or _forking)


_every: weakref.WeakValueDictionary[int, Connections] = weakref.WeakValueDictionary()
_forking: list[None] = []
"""One for each thread that forks; nothing is lent meanwhile."""
_waiting = threading.Lock()
"""Held by the one thread that waits before it forks: what another's fork ends may be what it waits for."""


def _close_all(connections: list[Connection]) -> None:
    with suppress(IndexError):  # another thread may close some of them
        while True:
            connections.pop().close()


def _all() -> list[Connections]:
    return [one for reference in _every.valuerefs() if (one := reference()) is not None]


def _before_fork() -> None:
    every = _all()
    try:
        with _waiting:
            for connections in every:
                connections.wait_for_users()
    finally:  # Ctrl-C: Python prints what a hook raises, and forks all the same
        for connections in every:
            connections.close_idle()


def _in_child() -> None:
    _forking.clear()
    if _waiting.locked():
        _waiting.release()
    for connections in _all():
        connections.reset()


if hasattr(os, "register_at_fork"):
    # What is registered last runs first. Ctrl-C cannot keep a list's own methods from running, as it can a function.
    os.register_at_fork(before=_before_fork, after_in_parent=_forking.pop, after_in_child=_in_child)
    os.register_at_fork(before=partial(_forking.append, None))
