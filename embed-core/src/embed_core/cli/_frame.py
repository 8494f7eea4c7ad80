"""The frame around every command: loaded when it is used, and its errors told in one line."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from embed_core.cli._terminal import printable
from embed_core.errors import EmbedError

_DEBUG = f"{__name__}.debug"
_INTERRUPTED = 130  # what a shell reports for a command that Ctrl-C ended


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is used, and not for its own help."""

    def __init__(self, *args: Any, commands_by_name: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands_by_name = commands_by_name
        self.params.append(_debug_option())

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.commands_by_name)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands_by_name:
            return None
        if cmd_name not in self.commands:
            command = importlib.import_module(f"embed_core.cli.{cmd_name}").command
            _add_debug(command)
            self.commands[cmd_name] = command
        return self.commands[cmd_name]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(self.commands_by_name.items()))

    def main(self, *args: Any, **kwargs: Any) -> Any:
        # A text to embed is no file pattern: click would expand `*` and `%NAME%` in it on Windows.
        return super().main(*args, **{"windows_expand_args": False, **kwargs})

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _warnings_in_lines(ctx):
                result = super().invoke(ctx)
            sys.stdout.flush()
        except (click.ClickException, click.exceptions.Exit):
            raise
        except (KeyboardInterrupt, click.Abort) as stop:
            if isinstance(stop, click.Abort) and not isinstance(stop.__context__, KeyboardInterrupt):
                raise  # somebody said no to a question
            click.echo(f"\n{printable(str(stop)) or 'Interrupted'}", err=True)
            ctx.exit(_INTERRUPTED)
        except Exception as error:
            if (
                _is_broken_pipe(error)
                or ctx.meta.get(_DEBUG)
                or os.environ.get("EMBED_RAISE_ERRORS", "0") not in {"", "0"}
            ):
                raise
            raise click.ClickException(_told(error)) from error
        return result


@contextmanager
def _warnings_in_lines(ctx: click.Context) -> Iterator[None]:
    """Show what is logged as errors are: in a line, and with the traceback where `--debug` asks for it."""

    class Formatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            if ctx.meta.get(_DEBUG):
                return super().format(record)
            error = record.exc_info[1] if record.exc_info else None
            why = "" if error is None else f": {_told(error) if isinstance(error, Exception) else repr(error)}"
            return f"{record.levelname.capitalize()}: {printable(record.getMessage())}{why}"

    root = logging.getLogger()
    if root.handlers:  # whoever runs the command in a program of their own has decided
        yield
        return
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(Formatter())
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


def _debug_option() -> click.Option:
    return click.Option(
        ["--debug"], is_flag=True, expose_value=False, is_eager=True, callback=_remember, help="Show whole tracebacks."
    )


def _remember(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta[_DEBUG] = ctx.meta.get(_DEBUG, False) or value


def _add_debug(command: click.Command) -> None:
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        _add_debug(inner)
    command.params.append(_debug_option())


def _is_broken_pipe(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EPIPE


def _told(error: Exception) -> str:
    """Return what happened in one line; an error that is none of ours is named by its type."""
    if isinstance(error, OSError) and not isinstance(error, EmbedError) and error.filename is not None:
        return f"{error.strerror}: `{error.filename}`"
    message = printable(str(error))
    if isinstance(error, EmbedError) and message:
        return message
    return f"{type(error).__name__}{f': {message}' if message else ''} (`--debug` shows where)"
