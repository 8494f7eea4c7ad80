"""Key-value stores: where vectors are kept between calls, processes and days."""

from embed_core.kvstore._interface import KVStore, visit
from embed_core.kvstore._memory import MemoryKVStore
from embed_core.kvstore._sqlite import SQLiteKVStore

__all__ = ["KVStore", "MemoryKVStore", "SQLiteKVStore", "visit"]
