"""`embed text`: vectors on standard output."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal

import click

from embed_core.cli._common import cache_option, decode, model_option, open_model

if TYPE_CHECKING:
    from embed_core import BaseEmbedding, Vectors

_BLOCK = 1024  # queries embedded before the first of them is printed

_LINES: Final[Mapping[str, Callable[[Any], str]]] = {
    "json": lambda row: json.dumps(row.tolist()),
    "csv": lambda row: ",".join(map(repr, row.tolist())),
    "hex": lambda row: row.astype("<f4").tobytes().hex(),
    "base64": lambda row: base64.b64encode(row.astype("<f4").tobytes()).decode(),
}


@click.command("text")
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option("-i", "--input", "file", type=click.File("rb"), help="Embed a file's content; `-` is standard input.")
@click.option("--lines", is_flag=True, help="Take every line of the file as a text of its own.")
@model_option
@click.option("--kind", type=click.Choice(["query", "text"]), default="text", show_default=True, help="What it is.")
@click.option("-f", "--format", "form", type=click.Choice([*_LINES, "npy"]), default="json", show_default=True)
@cache_option
def command(
    texts: tuple[str, ...],
    file: BinaryIO | None,
    lines: bool,
    spec: str,
    kind: Literal["query", "text"],
    form: str,
    use_cache: bool,
) -> None:
    """Embed some words and print the vectors.

    Each TEXT is embedded on its own and gives one line, or one row of the array. `hex`, `base64` and `npy` hold
    little-endian 32-bit floats. The line end at the end of a file is no part of the text.
    """
    inputs = _inputs(texts, file, lines=lines)
    if form == "npy" and sys.stdout.isatty():
        msg = "`-f npy` is binary; send it to a file, as in `embed text WORDS -f npy > vectors.npy`"
        raise click.UsageError(msg)
    blocks = _embedded(open_model(spec, use_cache=use_cache), kind, inputs)
    if form == "npy":
        _write_npy(blocks)
    else:
        _write_lines(blocks, _LINES[form])


def _inputs(texts: tuple[str, ...], file: BinaryIO | None, *, lines: bool) -> Iterable[str]:
    if texts and file is not None:
        msg = "give some words or `-i FILE`, not both"
        raise click.UsageError(msg)
    if file is None and (lines or not texts):
        msg = "`--lines` goes with `-i FILE`" if lines else "give some words, or `-i FILE`"
        raise click.UsageError(msg)
    if file is None:
        return texts
    return _decoded(file, file if lines else [file.read()])


def _decoded(file: BinaryIO, parts: Iterable[bytes]) -> Iterator[str]:
    return (decode(file, part, number) for number, part in enumerate(parts))


def _embedded(model: BaseEmbedding, kind: Literal["query", "text"], inputs: Iterable[str]) -> Iterator[Vectors]:
    if kind == "text":
        return model.stream_texts(inputs)
    from embed_core._stream import windows

    return map(model.embed_queries, windows(kind, inputs, _BLOCK))


def _write_lines(blocks: Iterable[Vectors], line: Callable[[Any], str]) -> None:
    for block in blocks:
        click.echo("\n".join(map(line, block)))


def _write_npy(blocks: Iterable[Vectors]) -> None:
    """Write one array of shape (n, dimension); to a pipe, which `numpy.save` cannot."""
    import numpy as np

    none: Vectors = np.empty((0, 0), dtype=np.float32)
    vectors = np.concatenate(list(blocks) or [none]).astype("<f4", copy=False)
    stream = sys.stdout.buffer
    np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(vectors))
    stream.write(vectors.data if vectors.size else b"")
    stream.flush()
