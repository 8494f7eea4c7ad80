"""What `embed index` prints of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from embed_core.cli._common import printable, short_path

if TYPE_CHECKING:
    from embed_core import BaseEmbedding
    from embed_core.index import Changes, Stats

_SHOWN = 20


def label(model: BaseEmbedding) -> str:
    """Return a model's provider and name."""
    return f"{model.provider or model.class_name()}:{model.model_name}"


def forecast(changes: Changes, model: BaseEmbedding) -> str:
    """Return the result of a dry run."""
    from embed_core import Estimate

    estimate = changes.estimate or Estimate()
    to_do = f"{changes.added} to add, {changes.changed} to change, {changes.removed} to remove"
    inputs = f"{_number(estimate.inputs, 'input')}, {estimate.cached} of them in the cache"
    price = f"no price is known for `{label(model)}`" if estimate.price is None else f"{estimate.price:.6f} US dollars"
    return f"Dry run: {to_do}; nothing was sent or written\n{inputs}; about {estimate.tokens} tokens to send; {price}"


def summary(changes: Changes, stats: Stats) -> str:
    """Return the changes to an index, and its content."""
    counts = {"added": changes.added, "changed": changes.changed, "removed": changes.removed}
    done = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing changed"
    held = [_number(count, noun) for count, noun in ((stats.files, "file"), (stats.records, "record")) if count]
    chunks = f"{_number(stats.chunks, 'chunk')} of {' and '.join(held) or '0 files'}"
    return f"{done}; `{short_path(stats.folder)}` holds {chunks}"


def print_skipped(changes: Changes, *, verbose: bool) -> None:
    """Print on standard error what was skipped, the first twenty of it unless `verbose`."""
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
