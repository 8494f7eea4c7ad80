"""The files under some paths: each once, nothing that leads elsewhere, nothing that blocks."""

import os
import sys
from pathlib import Path

import pytest
from embed_core import TextSplitter
from embed_core.index._files import looks_like, read_item
from embed_core.index._item import ChunkedItem, Item
from embed_core.index._results import Skipped
from embed_core.index._walk import canonical, is_gone, is_under, walk

SPLITTER = TextSplitter(100, 0)


@pytest.fixture
def tree(tmp_path):
    """A folder with a bit of everything."""
    root = tmp_path / "tree"
    for name in ("b.txt", "a/two.txt", "a/one.txt", ".hidden/x", "a/.env", "__pycache__/y.pyc", "node_modules/z.js"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def names(root, *roots, leave_out="/nowhere"):
    found = walk([canonical(one) for one in (roots or [root])], leave_out=str(leave_out))
    return [os.path.relpath(one.source, canonical(root)) for one in found if isinstance(one, Item)]


def skipped(root):
    found = walk([canonical(root)], leave_out="/nowhere")
    return {os.path.relpath(one.source, canonical(root)): one.reason for one in found if isinstance(one, Skipped)}


def test_files_come_in_the_order_of_their_names_without_hidden_ones_and_caches(tree):
    assert names(tree) == ["a/one.txt", "a/two.txt", "b.txt"]


def test_a_hidden_folder_that_is_named_is_read(tree):
    assert names(tree, tree / ".hidden") == [".hidden/x"]


def test_paths_within_each_other_give_each_file_once(tree):
    assert names(tree, tree / "a", tree, tree / "b.txt", tree / "a" / "one.txt") == ["a/one.txt", "a/two.txt", "b.txt"]


def test_the_index_itself_and_other_indexes_are_left_out(tree):
    other = tree / "other" / "chunks.lance"
    other.mkdir(parents=True)
    (other / "data.lance").write_bytes(b"\0")
    assert names(tree, leave_out=tree / "a") == ["b.txt"]


def test_links_are_listed_and_never_followed(tree, tmp_path):
    outside = tmp_path / "secret.txt"
    outside.write_text("secret")
    (tree / "loop").symlink_to(tree, target_is_directory=True)
    (tree / "out.txt").symlink_to(outside)
    (tree / "broken").symlink_to(tree / "nothing")
    assert names(tree) == ["a/one.txt", "a/two.txt", "b.txt"]
    assert set(skipped(tree)) == {"loop", "out.txt", "broken"}
    assert "is a link" in skipped(tree)["loop"]


def test_a_link_that_is_named_is_its_target(tree, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tree, target_is_directory=True)
    assert names(tree, link) == names(tree)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_blocks_nobody(tree):
    os.mkfifo(tree / "pipe")
    assert skipped(tree) == {"pipe": "is a device, pipe or socket"}


@pytest.mark.skipif(sys.platform != "linux", reason="the system's names are Unicode")
def test_a_name_that_is_no_unicode_is_listed(tree):
    Path(os.fsdecode(os.fsencode(tree) + b"/caf\xe9.txt")).write_text("text")
    assert list(skipped(tree).values()) == ["has a name that is no valid Unicode; rename it"]


def test_a_folder_whose_path_is_too_long_is_listed(tree, monkeypatch):
    monkeypatch.chdir(tree)
    for _ in range(20):
        Path("d" * 250).mkdir()
        monkeypatch.chdir("d" * 250)
    monkeypatch.chdir(tree)
    (reason,) = skipped(tree).values()
    assert reason.startswith("cannot be read (")
    assert names(tree) == ["a/one.txt", "a/two.txt", "b.txt"]
    assert not is_gone(str(tree) + "/x" * 5000)  # nobody can look


def test_a_file_that_goes_while_the_folder_is_read_is_listed(tree):
    gone = read_item(Item(str(tree / "gone.txt"), "", size=3, mtime_ns=1), None, SPLITTER)
    assert isinstance(gone, Skipped)
    assert gone.reason.startswith("cannot be read (")
    assert isinstance(next(walk([str(tree / "gone")], leave_out="/nowhere")), Skipped)


def test_gone_is_what_is_certainly_no_more(tree):
    tree = Path(canonical(tree))
    assert not is_gone(str(tree / "b.txt"))
    assert is_gone(str(tree / "c.txt"))
    assert is_gone(str(tree / "b.txt" / "inner"))
    assert is_gone(str(tree / "a"))  # a folder now
    (tree / "a").rename(tree / "moved")
    (tree / "a").symlink_to(tree / "moved", target_is_directory=True)
    assert is_gone(str(tree / "a" / "one.txt"))  # reached through a link, which is not followed


@pytest.mark.parametrize(
    ("source", "root", "expected"),
    [
        ("/a/b", "/a/b", True),
        ("/a/b/c", "/a/b", True),
        ("/a/bc", "/a/b", False),
        ("/a", "/", True),
        ("/a", "/a/b", False),
    ],
)
@pytest.mark.skipif(os.sep != "/", reason="the paths are POSIX")
def test_under_means_the_path_or_in_it(source, root, expected):
    assert is_under(source, root) is expected


class TestReading:
    def found(self, path):
        status = path.stat()
        return Item(str(path), "", size=status.st_size, mtime_ns=status.st_mtime_ns)

    def test_pieces_are_the_text_between_their_ends(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("".join(f"line {number} with some words\n\n" for number in range(40)))
        made = read_item(self.found(path), None, SPLITTER)
        text = path.read_text()
        assert len(made.pieces) > 5
        assert all(text[piece.start : piece.end] == piece.text for piece in made.pieces)
        assert made.pieces[0].first == 1
        assert made.pieces[-1].last == 79

    def test_a_file_that_was_only_touched_is_known_by_its_content(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("some words")
        first = read_item(self.found(path), None, SPLITTER)
        os.utime(path, (1_000_000_000, 1_000_000_000))
        again = read_item(self.found(path), first.item, SPLITTER)
        assert isinstance(again, Item)
        assert again.digest == first.item.digest
        assert looks_like(again, self.found(path))

    def test_a_file_changed_just_now_is_looked_into_again(self, tmp_path):
        """Within one tick of the clock, a second change shows the same time and perhaps the same size."""
        path = tmp_path / "a.txt"
        path.write_text("some words")
        found = self.found(path)
        young = read_item(found, None, SPLITTER)
        assert isinstance(young, ChunkedItem)
        assert not looks_like(young.item, found)

    @pytest.mark.parametrize("error", [AssertionError("odd"), RecursionError("deep"), MemoryError()])
    def test_whatever_a_file_does_to_its_parser_is_its_own_line_in_the_list(self, tmp_path, error):
        class Breaking(TextSplitter):
            def split(self, *_):
                raise error

        path = tmp_path / "a.txt"
        path.write_text("some words")
        skipped = read_item(self.found(path), None, Breaking(100, 0))
        assert isinstance(skipped, Skipped)
        assert skipped.reason.startswith(f"cannot be read ({type(error).__name__}")

    def test_white_space_of_other_alphabets_is_no_text(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("\u2003\u3000\n")
        assert read_item(self.found(path), None, SPLITTER).item.note == "holds no text"
