"""`embed index`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from embed_core.cli._common import open_index
from embed_core.cli._terminal import printable, short_path

if TYPE_CHECKING:
    from embed_core.index import Changes, Stats

_SHOWN = 20
_STOPPED = "Interrupted; what is finished is kept. Run the same command again to go on"


@click.command("index")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path())
@click.option("--into", "folder", required=True, metavar="FOLDER", type=click.Path(), help="Where the index is kept.")
@click.option(
    "-m",
    "--model",
    "spec",
    metavar="SPEC",
    help="`provider:model` or an alias. [default: the model that built FOLDER, or else `default`]",
)
@click.option("--chunk-size", type=int, metavar="N", help="Most characters of a chunk. [default: 800]")
@click.option("--chunk-overlap", type=int, metavar="N", help="Most characters that two chunks share. [default: 80]")
@click.option("--progress/--no-progress", default=None, help="Show a bar. [default: in a terminal]")
@click.option("-v", "--verbose", is_flag=True, help="List every file that is skipped.")
def command(
    paths: tuple[str, ...],
    folder: str,
    spec: str | None,
    chunk_size: int | None,
    chunk_overlap: int | None,
    progress: bool | None,
    verbose: bool,
) -> None:
    """Make files searchable: text, Markdown, HTML, PDF and source code.

    Run again, it embeds only what is new or has changed, and removes what is gone; interrupted, it goes on from where
    it was. Hidden files and folders are left out, and links are not followed, unless they are named.
    """
    with open_index(folder, spec, new=True, chunk_size=chunk_size, chunk_overlap=chunk_overlap) as index:
        try:
            changes = index.add(paths, show_progress=sys.stderr.isatty() if progress is None else progress)
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(_STOPPED) from interrupt
        _tell_skipped(changes, len(changes.skipped) if verbose else _SHOWN)
        click.echo(_summary(changes, index.stats()) if index.exists else f"Nothing to index; `{folder}` holds no index")


def _tell_skipped(changes: Changes, shown: int) -> None:
    if not changes.skipped:
        return
    click.echo(f"Skipped {len(changes.skipped)}:", err=True)
    for one in changes.skipped[:shown]:
        click.echo(f"  {short_path(one.source)} {printable(one.reason)}", err=True)
    if len(changes.skipped) > shown:
        click.echo(f"  and {len(changes.skipped) - shown} more (`--verbose` lists all)", err=True)


def _summary(changes: Changes, stats: Stats) -> str:
    counts = {"added": changes.added, "changed": changes.changed, "removed": changes.removed}
    done = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing changed"
    where = short_path(str(Path(stats.folder)))
    return f"{done}; `{where}` holds {_number(stats.chunks, 'chunk')} of {_number(stats.files, 'file')}"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
