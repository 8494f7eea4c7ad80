"""What a pipeline remembers from one run to the next; a store that fails or is damaged only costs work."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from embed_core.kvstore import KVStore
from embed_core.schema import BaseNode, Document, ImageNode, MetadataMode, TextNode, image_of

T = TypeVar("T")

_KEY_BYTES = 24
_SEAL_BYTES = 8
_KINDS: dict[str, type[BaseNode]] = {kind.__name__: kind for kind in (TextNode, Document, ImageNode)}

_log = logging.getLogger("embed_core.pipeline")


@dataclass(frozen=True)
class Ledger:
    """Reads and writes JSON values; nothing it does fails."""

    store: KVStore

    def notes(self, keys: Iterable[bytes]) -> dict[bytes, Any]:
        """Return the JSON values that are there; a damaged one is left out."""
        sealed = self._get(keys).items()
        return {name: json.loads(blob[_SEAL_BYTES:]) for name, blob in sealed if blob == _seal(blob[_SEAL_BYTES:])}

    def keep_notes(self, notes: Mapping[bytes, Any]) -> None:
        """Store JSON values."""
        self._put({name: _seal(json.dumps(note).encode()) for name, note in notes.items()})

    def forget(self, keys: Iterable[bytes]) -> None:
        """Remove what is there of these keys."""
        _bypassing(lambda: self.store.delete_many(list(keys)), None)

    def _get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        return _bypassing(lambda: self.store.get_many(list(dict.fromkeys(keys))), {})

    def _put(self, items: Mapping[bytes, bytes]) -> None:
        _bypassing(lambda: self.store.put_many(items), None)


def key(*parts: Any) -> bytes:
    """Return a hash of some JSON values; in JSON no two lists of parts look the same."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=_KEY_BYTES).digest()


def state(node: Any) -> str:
    """Return a hash of everything about a node but its id, its vector included."""
    embedding = getattr(node, "embedding", None)
    vector = b"" if embedding is None else np.asarray(embedding, dtype=np.float64).tobytes()
    return key(_content(node), hashlib.sha256(vector).hexdigest()).hex()


def image_digest(image: Any) -> str:
    """Return a hash of an image as `image_of` gives it: by its content, unless it is elsewhere or cannot be read."""
    try:
        content = image if isinstance(image, bytes) else Path(image).read_bytes()
    except (OSError, ValueError):  # an address; or what the model will refuse, in better words
        return key("address", str(image)).hex()
    return hashlib.sha256(content).hexdigest()


def freeze(nodes: Sequence[Any]) -> list[Any] | None:
    """Return nodes as JSON values; None where they would not come back the same."""
    if any(type(node) not in _KINDS.values() for node in nodes):
        return None
    try:
        frozen = [[type(node).__name__, node.model_dump(mode="json")] for node in nodes]
        return frozen if thaw(json.loads(json.dumps(frozen))) == list(nodes) else None
    except ValueError:
        return None


def thaw(frozen: Sequence[Any]) -> list[Any]:
    """Return the nodes that `freeze` was given."""
    return [_KINDS[kind].model_validate(fields) for kind, fields in frozen]


def _content(node: Any) -> str:
    if isinstance(node, BaseNode):
        return node.hash
    modes = (MetadataMode.EMBED, MetadataMode.ALL, MetadataMode.NONE)
    image = image_of(node)
    shown = [node.get_content(metadata_mode=mode) for mode in modes]
    return key(type(node).__qualname__, shown, image is not None and image_digest(image)).hex()


def _seal(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_SEAL_BYTES).digest() + content


def _bypassing(action: Callable[[], T], otherwise: T) -> T:
    try:
        return action()
    except Exception:  # a cache never loses or blocks an embedding
        _log.warning("the pipeline's cache failed and is bypassed", exc_info=True)
        return otherwise
