"""The folder of an index: what else lies in it beside the table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from embed_core import BaseEmbedding
from embed_core.errors import ConfigurationError
from embed_core.index._cached import Cached
from embed_core.index._walk import TABLE_FOLDER
from embed_core.kvstore import SQLiteKVStore

CACHE: Final = "cache.sqlite"
LOCK: Final = "write.lock"
JOBS: Final = "jobs.json"
_OURS = (CACHE, LOCK, JOBS, TABLE_FOLDER)


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
def cached(model: BaseEmbedding, path: Path | None) -> Iterator[Cached]:
    """Lend a cache to a model that has none, so that nothing is embedded twice by a run that had to be repeated."""
    if model.embeddings_cache is not None or path is None:
        yield Cached(model)
        return
    with closing(SQLiteKVStore(path)) as store:
        yield Cached(model, store)
