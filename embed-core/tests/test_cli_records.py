"""`embed index --from`, `similar`, `collections` and what a run costs, as people and programs use them."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from embed_core.cli import main
from embed_core.index import Index

EMBED = Path(sys.executable).with_name("embed")
MODEL = ("-m", "mock:?embed_dim=4")
QUOTES = "id,text,author,year\n1,The cat sat.,Ann,1999\n2,The dog ran.,Bob,\n3,The fish swam.,Ann,2001\n"


def run(*args, **options):
    return CliRunner().invoke(main, [str(one) for one in args], **options)


def ids(folder="idx"):
    return sorted(hit.id for hit in Index(folder).search("anything", k=99))


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(home, tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "80")
    Path("quotes.csv").write_text(QUOTES)


@pytest.fixture
def indexed():
    assert run("index", "quotes.csv", "--from", "csv", "--into", "idx", *MODEL).exit_code == 0


class TestIndex:
    def test_rows_are_made_searchable_and_brought_up_to_date(self):
        made = run("index", "quotes.csv", "--from", "csv", "--into", "idx", *MODEL)
        assert made.stdout == "3 added; `idx` holds 3 chunks of 3 records\n"
        Path("quotes.csv").write_text(QUOTES.replace("cat", "cow").replace("2,The dog ran.,Bob,\n", "2,\n4,,,\n"))
        again = run("index", "quotes.csv", "--from", "csv", "--into", "idx")
        assert again.stdout == "1 changed; `idx` holds 3 chunks of 3 records\n"
        assert again.stderr.splitlines() == [
            "Skipped 3:",
            "  quotes.csv line 3 has 2 values for 4 columns",
            "  quotes.csv record `4` holds no text",
            "  quotes.csv could be read only in part, so nothing that it held before is removed (1 not found)",
        ]
        Path("a.txt").write_text("words")
        assert (
            run("index", "a.txt", "--into", "idx").stdout == "1 added; `idx` holds 4 chunks of 1 file and 3 records\n"
        )

    def test_a_source_that_is_gone_is_forgotten_and_a_typo_is_an_error(self):
        run("index", "quotes.csv", "--from", "csv", "--into", "idx", *MODEL)
        Path("quotes.csv").unlink()
        asked = run("index", "quotes.csv", "--from", "csv", "--into", "idx")
        assert (asked.exit_code, ids()) == (1, ["1", "2", "3"])
        assert "`--prune` or `embed remove` removes its records" in asked.stderr
        gone = run("index", "quotes.csv", "--from", "csv", "--into", "idx", "--prune")
        assert gone.stdout == "3 removed; `idx` holds 0 chunks of 0 files\n"
        for folder in ("idx", "new"):
            typo = run("index", "qoutes.csv", "--from", "csv", "--into", folder, *MODEL)
            assert typo.exit_code == 1
            assert "qoutes.csv" in typo.stderr.splitlines()[-1]

    @pytest.mark.parametrize(
        ("form", "row"), [("csv", QUOTES), ("jsonl", '{"text": "a"}'), ("json", '[{"text": "a"}]')]
    )
    @pytest.mark.parametrize("name", ["rows", "-"])
    def test_an_empty_source_loses_its_records_where_that_is_asked_for(self, form, row, name):
        Path("rows").write_text(row)
        run("index", name, "--from", form, "--into", "idx", *MODEL, input=row)
        Path("rows").write_text("")
        asked = run("index", name, "--from", form, "--into", "idx", input="")
        assert (asked.exit_code, "is empty; `--prune`" in asked.stderr) == (1, True)
        assert run("index", name, "--from", form, "--into", "idx", "--prune", input="").exit_code == 0
        assert ids() == []

    @pytest.mark.parametrize("bad", ["", "id,id\n1,2\n", "id,text\n1\n", None])
    def test_a_file_that_cannot_be_read_is_listed_and_the_others_are_indexed(self, bad):
        if bad is not None:
            Path("z.csv").write_text(bad)
        Path("b.csv").write_text("id,text\n9,words\n")
        done = run("index", "quotes.csv", "z.csv", "b.csv", "--from", "csv", "--into", "idx", *MODEL)
        assert (done.exit_code, ids()) == (1, ["1", "2", "3", "9"])
        assert "z.csv" in done.stderr
        assert done.stderr.startswith("Skipped 1:")

    def test_a_record_with_a_private_key_among_its_metadata_is_refused(self):
        key = f"-----BEGIN PRIVATE KEY-----\n{'MIIEvQIBADANBgkqhkiG9w0BAQEFAASC' * 2}\n-----END PRIVATE KEY-----\n"
        Path("keys.csv").write_text(f'id,text,more\n1,a,b\n2,c,"{key}"\n')
        done = run("index", "keys.csv", "--from", "csv", "--into", "idx", *MODEL)
        assert ids() == ["1"]
        assert "holds a private key or certificate in its metadata" in done.stderr

    def test_columns_are_chosen_and_ids_prefixed(self):
        options = ("--from", "csv", "--id", "text", "--text", "author", "--text", "year", "--prefix", "q/")
        run("index", "quotes.csv", *options, "--into", "idx", *MODEL)
        hit = Index("idx").search("Ann\n1999", k=1)[0]
        assert (hit.id, hit.text, hit.metadata) == ("q/The cat sat.", "Ann\n1999", {"id": "1"})

    def test_several_files_of_one_form_are_several_sources(self):
        Path("more.csv").write_text("id,text\n1,Others\nbad\n")
        done = run("index", "quotes.csv", "more.csv", "--from", "csv", "--into", "idx", *MODEL)
        assert done.stdout == "4 added; `idx` holds 4 chunks of 4 records\n"
        assert "more.csv line 3 has 1 value" in done.stderr
        assert ids() == ["1", "1", "2", "3"]

    def test_a_query_over_attached_databases_is_a_source(self):
        for name, table, rows in (("blog.db", "post", [(1, "Bread.")]), ("people.db", "person", [(1, "Ann")])):
            with closing(sqlite3.connect(name)) as database, database:
                database.execute(f"CREATE TABLE {table} (id, body)")
                database.executemany(f"INSERT INTO {table} VALUES (?, ?)", rows)
        sql = "SELECT post.id, post.body, p.body AS author FROM post JOIN people.person p ON p.id = post.id"
        options = ("--from", "sqlite", "--sql", sql, "--attach", "people", "people.db", "--text", "body")
        done = run("index", "blog.db", *options, "--prefix", "post-", "--into", "idx", *MODEL)
        assert done.stdout == "1 added; `idx` holds 1 chunk of 1 record\n"
        hit = Index("idx").search("Bread.")[0]
        assert (hit.id, hit.text, hit.metadata) == ("post-1", "Bread.", {"author": "Ann"})

    def test_standard_input_is_a_source_byte_for_byte(self):
        rows = json.dumps({"id": "é", "text": "naïve 日本"}, ensure_ascii=False).encode()
        assert (
            run("index", "-", "--from", "jsonl", "--into", "idx", *MODEL, input=b"\xef\xbb\xbf" + rows).exit_code == 0
        )
        command = [EMBED, "index", "-", "--from", "jsonl", "--into", "idx"]
        again = subprocess.run(command, input=rows, capture_output=True, check=True, env={**os.environ, "LC_ALL": "C"})
        assert again.stdout.decode().startswith("nothing changed; ")
        hit = Index("idx").search("naïve 日本")[0]
        assert (hit.source, hit.id, hit.text) == ("-", "é", "naïve 日本")

    def test_a_second_list_on_standard_input_is_added_to_the_first(self):
        for id_ in ("a", "b"):
            row = json.dumps({"id": id_, "text": f"words of {id_}"})
            assert run("index", "-", "--from", "jsonl", "--into", "idx", *MODEL, input=row).exit_code == 0
        assert ids() == ["a", "b"]
        assert run("remove", "idx", "a", "--source", "-").stdout == "1 removed\n"
        assert ids() == ["b"]

    @pytest.mark.parametrize("form", ["jsonl", "json", "csv"])
    def test_a_mistyped_column_changes_nothing(self, form):
        rows = [{"id": str(number), "text": f"words {number}"} for number in range(3)]
        texts = {
            "jsonl": "\n".join(map(json.dumps, rows)),
            "json": json.dumps(rows),
            "csv": "id,text\n" + "\n".join(",".join(row.values()) for row in rows),
        }
        Path("rows").write_text(texts[form])
        command = ("index", "rows", "--from", form, "--into", "idx")
        run(*command, *MODEL)
        for option in (("--text", "txet"), ("--text", "text", "--text", "txet"), ("--id", "ib")):
            refused = run(*command, *option)
            assert refused.exit_code == 1
            assert "has no column" in refused.stderr
        assert ids() == ["0", "1", "2"]
        assert run(*command, "--text", "text").stdout.startswith("nothing changed; `idx` holds 3 chunks of 3 records")

    def test_texts_are_left_out_on_request(self):
        run("index", "quotes.csv", "--from", "csv", "--into", "idx", "--no-store", *MODEL)
        output = run("search", "idx", "The cat sat.", "-k", "1").stdout
        assert output == "1.000  quotes.csv#1\n   author: Ann; year: 1999\n"
        assert run("index", "quotes.csv", "--from", "csv", "--into", "idx").exit_code == 0
        refused = run("index", "quotes.csv", "--from", "csv", "--into", "idx", "--store")
        assert "`store_text` is True, but the index was built with False" in refused.stderr

    @pytest.mark.parametrize(
        ("options", "status", "message"),
        [
            (["--id", "x"], 2, "`--id` goes with `--from`"),
            (["--text", "x", "--sql", "y"], 2, "`--text` goes with `--from`"),
            (["--from", "csv", "--sql", "SELECT 1"], 1, "`sql` and `attach` are for `sqlite`, not for `csv`"),
            (["--from", "jsonl", "--attach", "a", "b.db"], 1, "`sql` and `attach` are for `sqlite`"),
            (["-"], 2, "`-` goes with `--from`, which makes records of rows"),
            (["--from", "xml"], 2, "'xml' is not one of"),
            (["--from", "csv", "--text", "txet"], 1, "has no column `txet`; did you mean `text`?"),
            (["--from", "json"], 1, "begins with `i`; expected an array of objects"),
            (["--from", "jsonl"], 1, "holds no record that can be read: line 1 is no JSON"),
            (["--from", "sqlite"], 1, "file is not a database"),
            (["--from", "csv", "--encoding", "klingon"], 1, "`klingon` is no encoding"),
            ([".", "--from", "csv"], 1, "Is a directory"),
        ],
    )
    def test_a_mistake_is_told_in_one_line(self, options, status, message):
        result = run("index", "quotes.csv", *options, "--into", "idx", *MODEL)
        assert result.exit_code == status
        assert message in result.stderr.splitlines()[-1]
        assert "Traceback" not in result.output


@pytest.mark.usefixtures("indexed")
class TestSearch:
    def test_a_table_shows_id_text_and_metadata(self):
        output = run("search", "idx", "The dog ran.", "-k", "1").stdout
        assert output == "1.000  quotes.csv#2\n   The dog ran.\n   author: Bob\n"

    def test_json_holds_all_of_it(self):
        (hit,) = json.loads(run("search", "idx", "The cat sat.", "-k", "1", "-f", "json").stdout)
        assert hit["id"] == "1"
        assert hit["metadata"] == {"author": "Ann", "year": "1999"}

    def test_lists_and_objects_in_metadata_are_shown(self):
        row = {"id": "a", "text": "words", "tags": ["old", "rare"], "seen": {"in": 1999}, "no": None, "blank": ""}
        Path("rows.json").write_text(json.dumps([row]))
        run("index", "rows.json", "--from", "json", "--into", "lists", "--text", "text", *MODEL)
        shown = run("search", "lists", "words").stdout.splitlines()
        assert shown[-1] == "   tags: ['old', 'rare']; seen: {'in': 1999}"

    def test_long_metadata_and_control_characters_stay_in_their_line(self):
        Path("odd.jsonl").write_text(json.dumps({"id": "a\x1b\n", "text": "odd", "note": "\x1b[2J" + "word " * 50}))
        run("index", "odd.jsonl", "--from", "jsonl", "--into", "idx")
        head, _, metadata = run("search", "idx", "odd", "-k", "1").stdout.splitlines()
        assert head.endswith("odd.jsonl#a\N{REPLACEMENT CHARACTER}")
        assert metadata.startswith("   note: \N{REPLACEMENT CHARACTER}[2Jword ")
        assert metadata.endswith(" …")
        assert len(metadata) <= 80

    def test_the_question_may_come_from_a_file_or_standard_input(self):
        Path("question.txt").write_bytes(b"\xef\xbb\xbfThe dog ran.\n")
        for found in (
            run("search", "idx", "-i", "question.txt", "-k", "1"),
            *(run("search", "idx", *named, "-k", "1", input="The dog ran.\n") for named in (("-i", "-"), ("-",), ())),
        ):
            assert found.stdout.startswith("1.000  quotes.csv#2\n")
        Path("question.txt").write_bytes(b"caf\xe9")
        assert "`question.txt` is no UTF-8 text (byte 3" in run("search", "idx", "-i", "question.txt").stderr
        both = run("search", "idx", "words", "-i", "question.txt")
        assert (both.exit_code, "give either a QUESTION or `-i FILE`" in both.stderr) == (2, True)

    def test_a_prefix_keeps_to_some_records(self):
        run("index", "quotes.csv", "--from", "csv", "--prefix", "x-", "--into", "idx")
        output = run("search", "idx", "The dog ran.", "--prefix", "x-").stdout
        assert output.startswith("1.000  quotes.csv#x-2\n")
        assert "quotes.csv#2" not in output
        nothing = run("search", "idx", "words", "--prefix", "y")
        assert (nothing.exit_code, nothing.stderr) == (0, "The index in `idx` holds no such records\n")


@pytest.mark.usefixtures("indexed")
class TestSimilar:
    def test_others_are_listed_and_the_record_itself_is_not(self):
        found = json.loads(run("similar", "idx", "1", "-f", "json").stdout)
        assert sorted(hit["id"] for hit in found) == ["2", "3"]
        assert found[0]["score"] >= found[1]["score"]
        assert run("similar", "idx", "1", "-k", "1").stdout.splitlines()[0].startswith(f"{found[0]['score']:.3f}  ")

    def test_a_source_tells_equal_ids_apart(self):
        run("index", "-", "--from", "csv", "--into", "idx", input=QUOTES)
        refused = run("similar", "idx", "1")
        assert (refused.exit_code, "name one as the source" in refused.stderr) == (1, True)
        for source, other in (("quotes.csv", "-#1"), ("-", "quotes.csv#1")):
            assert run("similar", "idx", "1", "--source", source, "-k", "1").stdout.startswith(f"1.000  {other}\n")

    def test_an_unknown_id_is_told_in_one_line(self):
        result = run("similar", "idx", "12")
        assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
        assert "holds no record and no file `12`; near to it: " in result.stderr


class TestCollections:
    @pytest.mark.usefixtures("indexed")
    def test_all_indexes_here_are_listed(self):
        Path("empty").mkdir()
        Path("a.txt").write_text("words")
        run("index", "a.txt", "--into", "other", "-m", "mock:?embed_dim=6")
        head, *rows = run("collections").stdout.splitlines()
        assert head.split() == ["folder", "model", "dimension", "files", "records", "chunks", "bytes", "fingerprint"]
        assert [row.split()[:6] for row in rows] == [
            ["idx", "mock:mock", "4", "0", "3", "3"],
            ["other", "mock:mock", "6", "1", "0", "1"],
        ]
        (only,) = json.loads(run("collections", "other", "-f", "json").stdout)
        assert only["fingerprint"] == Index("other").stats().fingerprint
        assert rows[1].split()[-1] == only["fingerprint"][:12]

    def test_a_folder_that_is_none_is_an_error_and_one_that_is_broken_is_passed_over(self, indexed):
        assert "there is no index in" in run("collections", "nowhere").stderr
        for path in Path("idx/chunks.lance/_versions").iterdir():
            path.write_bytes(b"")
        listed = run("collections", "-f", "json")
        assert (listed.exit_code, listed.stdout) == (0, "[]\n")
        assert listed.stderr.startswith("Warning: the index in `")


class TestCost:
    def test_a_dry_run_writes_nothing_not_even_a_cache(self, home):
        result = run("index", "quotes.csv", "--from", "csv", "--into", "idx", "--dry-run", *MODEL)
        assert result.stdout.splitlines() == [
            "Dry run: 3 to add, 0 to change, 0 to remove; nothing was sent or written",
            "3 inputs, 0 of them in the cache; about 10 tokens to send; no price is known for `mock:mock`",
        ]
        assert not home.exists()
        assert sorted(path.name for path in Path().iterdir()) == ["quotes.csv"]

    @pytest.mark.usefixtures("indexed")
    def test_a_dry_run_looks_into_the_index_and_the_cache(self):
        Path("quotes.csv").write_text(QUOTES.replace("cat", "cow"))
        Path("a.txt").write_text("The dog ran.")
        records = run("index", "quotes.csv", "--from", "csv", "--into", "idx", "--dry-run").stdout
        assert records.startswith("Dry run: 0 to add, 1 to change, 0 to remove;")
        assert "\n1 input, 0 of them in the cache; about 3 tokens" in records
        files = run("index", "a.txt", "--into", "idx", "--dry-run").stdout
        assert files.endswith("\n1 input, 1 of them in the cache; about 0 tokens to send; 0.000000 US dollars\n")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--max-cost", "5"], "`mock:mock` knows no prices, so `--max-cost` cannot hold; leave it out"),
            (["--batch-api"], "`mock` has no batch jobs; leave out `--batch-api`"),
        ],
    )
    def test_what_the_model_cannot_do_is_told(self, options, message):
        result = run("index", "quotes.csv", "--from", "csv", "--into", "idx", *MODEL, *options)
        assert (result.exit_code, result.stdout) == (1, "")
        (line,) = result.stderr.splitlines()
        assert message in line
