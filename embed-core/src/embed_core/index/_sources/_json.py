"""Rows of JSON: an array of objects, or one object a line; never the whole file at once."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any

from embed_core.errors import InvalidInputError
from embed_core.index._parsed import UnreadableError
from embed_core.index._results import Skipped
from embed_core.index._sources._columns import Row
from embed_core.index._sources._lines import MOST_CHARACTERS, Lines

_CHUNK = 1 << 20
_DECODER = json.JSONDecoder(parse_constant=lambda _: None)  # `NaN` is no JSON, but Python writes it
_SPACE = re.compile(r"[ \t\r\n]*")


def jsonl_rows(stream: io.TextIOWrapper, source: str) -> Iterator[Row | Skipped]:
    """Yield the object on each line that is not blank, or why it cannot be read.

    Raises:
        InvalidInputError: the file is empty.
    """
    lines = Lines(stream)
    while True:
        try:
            line = next(lines, None)
            if line is None:
                break
            if line.strip():
                value = _DECODER.decode(line)
                row = _row(value, lines.number) if isinstance(value, dict) else None
                yield row or Skipped(source, f"line {lines.number} {_no_object(value)}")
        except (UnreadableError, ValueError, RecursionError) as error:
            yield Skipped(source, f"line {lines.number} {_reason(error)}")
    if not lines.number:
        raise InvalidInputError(f"`{source}` is empty")


def json_rows(stream: io.TextIOWrapper, source: str) -> Iterator[Row | Skipped]:
    """Yield the objects in an array, or why one cannot be read; behind broken JSON, nothing can.

    Raises:
        InvalidInputError: the file holds no array.
    """
    buffer = _Buffer(stream)
    if (first := buffer.peek()) != "[":
        found = f"begins with `{first}`" if first else "is empty"
        hint = "; for one object a line, use `jsonl`" if first == "{" else ""
        raise InvalidInputError(f"`{source}` {found}; expected an array of objects{hint}")
    buffer.at += 1
    try:
        while buffer.peek() != "]":
            line = buffer.line
            value = buffer.value()
            yield _row(value, line) if isinstance(value, dict) else Skipped(source, f"line {line} {_no_object(value)}")
            buffer.step_over_comma()
        buffer.check_end()
    except (UnreadableError, ValueError, RecursionError) as error:
        yield Skipped(source, f"line {buffer.line} {_reason(error)}; the rest is left out")


class _Buffer:
    """The part of a stream of JSON that is being read.

    Attributes:
        at: where in it.
    """

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._stream = stream
        self._text, self._passed, self._is_all = "", 1, False
        self.at = 0

    @property
    def line(self) -> int:
        return self._passed + self._text.count("\n", 0, self.at)

    def peek(self) -> str:
        """Return the next character that is no space, or nothing at the end."""
        while True:
            space = _SPACE.match(self._text, self.at)
            self.at = space.end() if space is not None else self.at
            if self.at < len(self._text) or self._is_all:
                return self._text[self.at : self.at + 1]
            self._fill()

    def value(self) -> Any:
        """Return the next value, which is not read twice more often than it is long."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self.at)
            except ValueError:
                if self._is_all or len(self._text) - self.at > MOST_CHARACTERS:
                    raise
            else:
                if end < len(self._text) or self._is_all:  # else a number might go on
                    self.at = end
                    return value
            self._fill()

    def step_over_comma(self) -> None:
        if (mark := self.peek()) == ",":
            self.at += 1
        elif mark != "]":
            raise UnreadableError("has neither a comma nor the end of the array after a value")

    def check_end(self) -> None:
        self.at += 1
        if self.peek():
            raise UnreadableError("goes on behind the end of the array")

    def _fill(self) -> None:
        self._passed = self.line
        rest = self._text[self.at :]
        more = self._stream.read(max(_CHUNK, len(rest)))
        self._text, self.at, self._is_all = rest + more, 0, not more


def _row(value: dict[str, Any], line: int) -> Row:
    return Row(f"line {line}", value)


def _no_object(value: Any) -> str:
    return f"holds a `{type(value).__name__}`; expected an object"


def _reason(error: Exception) -> str:
    if isinstance(error, UnreadableError):
        return str(error)
    return f"is no JSON ({error.msg if isinstance(error, json.JSONDecodeError) else error})"
