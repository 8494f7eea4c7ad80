"""`embed alias`."""

from __future__ import annotations

import click

from embed_core.cli._common import format_option, show


@click.group("alias")
def command() -> None:
    """Give names of your own to models."""


@command.command("set")
@click.argument("name")
@click.argument("spec")
def set_(name: str, spec: str) -> None:
    """Let NAME stand for SPEC wherever a model is named, as in `embed alias set small local:BAAI/bge-small-en-v1.5`."""
    from embed_core import installed_providers, plugin_of
    from embed_core.settings import change_settings

    if not name or name != name.strip() or set(name) & set(":?&,/\\~") or not name.isprintable():
        msg = f"`{name}` cannot be an alias: no colon, question mark, comma, slash or outer space may be in it"
        raise click.UsageError(msg)
    if name == "default":
        msg = "`default` is no alias; use `embed models default SPEC`"
        raise click.UsageError(msg)
    if name in {plugin.name for plugin in installed_providers()}:
        msg = f"`{name}` is the name of a provider; choose another name"
        raise click.UsageError(msg)
    plugin_of(spec, alias=name)
    change_settings(lambda old: old.model_copy(update={"aliases": {**old.aliases, name: spec.strip()}}))


@command.command("list")
@format_option
def list_(form: str) -> None:
    """List the aliases."""
    from embed_core.settings import load_settings

    show([{"alias": name, "model": spec} for name, spec in sorted(load_settings().aliases.items())], form)


@command.command("remove")
@click.argument("name")
def remove(name: str) -> None:
    """Forget the alias NAME."""
    from embed_core.settings import Settings, change_settings

    def without(old: Settings) -> Settings:
        if name not in old.aliases:
            known = ", ".join(f"`{alias}`" for alias in sorted(old.aliases)) or "none"
            msg = f"there is no alias `{name}`; there are: {known}"
            raise click.ClickException(msg)
        others = {alias: spec for alias, spec in old.aliases.items() if alias != name}
        return old.model_copy(update={"aliases": others})

    change_settings(without)
