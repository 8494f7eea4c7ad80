"""HTML read as its text, each part with the line of its source."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from embed_core.index._parsed import ParsedText

_SILENT = {"script", "style", "template", "noscript", "svg"}
_INLINE = {
    *("a", "abbr", "b", "bdi", "bdo", "cite", "code", "data", "del", "dfn", "em", "font", "i", "ins", "kbd", "label"),
    *("mark", "q", "s", "samp", "small", "span", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr"),
}
_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)


def read_html(markup: str) -> ParsedText:
    """Return the visible text; elements that are no part of a sentence begin a new paragraph."""
    reader = _Reader()
    reader.feed(markup)
    reader.close()
    return ParsedText("".join(reader.parts), reader.offsets, reader.numbers)


def declared_charset(data: bytes) -> str | None:
    """Return the encoding that a page says it has."""
    found = _CHARSET.search(data[:4096])
    return None if found is None else found[1].decode("ascii", "replace")


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.offsets, self.numbers = [0], [1]
        self._length = 0
        self._silent: list[str] = []
        self._verbatim = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent.append(tag)
        elif tag == "br":
            self._write("\n")
        elif tag not in _INLINE:
            self._begin_paragraph()
        self._verbatim += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        if self._silent and tag == self._silent[-1]:
            self._silent.pop()
        elif tag not in _INLINE:
            self._begin_paragraph()
        self._verbatim = max(0, self._verbatim - (tag == "pre"))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _SILENT:
            self.handle_starttag(tag, attrs)

    def handle_data(self, data: str) -> None:
        if self._silent:
            return
        first = self.getpos()[0]
        for number, line in enumerate(data.splitlines(keepends=True), first):
            self.offsets.append(self._length)
            self.numbers.append(number)
            self._write(line if self._verbatim else self._flow(line))

    def _flow(self, line: str) -> str:
        """Return a line with its white space as a browser shows it: one blank, none at the start of a paragraph."""
        text = re.sub(r"\s+", " ", line)
        return text.lstrip() if not self.parts or self.parts[-1][-1].isspace() else text

    def _begin_paragraph(self) -> None:
        if self.parts and not self._silent and self.parts[-1] != "\n\n":
            self._write("\n\n")

    def _write(self, text: str) -> None:
        if text:
            self.parts.append(text)
            self._length += len(text)
