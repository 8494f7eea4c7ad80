"""What an index says it holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from embed_core.index._store import Store


@dataclass(frozen=True, slots=True)
class Stats:
    """What an index holds.

    Attributes:
        model: the model as a spec, without its options.
        bytes: the room on the disk, a cache in the folder included.
        created: the time in UTC, ISO 8601.
    """

    folder: str
    model: str
    fingerprint: str
    dimension: int
    files: int
    records: int
    chunks: int
    bytes: int
    created: str

    @classmethod
    def of(cls, folder: Path, store: Store) -> Stats:
        """Count what is in the store of a folder."""
        stamp = store.stamp
        return cls(
            folder=str(folder),
            model=stamp.model_label,
            fingerprint=stamp.fingerprint,
            dimension=stamp.dimension,
            files=store.count_files(),
            records=store.count_records(),
            chunks=store.count_chunks(),
            bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
            created=stamp.created,
        )
