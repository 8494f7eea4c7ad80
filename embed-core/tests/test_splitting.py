"""Texts cut into chunks, and documents into nodes."""

import copy
import dataclasses
import itertools
import json
import pickle
import sys

import pytest
from embed_core import Chunk, Document, ImageNode, MetadataMode, TextNode, TextSplitter, _splitting
from embed_core.errors import ConfigurationError, IntegrationNotInstalledError, InvalidInputError
from hypothesis import given
from hypothesis import strategies as st

TOKENIZERS = pytest.importorskip("tokenizers", reason="the tokenizers library is not installed")


@pytest.fixture(scope="module")
def tokenizer():
    """A tokenizer of whole words, with truncation and padding switched on, as saved models have it."""
    tokenizer = TOKENIZERS.Tokenizer(TOKENIZERS.models.WordLevel({"[UNK]": 0, "[PAD]": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = TOKENIZERS.pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=4)
    return tokenizer


@pytest.fixture
def sections(monkeypatch):
    """The texts that the splitting library is given."""
    library, given = pytest.importorskip("semantic_text_splitter"), []

    class Noting:
        def __init__(self, *sizes, make=library.TextSplitter):
            self._splitter = make(*sizes)

        def chunk_indices(self, text):
            given.append(text)
            return self._splitter.chunk_indices(text)

    monkeypatch.setattr(library, "TextSplitter", Noting)
    _splitting._splitter.cache_clear()
    yield given
    _splitting._splitter.cache_clear()


texts = st.text(st.sampled_from("ab éß\U0001f600\n.,;#*`{}"), max_size=300)
sizes = st.integers(1, 40).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1)))


