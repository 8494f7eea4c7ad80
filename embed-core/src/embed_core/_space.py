"""Spaces, the sets of settings that decide vectors, with their fingerprints and cache keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from embed_core._types import Kind

_KEY_BYTES = 24


class Dimension:
    """The dimension of a model's vectors: declared, or learned from its first answer."""

    def __init__(self, declared: int | None = None) -> None:
        self._agreed: dict[str, int] = {} if declared is None else {"dimension": declared}

    @property
    def known(self) -> int | None:
        """The dimension, once it is declared or learned."""
        return self._agreed.get("dimension")

    def agree(self, dimension: int) -> int:
        """Return the known dimension, or else set it to `dimension`; atomic, so threads need no lock."""
        return self._agreed.setdefault("dimension", dimension)


def fingerprint(space: Mapping[str, Any]) -> str:
    """Return a stable hash of a space: 32 hexadecimal digits, the same on every machine.

    Vectors may be compared if and only if their fingerprints are equal.

    Raises:
        TypeError: a value in the space has no JSON form.
    """
    canonical = json.dumps(space, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def keys(space_fingerprint: str, kind: Kind, inputs: Sequence[Any]) -> list[bytes]:
    """Return the cache key of each input: 24 bytes over fingerprint, kind and the exact content.

    The fingerprint has a fixed length and kinds have no NUL, so different triples give different bytes.
    """
    start = hashlib.blake2b(f"{space_fingerprint}{kind}\0".encode(), digest_size=_KEY_BYTES)

    def key(content: bytes) -> bytes:
        digest = start.copy()
        digest.update(content)
        return digest.digest()

    content_of: Callable[[Any], bytes] = _image_content if kind == "image" else str.encode
    return [key(content_of(one)) for one in inputs]


def _image_content(image: Any) -> bytes:
    digest: bytes = image.digest
    return digest
