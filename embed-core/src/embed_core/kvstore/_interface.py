"""What every key-value store can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, TypeVar

from embed_core._io import IO

T = TypeVar("T")


class KVStore(ABC):
    """Maps byte strings to byte strings; safe to use from several threads at once."""

    waits: ClassVar[bool] = True
    """Whether a call may wait for a disk or a network, so that async callers make it in a thread."""

    @abstractmethod
    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the values that are there; a key without one is left out."""

    @abstractmethod
    def put_many(self, items: Mapping[bytes, bytes]) -> None:
        """Store all items, or none where the process dies on the way."""

    @abstractmethod
    def delete_many(self, keys: Sequence[bytes]) -> None:
        """Remove what is there of these keys."""

    @abstractmethod
    def clear(self) -> None:
        """Remove everything."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of entries."""

    @abstractmethod
    def size_in_bytes(self) -> int:
        """Return the room that the entries take."""

    def close(self) -> None:  # noqa: B027  # a store in memory has nothing to let go of
        """Let go of files and connections; the store opens them again when it is used again."""


async def visit(store: KVStore, io: IO, fn: Callable[[], T]) -> T:
    """Run `fn`, which uses the store: at once where the store is in memory, else as `io` makes calls that may wait."""
    return await io.call(fn) if store.waits else fn()
