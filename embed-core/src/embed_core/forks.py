"""State after a fork: the parent's other threads do not exist in the child, so their locks and work are reset."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Resettable(Protocol):
    """An object with state that belongs to threads."""

    def reset(self) -> None:
        """Forget the state of the parent's threads; called before the child starts a second thread."""
        ...


_every: weakref.WeakSet[Resettable] = weakref.WeakSet()


def reset_in_children(one: Resettable) -> None:
    """Call `one.reset()` in every child that is forked during the lifetime of `one`."""
    _every.add(one)


class Lock:
    """A reentrant lock that is open in a forked child, where its holder does not exist.

    A fork may happen between any two steps of the holder. So the guarded state must be valid after every step, as
    Python's own dictionaries and queues are.
    """

    def __init__(self) -> None:
        self.reset()
        reset_in_children(self)

    def reset(self) -> None:
        """Open the lock."""
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[Lock], tuple[()]]:
        return type(self), ()


def _in_child() -> None:
    for one in list(_every):
        one.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
