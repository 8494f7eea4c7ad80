"""`embed text`: the right vectors, written so that any program can read them."""

import base64
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from embed_core import MockEmbedding, resolve_embed_model
from embed_core._plugins import EMBEDDINGS
from embed_core.cli import main
from embed_core.kvstore import SQLiteKVStore

WORDS = ["some words", "other words, with a comma", "ö"]
EMBED = Path(sys.executable).with_name("embed")


def run(*args: str, **options) -> Result:
    return CliRunner().invoke(main, ["text", *args], **options)


@pytest.fixture(autouse=True)
def _own_home(home):
    """Every test has a cache of its own."""


@pytest.fixture
def expected():
    return MockEmbedding(embed_dim=4).embed_texts(WORDS)


READERS = {
    "json": json.loads,
    "csv": lambda line: [float(number) for number in line.split(",")],
    "hex": lambda line: np.frombuffer(bytes.fromhex(line), "<f4"),
    "base64": lambda line: np.frombuffer(base64.b64decode(line), "<f4"),
}


@pytest.mark.parametrize("form", READERS)
def test_each_text_gives_one_line_with_exactly_its_vector(expected, form):
    result = run(*WORDS, "-m", "mock?embed_dim=4", "-f", form)
    assert result.exit_code == 0
    read = np.array([READERS[form](line) for line in result.stdout.splitlines()], dtype=np.float32)
    assert np.array_equal(read, expected)


def test_npy_is_one_array_even_through_a_pipe(expected):
    done = subprocess.run(
        [EMBED, "text", *WORDS, "-m", "mock?embed_dim=4", "-f", "npy"], stdout=subprocess.PIPE, check=True
    )
    read = np.load(io.BytesIO(done.stdout))
    assert read.dtype == np.dtype("<f4")
    assert np.array_equal(read, expected)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no pseudo-terminal")
