"""One vector in one text file, in LlamaIndex's format: numbers separated by commas."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from embed_core._types import Embedding
from embed_core.errors import InvalidInputError


def save_embedding(embedding: Embedding, path: str | PathLike[str]) -> None:
    """Write a vector to a file, with all bits of every number."""
    Path(path).write_text(",".join(map(repr, map(float, embedding))), encoding="ascii")


def load_embedding(path: str | PathLike[str]) -> Embedding:
    """Read a vector that `save_embedding` or LlamaIndex wrote.

    Raises:
        InvalidInputError: the file has another content.
    """
    try:
        return [float(number) for number in Path(path).read_text(encoding="ascii").split(",")]
    except ValueError as error:
        msg = f"`{path}` holds no embedding ({error}); expected numbers separated by commas"
        raise InvalidInputError(msg) from error
