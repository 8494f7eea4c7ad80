"""A record: a text with an id, from a table, a file of rows or a program."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from embed_core.index._item import Item, digest
from embed_core.index._keys import holds_key
from embed_core.index._parsed import UnreadableError

STDIN: Final = "-"
"""The source of records from standard input, where each list comes for itself."""

_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Record:
    """A text to index under an id.

    Attributes:
        id: tells the records of one source apart; None makes one from the text.
        text: the text to embed.
        metadata: other values, as JSON types; kept and returned, not embedded.
        place: its place in the source, for messages, such as "line 7".
    """

    id: str | None
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    place: str = ""


def item_of(record: Record, source: str, prefix: str) -> Item:
    """Return a record as an item of an index; its id is empty where it is to be made from the text.

    Raises:
        UnreadableError: a value of it cannot be kept.
    """
    _check(record.id, record.text)
    try:
        f"{prefix}{record.id}".encode()
        data = record.text.encode()
        metadata = json.dumps(dict(record.metadata), ensure_ascii=False, allow_nan=False) if record.metadata else None
        (metadata or "").encode()
    except UnicodeEncodeError as error:
        raise UnreadableError(
            "holds bytes that are no text, or a lone surrogate; repair its source or choose other columns"
        ) from error
    except (TypeError, ValueError) as error:
        raise UnreadableError(f"has metadata that are no JSON ({str(error)[:_SHOWN]})") from error
    if metadata is not None and holds_key(metadata.replace("\\n", "\n")):
        raise UnreadableError("holds a private key or certificate in its metadata")
    id_ = "" if record.id is None else prefix + record.id
    return Item(source, digest(data), id=id_, prefix=prefix, metadata=metadata)


def state(item: Item) -> bytes:
    """Return a hash of a record: of its text in the first 16 bytes, of its metadata in the rest."""
    return bytes.fromhex(item.digest) + hashlib.blake2b((item.metadata or "").encode(), digest_size=8).digest()


def same_text(one: bytes, other: bytes) -> bool:
    """Tell whether two states are of the same text."""
    return one[:16] == other[:16]


def _check(id_: Any, text: Any) -> None:
    """Refuse values that a program may have put in the wrong place."""
    if isinstance(id_, str) and not id_.strip():
        raise UnreadableError("has no id")
    if not isinstance(id_, str | None):
        raise UnreadableError(f"has a `{type(id_).__name__}` for its id; expected a `str`")
    if not isinstance(text, str):
        raise UnreadableError(f"has a `{type(text).__name__}` for its text; expected a `str`")
    if id_ is None and not text.strip():
        raise UnreadableError("holds no text")
