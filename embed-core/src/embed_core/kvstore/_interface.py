"""What every key-value store can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence


class KVStore(ABC):
    """Maps byte strings to byte strings; safe to use from several threads at once."""

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
