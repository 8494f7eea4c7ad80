"""Texts that can be searched by meaning: files and records to chunks to vectors in LanceDB (extra `index`)."""

from embed_core.index._index import Index
from embed_core.index._record import Record
from embed_core.index._results import Changes, Hit, Skipped, Source, Stats
from embed_core.index._sources import read_records

__all__ = ["Changes", "Hit", "Index", "Record", "Skipped", "Source", "Stats", "read_records"]
