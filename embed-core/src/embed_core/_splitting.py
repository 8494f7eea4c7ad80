"""Splitting texts into chunks at natural boundaries: paragraphs, headings, functions."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from embed_core.errors import ConfigurationError, IntegrationNotInstalledError, InvalidInputError
from embed_core.schema import MetadataMode, TextNode, image_of

Syntax: TypeAlias = Literal["text", "markdown", "code"]
"""The boundaries of a text: paragraphs, Markdown's headings and blocks, or the syntax tree of a language."""

# The library's time grows with the square of a text's length, so it gets sections. The best place for a cut is before
# a paragraph or definition that is not indented; then a blank line, the end of a line, a space.
_SECTION = 20_000
_CUTS = [re.compile(mark) for mark in (r"\n[ \t]*\r?\n(?=\S)", r"\n[ \t]*\r?\n", r"\n", r"\s")]

_OFFSETS = ("start_char_idx", "end_char_idx")
_EXCLUDED = ("excluded_embed_metadata_keys", "excluded_llm_metadata_keys")
_TEMPLATES = ("metadata_template", "metadata_separator", "text_template")

_GRAMMARS = {
    "c": ("tree_sitter_c", "language"),
    "cpp": ("tree_sitter_cpp", "language"),
    "go": ("tree_sitter_go", "language"),
    "java": ("tree_sitter_java", "language"),
    "javascript": ("tree_sitter_javascript", "language"),
    "python": ("tree_sitter_python", "language"),
    "rust": ("tree_sitter_rust", "language"),
    "tsx": ("tree_sitter_typescript", "language_tsx"),
    "typescript": ("tree_sitter_typescript", "language_typescript"),
}


class Chunk(NamedTuple):
    """A piece of a text: `source[start:end] == text`."""

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class TextSplitter:
    """Splits texts into chunks of at most `chunk_size`, at the highest boundary that fits.

    Attributes:
        chunk_size: maximum characters of a chunk, or tokens if there is a tokenizer.
        chunk_overlap: maximum characters or tokens that a chunk repeats of the previous chunk.
        tokenizer: counts tokens: the path of a `tokenizer.json`, a `tokenizers.Tokenizer`, or a fast tokenizer of
            transformers. Its own truncation and padding are ignored.
        syntax: "markdown" splits at headings and blocks, "code" at the syntax tree of its language.
        language: such as "python" or "rust". Without an installed grammar (`tree-sitter-<language>`), code is split at
            blank lines, like a text.
    """

    chunk_size: int = 1000
    chunk_overlap: int = 0
    tokenizer: Any = field(default=None, repr=False)
    syntax: Syntax = "text"
    language: str | None = None

    def __post_init__(self) -> None:
        """Check the sizes, and read the tokenizer so that splitters can be compared, copied and pickled.

        Raises:
            ConfigurationError: a size is out of range, or the tokenizer cannot be read.
        """
        if self.chunk_size < 1:
            msg = f"`chunk_size` is {self.chunk_size}; it must be at least 1"
            raise ConfigurationError(msg)
        if not 0 <= self.chunk_overlap < self.chunk_size:
            msg = f"`chunk_overlap` is {self.chunk_overlap}; it must be at least 0 and below `chunk_size`"
            raise ConfigurationError(msg)
        if self.tokenizer is not None:
            object.__setattr__(self, "tokenizer", _tokenizer_json(self.tokenizer))

    def __call__(self, nodes: Sequence[Any]) -> list[Any]:
        """Split nodes, as a transformation of a pipeline; an image stays whole.

        A chunk has its source's metadata and, hidden from models, its position in `start_char_idx` and `end_char_idx`.
        The id of a chunk is made from its source's id and its own text, so it stays the same when the chunk
        moves within the source.
        """
        return [piece for node in nodes for piece in ([node] if image_of(node) is not None else self._chunks(node))]

    def _chunks(self, node: Any) -> Iterator[TextNode]:
        seen: Counter[str] = Counter()
        try:
            chunks = self.split(node.get_content(metadata_mode=MetadataMode.NONE))
        except InvalidInputError as error:
            msg = f"node `{node.id_}`: {error}"
            raise InvalidInputError(msg) from error
        told: dict[str, Any] = {name: getattr(node, name) for name in _TEMPLATES if hasattr(node, name)}
        told |= {name: list(dict.fromkeys([*getattr(node, name), *_OFFSETS])) for name in _EXCLUDED}
        for chunk in chunks:
            yield TextNode(
                id_=_chunk_id(node.id_, chunk.text, seen[chunk.text]),
                text=chunk.text,
                metadata={**node.metadata, **dict(zip(_OFFSETS, (chunk.start, chunk.end), strict=True))},
                ref_doc_id=node.id_,
                **told,
            )
            seen[chunk.text] += 1

    def split(self, text: str, syntax: Syntax | None = None, language: str | None = None) -> list[Chunk]:
        """Return the chunks of a text in order, without white space at their ends; none for a blank text.

        Args:
            text: the text to split; `start` and `end` of a chunk count its characters.
            syntax: of this text; None means the splitter's.
            language: of this text; None means the splitter's.

        Raises:
            InvalidInputError: `text` is not a `str`, or has a lone surrogate.
            IntegrationNotInstalledError: `semantic-text-splitter` is not installed.
        """
        splitter = _splitter(
            self.chunk_size, self.chunk_overlap, self.tokenizer, syntax or self.syntax, language or self.language
        )
        try:
            return [
                Chunk(piece, start + offset, start + offset + len(piece))
                for start, section in _sections(text, max(_SECTION, 20 * self.chunk_size))
                for offset, piece in splitter.chunk_indices(section)
            ]
        except TypeError as error:
            msg = f"cannot split a `{type(text).__name__}`; decode or convert it to a `str` first"
            raise InvalidInputError(msg) from error
        except UnicodeEncodeError as error:
            msg = (
                "the text holds a lone surrogate, so it is not valid Unicode; decode its source with `errors='replace'`"
            )
            raise InvalidInputError(msg) from error


