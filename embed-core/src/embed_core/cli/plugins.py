"""`embed plugins`."""

from __future__ import annotations

import click

from embed_core.cli._common import format_option, show


@click.command("plugins")
@format_option
def command(form: str) -> None:
    """List the installed packages that provide models."""
    from embed_core import installed_providers

    show(
        [
            {"provider": plugin.name, "package": plugin.package, "version": plugin.version, "class": plugin.target}
            for plugin in installed_providers()
        ],
        form,
    )
