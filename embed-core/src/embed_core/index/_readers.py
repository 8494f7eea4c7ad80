"""Bytes of a file read as text: plain, Markdown, HTML, PDF or source code."""

from __future__ import annotations

import codecs
import re
from pathlib import PurePath

from embed_core import Syntax
from embed_core.index._html import declared_charset, read_html
from embed_core.index._parsed import ParsedText, UnreadableError
from embed_core.index._pdf import read_pdf

_MARKDOWN = {".md", ".markdown", ".mdown", ".mdx"}
_HTML = {".html", ".htm", ".xhtml"}
_LANGUAGES = {
    "c": ".c .h",
    "cpp": ".cc .cpp .cxx .hh .hpp .hxx",
    "go": ".go",
    "java": ".java",
    "javascript": ".cjs .js .jsx .mjs",
    "python": ".py .pyi .pyw",
    "rust": ".rs",
    "tsx": ".tsx",
    "typescript": ".cts .mts .ts",
}
_LANGUAGE_OF = {suffix: language for language, suffixes in _LANGUAGES.items() for suffix in suffixes.split()}

_MEGABYTE = 1_000_000
_MOST_TEXT = 20 * _MEGABYTE
_MOST_PDF = 200 * _MEGABYTE  # most of it pictures and fonts

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: it begins with the same two bytes
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""The byte order marks at the start of a text, with its encoding."""

_PRINTABLE = bytes({*range(0x20, 0x100), *b"\t\n\v\f\r\b\x1b"} - {0x7F})
_MOST_CONTROL = 0.01  # of the bytes of a text; in compressed data and machine code it is a tenth and more
_MOST_FOREIGN = 0.3  # of the bytes of a Western text are no ASCII; of Cyrillic or Chinese ones, most


def most_bytes(source: str) -> int:
    """Return how many bytes a file of this name may have."""
    return _MOST_PDF if _suffix(source) == ".pdf" else _MOST_TEXT


def read(source: str, data: bytes) -> ParsedText:
    """Return a file's text with the places of its parts.

    Raises:
        UnreadableError: it is too large, empty, binary, damaged, or in an encoding that cannot be told.
    """
    suffix = _suffix(source)
    if len(data) > (most := most_bytes(source)):
        raise UnreadableError(f"is larger than the {most // _MEGABYTE} MB that are read of such a file; split it")
    if not data.strip():
        raise UnreadableError("is empty")
    if suffix == ".pdf" or data.startswith(b"%PDF-"):
        return read_pdf(data)
    is_html = suffix in _HTML
    text = decode(data, declared_charset(data) if is_html else None)
    parsed = read_html(text) if is_html else plain(text, suffix)
    if not parsed.text.strip():
        raise UnreadableError("holds no text")
    return parsed


def decode(data: bytes, declared: str | None = None) -> str:
    """Return text decoded by its byte order mark, as declared, as UTF-8, or else as Windows-1252.

    Raises:
        UnreadableError: the bytes are no text, or of an encoding that only guessing could find.
    """
    for mark, encoding in MARKS:
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    if len(data.translate(None, _PRINTABLE)) > _MOST_CONTROL * len(data):
        raise UnreadableError("is binary")
    for encoding in filter(None, (declared, "utf-8")):
        try:
            return _valid(data.decode(encoding))
        except (UnicodeError, LookupError):
            continue
    if len(data.translate(None, bytes(range(0x80)))) > _MOST_FOREIGN * len(data):
        raise UnreadableError("is neither UTF-8 nor Western text; convert it to UTF-8")
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def plain(text: str, suffix: str = "") -> ParsedText:
    """Return a text with its lines, as Markdown or source code where its suffix says so."""
    offsets = [0, *(line.end() for line in re.finditer("\n", text))]
    syntax: Syntax = "markdown" if suffix in _MARKDOWN else "code" if suffix in _LANGUAGE_OF else "text"
    return ParsedText(text, offsets, range(1, len(offsets) + 1), syntax=syntax, language=_LANGUAGE_OF.get(suffix))


def _valid(text: str) -> str:
    text.encode()  # some codecs, such as UTF-7, give lone surrogates
    return text


def _suffix(source: str) -> str:
    return PurePath(source).suffix.lower()
