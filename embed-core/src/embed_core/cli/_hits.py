"""Search results as a table or as JSON."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from embed_core.cli._common import printable, short_path, show

if TYPE_CHECKING:
    from embed_core.index import Hit

_MOST_COLUMNS = 100  # longer lines are hard to read
_MOST_LINES = 4
_MORE = " …"
_INDENT = "   "


def show_hits(hits: Sequence[Hit], form: str) -> None:
    """Print results."""
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
