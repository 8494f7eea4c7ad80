"""A folder that can be searched by meaning: files to chunks to vectors in LanceDB (extra `index`)."""

from embed_core.index._index import Index, Stats
from embed_core.index._rows import Hit
from embed_core.index._sync import Changes
from embed_core.index._walk import Skipped

__all__ = ["Changes", "Hit", "Index", "Skipped", "Stats"]
