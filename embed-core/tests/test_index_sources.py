"""Rows of every form become records: nothing mangled, nothing lost, and what is damaged named by its line."""

import csv
import io
import json
import sqlite3
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest
from embed_core.errors import ConfigurationError, InvalidInputError
from embed_core.index import Record, Skipped, read_records
from hypothesis import given
from hypothesis import strategies as st

AWKWARD = [
    "naïve café",
    "日本語 🦀",
    'say "hi", she; said',
    "two\nlines\r\nthree",
    "tab\there",
    " spaces ",
    "=1+1",
    "a\u2028b",
]
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
    lambda text: text.strip() and "\r" not in text
)


def write(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def read(source, form, **options):
    """Return the records as tuples, and the reasons of the rows that cannot be read."""
    found = list(read_records(source, form, **options))
    good = [(one.id, one.text, dict(one.metadata)) for one in found if isinstance(one, Record)]
    return good, [one.reason for one in found if isinstance(one, Skipped)]


def stream(text):
    return io.BytesIO(text if isinstance(text, bytes) else text.encode())


def as_csv(rows, **options):
    text = io.StringIO(newline="")
    csv.writer(text, **options).writerows([["id", "text"], *rows])
    return text.getvalue()


@pytest.fixture
def database(tmp_path):
    """Return what makes a database of some statements."""

    def make(*statements, name="data.db"):
        with closing(sqlite3.connect(tmp_path / name)) as connection, connection:
            for statement in statements:
                connection.execute(*([statement] if isinstance(statement, str) else statement))
        return tmp_path / name

    return make


class TestColumns:
    CSV = "id,title,text,year\n1,One,some words,1999\n"

    def test_id_and_text_are_found_by_their_names_and_the_rest_is_metadata(self):
        assert read(stream(self.CSV), "csv") == ([("1", "some words", {"title": "One", "year": "1999"})], [])
        assert read(stream(self.CSV.replace("id", "ID", 1)), "csv")[0][0][0] == "1"

    def test_without_a_column_text_all_but_the_id_are(self):
        found, _ = read(stream("id,title,body\n1,One,some words\n"), "csv")
        assert found == [("1", "One\nsome words", {})]

    def test_an_object_may_lack_a_named_column_that_others_have(self):
        rows = [{"id": 1}, {"id": 2, "title": "a"}, {"id": 3, "text": "b"}, {"id": 4}]
        found, bad = read(stream(json.dumps(rows)), "json", text_columns=["title", "text"])
        assert ([(id_, text) for id_, text, _ in found], bad) == ([("1", ""), ("2", "a"), ("3", "b"), ("4", "")], [])

    def test_a_hundred_thousand_columns_are_read(self):
        """With a search through all names for every name, this would take ten minutes."""
        names = [f"c{number}" for number in range(100_000)]
        ((_, text, metadata),), bad = read(stream(f"{','.join(names)}\n{','.join(names)}\n"), "csv")
        assert (text.split("\n"), metadata, bad) == (names, {}, [])

    def test_named_columns_are_joined_in_their_order(self):
        found, _ = read(stream(self.CSV), "csv", id_column="year", text_columns=["text", "title"])
        assert found == [("1999", "some words\nOne", {"id": "1"})]

    def test_what_is_empty_leaves_no_empty_line(self):
        found, _ = read(stream("a,b,c\nx, ,y\n"), "csv")
        assert found == [(None, "x\ny", {})]

    def test_a_column_that_is_not_there_is_named_with_the_nearest(self):
        with pytest.raises(ConfigurationError, match=r"`-` has no column `titel`; did you mean `title`\?"):
            read(stream(self.CSV), "csv", text_columns=["titel"])
        with pytest.raises(ConfigurationError, match="no column `xyz`; there are `id`, `title`, `text`, `year`"):
            read(stream(self.CSV), "csv", id_column="xyz")

    def test_two_columns_of_one_name_are_refused(self, database):
        with pytest.raises(ConfigurationError, match="has 2 columns `a`"):
            read(stream("a,b,a\n1,2,3\n"), "csv")
        with pytest.raises(ConfigurationError, match="has 2 columns `id`"):
            read(database("CREATE TABLE t (id, x)"), "sqlite", sql="SELECT id, id FROM t")

    def test_an_object_may_lack_what_others_have(self):
        rows = [{"id": 1, "text": "words", "year": 1999}, {"text": "no id"}, {"id": 3, "other": True}, {"id": True}]
        found, _ = read(stream("\n".join(map(json.dumps, rows))), "jsonl")
        assert found == [("1", "words", {"year": 1999}), ("", "no id", {}), ("3", "", {"other": True}), ("", "", {})]

    def test_values_that_are_no_text_are_told_as_json(self):
        row = {"id": 7, "n": 1.5, "list": ["é", 2], "yes": True, "none": None}
        found, _ = read(stream(json.dumps([row])), "json", text_columns=["n", "list", "yes", "none"])
        assert found == [("7", '1.5\n["é", 2]\ntrue', {})]


class TestCSV:
    @pytest.mark.parametrize("mark", ["", "\ufeff"])
    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    def test_no_character_is_lost_or_changed(self, tmp_path, mark, end):
        rows = [(str(number), text) for number, text in enumerate(AWKWARD)]
        path = write(tmp_path / "a.csv", mark + as_csv(rows, lineterminator=end))
        assert read(path, "csv") == ([(id_, text, {}) for id_, text in rows], [])

    @given(st.lists(WORDS, min_size=1))
    def test_any_texts_come_back(self, texts):
        rows = [(str(number), text) for number, text in enumerate(texts)]
        assert read(stream(as_csv(rows)), "csv") == ([(id_, text, {}) for id_, text in rows], [])

    def test_semicolons_and_tabs_part_columns_too(self):
        assert read(stream("id;text\n1;some, words\n"), "csv")[0] == [("1", "some, words", {})]
        assert read(stream("id\ttext\n1\tsome, words\n"), "tsv")[0] == [("1", "some, words", {})]

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
    def test_a_byte_order_mark_tells_the_encoding(self, encoding):
        assert read(stream("id,text\n1,日本\n".encode(encoding)), "csv")[0] == [("1", "日本", {})]

    def test_an_encoding_may_be_named(self):
        assert read(stream("id,text\n1,café\n".encode("cp1252")), "csv", encoding="cp1252")[0] == [("1", "café", {})]
        assert read(stream("\ufeffid,text\n1,é\n".encode()), "csv", encoding="UTF8")[0] == [("1", "é", {})]
        with pytest.raises(ConfigurationError, match="`klingon` is no encoding"):
            read(stream("id,text\n"), "csv", encoding="klingon")

    def test_damaged_rows_are_listed_by_their_lines_and_the_others_read(self):
        text = b'id,text\n1,one\n2,two,three\n3\n4,"a"b\n5,caf\xe9\n6,"long\ntext"\n,\n\n7,"un\nclosed\n'
        good, bad = read(stream(text), "csv")
        assert good == [("1", "one", {}), ("6", "long\ntext", {})]
        assert bad == [
            "line 3 has 3 values for 2 columns",
            "line 4 has 1 value for 2 columns",
            "line 5 is not well-formed (',' expected after '\"')",
            "line 6 is no utf-8 text from character 6 on; convert the file, or name its encoding",
            "lines 11 to 12 is not well-formed (unexpected end of data)",
        ]

    def test_a_text_of_megabytes_is_read_and_an_endless_line_refused(self):
        assert len(read(stream("id,text\n1," + "x" * 3_000_000), "csv")[0][0][1]) == 3_000_000
        good, bad = read(stream("id,text\n1," + "x" * 45_000_000 + "\n2,y\n"), "csv")
        assert (good, bad) == ([("2", "y", {})], ["line 2 has more than 20000000 characters"])

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "`-` is empty; `--prune`"),
            (b"\n1,2\n", "begins with no names of columns"),
            (b"caf\xe9\n1\n", "line 1 of `-` cannot be read"),
            ('"open\n', "line 1 of `-` cannot be read"),
        ],
    )
    def test_without_names_of_columns_nothing_can_be_read(self, data, message):
        with pytest.raises(InvalidInputError, match=message):
            read(stream(data), "csv")

    def test_a_wide_encoding_that_breaks_off_is_told(self):
        with pytest.raises(InvalidInputError, match="`-` is no text in its encoding"):
            read(stream("id,text\n1,words\n".encode("utf-16")[:-1]), "csv")


