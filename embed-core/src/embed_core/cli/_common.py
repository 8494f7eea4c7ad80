"""What commands share: the model, its cache, and how a listing looks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import click

from embed_core._arguments import looks_like_a_secret
from embed_core.cli._terminal import printable

if TYPE_CHECKING:
    from embed_core import BaseEmbedding
    from embed_core.index import Index
    from embed_core.kvstore import SQLiteKVStore

F = TypeVar("F", bound=Callable[..., Any])


def model_option(command: F) -> F:
    """Add `-m/--model` as the parameter `spec: str`; give it to `open_model`."""
    return click.option(
        "-m",
        "--model",
        "spec",
        metavar="SPEC",
        default="default",
        show_default=True,
        help="`provider:model`, with options as in `mock:?embed_dim=4`, an alias, or `default`.",
    )(command)


def cache_option(command: F) -> F:
    """Add `--cache/--no-cache` as the parameter `use_cache: bool`; give it to `open_model`."""
    return click.option(
        "--cache/--no-cache",
        "use_cache",
        default=True,
        show_default=True,
        help="Keep vectors for the next time, and use those kept.",
    )(command)


def format_option(command: F) -> F:
    """Add `-f/--format` as the parameter `form: str`; give it to `show`."""
    return click.option(
        "-f", "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
    )(command)


def open_model(spec: str, *, use_cache: bool = True) -> BaseEmbedding:
    """Return the model that a spec, an alias or `default` names, with the user's cache where it has none of its own."""
    from embed_core import resolve_embed_model

    model = resolve_embed_model(spec)
    if use_cache and model.embeddings_cache is None:
        model.embeddings_cache = open_cache()
    return model


@contextmanager
def open_index(
    folder: str, spec: str | None, *, new: bool = False, dry_run: bool = False, **options: Any
) -> Iterator[Index]:
    """Lend the index in a folder, with the model named or else its own, and the user's cache.

    Args:
        folder: where the index is, or is to be.
        spec: names a model.
        new: whether there may be no index yet; without `spec` it gets the default model.
        dry_run: whether nothing may be written, not even an empty cache.
        options: for `Index`.

    Raises:
        ConfigurationError: there is no index, and it may not be new.
        SpaceMismatchError: the index was built with another model.
    """
    from embed_core.index import Index

    index = Index(folder, spec, **options)
    if new and spec is None and not index.exists:
        index = Index(folder, "default", **options)
    with closing(open_cache()) as cache:
        if index.model.embeddings_cache is None and (cache_path().exists() or not dry_run):
            index.model.embeddings_cache = cache
        with index.model:
            yield index


def checked_spec(spec: str, *, name: str) -> str:
    """Return a spec that may be stored under a name: its provider is there, and it holds no secret.

    Raises:
        EmbedError: it may not, and why.
    """
    from embed_core._registry import plugin_of
    from embed_core.errors import ConfigurationError

    provider = plugin_of(spec, alias=name)
    for pair in spec.partition("?")[2].split("&"):
        option = pair.partition("=")[0]
        if looks_like_a_secret(option):
            msg = f"option `{option}` looks like a secret, and settings are no safe place; put it in the environment"
            raise ConfigurationError(f"{msg}, where `{provider.package}` reads it")
    return spec.strip()


def cache_path() -> Path:
    """Return the file that keeps the user's vectors, whether it is there or not."""
    from embed_core._settings import user_folder

    return user_folder("cache") / "vectors.sqlite"


def open_cache() -> SQLiteKVStore:
    """Return the store of the user's vectors, made on first use."""
    from embed_core.kvstore import SQLiteKVStore

    return SQLiteKVStore(cache_path())


def decode_file(file: BinaryIO) -> str:
    """Return a file's text, without the line end at its end."""
    return decode(file, file.read())


def decode(file: BinaryIO, data: bytes, line: int = 0) -> str:
    """Return a part of a file as text, without the line end at its end; `line` counts from 0.

    Raises:
        ClickException: it is no UTF-8.
    """
    encoding = "utf-8" if line else "utf-8-sig"  # Windows programs put a mark at the start of a file
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        where = f"byte {error.start} of line {line + 1}" if line else f"byte {error.start}"
        msg = f"`{file.name}` is no UTF-8 text ({where}: {error.reason}); convert it, as with `iconv -t UTF-8`"
        raise click.ClickException(msg) from error
    return text.removesuffix("\n").removesuffix("\r")


def show(rows: Sequence[Mapping[str, Any]], form: str) -> None:
    """Print records with the same keys as a table with aligned columns, or as JSON."""
    if form == "json":
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    if not rows:
        return
    cells = [[str(name) for name in rows[0]], *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return printable(", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))
