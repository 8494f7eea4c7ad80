"""What an index says of itself: the model whose vectors it holds, and how its texts were cut."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from embed_core import BaseEmbedding
from embed_core._splitting import TextSplitter
from embed_core.errors import SpaceMismatchError, StoreError
from embed_core.index._walk import TABLE_FOLDER

_FORMAT = 2


@dataclass(frozen=True, slots=True)
class Stamp:
    """Written once, with the table itself.

    Attributes:
        model: the configuration that makes the model again, without secrets.
        space: everything that decides which vector a text gets.
        fingerprint: the hash of the space.
        store_text: whether the texts of the chunks are kept beside their vectors.
        created: the time in UTC, ISO 8601.
        embed_core: the version that made the index.
    """

    model: Mapping[str, Any]
    space: Mapping[str, Any]
    fingerprint: str
    dimension: int
    chunk_size: int
    chunk_overlap: int
    store_text: bool
    created: str
    embed_core: str
    format: int = _FORMAT

    @classmethod
    def of(cls, model: BaseEmbedding, dimension: int, splitter: TextSplitter, *, store_text: bool) -> Self:
        """Return the stamp of an index that is about to be made."""
        return cls(
            model=model.to_dict(),
            space=model._space(),
            fingerprint=model.fingerprint,
            dimension=dimension,
            chunk_size=splitter.chunk_size,
            chunk_overlap=splitter.chunk_overlap,
            store_text=store_text,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            embed_core=version("embed-core"),
        )

    @classmethod
    def from_json(cls, text: bytes, folder: Path) -> Self:
        """Read a stamp.

        Raises:
            StoreError: it is none, or of a format that this version does not know.
        """
        values = json.loads(text)
        if values["format"] != _FORMAT:
            raise StoreError(_other_format(values, folder))
        return cls(**values)

    def to_json(self) -> bytes:
        """Return the stamp as JSON."""
        return json.dumps(asdict(self)).encode()

    @property
    def model_label(self) -> str:
        """The model as a spec, for messages."""
        return _label(self.model)

    def check(self, model: BaseEmbedding, folder: Path) -> None:
        """Refuse a model whose vectors may not be compared with those in the index.

        Raises:
            SpaceMismatchError: the fingerprints differ.
        """
        if model.fingerprint == self.fingerprint:
            return
        msg = (
            f"the index in `{folder}` was built with `{self.model_label}`, and the vectors of "
            f"`{_label(model.to_dict())}` cannot be compared with its own{_difference(self.space, model._space())}; "
            "leave out the model to use the one that built it, or index into another folder"
        )
        raise SpaceMismatchError(msg)


def _other_format(values: Mapping[str, Any], folder: Path) -> str:
    made = f"the index in `{folder}` was made by embed-core {values['embed_core']}"
    if values["format"] > _FORMAT:
        return f"{made}, which is newer than this one; run `pip install --upgrade embed-core`"
    return (
        f"{made} in an older format; delete `{folder / TABLE_FOLDER}` and index again, which uses vectors it has kept"
    )


def _label(config: Mapping[str, Any]) -> str:
    return f"{config.get('provider')}:{config.get('model_name')}"


def _difference(built: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Return in words what differs, as far as it is short."""
    names = [name for name in sorted({*built, *given}) if built.get(name) != given.get(name)]
    told = [f"`{name}` was {_short(built.get(name))} and is {_short(given.get(name))}" for name in names[:3]]
    return f" ({', '.join(told)})" if told else ""


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}…"
