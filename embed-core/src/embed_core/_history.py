"""The memory of a pipeline from one run to the next; a store that fails or is damaged only costs work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embed_core.kvstore import KVStore, attempt
from embed_core.schema import BaseNode, Document, ImageNode, MetadataMode, TextNode, image_of

_KEY_BYTES = 24
_CHECKSUM_BYTES = 8
_CLASSES: dict[str, type[BaseNode]] = {cls.__name__: cls for cls in (TextNode, Document, ImageNode)}


@dataclass(frozen=True)
class History:
    """JSON values in a store, by key; a store that fails is reported and holds nothing."""

    store: KVStore

    def read(self, keys: Iterable[bytes]) -> dict[bytes, Any]:
        """Return the values that are there; a damaged one is left out."""
        blobs: dict[bytes, bytes] = attempt(self.store, lambda: self.store.get_many(list(dict.fromkeys(keys))), {})
        parts = {key: (blob[:_CHECKSUM_BYTES], blob[_CHECKSUM_BYTES:]) for key, blob in blobs.items()}
        return {
            key: json.loads(text)
            for key, (checksum, text) in parts.items()
            if checksum in {_checksum(text, key), _checksum(text)}  # older: without its key
        }

    def write(self, values: Mapping[bytes, Any], *, keep: bool = False) -> None:
        """Store values; those to keep are never dropped to make room."""
        texts = {key: json.dumps(value).encode() for key, value in values.items()}
        items = {key: _checksum(text, key) + text for key, text in texts.items()}
        attempt(self.store, lambda: (self.store.keep_many if keep else self.store.put_many)(items), None)

    def forget(self, keys: Iterable[bytes]) -> None:
        """Remove the values of some keys."""
        attempt(self.store, lambda: self.store.delete_many(list(keys)), None)


def key_of(*parts: Any) -> bytes:
    """Return a hash of some JSON values; in JSON no two lists of parts look the same."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=_KEY_BYTES).digest()


def state(node: Any) -> str:
    """Return a hash of a node with its vector, but without its id."""
    embedding = getattr(node, "embedding", None)
    vector = b"" if embedding is None else np.asarray(embedding, dtype=np.float64).tobytes()
    return key_of(_content(node), hashlib.sha256(vector).hexdigest()).hex()


def freeze(nodes: Sequence[Any]) -> list[Any] | None:
    """Return nodes as JSON values; None where they would not come back the same."""
    if any(type(node) not in _CLASSES.values() for node in nodes):
        return None
    try:
        frozen = [[type(node).__name__, node.model_dump(mode="json")] for node in nodes]
        return frozen if thaw(json.loads(json.dumps(frozen))) == list(nodes) else None
    except ValueError:
        return None


def thaw(frozen: Sequence[Any]) -> list[Any]:
    """Return the nodes that `freeze` was given."""
    return [_CLASSES[name].model_validate(fields) for name, fields in frozen]


def _content(node: Any) -> str:
    if isinstance(node, BaseNode):
        return node.hash
    modes = (MetadataMode.EMBED, MetadataMode.ALL, MetadataMode.NONE)
    image = image_of(node)
    shown = [node.get_content(metadata_mode=mode) for mode in modes]
    return key_of(type(node).__qualname__, shown, image is not None and _image_digest(image)).hex()


def _image_digest(image: Any) -> str:
    try:
        content = image if isinstance(image, bytes) else Path(image).read_bytes()
    except (OSError, ValueError):  # an address, or an image that the model will refuse in better words
        return key_of("address", str(image)).hex()
    return hashlib.sha256(content).hexdigest()


def _checksum(content: bytes, key: bytes = b"") -> bytes:
    return hashlib.blake2b(content, digest_size=_CHECKSUM_BYTES, key=key).digest()
