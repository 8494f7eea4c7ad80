"""`embed search`."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from embed_core.cli._common import format_option, open_index, show
from embed_core.cli._terminal import printable, short_path, width

if TYPE_CHECKING:
    from embed_core.index import Hit

_LINES = 4
_MORE = " …"
_INDENT = "   "


@click.command("search")
@click.argument("folder", type=click.Path())
@click.argument("question")
@click.option("-k", "count", type=click.IntRange(min=1), default=5, show_default=True, help="How many results.")
@click.option("-m", "--model", "spec", metavar="SPEC", help="Insist on a model; one with other vectors is refused.")
@format_option
def command(folder: str, question: str, count: int, spec: str | None, form: str) -> None:
    """Find what answers a question in an index, by meaning.

    The question is embedded by the model that built the index, and compared with every chunk in it. The score is a
    cosine, at most 1.
    """
    with open_index(folder, spec) as index:
        hits = index.search(question, count)
    if not hits:
        click.echo(f"The index in `{folder}` is empty", err=True)
    if form == "json":
        show([asdict(hit) for hit in hits], form)
    else:
        _print_table(hits)


def _print_table(hits: Sequence[Hit]) -> None:
    columns = width()
    for number, hit in enumerate(hits):
        if number:
            click.echo()
        place = f"{hit.first}" if hit.first == hit.last else f"{hit.first}-{hit.last}"
        page = "page " if hit.unit == "page" else ""
        click.echo(f"{hit.score:.3f}  {short_path(hit.source)}:{page}{place}")
        for line in _snippet(hit.text, columns):
            click.echo(f"{_INDENT}{line}")


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
