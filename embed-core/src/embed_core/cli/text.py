"""`embed text`: vectors on standard output."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal

import click

from embed_core.cli._common import decode, open_cache

if TYPE_CHECKING:
    from embed_core import Vectors

_BATCH = 1024  # queries embedded before the first of them is printed

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
    "--kind", type=click.Choice(["query", "text"]), default="text", show_default=True, help="What the words are."
)
@click.option("-f", "--format", "form", type=click.Choice([*_LINES, "npy"]), default="json", show_default=True)
@click.option(
    "--cache/--no-cache", default=True, show_default=True, help="Keep vectors for the next time, and use those kept."
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
    """Embed some words and print the vectors.

    Each TEXT is embedded on its own and gives one line, or one row of the array. `hex`, `base64` and `npy` hold
    little-endian 32-bit floats. The line end at the end of a file is no part of the text.
    """
    inputs = _inputs(texts, file, lines=lines)
    if form == "npy" and sys.stdout.isatty():
        msg = "`-f npy` is binary; send it to a file, as in `embed text WORDS -f npy > vectors.npy`"
        raise click.UsageError(msg)
    blocks = _embed(spec, kind, inputs, cache=cache)
    if form == "npy":
        _write_npy(blocks)
        return
    for block in blocks:
        click.echo("\n".join(map(_LINES[form], block)))


def _inputs(texts: tuple[str, ...], file: BinaryIO | None, *, lines: bool) -> Iterable[str]:
    if lines and file is None:
        msg = "`--lines` goes with `-i FILE`"
        raise click.UsageError(msg)
    if bool(texts) == (file is not None):
        msg = "give either some words or `-i FILE`"
        raise click.UsageError(msg)
    if file is None:
        return texts
    return (decode(file, part, number) for number, part in enumerate(file if lines else [file.read()]))


def _embed(spec: str, kind: Literal["query", "text"], inputs: Iterable[str], *, cache: bool) -> Iterator[Vectors]:
    from embed_core import resolve_embed_model

    model = resolve_embed_model(spec)
    if cache and model.embeddings_cache is None:
        model.embeddings_cache = open_cache()
    if kind == "text":
        return model.stream_texts(inputs)
    rest = iter(inputs)
    return map(model.embed_queries, iter(lambda: list(islice(rest, _BATCH)), []))


def _write_npy(blocks: Iterable[Vectors]) -> None:
    """Write one array of shape (n, dimension)."""
    import numpy as np

    empty: Vectors = np.empty((0, 0), dtype=np.float32)
    vectors = np.concatenate(list(blocks) or [empty]).astype("<f4", copy=False)
    stdout: Any = SimpleNamespace(
        write=sys.stdout.buffer.write
    )  # `numpy.save` seeks in a file, even where it is a pipe
    np.save(stdout, vectors)
    sys.stdout.buffer.flush()