def test_npy_is_not_written_to_a_terminal():
    ours, theirs = os.openpty()
    try:
        done = subprocess.run(
            [EMBED, "text", "a", "-m", "mock", "-f", "npy"], stdout=theirs, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 2
    assert b"send it to a file" in done.stderr


def test_one_text_is_one_json_list():
    assert json.loads(run("some words", "-m", "mock").stdout) == MockEmbedding().get_text_embedding("some words")


KINDS = """
from embed_core import MockEmbedding

class Kinds(MockEmbedding):
    def _get_query_embeddings(self, queries):
        return [[1.0, len(query)] for query in queries]

    def _get_text_embeddings(self, texts):
        return [[0.0, len(text)] for text in texts]
"""


@pytest.mark.parametrize(("kind", "first"), [("query", 1.0), ("text", 0.0)])
def test_the_kind_is_what_the_model_is_told(install, kind, first, tmp_path):
    install("kinds", {EMBEDDINGS: {"kinds": "kinds_models:Kinds"}}, {"kinds_models": KINDS})
    assert json.loads(run("abc", "-m", "kinds?embed_dim=2", "--kind", kind).stdout) == [first, 3.0]
    file = tmp_path / "lines.txt"
    file.write_text("".join(f"{'x' * (number % 7 + 1)}\n" for number in range(3000)))
    result = run("-i", str(file), "--lines", "-m", "kinds?embed_dim=2", "--kind", kind)
    assert [json.loads(line) for line in result.stdout.splitlines()] == [[first, n % 7 + 1] for n in range(3000)]


@pytest.mark.parametrize("content", ["some words", "some words\n", "some words\r\n", "\ufeffsome words\n"])
def test_a_file_is_one_text_without_its_last_line_end(tmp_path, content):
    file = tmp_path / "words.txt"
    file.write_bytes(content.encode())
    assert run("-i", str(file), "-m", "mock").stdout == run("some words", "-m", "mock").stdout


def test_inner_line_ends_belong_to_the_text(tmp_path):
    file = tmp_path / "words.txt"
    file.write_bytes(b"one\n\ntwo\n\n")
    assert run("-i", str(file), "-m", "mock").stdout == run("one\n\ntwo\n", "-m", "mock").stdout


@pytest.mark.parametrize("named", [("-i", "-"), ("-",), ()])
def test_standard_input_is_a_file_too(named):
    assert run(*named, "-m", "mock", input="some words\n").stdout == run("some words", "-m", "mock").stdout
    lines = run(*named, "--lines", "-m", "mock", input="some words\nother words\n")
    assert lines.stdout == run("some words", "other words", "-m", "mock").stdout


@pytest.mark.parametrize("more", [(), ("--lines",), ("-f", "npy"), ("--lines", "-f", "npy")])
@pytest.mark.parametrize("named", [("-i", "-"), ("-",), ()])
def test_empty_standard_input_is_an_error(named, more):
    command = [EMBED, "text", *named, *more, "-m", "mock"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"Error: `<stdin>` is empty" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there is no pseudo-terminal")
@pytest.mark.parametrize("command", [["text", "-m", "mock"], ["search", "idx"]])
def test_nobody_waits_for_words_typed_into_a_terminal(command):
    ours, theirs = os.openpty()
    try:
        done = subprocess.run([EMBED, *command], stdin=theirs, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 2
    assert b"`-` alone is standard input" in done.stderr


def test_lines_are_texts_in_their_order(tmp_path):
    file = tmp_path / "words.txt"
    file.write_bytes("\ufeffone\r\ntwo\u2028still two\r\n\r\nlast".encode())
    result = run("-i", str(file), "--lines", "-m", "mock")
    assert result.stdout == run("one", "two\u2028still two", "", "last", "-m", "mock").stdout


@pytest.mark.parametrize("form", ["json", "npy"])
def test_an_empty_file_has_no_lines(tmp_path, form):
    file = tmp_path / "empty.txt"
    file.touch()
    result = run("-i", str(file), "--lines", "-m", "mock", "-f", form)
    assert result.exit_code == 0
    if form == "npy":
        assert np.load(io.BytesIO(result.stdout_bytes)).shape == (0, 8)
    else:
        assert result.stdout == ""


def test_an_empty_file_is_no_text(tmp_path):
    file = tmp_path / "empty.txt"
    file.touch()
    result = run("-i", str(file), "-m", "mock")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "empty.txt` is empty" in result.stderr


@pytest.mark.parametrize(
    ("content", "args", "where"),
    [(b"abc\xff", [], "byte 3"), (b"abc\nd\xe9f\n", ["--lines"], "byte 1 of line 2")],
)
def test_what_is_no_utf_8_is_told_with_its_place(tmp_path, content, args, where):
    file = tmp_path / "latin.txt"
    file.write_bytes(content)
    result = run("-i", str(file), "-m", "mock", *args)
    assert result.exit_code == 1
    assert f"latin.txt` is no UTF-8 text ({where}" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="arguments are Unicode there")
def test_words_that_are_no_utf_8_are_refused():
    done = subprocess.run([EMBED, "text", "fine", b"\xff", "-m", "mock"], capture_output=True, check=False)
    assert done.returncode == 1
    assert b"surrogate" in done.stderr
    assert done.stdout == b""


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["a", "-i", "-"], "give either TEXT or `-i FILE`"),
        (["a", "-"], "`-` alone is standard input"),
        (["a", "--lines"], "`--lines` goes with `-i FILE`"),
        (["-i", "/no/such/file"], "No such file"),
        (["a", "-f", "xml"], "xml"),
        (["a", "--kind", "image"], "image"),
    ],
)
def test_wrong_usage_is_told_with_code_2(args, words):
    result = run(*args, "-m", "mock")
    assert result.exit_code == 2
    assert words in result.stderr


def test_vectors_are_kept_for_the_next_time(home):
    run("some words", "-m", "mock")
    run("some words", "other words", "-m", "mock")
    store = SQLiteKVStore(home / "cache" / "vectors.sqlite")
    assert len(store) == 2
    store.close()
    assert run("new words", "-m", "mock", "--no-cache").exit_code == 0
    assert len(store) == 2
    store.close()


def test_a_cache_that_cannot_be_used_loses_no_vector(tmp_path, monkeypatch):
    blocked = tmp_path / "a file"
    blocked.touch()
    monkeypatch.setenv("EMBED_HOME", str(blocked))
    result = run("some words", "-m", "mock")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == MockEmbedding().get_text_embedding("some words")


def test_the_model_is_the_default_where_none_is_named(monkeypatch):
    monkeypatch.setenv("EMBED_MODEL", "mock?embed_dim=3")
    assert len(json.loads(run("a").stdout)) == 3
    assert type(resolve_embed_model("default")) is MockEmbedding


def test_without_any_choice_of_a_model_the_line_says_what_to_do():
    result = run("a")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: no model is chosen, and ")
    assert "embed models default SPEC" in result.stderr
