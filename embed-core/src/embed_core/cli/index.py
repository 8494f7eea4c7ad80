"""`embed index`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embed_core.cli._common import open_index
from embed_core.cli._cost import cost_options, forecast, label, limit_cost
from embed_core.cli._sources import STDIN, Sources, source_options
from embed_core.cli._terminal import printable, short_path

if TYPE_CHECKING:
    from embed_core.index import Changes, Index, Stats

_SHOWN = 20
_STOPPED = "Interrupted; what is finished is kept. Run the same command again to go on"


@click.command("index")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(allow_dash=True))
@click.option("--into", "folder", required=True, metavar="FOLDER", type=click.Path(), help="Where the index is kept.")
@click.option(
    "-m",
    "--model",
    "spec",
    metavar="SPEC",
    help="`provider:model` or an alias. [default: the model that built FOLDER; else EMBED_MODEL; else what "
    "`embed models default` says; else OpenAI]",
)
@source_options
@click.option("--chunk-size", type=int, metavar="N", help="Most characters of a chunk. [default: 800]")
@click.option("--chunk-overlap", type=int, metavar="N", help="Most characters that two chunks share. [default: 80]")
@click.option("--store/--no-store", "store_text", default=None, help="Keep the texts in the index. [default: store]")
@cost_options
@click.option("--progress/--no-progress", default=None, help="Show a bar. [default: in a terminal]")
@click.option("-v", "--verbose", is_flag=True, help="List everything that is skipped.")
def command(
    paths: tuple[str, ...],
    folder: str,
    spec: str | None,
    chunk_size: int | None,
    chunk_overlap: int | None,
    store_text: bool | None,
    dry_run: bool,
    max_cost: float | None,
    batch_jobs: bool,
    progress: bool | None,
    verbose: bool,
    **source_options: Any,
) -> None:
    """Make files, or the rows of files, searchable.

    Files are text, Markdown, HTML, PDF and source code; with `--from`, each row of a file is a record of its own. Run
    again, it embeds only what is new or has changed, and removes what is gone; interrupted, it goes on from where it
    was. Hidden files and folders are left out, and links are not followed, unless they are named.
    """
    sources = Sources(**source_options)
    sources.check(paths)
    fixed = {"chunk_size": chunk_size, "chunk_overlap": chunk_overlap, "store_text": store_text}
    show = sys.stderr.isatty() if progress is None else progress
    with open_index(folder, spec, new=True, dry_run=dry_run, **fixed) as index:
        limit_cost(index.model, max_cost)
        if spec is None and not index.exists:
            named = f"No model is named, so the default makes the vectors: `{label(index.model)}`"
            click.echo(f"{named}. `-m` and `embed models default` choose another", err=True)
        try:
            changes = _run(index, paths, sources, show_progress=show, dry_run=dry_run, batch_jobs=batch_jobs)
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(_STOPPED) from interrupt
        _tell_skipped(changes, len(changes.skipped) if verbose else _SHOWN)
        if dry_run:
            click.echo(forecast(changes, index.model))
        else:
            done = _summary(changes, index.stats()) if index.exists else f"Nothing to index; `{folder}` holds no index"
            click.echo(done)


def _run(index: Index, paths: Sequence[str], sources: Sources, **how: bool) -> Changes:
    form = sources.form
    if form is None:
        return index.add(paths, **how)
    from embed_core.index import Changes

    changes = Changes()
    for path in paths:
        gone = path != STDIN and index.exists and not Path(path).exists()
        records = () if gone else sources.records(form, path)
        done = index.add_records(records, path if path == STDIN else Path(path), prefix=sources.prefix, **how)
        if gone and not done.removed:
            msg = f"there is no file `{path}`, and the index holds no records of it"
            raise click.ClickException(msg)
        changes += done
    return changes


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
    held = [_number(count, noun) for count, noun in ((stats.files, "file"), (stats.records, "record")) if count]
    return f"{done}; `{where}` holds {_number(stats.chunks, 'chunk')} of {' and '.join(held) or '0 files'}"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
