"""`embed collections`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from embed_core.cli._common import format_option, printable, short_path, show

if TYPE_CHECKING:
    from embed_core.index import Stats

_COLUMNS = ("folder", "model", "dimension", "files", "records", "chunks", "bytes", "fingerprint")
_DIGITS = 12  # of a fingerprint in a table: enough to see a difference


@click.command("collections")
@click.argument("folders", nargs=-1, metavar="[FOLDER]...", type=click.Path())
@format_option
def command(folders: tuple[str, ...], form: str) -> None:
    """List indexes and their content.

    Without FOLDER, all indexes in the current folder. Vectors may be compared where the fingerprints are equal.
    """
    from embed_core.index import Index

    found = [Index(folder).stats() for folder in folders] if folders else list(_here())
    if form == "json":
        show([asdict(stats) for stats in found], form)
        return
    rows = [{name: getattr(stats, name) for name in _COLUMNS} for stats in found]
    for row in rows:
        row |= {"folder": short_path(row["folder"]), "fingerprint": row["fingerprint"][:_DIGITS]}
    show(rows, form)


def _here() -> Iterator[Stats]:
    """Yield the statistics of the indexes in the current folder; an index that cannot be read gives a warning."""
    from embed_core.errors import EmbedError
    from embed_core.index import Index

    for folder in sorted(path for path in Path().iterdir() if path.is_dir()):
        index = Index(folder)
        try:
            if index.exists:
                yield index.stats()
        except EmbedError as error:
            click.echo(f"Warning: {printable(str(error))}", err=True)
