"""A store in memory with a bounded number of entries."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import ClassVar

from embed_core.errors import ConfigurationError
from embed_core.forks import Lock
from embed_core.kvstore._interface import KVStore


class MemoryKVStore(KVStore):
    """Drops the least recently used entry where the store is full, none that is kept. A pickle of it is empty."""

    waits: ClassVar[bool] = False

    def __init__(self, max_entries: int = 100_000) -> None:
        """Make an empty store.

        Raises:
            ConfigurationError: `max_entries` is not positive.
        """
        if max_entries < 1:
            msg = f"`max_entries` is {max_entries}; it must be at least 1"
            raise ConfigurationError(msg)
        self.max_entries = max_entries
        self._entries: OrderedDict[bytes, bytes] = OrderedDict()
        self._kept: dict[bytes, bytes] = {}
        self._lock = Lock()

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        entries, kept, found = self._entries, self._kept, {}
        with self._lock:
            for key in keys:
                if key in entries:
                    entries.move_to_end(key)
                    found[key] = entries[key]
                elif key in kept:
                    found[key] = kept[key]
        return found

    def put_many(self, items: Mapping[bytes, bytes]) -> None:
        entries = self._entries
        with self._lock:
            for key, value in items.items():
                entries[key] = value
                entries.move_to_end(key)
                self._kept.pop(key, None)
            while len(entries) > self.max_entries:
                entries.popitem(last=False)

    def keep_many(self, items: Mapping[bytes, bytes]) -> None:
        with self._lock:
            for key, value in items.items():
                self._kept[key] = value
                self._entries.pop(key, None)

    def delete_many(self, keys: Sequence[bytes]) -> None:
        with self._lock:
            for key in keys:
                self._entries.pop(key, None)
                self._kept.pop(key, None)

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._kept.clear()

    def __len__(self) -> int:
        return len(self._entries) + len(self._kept)

    def size_in_bytes(self) -> int:
        with self._lock:
            entries = [*self._entries.items(), *self._kept.items()]
            return sum(len(key) + len(value) for key, value in entries)

    def __reduce__(self) -> tuple[type[MemoryKVStore], tuple[int]]:
        return type(self), (self.max_entries,)
