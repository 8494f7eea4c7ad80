"""Key-value stores for vectors: in memory, and in a SQLite file that outlasts the process."""

from embed_core.kvstore._interface import KVStore, attempt, visit
from embed_core.kvstore._memory import MemoryKVStore
from embed_core.kvstore._sqlite import SQLiteKVStore

__all__ = ["KVStore", "MemoryKVStore", "SQLiteKVStore", "attempt", "visit"]
