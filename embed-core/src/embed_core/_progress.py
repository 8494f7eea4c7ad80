"""The progress bar, which loads tqdm only when somebody wants to see it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from embed_core._types import Kind, Progress

_NOUNS: dict[Kind, str] = {"query": "queries", "text": "texts", "image": "images"}


class _Bar(Progress):
    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def advance(self, count: int) -> None:
        self._bar.update(count)

    def extend(self, count: int) -> None:
        self._bar.total += count
        self._bar.refresh()


@contextmanager
def progress(kind: Kind, total: int, *, show: bool) -> Iterator[Progress]:
    """Show a tqdm bar that counts inputs while the block runs, or nothing."""
    if not show:
        yield Progress()
        return
    from tqdm.auto import tqdm

    noun = _NOUNS[kind]
    with tqdm(total=total, desc=f"Embedding {noun}", unit=f" {noun}") as bar:
        yield _Bar(bar)