def _chunk_id(source: str, text: str, occurrence: int) -> str:
    identity = json.dumps([source, text, occurrence])  # two different triples never have the same JSON
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


def _sections(text: str, size: int) -> Iterator[tuple[int, str]]:
    """Yield (offset, piece) pairs of at most `size` characters."""
    start = 0
    while len(text) - start > size:
        window = text[start + size // 2 : start + size]
        cuts = ([found.end() for found in cut.finditer(window)] for cut in _CUTS)
        stop = start + size // 2 + next((places[-1] for places in cuts if places), len(window))
        yield start, text[start:stop]
        start = stop
    yield start, text[start:]


@lru_cache(maxsize=32)
def _splitter(size: int, overlap: int, tokenizer: str | None, syntax: Syntax, language: str | None) -> Any:
    try:
        import semantic_text_splitter as library
    except ImportError as error:
        msg = 'splitting needs `semantic-text-splitter`; install it with `pip install "embed-core[index]"`'
        raise IntegrationNotInstalledError(msg) from error
    kind: Any = library.TextSplitter
    grammar = _grammar(language) if syntax == "code" and language is not None else None
    first: tuple[Any, ...] = ()
    if syntax == "markdown":
        kind = library.MarkdownSplitter
    elif grammar is not None:
        kind, first = library.CodeSplitter, (grammar,)
    elif syntax not in {"text", "code"}:
        msg = f"`syntax` is {syntax!r}; it must be 'text', 'markdown' or 'code'"
        raise ConfigurationError(msg)
    if tokenizer is None:
        return kind(*first, size, overlap)
    return kind.from_huggingface_tokenizer_str(*first, tokenizer, size, overlap)


def _grammar(language: str) -> Any:
    """Return the tree-sitter grammar of a language, or None if none is installed."""
    if (found := _GRAMMARS.get(language.lower())) is None:
        return None
    module, function = found
    try:
        return getattr(import_module(module), function)()
    except ImportError:
        return None


def _tokenizer_json(tokenizer: Any) -> str:
    """Return a tokenizer as JSON of the `tokenizers` library, without truncation and padding."""
    tokenizer = getattr(tokenizer, "backend_tokenizer", tokenizer)
    try:
        if isinstance(tokenizer, str) and tokenizer.startswith("{"):
            text = tokenizer
        else:
            text = tokenizer.to_str() if hasattr(tokenizer, "to_str") else Path(tokenizer).read_text(encoding="utf-8")
        return json.dumps(json.loads(text) | {"truncation": None, "padding": None})
    except (OSError, TypeError, ValueError) as error:
        msg = f"cannot read the tokenizer ({error}); pass a `tokenizers.Tokenizer` or the path of a `tokenizer.json`"
        raise ConfigurationError(msg) from error
