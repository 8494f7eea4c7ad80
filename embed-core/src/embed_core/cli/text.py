"""`embed text`: vectors on standard output."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal

import click

from embed_core.cli._common import decode, input_file, open_cache

if TYPE_CHECKING:
    from embed_core import Vectors

_STDIN = "<stdin>"  # Python's name of it
_BATCH = 1024  # texts embedded before the first of their vectors is printed

_LINES: Final[Mapping[str, Callable[[Any], str]]] = {
    "json": lambda vector: json.dumps(vector.tolist()),
    "csv": lambda vector: ",".join(map(repr, vector.tolist())),
    "hex": lambda vector: vector.astype("<f4").tobytes().hex(),
    "base64": lambda vector: base64.b64encode(vector.astype("<f4").tobytes()).decode(),
}


@click.command("text")
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option("-i", "--input", "file", type=click.File("rb"), help="Embed a file's content; `-` is standard input.")
@click.option("--lines", is_flag=True, help="Take every line of the file as a text of its own.")
@click.option(
    "-m",
    "--model",
    "spec",
    metavar="SPEC",
    default="default",
    show_default=True,
    help="`provider:model`, with options as in `mock:?embed_dim=4`, an alias, or `default`.",
)
@click.option(
    "--kind", type=click.Choice(["query", "text"]), default="text", show_default=True, help="Kind of the texts."
)
@click.option("-f", "--format", "form", type=click.Choice([*_LINES, "npy"]), default="json", show_default=True)
@click.option(
    "--cache/--no-cache", default=True, show_default=True, help="Keep vectors in a cache, and use the vectors in it."
)
def command(
    texts: tuple[str, ...],
    file: BinaryIO | None,
    lines: bool,
    spec: str,
    kind: Literal["query", "text"],
    form: str,
    cache: bool,
) -> None:
    """Embed texts and print the vectors.

    Each TEXT is embedded on its own and gives one line, or one row of the array. `-`, or a pipe without TEXT, is
    standard input. `hex`, `base64` and `npy` hold little-endian 32-bit floats. The line end at the end of a file is no
    part of the text.
    """
    from embed_core import resolve_embed_model

    inputs = _inputs(texts, file, lines=lines)
    if form == "npy" and sys.stdout.isatty():
        msg = "`-f npy` is binary; send it to a file, as in `embed text WORDS -f npy > vectors.npy`"
        raise click.UsageError(msg)
    model = resolve_embed_model(spec)
    if cache and model.embeddings_cache is None:
        model.embeddings_cache = open_cache()
    embed = model.embed_queries if kind == "query" else model.embed_texts
    if form == "npy":
        _write_npy(embed(inputs))
        return
    while batch := list(islice(inputs, _BATCH)):
        click.echo("\n".join(map(_LINES[form], embed(batch))))


def _inputs(texts: tuple[str, ...], file: BinaryIO | None, *, lines: bool) -> Iterator[str]:
    file = input_file(file, texts, "TEXT")
    if file is not None:
        parts = iter(file) if lines else iter([file.read()])
        first = next(parts, b"")
        if not first and lines and file.name != _STDIN:
            return iter(())
        if not first:
            raise click.ClickException(f"`{file.name}` is empty, so there is no text to embed; write one into it")
        return (decode(file, part, number) for number, part in enumerate(chain([first], parts)))
    if lines:
        msg = "`--lines` goes with `-i FILE` or standard input"
        raise click.UsageError(msg)
    return iter(texts)


def _write_npy(vectors: Vectors) -> None:
    import numpy as np

    # `numpy.save` asks a file for its position, which a pipe does not have.
    stdout: Any = SimpleNamespace(write=sys.stdout.buffer.write)
    np.save(stdout, vectors.astype("<f4", copy=False))
    sys.stdout.buffer.flush()
