"""The header of an index: the model of its vectors, and the way in which its texts were cut."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter

from embed_core import OPERATIONAL, BaseEmbedding, TextSplitter
from embed_core.errors import ConfigurationError, SpaceMismatchError, StoreError
from embed_core.index._folder import TABLE

_CHUNK_SIZE = 800  # characters: some 200 tokens, which the smallest models in use take whole
_CHUNK_OVERLAP = 80
_FORMAT = 2
_SHOWN = 40  # characters of a value


@dataclass(frozen=True, slots=True)
class Header:
    """Written once, with the table itself.

    Attributes:
        model: the configuration that makes the model again, without secrets.
        fingerprint: the model's; vectors of another one may not be compared.
        store_text: whether the texts of the chunks are kept beside their vectors.
        created: the time in UTC, ISO 8601.
        embed_core: the version that made the index.
    """

    model: Mapping[str, Any]
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
        """Return the header of an index that is about to be made."""
        return cls(
            model=model.to_dict(),
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
        """Read a header.

        Raises:
            StoreError: it is damaged, or of a format that this version does not know.
        """
        try:
            values = json.loads(text)
            version_, maker = int(values["format"]), str(values["embed_core"])
            if version_ == _FORMAT:
                return TypeAdapter(cls).validate_python(values)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            msg = f"the index in `{folder}` is damaged: its header makes no sense; delete the folder and index again"
            raise StoreError(msg) from error
        made = f"the index in `{folder}` was made by embed-core {maker}"
        if version_ > _FORMAT:
            raise StoreError(f"{made}, which is newer than this one; run `pip install --upgrade embed-core`")
        remedy = f"delete `{folder / TABLE}` and index again, which embeds nothing that its cache holds"
        raise StoreError(f"{made} in an older format; {remedy}")

    def to_json(self) -> bytes:
        """Return the header as JSON."""
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
        given = model.to_dict()
        differences = ", ".join(_differences(self.model, given, type(model)))
        if not differences and self.embed_core != (mine := version("embed-core")):
            made = f"the index in `{folder}` was made by embed-core {self.embed_core}"
            told = f"whose fingerprints differ from those of this version ({mine})"
            raise SpaceMismatchError(f"{made}, {told}; delete `{folder / TABLE}` and index again")
        differences = differences or "equal settings, other weights"
        msg = (
            f"the index in `{folder}` was built with `{self.model_label}`, and the vectors of `{_label(given)}` cannot "
            f"be compared with its own ({differences}); leave out the model to use the one that built it, or index "
            "into another folder"
        )
        raise SpaceMismatchError(msg)

    def check_fixed(self, **wanted: int | None) -> None:
        """Refuse a setting that is fixed when an index is made, and was another one then; None stands for no wish.

        Raises:
            ConfigurationError: a setting differs.
        """
        for name, value in wanted.items():
            if value not in {None, built := getattr(self, name)}:
                msg = f"`{name}` is {value}, but the index was built with {built}"
                raise ConfigurationError(f"{msg}; leave it out, or index into another folder")


def splitter_of(size: int | None, overlap: int | None) -> TextSplitter:
    """Return the splitter of a new index; None stands for the default."""
    size = _CHUNK_SIZE if size is None else size
    return TextSplitter(size, min(_CHUNK_OVERLAP, size // 10) if overlap is None else overlap)


def _label(config: Mapping[str, Any]) -> str:
    return f"{config.get('provider')}:{config.get('model_name')}"


def _differences(built: Mapping[str, Any], given: Mapping[str, Any], cls: type[BaseEmbedding]) -> Iterator[str]:
    """Yield the first settings that decide vectors and differ, in words."""
    names = [name for name in sorted({*built, *given}) if built.get(name) != given.get(name)]
    operational = {name for name, field in cls.model_fields.items() if OPERATIONAL in field.metadata}
    for name in [name for name in names if name not in operational][:3]:
        yield f"`{name}` was {_short(built.get(name))} and is {_short(given.get(name))}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}…"
