"""Long streams taken in parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

from embed_core.index._item import Entry, Item

T = TypeVar("T")

_ITEMS = 10_000  # that are only noted: each commit looks through the whole table


def windows(found: Iterable[Entry | Item], chunks: int) -> Iterator[tuple[list[Entry], list[Item]]]:
    """Yield what was found in lists of some thousand chunks: what to embed, and what only to note."""
    entries: list[Entry] = []
    items: list[Item] = []
    room = chunks
    for one in found:
        if isinstance(one, Entry):
            entries.append(one)
            room -= max(1, len(one.pieces))
        else:
            items.append(one)
        if room <= 0 or len(items) == _ITEMS:
            yield entries, items
            entries, items, room = [], [], chunks
    if entries or items:
        yield entries, items


def portions(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items, the last one shorter."""
    rest = iter(items)
    return iter(lambda: list(islice(rest, size)), [])
