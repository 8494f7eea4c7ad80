"""`embed index`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeAlias, get_args

import click

from embed_core.cli._common import open_index, printable, short_path

if TYPE_CHECKING:
    from embed_core import BaseEmbedding
    from embed_core.index import Changes, Index, Record, Skipped, Stats

Form: TypeAlias = Literal["csv", "json", "jsonl", "sqlite", "tsv"]
_STDIN = "-"
_SHOWN = 20  # skipped sources
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
@click.option("--id", "id_column", metavar="COLUMN", help="Holds the ids. [default: id, or made from the texts]")
@click.option(
    "--text",
    "text_columns",
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
@click.option("--prune", is_flag=True, help="Remove all that PATHs no longer hold, be they empty, gone or `-`.")
@click.option("--dry-run", is_flag=True, help="Only report the changes, the tokens to send and their price.")
@click.option("--max-cost", type=click.FloatRange(min=0, min_open=True), metavar="USD", help="Spend no more.")
@click.option("--batch-api", "batch_jobs", is_flag=True, help="Use the provider's jobs: cheaper, within a day.")
@click.option("--progress/--no-progress", default=None, help="Show a bar. [default: in a terminal]")
@click.option("-v", "--verbose", is_flag=True, help="List everything that is skipped.")
def command(
    paths: tuple[str, ...],
    folder: str,
    spec: str | None,
    form: Form | None,
    prefix: str,
    chunk_size: int | None,
    chunk_overlap: int | None,
    store_text: bool | None,
    prune: bool,
    dry_run: bool,
    max_cost: float | None,
    batch_jobs: bool,
    progress: bool | None,
    verbose: bool,
    **reading: Any,
) -> None:
    """Make files, or the rows of files, searchable.

    Files are text, Markdown, HTML, PDF and source code; with `--from`, each row of a file is a record of its own. A
    second run embeds only new and changed texts, and removes texts that are gone; after an interruption, it goes on
    from there. Texts of an empty or missing PATH, or of an earlier list on standard input, stay without `--prune`.
    Hidden files and folders are left out, and links are not followed, unless they are named. The status is 1 where a
    named file cannot be read, or nothing can.
    """
    given = [f"--{name.partition('_')[0]}" for name, value in {**reading, "prefix": prefix}.items() if value]
    if _STDIN in paths:
        given.append(_STDIN)
    if form is None and given:
        msg = f"`{given[0]}` goes with `--from`, which makes records of rows"
        raise click.UsageError(msg)
    if paths.count(_STDIN) > 1:
        raise click.UsageError("`-` is standard input, which can be read once; name it once")
    fixed = {"chunk_size": chunk_size, "chunk_overlap": chunk_overlap, "store_text": store_text}
    with open_index(folder, spec, new=True, dry_run=dry_run, **fixed) as index:
        if max_cost is not None:
            _limit_cost(index.model, max_cost)
        if spec is None and not index.exists:
            message = f"No model is named, so the default makes the vectors: `{_label(index.model)}`"
            click.echo(f"{message}. `-m` and `embed models default` choose another", err=True)
        show = sys.stderr.isatty() if progress is None else progress
        try:
            how = {"prune": prune, "show_progress": show, "dry_run": dry_run, "batch_jobs": batch_jobs}
            if form is None:
                changes, named = index.add(paths, **how), paths
            else:
                changes, named = _add_records(index, paths, form, reading, prefix=prefix, **how)
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(_INTERRUPTED) from interrupt
        _print_skipped(changes, verbose=verbose)
        if dry_run:
            click.echo(_forecast(changes, index.model))
        else:
            click.echo(
                _summary(changes, index.stats()) if index.exists else f"Nothing to index; `{folder}` holds no index"
            )
    _exit(changes, named)


def _limit_cost(model: BaseEmbedding, dollars: float) -> None:
    if "max_cost" not in type(model).model_fields:
        msg = f"`{_label(model)}` knows no prices, so `--max-cost` cannot hold; leave it out"
        raise click.ClickException(msg)
    model.max_cost = dollars


def _add_records(
    index: Index, paths: Sequence[str], form: Form, reading: Mapping[str, Any], **how: Any
) -> tuple[Changes, tuple[str, ...]]:
    """Return the changes, and the sources that cannot be read, of which one alone raises."""
    from embed_core.errors import InvalidInputError
    from embed_core.index import Changes, Skipped

    changes, unread = Changes(), []
    options = {**reading, "attach": dict(reading["attach"])}
    for path in paths:
        file = None if path == _STDIN else Path(path)
        try:
            gone = file is not None and _is_gone(file, may_be_gone=how["prune"] and index.exists)
            records = () if gone else _records(file or sys.stdin.buffer, form, options)
            changes += index.add_records(records, file or _STDIN, **how)
        except InvalidInputError as error:
            if len(paths) == 1:
                raise
            unread.append(source := path if file is None else os.path.realpath(file.expanduser()))
            changes.skipped.append(Skipped(source, str(error).removeprefix(f"`{source}` ")))
    return changes, tuple(unread)


def _is_gone(file: Path, *, may_be_gone: bool) -> bool:
    from embed_core.errors import InvalidInputError

    if file.exists() or may_be_gone:
        return not file.exists()
    raise InvalidInputError(f"there is no file `{file}`; `--prune` or `embed remove` removes its records from an index")


def _records(source: Path | BinaryIO, form: Form, options: Mapping[str, Any]) -> Iterator[Record | Skipped]:
    """Yield the records of a source; an error of it is told from one of the index or the model."""
    from embed_core.errors import ConfigurationError, InvalidInputError
    from embed_core.index import read_records

    try:
        yield from read_records(source, form, **options)
    except ConfigurationError as error:
        raise InvalidInputError(str(error)) from error
    except OSError as error:
        raise InvalidInputError(f"`{error.filename or source}` cannot be read: {error.strerror}") from error


def _exit(changes: Changes, files: Sequence[str]) -> None:
    """End with status 1 where a named file was not read, or nothing was."""
    named = {*files, *(os.path.realpath(Path(path).expanduser()) for path in files)}
    lost = any(one.source in named and not one.partly for one in changes.skipped)
    if lost or not (changes.added or changes.changed or changes.unchanged or changes.removed):
        raise click.exceptions.Exit(1)


def _label(model: BaseEmbedding) -> str:
    """Return a model's provider and name."""
    return f"{model.provider or model.class_name()}:{model.model_name}"


