"""`embed search`."""

from __future__ import annotations

from typing import BinaryIO

import click

from embed_core.cli._common import count_option, decode, format_option, input_file, open_index, show_hits


@click.command("search")
@click.argument("folder", type=click.Path())
@click.argument("question", required=False)
@click.option("-i", "--input", "file", type=click.File("rb"), help="Ask a file's content; `-` is standard input.")
@count_option
@click.option("--prefix", default="", metavar="TEXT", help="Only records whose id begins with it.")
@click.option("-m", "--model", "spec", metavar="SPEC", help="Insist on a model; a model with other vectors is refused.")
@format_option
def command(
    folder: str, question: str | None, file: BinaryIO | None, count: int, prefix: str, spec: str | None, form: str
) -> None:
    """Search an index by meaning.

    The question is embedded by the model that built the index, and compared with every chunk in it. The score is a
    cosine, at most 1. `-`, or a pipe without QUESTION, is standard input.
    """
    file = input_file(file, [] if question is None else [question], "a QUESTION")
    if file is not None:
        question = decode(file, file.read())
    with open_index(folder, spec) as index:
        hits = index.search(question or "", count, prefix=prefix)
    if not hits:
        reason = "holds no such records" if prefix else "is empty"
        click.echo(f"The index in `{folder}` {reason}", err=True)
    show_hits(hits, form)
