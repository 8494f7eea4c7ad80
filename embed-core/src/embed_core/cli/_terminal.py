"""How paths and texts of other people look in a terminal."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_WIDEST = 100  # columns; longer lines are hard to read


def printable(text: str) -> str:
    """Return a text in one line, without what could steer a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in " ".join(text.split()))


def short_path(path: str) -> str:
    """Return an absolute path as seen from the current folder where it lies in it."""
    here = os.path.realpath(Path.cwd())
    return printable(os.path.relpath(path, here) if path.startswith(here.rstrip(os.sep) + os.sep) else path)


def width() -> int:
    """Return how many columns to use."""
    return min(_WIDEST, shutil.get_terminal_size().columns)
