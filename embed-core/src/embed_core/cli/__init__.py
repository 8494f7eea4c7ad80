"""The command `embed`.

To add a command `name`, write `cli/name.py` with a click command or group called `command`, and add a line to
`COMMANDS`: its name and its one-line help, which is the first line of its docstring. The module is imported when the
command is used, `--debug` is added to it, and an error it raises becomes one line on standard error.
"""

from __future__ import annotations

from typing import Final

import click

from embed_core.cli._group import LazyGroup

COMMANDS: Final = {
    "alias": "Give names of your own to models.",
    "cache": "See or empty the store of vectors already made.",
    "collections": "List what indexes hold.",
    "index": "Make files, or the rows of files, searchable.",
    "models": "List the models there are, or choose the default.",
    "plugins": "List the installed packages that provide models.",
    "search": "Find what answers a question in an index, by meaning.",
    "similar": "Find what is nearest to a record or file that an index holds.",
    "text": "Embed some words and print the vectors.",
}

__all__ = ["COMMANDS", "main"]


@click.group(cls=LazyGroup, commands_by_name=COMMANDS)
@click.version_option(package_name="embed-core", prog_name="embed")
def main() -> None:
    """Turn texts into vectors, and search them by meaning."""
