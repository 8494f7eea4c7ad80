"""The items of an index that are nearest to one of them."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from embed_core.errors import InvalidInputError
from embed_core.index._item import Item
from embed_core.index._results import Hit
from embed_core.index._store import Store
from embed_core.index._walk import canonical, is_under

_LOOKED_AT = 100_000  # ids, for near ones: a second or two
_NEAR = 3


def similar(store: Store, id_: str, k: int, source: str | None) -> list[Hit]:
    """Return the nearest chunk of each of the `k` items nearest to one; it itself is left out.

    Raises:
        InvalidInputError: nothing has this id, or several records of different sources have it.
    """
    check_count(k)
    item = _find(store, id_, source)
    mean = store.mean(item)
    if mean is None:
        raise InvalidInputError(f"`{id_}` has no vector, because it {item.note}")
    best: dict[tuple[str, str | None], Hit] = {}
    wanted, rows = k + 1, 2 * k + 10  # the item itself comes along
    while True:
        hits = store.search(mean, rows)
        for hit in hits:
            best.setdefault((hit.source, hit.id), hit)
        if len(best) >= wanted or len(hits) < rows:
            break
        best.clear()
        rows *= 4
    best.pop((item.source, item.id or None), None)
    return list(best.values())[:k]


def check_question(question: object) -> None:
    """Refuse a question that cannot be embedded.

    Raises:
        InvalidInputError: it is no text, or blank.
    """
    if not isinstance(question, str):
        raise InvalidInputError(f"the question is a `{type(question).__name__}`, not a `str`")
    if not question.strip():
        raise InvalidInputError("the question is blank; ask in some words")


def check_count(k: object) -> None:
    """Refuse a number of results that makes no sense.

    Raises:
        InvalidInputError: it is no number, or below 1.
    """
    if not isinstance(k, int) or k < 1:
        raise InvalidInputError(f"`k` is {k!r}; it must be a number from 1 on")


def _find(store: Store, id_: str, source: str | None) -> Item:
    found = [item for item in store.find(id_) if id_ and source in {None, item.source}]
    if len(found) > 1:
        named = ", ".join(f"`{item.source}`" for item in found)
        raise InvalidInputError(f"records of several sources have the id `{id_}`: {named}; name one as the source")
    if found:
        return found[0]
    files = store.files()
    if source is None and (file := files.get(canonical(id_))) is not None:
        return file
    names = _names(store, files, source)
    near = dict.fromkeys(names[name] for name in difflib.get_close_matches(id_, names, n=_NEAR))
    hint = f"; near to it: {', '.join(f'`{name}`' for name in near)}" if near else ""
    where = "" if source is None else f" of `{source}`"
    raise InvalidInputError(f"the index holds no record{where} and no file `{id_}`{hint}")


def _names(store: Store, files: Iterable[str], source: str | None) -> dict[str, str]:
    """Return near names of records and files, each with the form in which it should be typed."""
    names = {id_: id_ for id_ in islice(store.ids(source), _LOOKED_AT)}
    here = canonical(".")
    for file in files if source is None else ():
        short = os.path.relpath(file, here) if is_under(file, here) else file
        names |= {Path(file).name: short, short: short}
    return names
