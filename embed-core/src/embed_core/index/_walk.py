"""The files under some paths, in the order of their names."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from embed_core.index._folder import TABLE
from embed_core.index._item import Item
from embed_core.index._results import Skipped

IGNORED = frozenset({"__pycache__", "node_modules"})
"""Folders of copies and caches; like hidden ones, they are read only when named."""


def canonical(path: str | os.PathLike[str]) -> str:
    """Return the one absolute name that a file has in an index, however it is reached."""
    return os.path.realpath(Path(path).expanduser())


def is_under(source: str, root: str) -> bool:
    """Tell whether a canonical path is `root` or lies in it."""
    return source == root or source.startswith(root.rstrip(os.sep) + os.sep)


def is_gone(source: str) -> bool:
    """Tell whether a file is certainly gone; a file that cannot be looked at may be there."""
    try:
        return not stat.S_ISREG(os.lstat(source).st_mode) or canonical(source) != source
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False


def walk(roots: Iterable[str], leave_out: str) -> Iterator[Item | Skipped]:
    """Yield every file under the canonical paths once, unread; follow no link: it could lead out of them or in circles.

    Args:
        roots: files and folders; a hidden one that is named here is read.
        leave_out: the folder of the index itself.
    """
    seen: set[str] = set()
    waiting = sorted(set(roots), reverse=True)
    while waiting:
        path = waiting.pop()
        if path in seen or is_under(path, leave_out):
            continue
        seen.add(path)
        try:
            found = _look(path)
            if found is None:
                waiting += _children(path)
        except OSError as error:
            found = Skipped(path, f"cannot be read ({error.strerror})")
        if found is not None:
            yield found


def _look(path: str) -> Item | Skipped | None:
    """Return a file with its size and time, the reason to skip it, or None for a folder."""
    status = os.lstat(path)
    if stat.S_ISDIR(status.st_mode):
        return None
    if stat.S_ISLNK(status.st_mode):
        return Skipped(path, "is a link; name its target to index that")
    if not stat.S_ISREG(status.st_mode):
        return Skipped(path, "is a device, pipe or socket")
    try:
        path.encode()
    except UnicodeEncodeError:
        return Skipped(path.encode(errors="replace").decode(), "has a name that is no valid Unicode; rename it")
    return Item(path, "", size=status.st_size, mtime_ns=status.st_mtime_ns)


def _children(folder: str) -> list[str]:
    """Return the paths in a folder, the last one first; none for an index."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries]
    if TABLE in names:
        return []
    wanted = (name for name in names if name not in IGNORED and not name.startswith("."))
    return [f"{folder.rstrip(os.sep)}{os.sep}{name}" for name in sorted(wanted, reverse=True)]
