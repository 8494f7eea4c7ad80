"""One run that brings an index up to date with the records of a source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from embed_core._splitting import TextSplitter
from embed_core.errors import InvalidInputError
from embed_core.index._document import UnreadableError
from embed_core.index._embedding import Advance
from embed_core.index._entry import cut
from embed_core.index._item import Entry, Item
from embed_core.index._portions import portions, windows
from embed_core.index._readers import plain
from embed_core.index._record import Record, item, same_text, state
from embed_core.index._sync import bar
from embed_core.index._walk import Skipped
from embed_core.index._writer import Writer

_HOPELESS = 1000  # rows of which none can be read
_MOST_LISTED = 10_000
_ID_DIGITS = 16
_AT_ONCE = 10_000
_SEEN: Final = None
_UNKNOWN: Final = b""  # not in the index, or there under another prefix


class RecordSync:
    """A run over the records of one source; what it remembers of each is its id and a short hash.

    Records that an earlier run found under the same prefix, and this one does not, are forgotten, unless the source
    could be read only in part.
    """

    def __init__(self, writer: Writer, splitter: TextSplitter, source: str, prefix: str) -> None:
        self._writer, self._splitter, self._source, self._prefix = writer, splitter, source, prefix
        self._known: dict[str, bytes | None] = {}
        self._notes: dict[str, str] = {}
        self._made: Counter[str] = Counter()
        self._good = self._bad = 0
        self._is_damaged = False

    def run(self, records: Iterable[Record | Skipped], *, show_progress: bool) -> None:
        """Index what is new or changed, and forget what is gone.

        Raises:
            InvalidInputError: there are rows, and none of them can be read.
        """
        self._load()
        with bar(" records", show=show_progress) as advance:
            for entries, items in windows(self._read(records, advance), self._writer.chunks_at_once):
                if entries:
                    self._writer.put(entries, lambda _: None)
                self._refresh(items)
        if self._bad and not self._good:
            self._give_up()
        self._forget()
        self._writer.finish()

    def _load(self) -> None:
        for known in self._writer.store.records(self._source) if self._writer.store is not None else ():
            ours = known.prefix == self._prefix
            self._known[known.id] = state(known) if ours else _UNKNOWN
            if ours and known.note is not None:
                self._notes[known.id] = known.note

    def _read(self, records: Iterable[Record | Skipped], advance: Advance) -> Iterator[Entry | Item]:
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
        first = next(one.reason for one in self._writer.changes.skipped if one.source == self._source)
        raise InvalidInputError(f"`{self._source}` holds no record that can be read: {first}")

    def _look(self, record: Record) -> Entry | Item | None:
        """Return what is to be done about a record: embed it, note its metadata, or nothing."""
        new = item(record, self._source, self._prefix)
        if record.id is None:
            if not record.text.strip():
                raise UnreadableError("holds no text")
            new = replace(new, id=self._made_id(new))
        before = self._known.get(new.id, _UNKNOWN)
        if before is _SEEN:
            raise UnreadableError(f"has the id `{new.id}` of an earlier one, which is kept")
        now, held = state(new), new.id in self._known
        self._known[new.id] = _SEEN
        note = self._notes.get(new.id)
        if before == now:
            self._writer.keep(replace(new, note=note))
            return None
        if same_text(before, now):
            return replace(new, note=note)
        return cut(new, plain(record.text), self._splitter, held=held)

    def _made_id(self, new: Item) -> str:
        """Return an id made from the text; that of an equal text which comes later has a number."""
        made = self._prefix + new.digest[:_ID_DIGITS]
        self._made[made] += 1
        return made if self._made[made] == 1 else f"{made}-{self._made[made]}"

    def _refresh(self, items: Sequence[Item]) -> None:
        for one in items:
            if one.note is not None:
                self._writer.keep(one)
        self._writer.changes.changed += sum(one.note is None for one in items)
        self._writer.refresh(items)

    def _forget(self) -> None:
        gone = (id_ for id_, before in self._known.items() if before)
        if not self._is_damaged:
            for ids in portions(gone, _AT_ONCE):
                self._writer.remove([Item(self._source, "", id=id_) for id_ in ids])
        elif count := sum(1 for _ in gone):
            self._skip(f"could be read only in part, so nothing that it held before is removed ({count} not found)")
