"""What `embed index` may cost, and says it would."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from embed_core import BaseEmbedding
    from embed_core.index import Changes

F = TypeVar("F", bound=Callable[..., Any])


def cost_options(command: F) -> F:
    """Add `--dry-run`, `--max-cost` and `--batch-api`."""
    for option in (
        click.option("--batch-api", "batch_jobs", is_flag=True, help="Use the provider's jobs: cheaper, within a day."),
        click.option("--max-cost", type=click.FloatRange(min=0, min_open=True), metavar="USD", help="Spend no more."),
        click.option("--dry-run", is_flag=True, help="Only say what would be done, sent and paid."),
    ):
        command = option(command)
    return command


def limit_cost(model: BaseEmbedding, dollars: float | None) -> None:
    """Let a model spend no more.

    Raises:
        ConfigurationError: it does not know what it spends.
    """
    from embed_core.errors import ConfigurationError

    if dollars is None:
        return
    if "max_cost" not in type(model).model_fields:
        msg = f"`{label(model)}` knows no prices, so `--max-cost` cannot hold; leave it out"
        raise ConfigurationError(msg)
    model.max_cost = dollars


def forecast(changes: Changes, model: BaseEmbedding) -> str:
    """Return what a dry run found."""
    from embed_core import Estimate

    found = changes.estimate or Estimate()
    to_do = f"{changes.added} to add, {changes.changed} to change, {changes.removed} to remove"
    inputs = f"{found.inputs} input{'' if found.inputs == 1 else 's'}, {found.cached} of them in the cache"
    price = f"no price is known for `{label(model)}`" if found.price is None else f"{found.price:.6f} US dollars"
    return f"Dry run: {to_do}; nothing was sent or written\n{inputs}; about {found.tokens} tokens to send; {price}"


def label(model: BaseEmbedding) -> str:
    """Return a model's provider and name."""
    return f"{model.provider or model.class_name()}:{model.model_name}"
