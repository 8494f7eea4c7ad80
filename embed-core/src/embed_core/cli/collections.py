"""`embed collections`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from embed_core.cli._common import format_option, show
from embed_core.cli._terminal import short_path

if TYPE_CHECKING:
    from embed_core.index import Stats

_FINGERPRINT = 12  # digits in a table: enough to see a difference


@click.command("collections")
@click.argument("folders", nargs=-1, metavar="[FOLDER]...", type=click.Path())
@format_option
def command(folders: tuple[str, ...], form: str) -> None:
    """List what indexes hold.

    Without FOLDER, all indexes that are in the current folder. Vectors may be compared where the fingerprints are
    equal.
    """
    found = [_stats(folder) for folder in folders] if folders else list(_here())
    if form == "json":
        show([asdict(stats) for stats in found], form)
        return
    columns = ("folder", "model", "dimension", "files", "records", "chunks", "bytes", "fingerprint")
    rows = [{name: getattr(stats, name) for name in columns} for stats in found]
    for row in rows:
        row |= {"folder": short_path(row["folder"]), "fingerprint": row["fingerprint"][:_FINGERPRINT]}
    show(rows, form)


def _stats(folder: str | Path) -> Stats:
    from embed_core.index import Index

    return Index(folder).stats()


def _here() -> Iterator[Stats]:
    """Yield what the indexes in the current folder hold; one that cannot be read is told and passed over."""
    from embed_core.errors import EmbedError
    from embed_core.index import Index

    for folder in sorted(path for path in Path().iterdir() if path.is_dir()):
        index = Index(folder)
        try:
            if index.exists:
                yield index.stats()
        except EmbedError as error:
            click.echo(f"Warning: {' '.join(str(error).split())}", err=True)
