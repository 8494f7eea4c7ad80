"""The text of a file, and where in the file each part of it stands."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from embed_core._splitting import Syntax

Unit: TypeAlias = Literal["line", "page"]
"""What a reader of the file counts to find a place in it."""


class UnreadableError(Exception):
    """A file that holds nothing to index; the message is the reason, to be read after the file's name."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text with the line or page of each part.

    Attributes:
        offsets: where in the text a new line or page begins, ascending, the first one 0.
        numbers: the number, in the file, of the line or page that begins there.
    """

    text: str
    offsets: Sequence[int]
    numbers: Sequence[int]
    unit: Unit = "line"
    syntax: Syntax = "text"
    language: str | None = None

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Return the first and the last line or page of `text[start:end]`."""
        return self._number(start), self._number(max(start, end - 1))

    def _number(self, offset: int) -> int:
        return self.numbers[bisect_right(self.offsets, offset) - 1]