class TestJSON:
    @given(st.lists(WORDS))
    def test_any_texts_come_back_from_lines_and_from_an_array(self, texts):
        rows = [{"id": str(number), "text": text} for number, text in enumerate(texts)]
        expected = [(row["id"], row["text"], {}) for row in rows]
        assert read(stream(json.dumps(rows, ensure_ascii=False, indent=2)), "json") == (expected, [])
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        assert read(stream(lines or "\n"), "jsonl") == (expected, [])

    def test_damaged_lines_are_listed_and_the_others_read(self):
        lines = [b'{"id": 1, "text": "one"}', b'{"id": 2', b"[1]", b"", b'{"id": 5, "text": "caf\xe9"}', b"[" * 100_000]
        good, bad = read(stream(b"\n".join([*lines, b'\xef\xbb\xbf{"id":7}', b'{"id": 8, "text": "eight"}'])), "jsonl")
        assert [id_ for id_, *_ in good] == ["1", "8"]
        assert [reason[:26] for reason in bad] == [
            "line 2 is no JSON (Expecti",
            "line 3 holds a `list`; exp",
            "line 5 is no utf-8 text fr",
            "line 6 is no JSON (maximum",
            "line 7 is no JSON (Expecti",
        ]

    def test_an_array_is_read_up_to_what_is_broken(self):
        good, bad = read(stream('\n[ {"id": 1},\n 17,\n{"id": 2}\n {"id": 3}]'), "json")
        assert [id_ for id_, *_ in good] == ["1", "2"]
        assert bad == [
            "line 3 holds a `int`; expected an object",
            "line 5 has neither a comma nor the end of the array after a value; the rest is left out",
        ]
        assert read(stream('[{"id": 1}, {"id"'), "json")[1][0].startswith("line 1 is no JSON (Expecting ':' delimiter)")
        assert read(stream('[{"id": 1}] [2]'), "json")[1] == [
            "line 1 goes on behind the end of the array; the rest is left out"
        ]
        assert read(stream('[{"id": 1}'), "json")[1] == [
            "line 1 has neither a comma nor the end of the array after a value; the rest is left out"
        ]
        assert read(stream("[]"), "json") == ([], [])

    def test_what_python_writes_beside_json_is_nothing(self):
        assert read(stream('{"id": 1, "text": "x", "n": NaN}'), "jsonl")[0] == [("1", "x", {"n": None})]

    @pytest.mark.parametrize(
        ("text", "form", "message"),
        [
            ('{"id": 1}', "json", "begins with `{`; expected an array of objects; for one object a line, use `jsonl`"),
            ("", "json", "`-` is empty; `--prune`"),
            ("", "jsonl", "`-` is empty"),
        ],
    )
    def test_what_is_no_such_file_is_refused(self, text, form, message):
        with pytest.raises(InvalidInputError, match=message):
            read(stream(text), form)

    def test_an_array_larger_than_memory_would_like_is_read_in_parts(self, tmp_path):
        path = tmp_path / "large.json"
        with path.open("w") as file:
            file.write("[")
            for number in range(2_000):
                file.write(f'{"," if number else ""}\n{{"id": {number}, "text": "{"x" * 10_000}"}}')
            file.write("]")
        tracemalloc.start()
        count = sum(1 for _ in read_records(path, "json"))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert count == 2_000
        assert peak < path.stat().st_size / 2

    def test_a_record_longer_than_a_part_is_read_whole(self):
        rows = [{"id": "long", "text": "é\n" * 2_000_000}, {"id": "next", "text": "y"}]
        found, bad = read(stream(json.dumps(rows)), "json")
        assert ([len(text) for _, text, _ in found], bad) == ([4_000_000, 1], [])


