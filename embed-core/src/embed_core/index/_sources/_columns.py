"""Which columns of a row are its id and its text; the others are metadata."""

from __future__ import annotations

import base64
import difflib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from embed_core.errors import ConfigurationError
from embed_core.index._record import Record


@dataclass(frozen=True, slots=True)
class Row:
    """The values of a row by column, and its place in the source, such as "line 7"."""

    place: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that become the id and the text of a record.

    Attributes:
        id: None makes ids from the texts.
        text: joined by line breaks.
    """

    id: str | None
    text: tuple[str, ...]

    @classmethod
    def choose(cls, names: Sequence[str], id_: str | None, text: Sequence[str]) -> Self:
        """Fill in columns that are not given: `id` and `text`, or for the text all but the id."""
        id_ = _named(names, "id") if id_ is None else id_
        if not text:
            found = _named(names, "text")
            text = [name for name in names if name != id_] if found is None else [found]
        return cls(id_, tuple(text))

    def check(self, names: Sequence[str], where: str) -> None:
        """Refuse columns that are not there.

        Raises:
            ConfigurationError: a column is missing.
        """
        there = set(names)
        for name in (*([] if self.id is None else [self.id]), *self.text):
            if name not in there:
                near = difflib.get_close_matches(name, names, n=1)
                known = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(f'`{one}`' for one in names)}"
                raise ConfigurationError(f"`{where}` has no column `{name}`; {known}")

    def record(self, row: Row) -> Record:
        """Return the record of a row; a missing id or text is empty."""
        values = row.values
        parts = [_text(values.get(name)) for name in self.text]
        others = values.keys() - {self.id, *self.text}
        return Record(
            id=None if self.id is None else _id(values.get(self.id)),
            text="\n".join(part for part in parts if part.strip()),
            metadata={name: _plain(value) for name, value in values.items() if name in others},
            place=row.place,
        )


def check_names(names: Sequence[str], where: str) -> None:
    """Refuse two columns of one name.

    Raises:
        ConfigurationError: two columns have one name.
    """
    for name, count in Counter(names).items():
        if count > 1:
            raise ConfigurationError(f"`{where}` has {count} columns `{name}`; give them different names")


def _named(names: Sequence[str], wanted: str) -> str | None:
    return next((name for name in names if name.strip().lower() == wanted), None)


def _id(value: Any) -> str:
    """Return a value as an id; empty for a value that can be none."""
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def _text(value: Any) -> str:
    match value:
        case str():
            return value
        case None:
            return ""
        case bytes():
            return value.decode("utf-8", "surrogateescape")  # bytes that are no text are refused later, by their place
    return json.dumps(value, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """Return a value as a JSON type; bytes as Datasette and its relatives write them."""
    if isinstance(value, bytes):
        return {"$base64": True, "encoded": base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
