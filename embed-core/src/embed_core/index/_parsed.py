"""The text of a file with the line or page of each part."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from embed_core import Syntax
from embed_core.errors import InvalidInputError

Unit: TypeAlias = Literal["line", "page"]
"""The unit in which a place in a file is told."""


class EmptySourceError(InvalidInputError):
    """A source of records has no content."""

    def __init__(self, source: str) -> None:
        super().__init__(f"`{source}` is empty; `--prune` (`prune=True`) removes its records from an index")


class UnreadableError(Exception):
    """A file or row without text to index; the message is the reason, to be read after its name."""


@dataclass(frozen=True, slots=True)
class ParsedText:
    """A text with the line or page of each part.

    Attributes:
        offsets: the positions in the text at which a line or page begins, ascending, the first one 0.
        numbers: the number, in the file, of the line or page that begins at each offset.
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
