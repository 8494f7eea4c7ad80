from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from embeddings_huggingface._tokens import Bulk, Tokens, account
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers


def byte_level() -> Tokenizer:
    """Every byte is a token, so one emoji is four."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


@pytest.fixture(scope="module", params=["wordpiece", "bare wordpiece", "byte level"])
def tokens(request: pytest.FixtureRequest, wordpiece: Callable[..., Any]) -> Tokens:
    if request.param == "wordpiece":
        return Tokens(wordpiece())
    if request.param == "bare wordpiece":
        return Tokens(wordpiece().backend_tokenizer, special=False)
    return Tokens(byte_level(), special=False)


TEXT = st.text(st.sampled_from("ab the wing\n.!é日🥊\u00ad") | st.characters(exclude_categories=["Cs"]), max_size=60)


@given(text=TEXT, limit=st.integers(4, 20), prompt=st.sampled_from(["", "query: "]))
def test_windows_are_the_text_and_each_fits(tokens: Tokens, text: str, limit: int, prompt: str) -> None:
    windows = tokens.windows(text, prompt, limit)
    assert "".join(piece for piece, _ in windows) == text
    for piece, count in windows:
        assert count == tokens.count(prompt + piece) - tokens.count(prompt)
        assert count <= limit


@given(text=TEXT, limit=st.integers(4, 20))
def test_a_text_that_fits_is_one_window_and_one_that_does_not_is_more(tokens: Tokens, text: str, limit: int) -> None:
    fits = tokens.count(text) - tokens.count("") <= limit
    assert (len(tokens.windows(text, "", limit)) == 1) == fits


@given(text=TEXT)
def test_one_character_a_window_is_the_least(tokens: Tokens, text: str) -> None:
    windows = tokens.windows(text, "", 1)
    assert "".join(piece for piece, _ in windows) == text
    assert all(piece for piece, _ in windows) or not text


def test_windows_end_at_white_space_where_there_is_some(wordpiece: Callable[..., Any]) -> None:
    windows = Tokens(wordpiece()).windows("the wing of an aircraft stalls the wing of an aircraft stalls", "", 5)
    assert [piece for piece, _ in windows] == ["the wing of an ", "aircraft stalls the wing ", "of an aircraft stalls"]
    assert [count for _, count in windows] == [4, 5, 5]


def test_a_word_longer_than_a_window_is_split_and_counted_again() -> None:
    tokens = Tokens(byte_level(), special=False)
    assert tokens.windows("🥊🥊🥊", "", 9) == [("🥊🥊", 8), ("🥊", 4)]
    assert tokens.windows("🥊🥊", "", 3) == [("🥊", 4), ("🥊", 4)]  # less than a character is no text


def test_a_count_includes_what_the_model_puts_around_a_text(wordpiece: Callable[..., Any]) -> None:
    assert Tokens(wordpiece()).count("") == 2
    assert Tokens(wordpiece()).count("the bread") == 4


def test_a_tokenizer_with_a_length_of_its_own_still_counts_all(wordpiece: Callable[..., Any]) -> None:
    assert Tokens(wordpiece(model_max_length=8)).count("the " * 100) == 102


def test_only_fast_tokenizers_know_where_tokens_are(wordpiece: Callable[..., Any]) -> None:
    class Slow:
        is_fast = False

        def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
            return {"input_ids": [0] * len(text.split())}

    assert Tokens(wordpiece()).exact
    assert Tokens(byte_level()).exact
    assert not Tokens(Slow()).exact
    assert Tokens(Slow()).count("one two") == 2


def test_truncated_texts_are_counted_with_and_without_the_tokenizers_own_account(wordpiece: Callable[..., Any]) -> None:
    tokenizer = wordpiece()
    texts = ["the bread", "the " * 6, "the " * 7, "the " * 50]
    told = tokenizer(texts, padding=True, truncation=True, max_length=8, return_tensors="pt")
    assert account(told, Tokens(tokenizer), texts, "", 8) == (4 + 8 + 8 + 8, 2)
    assert account(dict(told), Tokens(tokenizer), texts, "", 8) == (4 + 8 + 8 + 8, 2)
    assert account(dict(told), None, texts, "", 8) == (28, 0)


def test_texts_laid_end_to_end_are_counted_too() -> None:
    import torch

    assert account({"input_ids": torch.arange(7), "offsets": torch.tensor([0, 3])}, None, ["a", "b"], "", None) == (
        7,
        0,
    )
    assert account({"pixel_values": torch.zeros(1)}, None, [], "", None) == (None, 0)


# Many texts at once


def bulk_of(tokenizer: Any, side: str = "right") -> Bulk:
    bare = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
    bare.no_padding()
    bare.no_truncation()
    return Bulk(bare, left=side == "left")


PIECES = st.sampled_from(
    ["bread", "the wing", "  ", "\n", "ü", "e\u0301", "[MASK]", "日本", "air!", "a" * 30, "\u3000"]
)


@pytest.mark.parametrize("side", ["right", "left"])
@given(texts=st.lists(st.lists(PIECES, max_size=90).map(" ".join), min_size=1, max_size=4), limit=st.integers(3, 20))
def test_rows_are_those_of_transformers(wordpiece: Callable[..., Any], side: str, texts: list[str], limit: int) -> None:
    tokenizer = wordpiece(truncation_side=side)
    expected = tokenizer(texts, truncation=True, max_length=limit)["input_ids"]
    whole = tokenizer(texts)["input_ids"]
    rows, cut = bulk_of(tokenizer, side).rows(texts, limit)
    assert rows == expected
    assert cut == sum(len(row) > limit for row in whole)
    assert bulk_of(tokenizer, side).rows(texts, None) == (whole, 0)


def test_of_a_very_long_text_only_the_beginning_is_tokenised(wordpiece: Callable[..., Any]) -> None:
    class Counted:
        seen = 0

        def __init__(self, tokenizer: Any) -> None:
            self._tokenizer = tokenizer

        def __getattr__(self, name: str) -> Any:
            return getattr(self._tokenizer, name)

        def encode_batch_fast(self, texts: list[str], **options: Any) -> Any:
            Counted.seen += sum(map(len, texts))
            return self._tokenizer.encode_batch_fast(texts, **options)

    text = "the wing of an aircraft " * 4_000
    tokenizer = wordpiece()
    bulk = bulk_of(tokenizer)
    bulk.tokenizer = Counted(bulk.tokenizer)
    rows, cut = bulk.rows([text, "bread"], 12)
    assert rows[0] == tokenizer([text], truncation=True, max_length=12)["input_ids"][0]
    assert cut == 1
    assert Counted.seen < 1_000


def test_threads_share_a_tokenizer(wordpiece: Callable[..., Any]) -> None:
    bulk = bulk_of(wordpiece())
    texts = [["the wing of an aircraft " * (1 + number), "bread"] for number in range(8)]
    expected = [bulk.rows(some, 9) for some in texts]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda some: bulk.rows(some, 9), texts * 20)) == expected * 20
