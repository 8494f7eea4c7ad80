"""The folder of an index: the names in it, and the lock that lets one run write at a time."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from embed_core.errors import ConfigurationError, EmbedError, StoreError

TABLE: Final = "chunks.lance"
"""Marks a folder as an index."""
CACHE: Final = "cache.sqlite"
JOBS: Final = "jobs.json"
_LOCK: Final = "write.lock"
_HOLDER: Final = "write.pid"
_SHOWN = 20  # characters of a process number
_OURS = (TABLE, CACHE, JOBS, _LOCK, _HOLDER)


def check_own(folder: Path) -> None:
    """Refuse a folder in which one of our names is a link, or no file: writing there would overwrite another file.

    Hard links in the table are let be: its files are never written again, and backups are made of such links.

    Raises:
        ConfigurationError: a name stands for something else.
    """
    for path in _own(folder):
        status = path.lstat()
        is_hard_link = stat.S_ISREG(status.st_mode) and status.st_nlink > 1 and path.parent == folder
        if is_hard_link or not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            kind = "a link" if is_hard_link or stat.S_ISLNK(status.st_mode) else "a device, pipe or socket"
            raise ConfigurationError(f"`{path}` is {kind}, which no index holds; remove it, or name another folder")


def _own(folder: Path) -> Iterator[Path]:
    """Yield the paths of an index in a folder, those inside its table included."""
    waiting = [path for path in folder.iterdir() if path.name.startswith(_OURS)] if folder.is_dir() else []
    while waiting:
        yield (path := waiting.pop())
        if path.is_dir():
            waiting += path.iterdir()


def check_new(folder: Path) -> None:
    """Refuse to spread a new index among other things.

    Raises:
        ConfigurationError: the folder holds something else, or is a file.
    """
    try:
        others = sorted(path.name for path in folder.iterdir() if not path.name.startswith((".", *_OURS)))
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise ConfigurationError(f"`{folder}` is a file; name a folder for the index") from error
    if others:
        msg = f"`{folder}` holds other things, such as `{others[0]}`; name a new or empty folder for the index"
        raise ConfigurationError(msg)


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder while the block runs; the system releases it when the process ends, however it ends.

    Raises:
        EmbedError: another process, or another thread of this one, holds it.
        StoreError: the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    check_own(folder)
    holder = folder / _HOLDER
    with ExitStack() as stack:
        try:
            stack.enter_context(FileLock(folder / _LOCK, timeout=0))
            holder.write_text(str(os.getpid()), "ascii")
        except Timeout as error:
            pid = holder.read_text("ascii", "replace")[:_SHOWN] if holder.exists() else "unknown"
            msg = f"`{folder}` is being written by another run (process {pid}); wait until it is done, or stop it"
            raise EmbedError(msg) from error
        except OSError as error:
            msg = f"`{folder}` cannot be read or written ({error}); make room on the disk or correct its permissions"
            raise StoreError(msg) from error
        yield
