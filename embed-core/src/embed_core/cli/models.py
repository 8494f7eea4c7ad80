"""`embed models`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from embed_core.cli._common import format_option, printable, show

if TYPE_CHECKING:
    from embed_core import Plugin


@click.group("models", invoke_without_command=True)
@format_option
@click.pass_context
def command(ctx: click.Context, form: str) -> None:
    """List the models there are, or choose the default.

    A provider may take many more models than it lists. A provider with several names is listed under the shortest.
    """
    if ctx.invoked_subcommand is not None:
        return
    from embed_core import installed_providers
    from embed_core.settings import load_settings

    settings = load_settings()
    chosen = sorted(settings.aliases.items())
    if settings.default:
        chosen = [("default", settings.default), *chosen]
    rows = [{"model": name, "stands for": spec, "package": ""} for name, spec in chosen]
    for plugin in _shortest(installed_providers()):
        rows += [{"model": spec, "stands for": "", "package": plugin.package} for spec in _specs(plugin)]
    show(rows, form)


@command.command("default")
@click.argument("spec", required=False)
@click.option("--remove", is_flag=True, help="Leave the choice to the package again.")
def default(spec: str | None, remove: bool) -> None:
    """Let `default` stand for SPEC, or print its present SPEC."""
    from embed_core import plugin_of
    from embed_core.settings import change_settings, load_settings

    if remove and spec is not None:
        msg = "give a SPEC or `--remove`, not both"
        raise click.UsageError(msg)
    if remove:
        change_settings(lambda old: old.model_copy(update={"default": None}))
    elif spec is not None:
        plugin_of(spec, alias="default")
        change_settings(lambda old: old.model_copy(update={"default": spec.strip()}))
    elif (chosen := load_settings().default) is not None:
        click.echo(chosen)
    else:
        msg = "no default is chosen; use `embed models default SPEC`, as in `embed models default local`"
        raise click.ClickException(msg)


def _shortest(plugins: Iterable[Plugin]) -> list[Plugin]:
    """Return for each class the plugin with the shortest name, sorted by name."""
    ranked = sorted(plugins, key=lambda plugin: (-len(plugin.name), plugin.name))
    return sorted({plugin.target: plugin for plugin in ranked}.values(), key=lambda plugin: plugin.name)


def _specs(plugin: Plugin) -> list[str]:
    """Return the specs of the models that a plugin lists, or its bare name."""
    try:
        known = list(plugin.load().known_models())
    except Exception as error:  # a broken plugin must not hide the others
        click.echo(f"Warning: `{plugin.name}` cannot list its models: {printable(str(error))}", err=True)
        return []
    return [f"{plugin.name}:{name}" for name in known] or [plugin.name]
