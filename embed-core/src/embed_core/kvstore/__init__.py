"""Key-value stores: where vectors are kept between calls, processes and days."""

from embed_core.kvstore._codec import decode, encode
from embed_core.kvstore._interface import KVStore
from embed_core.kvstore._memory import MemoryKVStore

__all__ = ["KVStore", "MemoryKVStore", "decode", "encode"]
