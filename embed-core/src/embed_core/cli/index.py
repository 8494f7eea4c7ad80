"""`embed index`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import click

from embed_core.cli._common import open_index
from embed_core.cli._report import forecast, label, print_skipped, summary

if TYPE_CHECKING:
    from embed_core import BaseEmbedding
    from embed_core.index import Changes, Index, Record, Skipped

Form: TypeAlias = Literal["csv", "json", "jsonl", "sqlite", "tsv"]
_STDIN = "-"
_INTERRUPTED = "Interrupted; finished batches are kept. Run the same command again to go on"


@click.command("index")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(allow_dash=True))
@click.option("--into", "folder", required=True, metavar="FOLDER", type=click.Path(), help="Where the index is kept.")
@click.option(
    "-m",
    "--model",
    "spec",
    metavar="SPEC",
    help="`provider:model` or an alias. [default: the model that built FOLDER; else EMBED_MODEL; else the choice of "
    "`embed models default`; else OpenAI]",
)
@click.option(
    "--from",
    "form",
    type=click.Choice(get_args(Form)),
    help="Index each row of the files as a record; `-` is standard input.",
)
@click.option("--id", metavar="COLUMN", help="Holds the ids. [default: id, or made from the texts]")
@click.option(
    "--text",
    metavar="COLUMN",
    multiple=True,
    help="Holds the text; repeat it to join several. [default: text, or all but the id]",
)
@click.option("--prefix", default="", metavar="TEXT", help="Put before every id.")
@click.option("--sql", metavar="QUERY", help="Reads a database. [default: all rows of its only table]")
@click.option("--attach", nargs=2, multiple=True, metavar="NAME PATH", help="Another database for the query.")
@click.option("--encoding", metavar="NAME", help="Of the rows, as in `cp1252`. [default: UTF-8]")
@click.option("--chunk-size", type=int, metavar="N", help="Most characters of a chunk. [default: 800]")
@click.option("--chunk-overlap", type=int, metavar="N", help="Most characters that two chunks share. [default: 80]")
@click.option("--store/--no-store", "store_text", default=None, help="Keep the texts in the index. [default: store]")
@click.option("--dry-run", is_flag=True, help="Only say what would be done, sent and paid.")
@click.option("--max-cost", type=click.FloatRange(min=0, min_open=True), metavar="USD", help="Spend no more.")
@click.option("--batch-api", "batch_jobs", is_flag=True, help="Use the provider's jobs: cheaper, within a day.")
@click.option("--progress/--no-progress", default=None, help="Show a bar. [default: in a terminal]")
@click.option("-v", "--verbose", is_flag=True, help="List everything that is skipped.")
def command(
    paths: tuple[str, ...],
    folder: str,
    spec: str | None,
    form: Form | None,
    chunk_size: int | None,
    chunk_overlap: int | None,
    store_text: bool | None,
    dry_run: bool,
    max_cost: float | None,
    batch_jobs: bool,
    progress: bool | None,
    verbose: bool,
    **of_records: Any,
) -> None:
    """Make files, or the rows of files, searchable.

    Files are text, Markdown, HTML, PDF and source code; with `--from`, each row of a file is a record of its own. Run
    again, it embeds only what is new or has changed, and removes what is gone; interrupted, it goes on from where it
    was. Hidden files and folders are left out, and links are not followed, unless they are named.
    """
    given = [f"--{name}" for name, value in of_records.items() if value]
    if _STDIN in paths:
        given.append(_STDIN)
    if form is None and given:
        msg = f"`{given[0]}` goes with `--from`, which makes records of rows"
        raise click.UsageError(msg)
    fixed = {"chunk_size": chunk_size, "chunk_overlap": chunk_overlap, "store_text": store_text}
    with open_index(folder, spec, new=True, dry_run=dry_run, **fixed) as index:
        if max_cost is not None:
            _limit_cost(index.model, max_cost)
        if spec is None and not index.exists:
            message = f"No model is named, so the default makes the vectors: `{label(index.model)}`"
            click.echo(f"{message}. `-m` and `embed models default` choose another", err=True)
        show = sys.stderr.isatty() if progress is None else progress
        try:
            changes = _add(index, paths, form, of_records, show_progress=show, dry_run=dry_run, batch_jobs=batch_jobs)
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(_INTERRUPTED) from interrupt
        print_skipped(changes, verbose=verbose)
        if dry_run:
            click.echo(forecast(changes, index.model))
        elif index.exists:
            click.echo(summary(changes, index.stats()))
        else:
            click.echo(f"Nothing to index; `{folder}` holds no index")


def _limit_cost(model: BaseEmbedding, dollars: float) -> None:
    if "max_cost" not in type(model).model_fields:
        msg = f"`{label(model)}` knows no prices, so `--max-cost` cannot hold; leave it out"
        raise click.ClickException(msg)
    model.max_cost = dollars


def _add(index: Index, paths: Sequence[str], form: Form | None, options: Mapping[str, Any], **how: bool) -> Changes:
    if form is None:
        return index.add(paths, **how)
    from embed_core.index import Changes

    changes = Changes()
    for path in paths:
        gone = path != _STDIN and index.exists and not Path(path).exists()
        records = () if gone else _read(path, form, options)
        done = index.add_records(records, path if path == _STDIN else Path(path), prefix=options["prefix"], **how)
        if gone and not done.removed:
            msg = f"there is no file `{path}`, and the index holds no records of it"
            raise click.ClickException(msg)
        changes += done
    return changes


def _read(path: str, form: Form, options: Mapping[str, Any]) -> Iterator[Record | Skipped]:
    from embed_core.index import read_records

    return read_records(
        sys.stdin.buffer if path == _STDIN else Path(path),
        form,
        id_column=options["id"],
        text_columns=options["text"],
        encoding=options["encoding"],
        sql=options["sql"],
        attach=dict(options["attach"]),
    )
