"""`embed index` and `embed search`, as people and programs use them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from embed_core import MockEmbedding
from embed_core.cli import main
from embed_core.cli._common import short_path
from embed_core.errors import SpaceMismatchError
from embed_core.index import Index

LONG = " ".join(f"word{number}" for number in range(200))


def run(*args, **options):
    return CliRunner().invoke(main, [str(one) for one in args], **options)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(home, tmp_path, monkeypatch):
    folder = tmp_path / "here"
    (folder / "docs").mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "80")
    Path("docs/a.txt").write_text("first words\n\nmore of it")
    Path("docs/b.md").write_text(f"# Head\n\n{LONG}")
    Path("docs/c.bin").write_bytes(bytes(range(256)))


@pytest.fixture
def indexed():
    assert run("index", "docs", "--into", "idx", "-m", "mock:?embed_dim=4").exit_code == 0


def test_an_index_is_made_brought_up_to_date_and_told_in_a_line(home):
    made = run("index", "docs", "--into", "idx", "-m", "mock:?embed_dim=4")
    assert made.stdout == "2 added; `idx` holds 4 chunks of 2 files\n"
    assert made.stderr == "Skipped 1:\n  docs/c.bin is binary\n"
    Path("docs/a.txt").write_text("other words")
    Path("docs/b.md").unlink()
    again = run("index", "docs", "--into", "idx")  # with the model that built it
    assert again.stdout == "1 changed, 1 removed; `idx` holds 1 chunk of 1 file\n"
    assert run("index", "docs", "--into", "idx").stdout.startswith("nothing changed; ")
    assert (home / "cache" / "vectors.sqlite").exists()
    assert not Path("idx/cache.sqlite").exists()


def test_texts_that_the_model_cut_are_told_with_the_remedy():
    model = "mock:?embed_dim=4&max_input_tokens=100"
    made = run("index", "docs", "--into", "idx", "-m", model)
    summary, loss = made.stdout.splitlines()
    assert summary == "2 added; `idx` holds 4 chunks of 2 files"
    assert loss.startswith("The model cut 2 texts at its length; ")
    assert "`--chunk-size N`" in loss
    assert "`long_text=mean`" in loss
    assert run("index", "docs", "--into", "idx").stdout.count("\n") == 1
    for arguments in (["--chunk-size", "300", "-m", model], ["-m", f"{model}&long_text=mean"]):
        whole = run("index", "docs", "--into", f"idx{len(arguments)}", *arguments)
        assert (whole.exit_code, whole.stdout.count("\n")) == (0, 1)


def test_a_new_index_gets_the_default_model(monkeypatch):
    monkeypatch.setenv("EMBED_MODEL", "mock:?embed_dim=6")
    made = run("index", "docs", "--into", "idx")
    assert "the default makes the vectors: `mock:mock`" in made.stderr
    assert Index("idx").stats().dimension == 6
    assert "default" not in run("index", "docs", "--into", "idx").stderr


def test_a_cache_that_cannot_be_used_is_told_in_lines_and_with_debug_in_full(tmp_path):
    home = tmp_path / "no folder"
    home.write_text("")
    said = {}
    for more in ((), ("--debug",)):
        command = [
            sys.executable,
            "-c",
            "from embed_core.cli import main; main()",
            "text",
            "words",
            "-m",
            "mock:?embed_dim=2",
            *more,
        ]
        environment = {**os.environ, "EMBED_HOME": str(home)}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        assert done.stdout.startswith("[")
        said[more] = done.stderr
    assert "Warning: the embeddings cache failed and is bypassed for 60 seconds: the store `" in said[()]
    assert all(line.startswith("Warning: ") for line in said[()].splitlines())
    assert "Traceback" in said["--debug",]


def test_the_status_tells_of_a_named_file_that_was_not_read_and_of_nothing_read():
    result = run("index", "docs/c.bin", "--into", "idx", "-m", "mock")
    assert (result.exit_code, result.stdout) == (1, "Nothing to index; `idx` holds no index\n")
    Path("empty").mkdir()
    assert run("index", "empty", "--into", "idx", "-m", "mock").exit_code == 1
    assert run("index", "docs", "--into", "idx", "-m", "mock").exit_code == 0
    assert run("index", "docs", "--into", "idx").exit_code == 0
    mixed = run("index", "docs/a.txt", "docs/c.bin", "--into", "idx")
    assert (mixed.exit_code, mixed.stdout.startswith("nothing changed; ")) == (1, True)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is POSIX")
def test_a_full_disk_is_an_error_of_ours():
    limited = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (@, @)); "
        "from embed_core.index import Index; from embed_core.errors import StoreError\n"
        "from embed_core import MockEmbedding\n"
        "from embed_core.kvstore import MemoryKVStore\n"
        "try: Index('full', MockEmbedding(embeddings_cache=MemoryKVStore())).add('docs')\n"
        "except StoreError as error: print(error)"
    )
    for limit in (0, 100):  # no byte; enough for the lock and not for a table
        command = [sys.executable, "-c", limited.replace("@", str(limit))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "cannot be read or written (" in done.stdout, done.stderr


def test_no_private_key_is_embedded_be_it_in_a_file_or_a_row(home):
    body = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"
    key = f"-----BEGIN EC PRIVATE KEY-----\n{body}\n-----END EC PRIVATE KEY-----\n"
    Path("docs/deploy.txt").write_text(f"The key of the server:\n{key}")
    Path("rows.jsonl").write_text(json.dumps({"id": "k", "text": key}) + '\n{"id": "a", "text": "words"}\n')
    for arguments, name in (
        (["docs"], "docs/deploy.txt"),
        (["rows.jsonl", "--from", "jsonl"], "rows.jsonl record `k`"),
    ):
        told = run("index", *arguments, "--into", "idx", "-m", "mock")
        assert f"  {name} holds a private key or certificate" in told.stderr.splitlines()
    for path in [*Path("idx").rglob("*"), *home.rglob("*")]:
        assert path.is_dir() or body.encode() not in path.read_bytes()


def test_many_skipped_files_are_listed_on_request():
    for number in range(30):
        Path(f"docs/{number}.bin").write_bytes(b"\0")
    told = run("index", "docs", "--into", "idx", "-m", "mock").stderr.splitlines()
    assert (told[0], len(told), told[-1]) == ("Skipped 31:", 22, "  and 11 more (`--verbose` lists all)")
    assert len(run("index", "docs", "--into", "idx", "--verbose").stderr.splitlines()) == 32


def test_a_bar_is_shown_on_request_and_on_standard_error():
    result = run("index", "docs", "--into", "idx", "-m", "mock", "--progress")
    assert "Indexing: 100%" in result.stderr
    assert "Indexing" not in result.stdout
    Path("docs/a.txt").write_text("other words")
    assert "Indexing" not in run("index", "docs", "--into", "idx").stderr


@pytest.mark.usefixtures("indexed")
class TestSearch:
    def test_a_table_fits_the_terminal(self):
        output = run("search", "idx", LONG, "-k", "3").stdout
        lines = output.splitlines()
        assert any(line.endswith("  docs/b.md:3") for line in lines)
        assert max(map(len, lines)) <= 80
        assert any(line.endswith("…") for line in lines)
        assert sum(line != "" and not line.startswith(" ") for line in lines) == 3

    def test_json_is_complete_and_stable(self):
        hits = json.loads(run("search", "idx", "first words\n\nmore of it", "-k", "1", "-f", "json").stdout)
        assert hits == [
            {
                "score": pytest.approx(1, abs=1e-6),
                "source": os.path.realpath("docs/a.txt"),
                "unit": "line",
                "first": 1,
                "last": 3,
                "start": 0,
                "end": 23,
                "text": "first words\n\nmore of it",
                "id": None,
                "metadata": {},
            }
        ]

    def test_pages_are_told_as_pages(self, pdf):
        Path("docs/two.pdf").write_bytes(pdf("Some words", "Some more words"))
        run("index", "docs", "--into", "idx")
        assert "docs/two.pdf:page 1-2" in run("search", "idx", "words", "-k", "9").stdout

    def test_what_could_steer_a_terminal_is_not_printed(self):
        Path("docs/evil\x1b[2J.txt").write_text("red \x1b[31m words")
        run("index", "docs", "--into", "idx")
        output = run("search", "idx", "red", "-k", "9").stdout
        assert "\x1b" not in output
        assert "red \N{REPLACEMENT CHARACTER}[31m words" in output

    def test_the_model_that_built_it_is_used_and_another_refused(self):
        assert run("search", "idx", "words", "-m", "mock:?embed_dim=4").exit_code == 0
        for command in (["search", "idx", "words"], ["index", "docs", "--into", "idx"]):
            refused = run(*command, "-m", "mock:?embed_dim=5")
            assert refused.exit_code == 1
            (line,) = refused.stderr.splitlines()
            assert line.startswith("Error: the index in `")
            assert "`embed_dim` was 4 and is 5" in line
        with pytest.raises(SpaceMismatchError):
            Index("idx", MockEmbedding(embed_dim=5)).search("words")

    def test_a_named_file_that_is_gone_is_told(self):
        file = min(Path("docs").iterdir())
        file.unlink()
        gone = run("index", str(file), "--into", "idx")
        assert gone.exit_code == 1
        assert f"{file} is not there, so it stays in the index; `--prune` (" in gone.stderr

    def test_an_empty_index_is_told(self):
        for path in Path("docs").iterdir():
            path.unlink()
        kept = run("index", "docs", "--into", "idx")
        assert "docs holds no file, so 3 files of it stay in the index; `--prune` (" in kept.stderr
        assert run("index", "docs", "--into", "idx", "--prune").stdout.startswith("3 removed; ")
        result = run("search", "idx", "words", "-f", "json")
        assert (result.exit_code, result.stdout) == (0, "[]\n")
        assert result.stderr == "The index in `idx` is empty\n"

    @pytest.mark.parametrize(
        ("arguments", "status", "message"),
        [
            (["search", "docs", "words"], 1, "there is no index in"),
            (["search", "nowhere", "words"], 1, "there is no index in"),
            (["search", "idx", " "], 1, "the question is blank"),
            (["search", "idx", "words", "-k", "0"], 2, "0 is not in the range"),
            (["search", "idx"], 1, "the question is blank"),
            (["search", "idx", "-"], 1, "the question is blank"),
            (["index", "nothing", "--into", "idx"], 1, "there is no file or folder"),
            (["index", "docs", "--into", "docs", "-m", "mock"], 1, "holds other things"),
            (["index", "docs", "--into", "new", "-m", "mock", "--chunk-size", "0"], 1, "`chunk_size` is 0"),
            (["index", "docs"], 2, "Missing option '--into'"),
        ],
    )
    def test_a_mistake_is_told_in_one_line(self, arguments, status, message):
        result = run(*arguments)
        assert result.exit_code == status
        assert message in result.stderr.splitlines()[-1]
        assert "Traceback" not in result.output


@pytest.mark.usefixtures("indexed")
def test_the_content_is_listed_and_removed():
    Path("docs/a.txt").rename("docs/renamed.txt")
    run("index", "docs/renamed.txt", "--into", "idx")
    head, *rows = run("sources", "idx").stdout.splitlines()
    assert head.split() == ["source", "records", "chunks", "gone"]
    assert [row.split() for row in rows] == [
        ["docs/a.txt", "0", "1", "gone"],
        ["docs/b.md", "0", "3"],
        ["docs/c.bin", "0", "0"],
        ["docs/renamed.txt", "0", "1"],
    ]
    assert run("remove", "idx", "docs/a.txt", "docs/c.bin").stdout == "2 removed\n"
    listed = json.loads(run("sources", "idx", "-f", "json").stdout)
    assert [(Path(row["source"]).name, row["gone"]) for row in listed] == [("b.md", False), ("renamed.txt", False)]
    assert run("remove", "idx", "docs/a.txt").exit_code == 1


def test_a_path_is_short_where_it_lies_in_the_current_folder():
    here = os.path.realpath(".")
    assert short_path(f"{here}{os.sep}docs{os.sep}a.txt") == str(Path("docs", "a.txt"))
    assert short_path(os.path.realpath("/elsewhere/a")) == os.path.realpath("/elsewhere/a")
