"""Code that several commands share: options, the cache, an open index, and texts and tables in a terminal."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

if TYPE_CHECKING:
    from embed_core.index import Hit, Index
    from embed_core.kvstore import SQLiteKVStore

_MOST_COLUMNS = 100  # longer lines are hard to read
_MOST_LINES = 4
_MORE = " …"
_INDENT = "   "

format_option = click.option(
    "-f", "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
)
count_option = click.option(
    "-k", "count", type=click.IntRange(min=1), default=5, show_default=True, help="How many results."
)


def open_cache() -> SQLiteKVStore:
    """Return the store of the user's vectors; its file is made on first use."""
    from embed_core.kvstore import SQLiteKVStore
    from embed_core.settings import user_folder

    return SQLiteKVStore(user_folder("cache") / "vectors.sqlite")


@contextmanager
def open_index(
    folder: str, spec: str | None, *, new: bool = False, dry_run: bool = False, **options: Any
) -> Iterator[Index]:
    """Open an index with the named model, or else its own, and with the user's cache.

    A `new` index need not exist yet; without `spec` it gets the default model. A dry run makes no file of a cache.
    """
    from embed_core.index import Index

    index = Index(folder, spec, **options)
    if new and spec is None and not index.exists:
        index = Index(folder, "default", **options)
    with closing(open_cache()) as cache, index.model as model:
        if model.embeddings_cache is None and (cache.path.exists() or not dry_run):
            model.embeddings_cache = cache
        yield index


def input_file(file: BinaryIO | None, words: Sequence[str], hint: str) -> BinaryIO | None:
    """Return the file to read: the given one, or standard input for `-` and for a pipe without words; else None.

    Raises:
        click.UsageError: there is nothing to read and no word, or too much.
    """
    if file is None and (list(words) == ["-"] or (not words and not _is_terminal())):
        return cast("BinaryIO", click.File("rb")("-"))
    if bool(words) == (file is not None) or "-" in words:
        raise click.UsageError(f"give either {hint} or `-i FILE`; `-` alone is standard input")
    return file


def _is_terminal() -> bool:
    return sys.stdin is None or sys.stdin.isatty()


def decode(file: BinaryIO, content: bytes, line: int = 0) -> str:
    """Return the content of a file, or of its line with that index, as text without the line end at its end."""
    encoding = "utf-8" if line else "utf-8-sig"  # Windows programs begin a file with a byte order mark
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        place = f"byte {error.start} of line {line + 1}" if line else f"byte {error.start}"
        msg = f"`{file.name}` is no UTF-8 text ({place}: {error.reason}); convert it, as with `iconv -t UTF-8`"
        raise click.ClickException(msg) from error
    return text.removesuffix("\n").removesuffix("\r")


def printable(text: str) -> str:
    """Return a text as a single line, without characters that steer a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in " ".join(text.split()))


def short_path(path: str) -> str:
    """Return an absolute path, relative where it lies in the current folder."""
    here = os.path.realpath(Path.cwd())
    return printable(os.path.relpath(path, here) if path.startswith(here.rstrip(os.sep) + os.sep) else path)


def show(records: Sequence[Mapping[str, Any]], form: str) -> None:
    """Print records with the same keys as a table with aligned columns, or as JSON."""
    if form == "json":
        click.echo(json.dumps(records, indent=2, ensure_ascii=False))
        return
    if not records:
        return
    lines = [list(records[0]), *([_cell(value) for value in record.values()] for record in records)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def show_hits(hits: Sequence[Hit], form: str) -> None:
    """Print search results for people, or as JSON."""
    if form == "json":
        show([asdict(hit) for hit in hits], form)
        return
    width = min(_MOST_COLUMNS, shutil.get_terminal_size().columns) - len(_INDENT)
    for hit in hits:
        click.echo(f"{hit.score:.3f}  {_name(hit)}")
        metadata = "; ".join(f"{name}: {value}" for name, value in hit.metadata.items() if value not in (None, ""))
        for line in _first_lines(hit.text or "", width):
            click.echo(f"{_INDENT}{line}")
        if metadata:
            click.echo(f"{_INDENT}{textwrap.shorten(printable(metadata), width, placeholder=_MORE)}")


def _cell(value: Any) -> str:
    return "" if value is None else printable(str(value))


def _name(hit: Hit) -> str:
    source = short_path(hit.source)
    if hit.id is not None:
        return f"{source}#{printable(hit.id)}"
    place = f"{hit.first}" if hit.first == hit.last else f"{hit.first}-{hit.last}"
    return f"{source}:{'page ' if hit.unit == 'page' else ''}{place}"


def _first_lines(text: str, width: int) -> list[str]:
    """Return the first lines of a text, long ones broken, so that code and lists keep their shape."""
    lines: list[str] = []
    for line in textwrap.dedent(text).expandtabs(4).splitlines():
        indent = line[: len(line) - len(line.lstrip(" "))][: width // 2]
        lines += textwrap.wrap(indent + printable(line), width, subsequent_indent=indent)
        if len(lines) > _MOST_LINES:
            last = lines[_MOST_LINES - 1][: width - len(_MORE)].rstrip()
            return [*lines[: _MOST_LINES - 1], last + _MORE]
    return lines
