"""The command `embed`.

To add a command `name`, write `cli/name.py` with a click command or group called `command`, and add a line to
`COMMANDS`: its name and its one-line help, which is the first line of its docstring. The module is imported when the
command is used, `--debug` is added to it, and an error it raises becomes one line on standard error.
"""

from __future__ import annotations

import importlib
import logging
import sys
from functools import partial
from typing import Any, Final

import click

from embed_core.cli._common import printable
from embed_core.errors import EmbedError

COMMANDS: Final = {
    "alias": "Give names of your own to models.",
    "cache": "Show or empty the store of vectors.",
    "collections": "List indexes and their content.",
    "index": "Make files, or the rows of files, searchable.",
    "models": "List the models there are, or choose the default.",
    "plugins": "List the installed packages that provide models.",
    "remove": "Remove files or records from an index.",
    "search": "Search an index by meaning.",
    "similar": "Find the neighbours of a record or file in an index.",
    "sources": "List the files and sources of records in an index.",
    "text": "Embed texts and print the vectors.",
}

__all__ = ["COMMANDS", "main"]

_DEBUG = f"{__name__}.debug"
_INTERRUPTED = 130  # a shell's status of a command that Ctrl-C ended


class _LazyGroup(click.Group):
    """A group that imports the module of a command when the command is used, and none for its own help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            self.commands[cmd_name] = importlib.import_module(f"embed_core.cli.{cmd_name}").command
            _add_debug(self.commands[cmd_name])
        return self.commands.get(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))

    def main(self, *args: Any, **kwargs: Any) -> Any:
        # On Windows click expands `*` and `%NAME%` in arguments, which are texts to embed.
        return super().main(*args, **{"windows_expand_args": False, **kwargs})

    def invoke(self, ctx: click.Context) -> Any:
        if logging.lastResort is not None:  # it prints warnings in a program that configures no logging
            logging.lastResort.setFormatter(_LineFormatter(ctx))
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise
        except (KeyboardInterrupt, click.Abort) as stop:
            if isinstance(stop, click.Abort) and not isinstance(stop.__context__, KeyboardInterrupt):
                raise  # the answer to a question was no
            click.echo(f"\n{printable(str(stop)) or 'Interrupted'}", err=True)
            ctx.exit(_INTERRUPTED)
        except Exception as error:
            if ctx.meta.get(_DEBUG):
                raise
            raise click.ClickException(_message(error)) from error
        return result


def _add_debug(command: click.Command) -> None:
    """Let a command and the commands inside it take `--debug`."""
    command.params.append(
        click.Option(
            ["--debug"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            envvar="EMBED_RAISE_ERRORS",
            callback=_remember_debug,
            help="Show whole tracebacks.",
        )
    )
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        _add_debug(inner)


def _remember_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta[_DEBUG] = ctx.meta.get(_DEBUG, False) or value
    if value:
        log = logging.getLogger("embed_core")
        ctx.call_on_close(partial(log.setLevel, log.level))
        log.setLevel(logging.DEBUG)


class _LineFormatter(logging.Formatter):
    """Formats a warning as an error is printed: in a line, and with `--debug` in full."""

    def __init__(self, ctx: click.Context) -> None:
        super().__init__()
        self._meta = ctx.meta

    def format(self, record: logging.LogRecord) -> str:
        if self._meta.get(_DEBUG):
            return super().format(record)
        error = record.exc_info[1] if record.exc_info else None
        reason = f": {_message(error)}" if error else ""
        return f"{record.levelname.capitalize()}: {printable(record.getMessage())}{reason}"


def _message(error: BaseException) -> str:
    """Return an error as one line; an error from outside the package is named by its type."""
    if isinstance(error, OSError) and not isinstance(error, EmbedError) and error.filename is not None:
        return f"{error.strerror}: `{error.filename}`"
    message = printable(str(error))
    if isinstance(error, EmbedError) and message:
        return message
    return f"{type(error).__name__}{f': {message}' if message else ''} (`--debug` shows where)"


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="embed-core", prog_name="embed")
def main() -> None:
    """Turn texts into vectors, and search them by meaning."""


_add_debug(main)
