"""HTML read as its text, each part with the line of its source."""

from __future__ import annotations

import codecs
import re
from typing import Any

from embed_core.index._extra import extra
from embed_core.index._parsed import ParsedText, UnreadableError

_SILENT = {"script", "style", "template", "noscript", "svg"}
_INLINE = {
    *("a", "abbr", "b", "bdi", "bdo", "cite", "code", "data", "del", "dfn", "em", "font", "i", "ins", "kbd", "label"),
    *("mark", "q", "s", "samp", "small", "span", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr"),
}
_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_NO_CHARSETS = {"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape", "utf-7"}  # Python's codecs
_LINES = re.compile(r"[^\n]*\n|[^\n]+")
_ENDS = re.compile(rb"</(?:body|html)\s*>", re.IGNORECASE)


def read_html(markup: str) -> ParsedText:
    """Return the visible text; elements that are no part of a sentence begin a new paragraph.

    Raises:
        UnreadableError: its elements are nested too deep.
    """
    etree, reader = extra("lxml.etree"), _Reader()
    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True)
    data = _ENDS.sub(b"", markup.encode())  # they end nothing, but libxml2 drops the text after them
    root = etree.fromstring(data, parser)
    if any(entry.level == etree.ErrorLevels.FATAL for entry in parser.error_log):
        raise UnreadableError("is no HTML that can be read: its elements are nested too deep")
    if root is not None:
        reader.read(root)
    return ParsedText("".join(reader.parts), reader.offsets, reader.numbers)


def declared_charset(data: bytes) -> str | None:
    """Return the encoding that a page says it has, as Python knows it."""
    found = _CHARSET.search(data[:4096])
    try:
        name = codecs.lookup(found[1].decode("ascii", "replace")).name if found else None
    except LookupError:
        return None
    return None if name in _NO_CHARSETS else name


class _Reader:
    def __init__(self) -> None:
        self.parts: list[str] = []
        self.offsets, self.numbers = [0], [1]
        self._line = 1
        self._length = 0
        self._verbatim = 0

    def read(self, root: Any) -> None:
        """Read an element and all that is in it."""
        waiting = [(root, False)]  # not `iterwalk`: its time grows with the square of the number of comments
        while waiting:
            node, is_done = waiting.pop()
            self._line = max(self._line, node.sourceline)  # of the end of a tag or comment
            if is_done:
                self._end(node.tag)
            elif node.tag in _SILENT:
                self._line += sum(text.count("\n") for text in node.itertext())
            elif isinstance(node.tag, str):  # no comment
                self._begin(node.tag)
                self._add(node.text)
                waiting.append((node, True))
                waiting += [(child, False) for child in reversed(node)]
                continue
            if node is not root:
                self._add(node.tail)

    def _begin(self, tag: str) -> None:
        if tag == "br":
            self._write("\n")
        elif tag not in _INLINE:
            self._begin_paragraph()
        self._verbatim += tag == "pre"

    def _end(self, tag: str) -> None:
        if tag not in _INLINE and tag != "br":
            self._begin_paragraph()
        self._verbatim -= tag == "pre"

    def _add(self, text: str | None) -> None:
        for line in _LINES.findall(text or ""):
            self.offsets.append(self._length)
            self.numbers.append(self._line)
            self._write(line if self._verbatim else self._flow(line))
            self._line += line[-1] == "\n"

    def _flow(self, line: str) -> str:
        """Return a line with its white space as a browser shows it: one blank, none at the start of a paragraph."""
        text = re.sub(r"\s+", " ", line)
        return text.lstrip() if not self.parts or self.parts[-1][-1].isspace() else text

    def _begin_paragraph(self) -> None:
        if self.parts and self.parts[-1] != "\n\n":
            self._write("\n\n")

    def _write(self, text: str) -> None:
        if text:
            self.parts.append(text)
            self._length += len(text)
