"""The progress bar, which loads tqdm only when somebody wants to see it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from embed_core._types import Kind, Progress
from embed_core.forks import Lock

_NOUNS: dict[Kind, str] = {"query": "queries", "text": "texts", "image": "images"}
_log = logging.getLogger("embed_core.progress")


class _Bar(Progress):
    """A tqdm bar, which ends where it can no longer be drawn: a closed pipe costs no vector."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._turn = Lock()  # tqdm counts without one

    def advance(self, count: int) -> None:
        self._draw(lambda: self._bar.update(count))

    def extend(self, count: int) -> None:
        self._draw(lambda: self._extend(count))

    def close(self) -> None:
        self._draw(self._bar.close)

    def _extend(self, count: int) -> None:
        self._bar.total += count
        self._bar.refresh()

    def _draw(self, action: Callable[[], object]) -> None:
        with self._turn:
            try:
                action()
            except Exception:  # whatever the terminal says, it is no reason to lose a vector
                _log.debug("the progress bar cannot be drawn and ends", exc_info=True)
                self._bar.disable = True


@contextmanager
def progress(kind: Kind, total: int, *, show: bool) -> Iterator[Progress]:
    """Show a tqdm bar that counts inputs while the block runs, or nothing."""
    bar = _bar(_NOUNS[kind], total) if show else None
    if bar is None:
        yield Progress()
        return
    try:
        yield bar
    finally:
        bar.close()


def _bar(noun: str, total: int) -> _Bar | None:
    try:
        return _Bar(_tqdm()(total=total, desc=f"Embedding {noun}", unit=f" {noun}"))
    except Exception:  # no terminal, or one that is closed
        _log.debug("there is nowhere to draw a progress bar", exc_info=True)
        return None


@cache
def _tqdm() -> Any:
    from tqdm.auto import tqdm

    def refresh(bar: Any, *_: Any, **__: Any) -> None:
        """Draw; tqdm's own leaves its lock held where drawing fails, and every other thread waits for ever."""
        with bar.get_lock():
            tqdm.refresh(bar, nolock=True)

    return type("tqdm", (tqdm,), {"refresh": refresh})
