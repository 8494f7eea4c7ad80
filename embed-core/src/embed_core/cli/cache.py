"""`embed cache`."""

from __future__ import annotations

from contextlib import closing

import click

from embed_core.cli._common import format_option, open_cache, show


@click.group("cache")
def command() -> None:
    """Show or empty the store of vectors."""


@command.command("stats")
@format_option
def stats(form: str) -> None:
    """Print the store's file, the number of its vectors, and its size in bytes."""
    with closing(open_cache()) as store:
        entries, size = (len(store), store.size_in_bytes()) if store.path.exists() else (0, 0)
    show([{"file": str(store.path), "vectors": entries, "bytes": size}], form)


@command.command("clear")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def clear(yes: bool) -> None:
    """Remove all vectors; the next command that needs them makes, or pays for, them again."""
    with closing(open_cache()) as store:
        if not store.path.exists():
            click.echo("There is nothing to remove.")
            return
        count = len(store)
        if not yes:
            click.confirm(f"Remove {count} vectors from `{store.path}`?", abort=True)
        store.clear()
    click.echo(f"Removed {count} vectors.")
