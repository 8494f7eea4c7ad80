"""One text to the server and back: the Python calls in our own code, counted."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import embed_core
import embeddings_openai
import pytest
from embeddings_openai import OpenAIEmbedding

OURS = tuple(module.__path__[0] for module in (embed_core, embeddings_openai))
MOST_CALLS = 110


def calls_of(action: Callable[[], object]) -> list[str]:
    """Return the functions of ours that are called in this thread."""
    found: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            found.append(frame.f_code.co_qualname)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(before)
    return found


@pytest.mark.parametrize("kind", ["query", "text"])
def test_one_text_takes_few_calls(model: OpenAIEmbedding, kind: str) -> None:
    embed = getattr(model, f"get_{kind}_embedding")
    embed("the first request settles the server")
    calls = calls_of(lambda: embed("a text"))
    assert len(calls) <= MOST_CALLS, "\n".join(calls)
