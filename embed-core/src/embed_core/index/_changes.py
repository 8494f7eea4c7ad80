"""What a run did to an index, or would do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from embed_core import Estimate
from embed_core.index._walk import Skipped


@dataclass(slots=True)
class Changes:
    """What a run did, in files or records; `chunks` counts those written.

    Attributes:
        skipped: what is not in the index, or only in part, and why.
        estimate: what embedding would take, in a dry run; else None.
    """

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    chunks: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    estimate: Estimate | None = None

    def __iadd__(self, other: Changes) -> Self:
        """Add what another run did."""
        for name in ("added", "changed", "unchanged", "removed", "chunks"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.skipped += other.skipped
        if other.estimate is not None:
            self.estimate = (self.estimate or Estimate()) + other.estimate
        return self
