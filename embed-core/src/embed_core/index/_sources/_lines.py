"""Lines of a text file of any size, of which some may be damaged."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from embed_core.errors import ConfigurationError
from embed_core.index._parsed import UnreadableError
from embed_core.index._readers import MARKS

MOST_CHARACTERS = 20_000_000
"""Of a line; a longer one is a file of another format."""

_UTF_8 = "utf-8-sig"


@contextmanager
def decoded(stream: BinaryIO, encoding: str | None) -> Iterator[io.TextIOWrapper]:
    """Lend a stream as text: as the caller or a byte order mark says, or else UTF-8.

    Bytes that are no text become lone surrogates, which `Lines` refuses line by line.

    Raises:
        ConfigurationError: the encoding is unknown.
    """
    raw: Any = stream
    buffered = io.BufferedReader(raw)
    start = buffered.peek(4)
    name = encoding or next((name for mark, name in MARKS if start.startswith(mark)), _UTF_8)
    try:
        name = _UTF_8 if codecs.lookup(name).name == "utf-8" else name
        text = io.TextIOWrapper(buffered, name, "surrogateescape", newline="\n")
    except LookupError as error:
        buffered.detach()
        raise ConfigurationError(f"`{encoding}` is no encoding that Python knows, such as `cp1252`") from error
    try:
        yield text
    finally:
        text.detach()
        buffered.detach()  # else the caller's stream would be closed


class Lines:
    """Iterates over lines with their ends; a damaged line raises, and the next call goes on behind it.

    Attributes:
        number: of the last line, from 1.
    """

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._stream = stream
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._stream.readline(MOST_CHARACTERS)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) == MOST_CHARACTERS and not line.endswith("\n"):
            while (rest := self._stream.readline(MOST_CHARACTERS)) and not rest.endswith("\n"):
                pass
            raise UnreadableError(f"has more than {MOST_CHARACTERS} characters")
        if not line.isascii():
            self._check(line)
        return line

    def _check(self, line: str) -> None:
        try:
            line.encode()
        except UnicodeEncodeError as error:
            name = self._stream.encoding.removesuffix("-sig")
            raise UnreadableError(
                f"is no {name} text from character {error.start + 1} on; convert the file, or name its encoding"
            ) from error
