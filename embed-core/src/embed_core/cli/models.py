"""`embed models`: what there is to choose, and the choice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from embed_core.cli._common import checked_spec, format_option, show

if TYPE_CHECKING:
    from embed_core import Plugin


@click.group("models", invoke_without_command=True)
@format_option
@click.pass_context
def command(ctx: click.Context, form: str) -> None:
    """List the models there are, or choose the default.

    A provider may take many more models than those it lists. One that has several names is listed under the shortest.
    """
    if ctx.invoked_subcommand is not None:
        return
    from embed_core import installed_providers
    from embed_core._settings import load_settings

    settings = load_settings()
    rows = [{"model": "default", "stands for": settings.default or "", "package": ""}] if settings.default else []
    rows += [{"model": name, "stands for": spec, "package": ""} for name, spec in sorted(settings.aliases.items())]
    for plugin in _shortest(installed_providers()):
        rows += [{"model": name, "stands for": "", "package": plugin.package} for name in _models(plugin)]
    show(rows, form)


@command.command("default")
@click.argument("spec", required=False)
@click.option("--remove", is_flag=True, help="Leave the choice to the package again.")
def default(spec: str | None, remove: bool) -> None:
    """Let `default` stand for SPEC, or print what it stands for."""
    from embed_core._settings import change_settings, load_settings

    if remove and spec is not None:
        msg = "give a SPEC or `--remove`, not both"
        raise click.UsageError(msg)
    if remove or spec is not None:
        chosen = None if spec is None else checked_spec(spec, name="default")
        change_settings(lambda old: replace(old, default=chosen))
    elif (chosen := load_settings().default) is not None:
        click.echo(chosen)
    else:
        msg = "no default is chosen; use `embed models default SPEC`, as in `embed models default local`"
        raise click.ClickException(msg)


def _shortest(plugins: Iterable[Plugin]) -> list[Plugin]:
    """Return one plugin for each class, that with the shortest name, by name."""
    ranked = sorted(plugins, key=lambda plugin: (-len(plugin.name), plugin.name))
    return sorted({plugin.target: plugin for plugin in ranked}.values(), key=lambda plugin: plugin.name)


def _models(plugin: Plugin) -> list[str]:
    """Return what the plugin lists as specs, or its bare name; one that does not import is told and passed over."""
    try:
        known = list(plugin.load().known_models())
    except Exception as error:  # one broken plugin must not hide the others
        click.echo(f"Warning: `{plugin.name}` cannot list its models: {' '.join(str(error).split())}", err=True)
        return []
    return [f"{plugin.name}:{name}" for name in known] or [plugin.name]
