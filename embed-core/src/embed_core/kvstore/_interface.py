"""The interface of a key-value store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, TypeVar

from embed_core._io import IO

T = TypeVar("T")


class KVStore(ABC):
    """Maps byte strings to byte strings; safe to use from several threads at once."""

    waits: ClassVar[bool] = True
    """Whether a call may wait for a disk or a network; async callers then make it in a thread."""

    @abstractmethod
    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the values of the keys that are in the store."""

    @abstractmethod
    def put_many(self, items: Mapping[bytes, bytes]) -> None:
        """Store all items; none of them where the process dies meanwhile."""

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


async def visit(store: KVStore, io: IO, fn: Callable[[], T]) -> T:
    """Run `fn`, which uses the store: directly where the store is in memory, else as `io` runs calls that may wait."""
    return await io.call(fn) if store.waits else fn()
