from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from embeddings_huggingface._tokens import Tokens, account
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
