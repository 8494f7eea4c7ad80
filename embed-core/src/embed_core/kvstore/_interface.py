"""The interface of a key-value store."""

from __future__ import annotations

import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from embed_core._io import IO

T = TypeVar("T")

_log = logging.getLogger("embed_core.cache")


class KVStore(ABC):
    """Maps byte strings to byte strings; safe to use from several threads at once."""

    waits: ClassVar[bool] = True
    """Whether a call may wait for a disk or a network; async callers then make it in a thread."""

    rest_seconds: float = 60.0
    """How long embedding continues without the store after it has failed, so that a lock costs one wait in all."""

    @abstractmethod
    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the values of the keys that are in the store."""

    @abstractmethod
    def put_many(self, items: Mapping[bytes, bytes]) -> None:
        """Store all items; none of them where the process dies meanwhile."""

    def keep_many(self, items: Mapping[bytes, bytes]) -> None:
        """Store items that are never dropped to make room; a store with a limit writes its own."""
        self.put_many(items)

    @abstractmethod
    def delete_many(self, keys: Sequence[bytes]) -> None:
        """Remove the keys that are in the store."""

    @abstractmethod
    def clear(self) -> None:
        """Remove all entries."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of entries."""

    @abstractmethod
    def size_in_bytes(self) -> int:
        """Return the size of the entries."""

    def close(self) -> None:  # noqa: B027  # a store in memory has no files
        """Close files and connections; the next use opens them again."""


_resting: dict[int, tuple[Any, float]] = {}
"""Stores that failed, and until when they rest, by id; holding a store keeps its id from another.

It is not kept in the store, because a user's own may be frozen, without a hash, or no subclass of `KVStore`.
"""


def attempt(store: KVStore, action: Callable[[], T], otherwise: T) -> T:
    """Return the result of `action`, which uses the store; where the store fails, or failed lately, `otherwise`."""
    if time.monotonic() < _end_of_rest(store):
        return otherwise
    try:
        return action()
    except Exception as error:  # a cache never loses or blocks an embedding
        now = time.monotonic()
        if now >= _end_of_rest(store):  # else another thread has told it meanwhile
            for key, (_, end) in list(_resting.items()):
                if end <= now:
                    _resting.pop(key, None)
            seconds = getattr(store, "rest_seconds", KVStore.rest_seconds)
            _resting[id(store)] = (store, now + seconds)
            message = "the embeddings cache failed and is bypassed for %g seconds: %s"
            _log.warning(message, seconds, error, exc_info=_log.isEnabledFor(logging.DEBUG))
        return otherwise


def _end_of_rest(store: KVStore) -> float:
    return _resting.get(id(store), (store, -math.inf))[1]


async def visit(store: KVStore, io: IO, fn: Callable[[], T]) -> T:
    """Run `fn`, which uses the store: directly where the store is in memory, else as `io` runs calls that may wait."""
    return await io.call(fn) if getattr(store, "waits", KVStore.waits) else fn()
