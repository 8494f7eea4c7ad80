"""The progress bar, which loads tqdm only when a bar is shown."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from embed_core._types import Kind, Progress
from embed_core.forks import Lock

_NOUNS: dict[Kind, str] = {"query": "queries", "text": "texts", "image": "images"}
_log = logging.getLogger("embed_core.progress")


class _Bar(Progress):
    """A tqdm bar that disables itself when drawing fails: a closed pipe must not lose a vector."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._turn = Lock()  # tqdm updates its count without a lock

    def advance(self, count: int) -> None:
        self._draw(lambda: self._bar.update(count))

    def skip(self, count: int) -> None:
        self._draw(lambda: self._skip(count))

    def extend(self, count: int) -> None:
        self._draw(lambda: self._extend(count))

    def note(self, words: str) -> None:
        self._draw(lambda: self._bar.set_postfix_str(words))

    def close(self) -> None:
        self._draw(self._bar.close)

    def _skip(self, count: int) -> None:
        self._bar.initial += count  # a speed is that of `n - initial`, and the latest that of `n - last_print_n`
        self._bar.n += count
        self._bar.last_print_n += count
        self._bar.refresh()

    def _extend(self, count: int) -> None:
        if self._bar.total is not None:
            self._bar.total += count
            self._bar.refresh()

    def _draw(self, action: Callable[[], object]) -> None:
        with self._turn:
            try:
                action()
            except Exception:  # a terminal's error must not lose a vector
                _log.debug("the progress bar cannot be drawn and is disabled", exc_info=True)
                self._bar.disable = True


class _Part(Progress):
    """The bar of a stream as one block counts on it: the stream closes it."""

    def __init__(self, whole: Progress) -> None:
        self._whole = whole

    def advance(self, count: int) -> None:
        self._whole.advance(count)

    def skip(self, count: int) -> None:
        self._whole.skip(count)

    def extend(self, count: int) -> None:
        self._whole.extend(count)


def progress(kind: Kind, total: int | None, *, show: bool | Progress) -> Progress:
    """Return a tqdm bar that counts inputs if `show` is true and it can be drawn; the caller closes it.

    Without a total it shows no end. A bar in place of `show` counts these inputs too, and stays open.
    """
    if isinstance(show, Progress):
        return _Part(show)
    drawn = show and sys.stderr is not None  # without one, tqdm before 4.70 fails again in its finalizer
    return (_bar(_NOUNS[kind], total) if drawn else None) or Progress()


def _bar(noun: str, total: int | None) -> _Bar | None:
    try:
        return _Bar(_tqdm()(total=total, desc=f"Embedding {noun}", unit=f" {noun}"))
    except Exception:  # no terminal, or a closed one
        _log.debug("no progress bar can be drawn", exc_info=True)
        return None


@cache
def _tqdm() -> Any:
    from tqdm.auto import tqdm

    def refresh(bar: Any, *_: Any, **__: Any) -> None:
        """Draw the bar; tqdm's own method keeps its lock after an error, and all other threads wait for ever."""
        with bar.get_lock():
            tqdm.refresh(bar, nolock=True)

    return type("tqdm", (tqdm,), {"refresh": refresh})
