"""One writer at a time: a lock that the system lets go of when its process ends, however it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embed_core.errors import EmbedError

if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> None:
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)  # behind the text, which stays readable
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _try_lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold the lock file at `path` while the block runs.

    Raises:
        EmbedError: another process, or another thread of this one, holds it.
    """
    with path.open("a+b", buffering=0) as file:
        try:
            _try_lock(file.fileno())
        except OSError as error:
            file.seek(0)
            holder = file.read(32).decode("ascii", "replace").strip() or "unknown"
            msg = (
                f"`{path.parent}` is being written by another run (process {holder}); wait until it is done, or stop it"
            )
            raise EmbedError(msg) from error
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        yield
