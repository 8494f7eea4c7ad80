"""Rows of JSON: an array of objects, or one object a line; never the whole file at once."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import Any

from embed_core.errors import InvalidInputError
from embed_core.index._parsed import EmptySourceError, UnreadableError
from embed_core.index._results import Skipped
from embed_core.index._sources._columns import Row
from embed_core.index._sources._lines import MOST_CHARACTERS, Lines

_CHUNK = 1 << 20
_DECODER = json.JSONDecoder(parse_constant=lambda _: None)  # `NaN` is no JSON, but Python writes it
_SPACE = re.compile(r"[ \t\r\n]*")


def jsonl_rows(stream: io.TextIOWrapper, source: str) -> Iterator[Row | Skipped]:
    """Yield the object on each line that is not blank, or the reason why it cannot be read.

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
                yield _row(_DECODER.decode(line), source, lines.number)
        except (UnreadableError, ValueError, RecursionError) as error:
            yield Skipped(source, f"line {lines.number} {_reason(error)}")
    if not lines.number:
        raise EmptySourceError(source)


def json_rows(stream: io.TextIOWrapper, source: str) -> Iterator[Row | Skipped]:
    """Yield the objects in an array, or the reason why one cannot be read; nothing is read behind broken JSON.

    Raises:
        InvalidInputError: the file holds no array.
    """
    buffer = _Buffer(stream)
    if not (first := buffer.peek()):
        raise EmptySourceError(source)
    if first != "[":
        hint = "; for one object a line, use `jsonl`" if first == "{" else ""
        raise InvalidInputError(f"`{source}` begins with `{first}`; expected an array of objects{hint}")
    buffer.at += 1
    try:
        while buffer.peek() != "]":
            line = buffer.line
            yield _row(buffer.value(), source, line)
            buffer.step_over_comma()
        buffer.check_end()
    except (UnreadableError, ValueError, RecursionError) as error:
        yield Skipped(source, f"line {buffer.line} {_reason(error)}; the rest is left out")


class _Buffer:
    """The part of a stream of JSON that is being read.

    Attributes:
        at: the position in it.
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
        """Return the next value, read from ever larger parts of the stream until it is whole."""
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


def _row(value: Any, source: str, line: int) -> Row | Skipped:
    if isinstance(value, dict):
        return Row(f"line {line}", value)
    return Skipped(source, f"line {line} holds a `{type(value).__name__}`; expected an object")


def _reason(error: Exception) -> str:
    if isinstance(error, UnreadableError):
        return str(error)
    return f"is no JSON ({error.msg if isinstance(error, json.JSONDecodeError) else error})"
