"""One run that brings an index up to date with the files on the disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from embed_core._splitting import TextSplitter
from embed_core.errors import InvalidInputError
from embed_core.index._embedding import Advance
from embed_core.index._entry import entry, looks_like
from embed_core.index._item import Entry, Item
from embed_core.index._portions import windows
from embed_core.index._walk import Found, Skipped, is_gone, is_under, walk
from embed_core.index._writer import Writer


class Sync:
    """A run; everything that it has embedded is stored, or in the model's cache, when it is stopped on the way."""

    def __init__(self, folder: Path, writer: Writer, splitter: TextSplitter) -> None:
        self._folder, self._writer, self._splitter = folder, writer, splitter
        self._known: Mapping[str, Item] = writer.store.files() if writer.store is not None else {}

    def run(self, roots: Sequence[str], *, show_progress: bool) -> None:
        """Index what is new or changed under some canonical paths, and forget what is gone there.

        Raises:
            InvalidInputError: a path does not exist, and the index holds nothing of it either.
        """
        self._check(roots)
        stale = self._look(roots)
        with bar("B", sum(found.size for found in stale), show=show_progress) as advance:
            for entries, same in windows(self._read(stale, advance), self._writer.chunks_at_once):
                self._write(entries, same, advance)
        self._writer.finish()

    def _check(self, roots: Sequence[str]) -> None:
        for root in roots:
            if is_under(root, str(self._folder)):
                msg = f"`{root}` is the folder of the index; name what is to be indexed"
                raise InvalidInputError(msg)
            if not Path(root).exists() and not any(is_under(source, root) for source in self._known):
                msg = f"there is no file or folder `{root}`"
                raise InvalidInputError(msg)

    def _look(self, roots: Sequence[str]) -> list[Found]:
        """Return the files that may have changed; forget those that are gone."""
        stale, seen = [], set()
        for one in walk((root for root in roots if Path(root).exists()), leave_out=str(self._folder)):
            seen.add(one.source)
            if isinstance(one, Skipped):
                self._writer.changes.skipped.append(one)
            elif (known := self._known.get(one.source)) is None or not looks_like(known, one):
                stale.append(one)
            else:
                self._writer.keep(known)
        under = (source for source in self._known.keys() - seen if any(is_under(source, root) for root in roots))
        self._writer.remove([self._known[source] for source in under if is_gone(source)])
        return stale

    def _read(self, stale: Iterable[Found], advance: Advance) -> Iterator[Entry | Item]:
        for found in stale:
            one = entry(found, self._known.get(found.source), self._splitter)
            if isinstance(one, Skipped):
                self._writer.changes.skipped.append(one)
                advance(found.size)
            else:
                yield one

    def _write(self, entries: Sequence[Entry], same: Sequence[Item], advance: Advance) -> None:
        for item in same:
            self._writer.keep(item)
            advance(item.size)
        if entries:
            advance(sum(one.item.size - one.share * len(one.pieces) for one in entries))
            self._writer.put(entries, advance)
        self._writer.refresh(same)


@contextmanager
def bar(unit: str, total: int | None = None, *, show: bool) -> Iterator[Advance]:
    """Show a bar that counts what is done, the bytes of files or records, or nothing."""
    if not show:
        yield lambda _: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc="Indexing", unit=unit, unit_scale=True) as shown:
        yield shown.update
