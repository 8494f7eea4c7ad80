"""How search results look."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from embed_core.cli._common import show
from embed_core.cli._terminal import printable, short_path, width

if TYPE_CHECKING:
    from embed_core.index import Hit

_LINES = 4
_MORE = " …"
_INDENT = "   "


def show_hits(hits: Sequence[Hit], form: str) -> None:
    """Print results as a table for people, or as JSON."""
    if form == "json":
        show([asdict(hit) for hit in hits], form)
        return
    columns = width()
    for hit in hits:
        click.echo(f"{hit.score:.3f}  {_name(hit)}")
        for line in [*_snippet(hit.text or "", columns), *_metadata(hit, columns)]:
            click.echo(f"{_INDENT}{line}")


def _name(hit: Hit) -> str:
    source = short_path(hit.source)
    if hit.id is not None:
        return f"{source}#{printable(hit.id)}"
    place = f"{hit.first}" if hit.first == hit.last else f"{hit.first}-{hit.last}"
    return f"{source}:{'page ' if hit.unit == 'page' else ''}{place}"


def _metadata(hit: Hit, columns: int) -> list[str]:
    if not hit.metadata:
        return []
    told = "; ".join(f"{name}: {value}" for name, value in hit.metadata.items() if value is not None and value != "")
    return [textwrap.shorten(printable(told), columns - len(_INDENT), placeholder=_MORE)]


def _snippet(text: str, columns: int) -> list[str]:
    """Return the first lines of a text, long ones broken, so that code and lists keep their shape."""
    lines: list[str] = []
    for line in textwrap.dedent(text).expandtabs(4).splitlines():
        indent = line[: len(line) - len(line.lstrip(" "))][: columns // 2]
        lines += textwrap.wrap(indent + printable(line), columns - len(_INDENT), subsequent_indent=indent)
        if len(lines) > _LINES:
            room = columns - len(_INDENT) - len(_MORE)
            return [*lines[: _LINES - 1], lines[_LINES - 1][:room].rstrip() + _MORE]
    return lines