def _forecast(changes: Changes, model: BaseEmbedding) -> str:
    """Return the result of a dry run."""
    from embed_core import Estimate

    estimate = changes.estimate or Estimate()
    to_do = f"{changes.added} to add, {changes.changed} to change, {changes.removed} to remove"
    inputs = f"{_number(estimate.inputs, 'input')}, {estimate.cached} of them in the cache"
    price = f"no price is known for `{_label(model)}`" if estimate.price is None else f"{estimate.price:.6f} US dollars"
    return f"Dry run: {to_do}; nothing was sent or written\n{inputs}; about {estimate.tokens} tokens to send; {price}"


def _summary(changes: Changes, stats: Stats) -> str:
    """Return the changes to an index, and its content."""
    counts = {"added": changes.added, "changed": changes.changed, "removed": changes.removed}
    done = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing changed"
    held = [_number(count, noun) for count, noun in ((stats.files, "file"), (stats.records, "record")) if count]
    chunks = f"{_number(stats.chunks, 'chunk')} of {' and '.join(held) or '0 files'}"
    held_now = f"{done}; `{short_path(stats.folder)}` holds {chunks}"
    return held_now if not changes.truncated else f"{held_now}\n{_loss(changes.truncated)}"


def _loss(count: int) -> str:
    remedy = "a smaller `--chunk-size N`, or with `long_text=mean` among the model's options"
    return f"The model cut {_number(count, 'text')} at its length; to keep the ends, make a new index with {remedy}"


def _print_skipped(changes: Changes, *, verbose: bool) -> None:
    """Print the skipped sources on standard error, the first twenty unless `verbose`."""
    if not changes.skipped:
        return
    click.echo(f"Skipped {len(changes.skipped)}:", err=True)
    shown = changes.skipped if verbose else changes.skipped[:_SHOWN]
    for item in shown:
        click.echo(f"  {short_path(item.source)} {printable(item.reason)}", err=True)
    if len(shown) < len(changes.skipped):
        click.echo(f"  and {len(changes.skipped) - len(shown)} more (`--verbose` lists all)", err=True)


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
