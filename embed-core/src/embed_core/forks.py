"""What a forked child finds of its parent's threads: nothing that is locked or under way, for they are not there."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Resettable(Protocol):
    """What can begin anew."""

    def reset(self) -> None:
        """Forget what belonged to the threads of the parent; called when the child has no other thread yet."""
        ...


_every: weakref.WeakSet[Resettable] = weakref.WeakSet()


def reset_in_children(one: Resettable) -> None:
    """Have `one.reset()` called in every child that is forked while `one` is alive."""
    _every.add(one)


class Lock:
    """A lock that is open in a forked child: the thread that held it is not there to open it.

    So what it guards must make sense after each single step, as Python's own dictionaries and queues do. The thread
    that holds it may take it again.
    """

    def __init__(self) -> None:
        self.reset()
        reset_in_children(self)

    def reset(self) -> None:
        """Be open."""
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
