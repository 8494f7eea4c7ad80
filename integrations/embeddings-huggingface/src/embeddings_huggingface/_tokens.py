"""Texts as the model's own tokenizer sees them: how many tokens, and where they may be split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, TypeAlias

Windows: TypeAlias = list[tuple[str, int]]

_SPLIT_AT_SPACES = {
    "BertPreTokenizer",
    "ByteLevel",
    "Digits",
    "Punctuation",
    "Sequence",
    "Whitespace",
    "WhitespaceSplit",
}
_OF_CHARACTERS = {"BertNormalizer", "Lowercase", "NFC", "NFD", "Sequence", "StripAccents"}
_CHARACTERS_A_TOKEN = 16  # in a long text; where it has more, all of it is tokenised


class Bulk:
    """Turns many texts into token ids at once, as a bare tokenizer of the `tokenizers` library does it.

    Any number of threads may use it, because it never changes the tokenizer's settings.
    """

    def __init__(self, tokenizer: Any, *, left: bool = False) -> None:
        """Take a tokenizer that neither pads nor cuts, and whether the beginning of a long text is cut off."""
        self.tokenizer = tokenizer
        self.left = left

    def rows(self, texts: Sequence[str], limit: int | None) -> tuple[list[list[int]], int]:
        """Return the token ids of each text, special tokens included, and how many texts were cut to `limit` tokens."""
        clipped = [self._clip(text, limit) for text in texts]
        rows = self._ids(clipped)
        if limit is None:
            return rows, 0
        short = [at for at, row in enumerate(rows) if len(row) <= limit and len(clipped[at]) < len(texts[at])]
        for at, row in zip(short, self._ids([texts[at] for at in short]), strict=True):
            rows[at], clipped[at] = row, texts[at]
        long = [at for at, row in enumerate(rows) if len(row) > limit]
        for at, row in zip(long, self._cut([clipped[at] for at in long], limit), strict=True):
            rows[at] = row
        return rows, len(long)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts)] if texts else []

    def _cut(self, texts: Sequence[str], limit: int) -> Iterable[list[int]]:
        room = max(0, limit - self.tokenizer.num_special_tokens_to_add(False))
        for encoding in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False) if texts else ():
            encoding.truncate(room, direction="left" if self.left else "right")
            yield self.tokenizer.post_process(encoding).ids

    def _clip(self, text: str, limit: int | None) -> str:
        """Return the beginning of a very long text, up to a space, where its tokens are those of the whole text."""
        end = 0 if limit is None else limit * _CHARACTERS_A_TOKEN
        if limit is None or len(text) <= end or not self._is_local:
            return text
        return text[: text.rfind(" ", limit, end) + 1].rstrip() or text

    @cached_property
    def _is_local(self) -> bool:
        """Whether tokens never depend on the text behind the space that follows them."""
        parts = (self.tokenizer.pre_tokenizer, _SPLIT_AT_SPACES), (self.tokenizer.normalizer, _OF_CHARACTERS)
        added = self.tokenizer.get_added_tokens_decoder().values()
        return (
            not self.left
            and self.tokenizer.pre_tokenizer is not None
            and all(part is None or _kinds(part) <= known for part, known in parts)
            and not any(len(token.content.split()) > 1 for token in added)
        )


def _kinds(part: Any) -> set[str]:
    state = part.__getstate__().decode()
    return {"Unknown"} if '"use_regex":false' in state else set(re.findall(r'"type":"(\w+)"', state))


class Tokens:
    """Counts and splits texts exactly, with a `transformers` tokenizer or a bare one of the `tokenizers` library."""

    def __init__(self, tokenizer: Any, *, special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._bare = not callable(tokenizer)
        self._special = special

    @property
    def exact(self) -> bool:
        """Whether positions of tokens in a text are known, which slow tokenizers do not tell."""
        return self._bare or bool(getattr(self._tokenizer, "is_fast", False))

    def count(self, text: str) -> int:
        """Return the number of tokens, those that the model wants around every text included."""
        if self._bare:
            return len(self._tokenizer.encode(text, add_special_tokens=self._special).ids)
        return len(self._tokenizer(text, truncation=False, padding=False, verbose=False)["input_ids"])

    def windows(self, text: str, prompt: str, limit: int) -> Windows:
        """Split a text into consecutive pieces of at most `limit` tokens, at white space where there is some.

        A piece is counted again on its own, because a tokenizer may see a word's tail as other tokens than within the
        word. A single character that takes more tokens than `limit` is a piece all the same.
        """
        around = self.count(prompt)
        spans = self._spans(text)
        pieces: Windows = []
        first, start = 0, 0
        while True:
            room = limit
            while True:
                last = _split_at(text, spans, first, room)
                stop = spans[last][0] if last < len(spans) else len(text)
                tokens = self.count(prompt + text[start:stop]) - around
                if tokens <= limit or room <= 1:
                    break
                room = max(1, min(room, last - first) - (tokens - limit))
            pieces.append((text[start:stop], tokens))
            if stop >= len(text):
                return pieces
            first, start = last, stop

    def _spans(self, text: str) -> Sequence[tuple[int, int]]:
        if self._bare:
            spans = self._tokenizer.encode(text, add_special_tokens=False).offsets
        else:
            options = {"truncation": False, "padding": False, "verbose": False, "add_special_tokens": False}
            spans = self._tokenizer(text, return_offsets_mapping=True, **options)["offset_mapping"]
        return [(int(start), int(stop)) for start, stop in spans if stop > start]


def _split_at(text: str, spans: Sequence[tuple[int, int]], first: int, room: int) -> int:
    """Return the token, at most `room` after `first`, in front of which to split; white space in reach is preferred."""
    if first + room >= len(spans):
        return len(spans)
    possible = [token for token in range(first + room, first, -1) if spans[token][0] >= spans[token - 1][1]]
    for token in possible:
        start = spans[token][0]
        if token <= first + room // 2:
            break
        if text[start - 1].isspace() or text[start].isspace():
            return token
    if possible:
        return possible[0]
    after = range(first + room + 1, len(spans))  # one character has more tokens than there is room
    return next((token for token in after if spans[token][0] >= spans[token - 1][1]), len(spans))


def account(
    features: Any, tokens: Tokens | None, texts: Sequence[str], prompt: str, limit: int | None
) -> tuple[int | None, int]:
    """Return how many tokens a tokenised batch has without padding, and how many of its texts were cut to `limit`."""
    mask, ids = features.get("attention_mask"), features.get("input_ids")
    if mask is None or mask.ndim != 2:  # texts laid end to end, with nothing to pad and nothing cut
        return (None if ids is None else int(ids.numel())), 0
    lengths = mask.sum(dim=1)
    if (encodings := getattr(features, "encodings", None)) is not None:
        return int(lengths.sum()), sum(bool(encoding.overflowing) for encoding in encodings)
    if limit is None or tokens is None:
        return int(lengths.sum()), 0
    full = (lengths == limit).nonzero().flatten().tolist()
    return int(lengths.sum()), sum(tokens.count(prompt + texts[row]) > limit for row in full)


def plain_ids(features: Any) -> list[list[int]]:
    """Return the token ids of a tokenised batch without padding; none where there is more to it than token ids."""
    ids, mask, types = (features.get(name) for name in ("input_ids", "attention_mask", "token_type_ids"))
    if ids is None or mask is None or mask.ndim != 2 or (types is not None and bool(types.any())):
        return []
    return [row[kept.bool()].tolist() for row, kept in zip(ids, mask, strict=True)]
