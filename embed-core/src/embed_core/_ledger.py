"""The nodes in the database of a pipeline's caller, noted by document: what a run tells is told until it is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Self, TypeAlias

from embed_core._history import History, key_of, state
from embed_core._threads import in_thread

_Note: TypeAlias = Mapping[str, str]
"""The state of each node of one document in the caller's database, or one of these two:"""
_NEW = ""  # handed out in a run that was not committed; no run of this document ever was
_UNSURE = "?"  # handed out, or told to be stale, in a run that was not committed

_SHELVES = 1024  # the ids of all documents lie in so many lists, so that one more rewrites a thousandth of them


class IngestionResult(list[Any]):
    """The nodes of a run, in the order of their documents, and the differences from the last committed run.

    To keep a vector database up to date, delete `stale` from it, upsert `fresh`, and then `commit`, or do both in a
    `with` block, which commits where nothing is raised. Until then every run tells the same differences again, so that
    a crash in between loses nothing.

    Attributes:
        added: ids of documents that were not there before.
        changed: ids of documents that gave other nodes before.
        unchanged: ids of documents that gave the same.
        removed: ids of documents that are gone.
        fresh: the nodes that are new or different, be it only their vector.
        stale: ids of nodes that there were before and that no longer are.

    Example:
        >>> from embed_core import Document, IngestionPipeline, MockEmbedding
        >>> pipeline, database = IngestionPipeline([MockEmbedding()]), {}
        >>> with pipeline.run([Document(id_="a", text="The wing stalls.")]) as result:
        ...     for id_ in result.stale:
        ...         del database[id_]
        ...     database.update((node.id_, node.embedding) for node in result.fresh)
        >>> pipeline.run([Document(id_="a", text="The wing stalls.")]).fresh
        []
    """

    def __init__(self, nodes: Iterable[Any] = ()) -> None:
        """Begin with nodes and no differences."""
        super().__init__(nodes)
        self.added: list[str] = []
        self.changed: list[str] = []
        self.unchanged: list[str] = []
        self.removed: list[str] = []
        self.fresh: list[Any] = []
        self.stale: list[str] = []
        self._commit: Callable[[], None] | None = None

    def commit(self) -> None:
        """Note that `fresh` is stored and `stale` deleted; the next run tells the differences from this one."""
        commit, self._commit = self._commit, None
        if commit is not None:
            commit()

    async def acommit(self) -> None:
        """Note that `fresh` is stored and `stale` deleted; see `commit`."""
        await in_thread(self.commit, brief=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.commit()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            await self.acommit()


@dataclass(frozen=True)
class Ledger:
    """Notes of one pipeline's documents, in its store."""

    history: History
    name: str

    def compare(self, outputs: Mapping[str, Sequence[Any]], *, delete_missing: bool) -> IngestionResult:
        """Return the nodes of documents and their differences; those are in doubt until they are committed."""
        result = IngestionResult(chain.from_iterable(outputs.values()))
        gone = sorted(self._known() - outputs.keys()) if delete_missing else []
        before = self._notes([*outputs, *gone])
        now = {id_: {node.id_: state(node) for node in nodes} for id_, nodes in outputs.items()}
        result.removed = [id_ for id_ in gone if id_ in before]
        for id_, nodes in outputs.items():
            old = before.get(id_)
            is_new = old is None or (old and not any(old.values()))
            (result.added if is_new else result.unchanged if old == now[id_] else result.changed).append(id_)
            result.fresh += [node for node in nodes if (old or {}).get(node.id_) != now[id_][node.id_]]
        there = {node.id_ for node in result}
        result.stale = list(dict.fromkeys(id_ for old in before.values() for id_ in old if id_ not in there))
        different = {id_: now.get(id_, {}) for id_ in [*result.added, *result.changed, *result.removed]}
        self._doubt(before, different, frozenset(result.added))
        result._commit = partial(self._settle, before, different, frozenset(result.removed))
        return result

    def _doubt(self, before: Mapping[str, _Note], now: Mapping[str, _Note], added: frozenset[str]) -> None:
        """Note of each node that may change in the database from here on that its state is not known."""
        doubts = {}
        for id_, nodes in now.items():
            old, mark = before.get(id_, {}), _NEW if id_ in added else _UNSURE
            doubt = {one: old[one] if one in old and old[one] == nodes.get(one) else mark for one in [*old, *nodes]}
            if doubt != old:
                doubts[id_] = doubt
        self._write(doubts)

    def _settle(self, before: Mapping[str, _Note], now: Mapping[str, _Note], removed: frozenset[str]) -> None:
        """Note the nodes of documents as stored, and keep in doubt those that other runs have handed out since."""
        notes = {}
        current = self._notes(now)
        for id_, nodes in now.items():
            others = current.get(id_, {}).keys() - before.get(id_, {}).keys() - nodes.keys()
            notes[id_] = {**nodes, **dict.fromkeys(others, _UNSURE)}
        gone = [id_ for id_ in removed if not notes[id_]]
        self._write({id_: note for id_, note in notes.items() if id_ not in gone}, gone)

    def _notes(self, ids: Iterable[str]) -> dict[str, dict[str, str]]:
        keys = {id_: self._key(id_) for id_ in ids}
        kept = self.history.read(keys.values())
        return {id_: kept[key] for id_, key in keys.items() if key in kept}

    def _write(self, notes: Mapping[str, _Note], gone: Sequence[str] = ()) -> None:
        shelf_of = {id_: self._shelf(self._key(id_)) for id_ in [*notes, *gone]}
        kept = self.history.read(shelf_of.values())
        shelves = {shelf: dict.fromkeys(kept.get(shelf, ())) for shelf in shelf_of.values()}
        for id_ in notes:
            shelves[shelf_of[id_]][id_] = None
        for id_ in gone:
            shelves[shelf_of[id_]].pop(id_, None)
        changed = {shelf: list(ids) for shelf, ids in shelves.items() if list(ids) != kept.get(shelf, [])}
        self.history.write({self._key(id_): note for id_, note in notes.items()} | changed, keep=True)
        self.history.forget(self._key(id_) for id_ in gone)

    def _known(self) -> set[str]:
        """Return the ids of all documents, and of some that have no note any more."""
        older = key_of("documents", self.name)  # one list, as files had it before there were shelves
        shelves = [older, *(key_of("documents", self.name, number) for number in range(_SHELVES))]
        return set(chain.from_iterable(self.history.read(shelves).values()))

    def _key(self, id_: str) -> bytes:
        return key_of("document", self.name, id_)

    def _shelf(self, key: bytes) -> bytes:
        return key_of("documents", self.name, int.from_bytes(key[:2], "big") % _SHELVES)
