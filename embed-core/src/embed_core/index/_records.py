"""A run that brings an index up to date with the records of a source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Final

from embed_core import TextSplitter
from embed_core.errors import InvalidInputError
from embed_core.index._item import ChunkedItem, Item
from embed_core.index._parsed import EmptySourceError, UnreadableError
from embed_core.index._readers import plain
from embed_core.index._record import STDIN, Record, item_of, same_text, state
from embed_core.index._results import Skipped
from embed_core.index._store import portions
from embed_core.index._writer import Advance, Writer, bar

_HOPELESS = 1000  # rows of which none can be read
_MOST_LISTED = 10_000
_ID_DIGITS = 16
_AT_ONCE = 10_000
_SEEN: Final = None
_UNKNOWN: Final = b""  # not in the index, or there under another prefix


class RecordRun:
    """A run over the records of one source; of each it holds the id and a short hash in memory.

    Records that an earlier run found under the same prefix, and this one does not, are removed, unless the source
    could be read only in part. Standard input, and a source without rows, remove nothing unless `prune`.
    """

    def __init__(self, source: str, prefix: str, splitter: TextSplitter, known: Iterable[Item], writer: Writer) -> None:
        """Begin a run into an index that holds the records `known` of the source."""
        self._source, self._prefix, self._splitter, self._writer = source, prefix, splitter, writer
        self._known: dict[str, bytes | None] = {}
        self._notes: dict[str, str] = {}
        for one in known:
            ours = one.prefix == prefix
            self._known[one.id] = state(one) if ours else _UNKNOWN
            if ours and one.note is not None:
                self._notes[one.id] = one.note
        self._made: Counter[str] = Counter()
        self._good = self._bad = 0
        self._is_damaged = False

    def run(self, records: Iterable[Record | Skipped], *, prune: bool, show_progress: bool) -> None:
        """Index records that are new or changed, and remove those that are gone.

        Raises:
            InvalidInputError: there are rows, and none of them can be read; or the source is empty, unless `prune`.
        """
        with bar(" records", show=show_progress) as advance, suppress(*[EmptySourceError] if prune else []):
            self._writer.write(self._read(records, advance), lambda _: None)
        if self._bad and not self._good:
            self._give_up()
        self._remove_gone(prune=prune)

    def _read(self, records: Iterable[Record | Skipped], advance: Advance) -> Iterator[ChunkedItem]:
        for number, record in enumerate(records, 1):
            if isinstance(record, Skipped):
                self._is_damaged = True
                self._list(record.reason)
                continue
            try:
                one = self._look(record)
            except UnreadableError as reason:
                self._list(f"{record.place or f'record {number}'} {reason}")
                continue
            self._good += 1
            advance(1)
            if one is not None:
                yield one

    def _look(self, record: Record) -> ChunkedItem | None:
        """Return a record with a new or changed text and its chunks; None where its text is known."""
        new = item_of(record, self._source, self._prefix)
        if record.id is None:
            new = replace(new, id=self._id_from(new))
        before = self._known.get(new.id, _UNKNOWN)
        if before is _SEEN:
            raise UnreadableError(f"has the id `{new.id}` of an earlier one, which is kept")
        now, held = state(new), new.id in self._known
        self._known[new.id] = _SEEN
        if not same_text(before, now):
            return ChunkedItem.cut(new, plain(record.text), self._splitter, held=held)
        new = replace(new, note=self._notes.get(new.id))
        if before == now:
            self._writer.count(new, "unchanged")
        else:
            self._writer.refresh(new)
        return None

    def _id_from(self, new: Item) -> str:
        """Return an id made from the text; that of an equal text which comes later has a number."""
        made = self._prefix + new.digest[:_ID_DIGITS]
        self._made[made] += 1
        return made if self._made[made] == 1 else f"{made}-{self._made[made]}"

    def _list(self, reason: str) -> None:
        """List a row that is left out."""
        self._bad += 1
        if self._bad <= _MOST_LISTED:
            self._skip(reason)
        elif self._bad == _MOST_LISTED + 1:
            self._skip(f"has more than {_MOST_LISTED} rows that are left out; the rest of them is not listed")
        if not self._good and self._bad >= _HOPELESS:
            self._give_up()

    def _skip(self, reason: str) -> None:
        self._writer.changes.skipped.append(Skipped(self._source, reason))

    def _give_up(self) -> None:
        first = self._writer.changes.skipped[0].reason
        raise InvalidInputError(f"`{self._source}` holds no record that can be read: {first}")

    def _remove_gone(self, *, prune: bool) -> None:
        gone = [id_ for id_, before in self._known.items() if before]
        if self._is_damaged and gone:
            self._skip(f"could be read only in part, so nothing that it held before is removed ({len(gone)} not found)")
        elif prune or (self._good and self._source != STDIN):
            for ids in portions(gone, _AT_ONCE):
                self._writer.remove([Item(self._source, "", id=id_) for id_ in ids])
        elif gone and self._source != STDIN:
            kept = f"{len(gone)} record{'' if len(gone) == 1 else 's'}"
            self._skip(f"holds no rows, so {kept} of it stay in the index; `--prune` (`prune=True`) removes them")
