"""Rows of files, standard input and databases, read as records one by one."""

from embed_core.index._sources._read import FORMS, read_records

__all__ = ["FORMS", "read_records"]
