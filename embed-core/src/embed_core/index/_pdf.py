"""PDF read as the text of its pages."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from embed_core.index._extra import extra
from embed_core.index._parsed import ParsedText, UnreadableError

_BETWEEN = "\n\n"


def read_pdf(data: bytes) -> ParsedText:
    """Return the text of all pages; a page that cannot be read is left out.

    Raises:
        UnreadableError: the file is damaged, encrypted, or holds pictures of text only.
    """
    pypdf = extra("pypdf")
    with _quiet("pypdf"):
        try:
            reader = pypdf.PdfReader(BytesIO(data))
            locked = reader.is_encrypted and not reader.decrypt("")
            count = 0 if locked else len(reader.pages)
        except Exception as error:  # a damaged file can make pypdf raise any exception
            raise UnreadableError(f"is no PDF that can be read ({type(error).__name__}: {error})") from error
        if locked:
            raise UnreadableError("is an encrypted PDF; save it without its password")
        texts = [_page(reader, number) for number in range(count)]
    if not any(text.strip() for text in texts):
        raise UnreadableError("is a PDF without text, perhaps a scan; recognise its text (OCR) first")
    offsets, offset = [], 0
    for text in texts:
        offsets.append(offset)
        offset += len(text) + len(_BETWEEN)
    return ParsedText(_BETWEEN.join(texts), offsets, range(1, len(texts) + 1), unit="page")


def _page(reader: Any, number: int) -> str:
    try:
        text: str = reader.pages[number].extract_text()
    except Exception:  # the other pages may be whole
        logging.getLogger("embed_core.index").warning("a page could not be read: %d", number + 1, exc_info=True)
        return ""
    return text.encode("utf-8", "replace").decode()  # fonts may map glyphs to lone surrogates


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Silence a logger that reports every flaw of a file which it then reads all the same."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
