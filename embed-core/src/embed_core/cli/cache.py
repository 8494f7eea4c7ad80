"""`embed cache`: the store of vectors already made."""

from __future__ import annotations

from contextlib import closing

import click

from embed_core.cli._common import cache_path, format_option, open_cache, show


@click.group("cache")
def command() -> None:
    """See or empty the store of vectors already made."""


@command.command("stats")
@format_option
def stats(form: str) -> None:
    """Print where the vectors are, how many there are, and the room they take in bytes."""
    path = cache_path()
    entries, size = 0, 0
    if path.exists():
        with closing(open_cache()) as store:
            entries, size = len(store), store.size_in_bytes()
    show([{"file": str(path), "vectors": entries, "bytes": size}], form)


@command.command("clear")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def clear(yes: bool) -> None:
    """Remove all vectors; those needed again have to be made, or paid for, again."""
    path = cache_path()
    if not path.exists():
        click.echo("There is nothing to remove.")
        return
    with closing(open_cache()) as store:
        count = len(store)
        if not yes:
            click.confirm(f"Remove {count} vectors from `{path}`?", abort=True)
        store.clear()
    click.echo(f"Removed {count} vectors.")