class TestSQLite:
    def test_the_only_table_is_read(self, database):
        path = database(
            'CREATE TABLE "the ""quotes""" (id INTEGER PRIMARY KEY, text TEXT, year INT, photo BLOB, score REAL)',
            ('INSERT INTO "the ""quotes""" VALUES (7, \'naïve\', NULL, ?, ?)', (b"\x00\xff", float("inf"))),
        )
        photo = {"$base64": True, "encoded": "AP8="}
        assert read(path, "sqlite") == ([("7", "naïve", {"year": None, "photo": photo, "score": None})], [])

    def test_a_query_chooses_and_joins_over_attached_files(self, database):
        people = database("CREATE TABLE p (id, name)", "INSERT INTO p VALUES (1, 'Ann')", name="it's people.db")
        path = database("CREATE TABLE q (id, by, said)", "INSERT INTO q VALUES (5, 1, 'words')", "CREATE TABLE z (a)")
        sql = "SELECT q.id, said, name FROM q JOIN folk.p ON by = p.id"
        found, _ = read(path, "sqlite", sql=sql, attach={"folk": people}, text_columns=["said"])
        assert found == [("5", "words", {"name": "Ann"})]

    def test_bytes_that_are_text_are_read_as_text(self, database):
        path = database("CREATE TABLE t (id, text)", ("INSERT INTO t VALUES (1, ?)", ("é".encode(),)))
        assert read(path, "sqlite")[0] == [("1", "é", {})]

    def test_the_database_is_only_read(self, database):
        path = database("CREATE TABLE t (id, text)")
        before = path.read_bytes()
        with pytest.raises(InvalidInputError, match="readonly"):
            read(path, "sqlite", sql="DELETE FROM t RETURNING id")
        with pytest.raises(InvalidInputError, match="unable to open"):
            read(path, "sqlite", attach={"x": path.with_name("absent.db")}, sql="SELECT 1")
        assert path.read_bytes() == before
        assert not path.with_name("absent.db").exists()

    @pytest.mark.parametrize("sql", ["VACUUM INTO '{}'", "ATTACH '{}' AS z"])
    def test_a_query_writes_no_file(self, database, tmp_path, sql):
        path = database("CREATE TABLE t (id, text)")
        with pytest.raises(InvalidInputError, match=r"not authorized|authorization denied"):
            read(path, "sqlite", sql=sql.format(tmp_path / "out.db"))
        assert not (tmp_path / "out.db").exists()

    def test_virtual_tables_are_read(self, database):
        path = database("CREATE VIRTUAL TABLE f USING fts5(text)", "INSERT INTO f VALUES ('some words')")
        found, _ = read(path, "sqlite", sql="SELECT rowid AS id, text FROM f WHERE f MATCH 'words'")
        assert found == [("1", "some words", {})]

    @pytest.mark.parametrize(
        ("sql", "message"),
        [
            (None, "has the tables `a`, `b`; give a query, as in"),
            ("SELECT", "SQLite cannot read that from `.*data.db`: incomplete input"),
            ("SELECT absent FROM a", "no such column: absent"),
            ("SELECT 1; SELECT 2", "one statement at a time"),
            ("PRAGMA query_only = 1", "gives no rows; expected a `SELECT`"),
        ],
    )
    def test_a_query_that_cannot_be_is_told(self, database, sql, message):
        path = database("CREATE TABLE a (x)", "CREATE TABLE b (x)")
        with pytest.raises(InvalidInputError, match=message):
            read(path, "sqlite", sql=sql)

    def test_a_file_of_another_kind_is_told(self, tmp_path, database):
        with pytest.raises(InvalidInputError, match="not a database"):
            read(write(tmp_path / "a.db", b"no database, but some words " * 100), "sqlite")
        with pytest.raises(InvalidInputError, match="has no table"):
            read(database(), "sqlite")


class TestArguments:
    @pytest.mark.parametrize(
        ("form", "options", "message"),
        [
            ("xml", {}, "`form` is 'xml'; it must be one of csv, json, jsonl, sqlite, tsv"),
            ("csv", {"sql": "SELECT 1"}, "`sql` and `attach` are for `sqlite`, not for `csv`"),
            ("json", {"attach": {"a": "b"}}, "are for `sqlite`"),
            ("sqlite", {}, "a database cannot be read from a stream"),
        ],
    )
    def test_what_does_not_go_together_is_refused(self, form, options, message):
        with pytest.raises(ConfigurationError, match=message):
            read(stream("[]"), form, **options)

    def test_a_stream_stays_open_and_a_file_does_not(self, tmp_path):
        given = stream("id,text\n1,x\n")
        read(given, "csv")
        assert not given.closed
        reading = read_records(write(tmp_path / "a.csv", "id,text\n1,x\n2,y\n"), "csv")
        next(reading)
        reading.close()  # a warning would be an error

    def test_a_missing_file_is_the_systems_error(self):
        with pytest.raises(FileNotFoundError):
            read(Path("nowhere.csv"), "csv")