class TestSplit:
    @given(texts, sizes, st.sampled_from(["text", "markdown", "code"]))
    def test_chunks_are_pieces_of_the_text_in_order_that_fit_and_leave_out_only_white_space(self, text, sizes, syntax):
        chunks = TextSplitter(*sizes).split(text, syntax, "python")
        assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
        assert all(0 < len(chunk.text) <= sizes[0] for chunk in chunks)
        assert sorted(chunks, key=lambda chunk: (chunk.start, chunk.end)) == chunks
        covered = {place for chunk in chunks for place in range(chunk.start, chunk.end)}
        assert all(text[place].isspace() for place in set(range(len(text))) - covered)

    @given(texts, st.integers(1, 40))
    def test_without_overlap_no_character_is_in_two_chunks(self, text, size):
        chunks = TextSplitter(size).split(text)
        assert all(one.end <= other.start for one, other in itertools.pairwise(chunks))

    def test_paragraphs_stay_whole_where_they_fit(self):
        text = "First paragraph.\n\nSecond one, longer.\n\nThird."
        chunks = [chunk.text for chunk in TextSplitter(30).split(text)]
        assert chunks == ["First paragraph.", "Second one, longer.\n\nThird."]

    def test_overlap_repeats_the_end_of_the_chunk_before(self):
        chunks = TextSplitter(20, 10).split("one two three four five six seven eight")
        assert all(other.start < one.end for one, other in itertools.pairwise(chunks))

    def test_markdown_is_split_at_headings(self):
        text = "# One\n\nSome text\nof one.\n\n## Part\n\nMore.\n\n# Two\n\nOther text."
        chunks = [chunk.text for chunk in TextSplitter(45, syntax="markdown").split(text)]
        assert chunks == ["# One\n\nSome text\nof one.\n\n## Part\n\nMore.", "# Two\n\nOther text."]

    @pytest.mark.parametrize(
        ("language", "source"),
        [
            ("python", "def one():\n    a = 1\n\n    return a\n\n@cached\ndef two():\n    b = 2\n\n    return b\n"),
            ("javascript", "function one() {\n  let a = 1;\n\n  return a;\n}\n\nfunction two() {\n\n  return 2;\n}\n"),
            (
                "typescript",
                "function one(): Int {\n\n  return 1;\n}\n\nfunction two(): Int {\n\n  return 2;\n}\n",
            ),
            ("tsx", "function One() {\n\n  return <b>1</b>;\n}\n\nfunction Two() {\n\n  return <b>2</b>;\n}\n"),
            ("java", "class One {\n  int a = 1;\n\n  int b = 2;\n}\n\nclass Two {\n  int a;\n\n  int b;\n}\n"),
            ("go", "func one() int {\n\ta := 1\n\n\treturn a\n}\n\nfunc two() int {\n\n\treturn 2\n}\n"),
            ("rust", "fn one() -> i32 {\n    let a = 1;\n\n    a\n}\n\nfn two() -> i32 {\n\n    2\n}\n"),
            ("c", "int one(void) {\n  int a = 1;\n\n  return a;\n}\n\nint two(void) {\n\n  return 2;\n}\n"),
            ("cpp", "int one() {\n  int a = 1;\n\n  return a;\n}\n\nint two() {\n\n  return 2;\n}\n"),
        ],
    )
    def test_code_is_split_at_definitions(self, language, source):
        chunks = TextSplitter(65).split(source, "code", language.upper())
        assert len(chunks) == 2
        assert "two" in chunks[1].text.lower()
        assert "two" not in chunks[0].text.lower()

    def test_code_in_a_language_without_a_grammar_is_split_like_text(self):
        text = "PROCEDURE DIVISION.\n\nDISPLAY 'one'.\n\nSTOP RUN."
        assert TextSplitter(25).split(text, "code", "cobol") == TextSplitter(25).split(text)
        assert TextSplitter(25).split(text, "code") == TextSplitter(25).split(text)

    def test_tokens_are_counted_by_the_tokenizer_without_its_truncation_and_padding(self, tokenizer, tmp_path):
        path = tmp_path / "tokenizer.json"
        tokenizer.save(str(path))
        text = "one two three four five six seven eight nine ten eleven twelve thirteen"
        expected = ["one two three four five six", "seven eight nine ten eleven twelve", "thirteen"]
        for one in (tokenizer, path, str(path), tokenizer.to_str()):
            splitter = TextSplitter(6, tokenizer=one)
            assert [chunk.text for chunk in splitter.split(text)] == expected

    def test_a_fast_tokenizer_of_transformers_is_understood(self, tokenizer):
        transformers = pytest.importorskip("transformers", reason="transformers is not installed")
        fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)
        assert TextSplitter(6, tokenizer=fast).split("one two three four five six seven")[1].text == "seven"

    @pytest.mark.parametrize("blank", ["", " ", "\n\n\t "])
    def test_a_blank_text_has_no_chunks(self, blank):
        assert TextSplitter(10).split(blank) == []

    def test_the_library_is_given_a_long_text_in_sections(self, sections):
        page = "Some words of a sentence, and then some more of them.\n" * 20 + "\n"
        chunks = TextSplitter(500).split(page * 300)
        assert chunks[-1].end == len(page * 300) - 2
        assert "".join(sections) == page * 300
        assert max(map(len, sections)) <= 20_000  # its time grows with the square of the length
        assert len(TextSplitter(500).split("x" * 1_000_000)) == 2000

    @pytest.mark.parametrize("separator", ["\n\n", "\n  \n", "\n", " ", "\n\n    "])
    def test_long_texts_are_cut_where_a_reader_would(self, separator):
        text = separator.join(["word" * 10] * 3000)
        chunks = TextSplitter(40).split(text)
        assert [chunk.text for chunk in chunks] == ["word" * 10] * 3000
        assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)

    def test_a_text_without_any_boundary_is_cut_all_the_same(self):
        text = "word" * 20_000
        assert "".join(chunk.text for chunk in TextSplitter(100).split(text)) == text

    @pytest.mark.parametrize("space", [" ", "\n", "\n \n", "\r\n", "\n\t"])
    def test_blanks_come_in_sections_too(self, space, sections):
        assert TextSplitter(500).split(space * (1_000_000 // len(space))) == []
        assert max(map(len, sections)) <= 20_000


class TestErrors:
    @pytest.mark.parametrize("wrong", [None, 5, b"bytes", ["a", "b"], 1.5])
    def test_what_is_no_text_is_refused(self, wrong):
        with pytest.raises(InvalidInputError, match=f"cannot split a `{type(wrong).__name__}`"):
            TextSplitter().split(wrong)

    def test_a_lone_surrogate_is_refused(self):
        with pytest.raises(InvalidInputError, match="lone surrogate"):
            TextSplitter().split("a\ud800")
        with pytest.raises(InvalidInputError, match="node `n`: the text holds a lone surrogate"):
            TextSplitter()([Document(id_="n", text="a\ud800")])

    @pytest.mark.parametrize(("size", "overlap"), [(0, 0), (-3, 0), (5, 5), (5, 9), (5, -1)])
    def test_sizes_that_make_no_sense_are_refused(self, size, overlap):
        with pytest.raises(ConfigurationError, match="`chunk_"):
            TextSplitter(size, overlap)

    def test_an_unknown_syntax_names_the_known_ones(self):
        with pytest.raises(ConfigurationError, match=r"'html'.*'text', 'markdown' or 'code'"):
            TextSplitter().split("<p>", "html")

    @pytest.mark.parametrize("wrong", ["absent.json", 5, "{}broken", "{"])
    def test_an_unreadable_tokenizer_is_refused(self, wrong):
        with pytest.raises(ConfigurationError, match=r"`tokenizer\.json`"):
            TextSplitter(tokenizer=wrong)

    def test_a_missing_library_names_the_command_that_installs_it(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "semantic_text_splitter", None)
        with pytest.raises(IntegrationNotInstalledError, match=r'pip install "embed-core\[index\]"'):
            TextSplitter(12345).split("a text")

    def test_a_missing_grammar_is_done_without(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "tree_sitter_python", None)
        source = "def one():\n    a = 1\n\n    return a\n"
        assert TextSplitter(23).split(source, "code", "python") == TextSplitter(23).split(source)


def test_a_splitter_can_be_compared_copied_and_pickled(tokenizer):
    splitter = TextSplitter(60, 6, tokenizer=tokenizer, syntax="markdown")
    for twin in (copy.deepcopy(splitter), pickle.loads(pickle.dumps(splitter)), dataclasses.replace(splitter)):
        assert twin == splitter
        assert twin.split("one two three") == [Chunk("one two three", 0, 13)]
    assert splitter != TextSplitter(60, 6)
    assert "UNK" not in repr(splitter)


class TestNodes:
    document = Document(
        id_="doc",
        text="One two three.\n\nFour five six.\n\nOne two three.",
        metadata={"title": "Numbers"},
        excluded_embed_metadata_keys=["x"],
        metadata_template="{key}={value}",
        text_template="{metadata_str}: {content}",
    )

    def test_a_chunk_knows_its_source_and_its_place(self):
        chunks = TextSplitter(15)([self.document])
        assert [chunk.text for chunk in chunks] == ["One two three.", "Four five six.", "One two three."]
        for chunk in chunks:
            start, end = chunk.metadata["start_char_idx"], chunk.metadata["end_char_idx"]
            assert self.document.text[start:end] == chunk.text
            assert chunk.ref_doc_id == "doc"

    def test_a_chunk_has_its_source_s_metadata_and_templates_and_no_model_sees_the_place(self):
        chunk = TextSplitter(15)([self.document])[1]
        assert chunk.get_content(metadata_mode=MetadataMode.EMBED) == "title=Numbers: Four five six."
        assert chunk.get_content(metadata_mode=MetadataMode.LLM) == "title=Numbers: Four five six."
        assert "x" in chunk.excluded_embed_metadata_keys
        assert "start_char_idx" not in self.document.metadata

    def test_ids_are_stable_and_differ_within_and_between_documents(self):
        other = self.document.model_copy(update={"id_": "other"})
        ids = [chunk.id_ for chunk in TextSplitter(15)([self.document, other])]
        assert len(set(ids)) == 6
        assert ids == [chunk.id_ for chunk in TextSplitter(15)([self.document, other])]

    def test_a_chunk_that_moves_keeps_its_id(self):
        moved = self.document.model_copy(update={"text": "Zero.\n\n" + self.document.text})
        before = {chunk.id_ for chunk in TextSplitter(15)([self.document])}
        after = {chunk.id_: chunk.text for chunk in TextSplitter(15)([moved])}
        assert before < after.keys()
        assert [text for id_, text in after.items() if id_ not in before] == ["Zero."]

    def test_a_chunk_can_be_split_again(self):
        (chunk, *_) = TextSplitter(30)([self.document])
        (first, *_) = TextSplitter(7)([chunk])
        assert (first.text, first.ref_doc_id) == ("One two", chunk.id_)
        assert first.excluded_embed_metadata_keys.count("start_char_idx") == 1

    def test_an_image_stays_whole(self):
        image = ImageNode(image=b"...", text="A very long caption. " * 20)
        assert TextSplitter(20)([image]) == [image]

    def test_a_splitter_s_own_syntax_is_for_nodes(self):
        text = "# One\n\nSome text\nof one.\n\n# Two\n\nOther text."
        nodes = TextSplitter(40, syntax="markdown")([TextNode(id_="n", text=text)])
        assert [node.text[:5] for node in nodes] == ["# One", "# Two"]

    def test_nodes_of_llama_index_can_be_split(self):
        reason = "llama-index-core is not installed; it is in the dependency group `bench`"
        theirs = pytest.importorskip("llama_index.core.schema", reason=reason)
        fields = json.loads(self.document.model_dump_json(exclude={"embedding", "ref_doc_id"}))
        assert TextSplitter(15)([theirs.Document(**fields)]) == TextSplitter(15)([self.document])
