"""A run that brings an index up to date with files."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from embed_core import TextSplitter
from embed_core.errors import EmbedError, InvalidInputError
from embed_core.index._extra import is_crash
from embed_core.index._item import ChunkedItem, Item, digest
from embed_core.index._parsed import UnreadableError
from embed_core.index._readers import most_bytes, read
from embed_core.index._results import Skipped
from embed_core.index._walk import is_gone, is_under, walk
from embed_core.index._writer import Advance, Writer, bar

_SHOWN = 200  # characters of an error
_SETTLED_NS = 2_000_000_000  # the coarsest clock of a file system in use (FAT) ticks every two seconds


class FileRun:
    """A run over files and folders; all that it has embedded is in the table or the cache when it is stopped."""

    def __init__(self, folder: Path, splitter: TextSplitter, known: Mapping[str, Item], writer: Writer) -> None:
        """Begin a run into an index in `folder`, which holds the files `known`."""
        self._folder, self._splitter, self._known, self._writer = folder, splitter, known, writer

    def run(self, roots: Sequence[str], *, prune: bool, show_progress: bool) -> None:
        """Index files under some canonical paths that are new or changed, and remove those that are gone.

        A folder that is not there, or holds no file, may be a disk that is not mounted: its files stay unless `prune`.

        Raises:
            InvalidInputError: a path does not exist, and the index holds nothing of it either.
        """
        self._check(roots)
        stale, seen = self._found(roots)
        unseen = [item for source, item in self._known.items() if source not in seen]
        self._remove_gone(unseen, roots, None if prune else [source for source in seen if seen[source]])
        with bar("B", sum(found.size for found in stale), show=show_progress) as advance:
            self._writer.write(self._read(stale, advance), advance)

    def _check(self, roots: Sequence[str]) -> None:
        for root in roots:
            if is_under(root, str(self._folder)):
                msg = f"`{root}` is the folder of the index; name the files and folders to index"
                raise InvalidInputError(msg)
            if not Path(root).exists() and not any(is_under(source, root) for source in self._known):
                msg = f"there is no file or folder `{root}`"
                raise InvalidInputError(msg)

    def _found(self, roots: Sequence[str]) -> tuple[list[Item], dict[str, bool]]:
        """Return the files that may have changed, and the names of all that is there, with whether it is a file."""
        stale, seen = [], {}
        for one in walk((root for root in roots if Path(root).exists()), leave_out=str(self._folder)):
            seen[one.source] = isinstance(one, Item)
            if isinstance(one, Skipped):
                self._writer.changes.skipped.append(one)
            elif (known := self._known.get(one.source)) is None or not looks_like(known, one):
                stale.append(one)
            else:
                self._writer.count(known, "unchanged")
        return stale, seen

    def _remove_gone(self, unseen: Iterable[Item], roots: Sequence[str], files: Sequence[str] | None) -> None:
        """Remove files that are gone; unless `files` is None, only below folders that hold one of these."""
        gone: dict[str, list[Item]] = {}
        for item in unseen:
            root = next((root for root in roots if is_under(item.source, root)), None)
            if root is not None and is_gone(item.source):
                gone.setdefault(_folder_of(item.source, root), []).append(item)
        for folder, items in gone.items():
            if files is None or any(is_under(source, folder) for source in files):
                self._writer.remove(items)
                continue
            state = "holds no file" if Path(folder).is_dir() else "is not there"
            count = "1 file of it stays" if len(items) == 1 else f"{len(items)} files of it stay"
            stay = "it stays" if folder == items[0].source else count
            remedy = "`--prune` (`prune=True`) removes what is gone"
            self._writer.changes.skipped.append(Skipped(folder, f"{state}, so {stay} in the index; {remedy}"))

    def _read(self, stale: Iterable[Item], advance: Advance) -> Iterator[ChunkedItem]:
        for found in stale:
            one = read_item(found, self._known.get(found.source), self._splitter)
            if isinstance(one, ChunkedItem):
                advance(found.size - one.share * len(one.pieces))
                yield one
                continue
            advance(found.size)
            if isinstance(one, Skipped):
                self._writer.changes.skipped.append(one)
            else:
                self._writer.refresh(one)


def _folder_of(source: str, root: str) -> str:
    """Return the innermost folder of a file that is still there, or `root` where that is not."""
    folders = [str(folder) for folder in Path(source).parents if folder.is_dir() and is_under(str(folder), root)]
    return folders[0] if folders else root


def looks_like(item: Item, found: Item) -> bool:
    """Tell whether a file seems to be unchanged."""
    return (item.size, item.mtime_ns) == (found.size, found.mtime_ns)


def read_item(found: Item, known: Item | None, splitter: TextSplitter) -> ChunkedItem | Item | Skipped:
    """Read and cut a file; where the content is that of the known item, return that with its new time."""
    try:
        with Path(found.source).open("rb") as stream:
            data = stream.read(most_bytes(found.source) + 1)
    except OSError as error:
        return Skipped(found.source, f"cannot be read ({error.strerror})")
    settled = found.mtime_ns < time.time_ns() - _SETTLED_NS
    item = Item(found.source, digest(data), size=found.size, mtime_ns=found.mtime_ns if settled else 0)
    if known is not None and known.digest == item.digest:
        return replace(item, note=known.note)
    try:
        return ChunkedItem.cut(item, read(found.source, data), splitter, held=known is not None)
    except UnreadableError as reason:
        return ChunkedItem(replace(item, note=str(reason)), "line", (), held=known is not None)
    except EmbedError:
        raise
    except BaseException as error:  # a parser may fail on this file in any way, and the other files are whole
        if not is_crash(error):
            raise
        return Skipped(found.source, f"cannot be read ({type(error).__name__}: {str(error)[:_SHOWN]})")
