"""The content of an index: its numbers, and its files and sources of records by name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from embed_core.errors import InvalidInputError
from embed_core.index._item import Item
from embed_core.index._results import Source, Stats
from embed_core.index._store import Store
from embed_core.index._walk import canonical, is_gone, is_under


def sources(store: Store) -> list[Source]:
    """Return the files and sources of records in an index, by name."""
    return [
        Source(name, records, chunks, gone=Path(name).is_absolute() and is_gone(name))
        for name, records, chunks in store.sources()
    ]


def stats(store: Store, folder: Path) -> Stats:
    """Return the content of the index in a folder, in numbers."""
    header = store.header
    return Stats(
        folder=str(folder),
        model=header.model_label,
        fingerprint=header.fingerprint,
        dimension=header.dimension,
        bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        created=header.created,
        **store.counts(),
    )


def remove(store: Store, names: Iterable[str | os.PathLike[str]], source: str | None) -> int:
    """Remove what some names stand for, and return how many files and records that was; see `Index.remove`.

    Raises:
        InvalidInputError: the index holds nothing of a name; nothing is removed.
    """
    found = list(_named(store, names, source))
    for items in found:
        store.remove(items)
    store.tidy()
    return len({(item.source, item.id) for items in found for item in items})


def _named(store: Store, names: Iterable[str | os.PathLike[str]], source: str | None) -> Iterator[list[Item]]:
    """Yield the files, and the records of each source, that some names stand for."""
    files = store.files()
    records = {} if source is None else {item.id: item for item in store.records(source)}
    rows = [name for name, count, _ in store.sources() if count]
    for name in names:
        if source is not None:
            found = [[records[str(name)]]] if str(name) in records else []
        else:
            path = canonical(name)
            found = [[item for item in files.values() if is_under(item.source, path)]]
            found += [list(store.records(one)) for one in rows if one == str(name) or is_under(one, path)]
        if not any(found):
            where = "" if source is None else f" of `{source}`"
            raise InvalidInputError(f"the index holds nothing{where} named `{name}`; `embed sources` lists its content")
        yield from filter(None, found)
