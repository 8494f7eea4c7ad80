"""Nodes: pieces of documents with metadata, and what of them goes into an embedding."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import uuid
from abc import ABC, abstractmethod
from enum import StrEnum
from pathlib import Path, PurePath
from typing import Any, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import to_jsonable_python

from embed_core.errors import InvalidInputError


class MetadataMode(StrEnum):
    """For whom a node's content is put together; the values are LlamaIndex's."""

    ALL = "all"
    EMBED = "embed"
    LLM = "llm"
    NONE = "none"


class SupportsEmbedding(Protocol):
    """Anything with content and a place for a vector is a node; LlamaIndex's own nodes are."""

    embedding: Any

    def get_content(self, metadata_mode: Any = ...) -> str:
        """Return the text, with metadata as the mode asks."""
        ...


class BaseNode(BaseModel, ABC):
    """What all nodes have; fields and defaults are LlamaIndex's.

    Attributes:
        id_: unique among the nodes of a collection; a random UUID where none is given.
        embedding: the vector, once a model has set it.
        metadata: what is known about the content; the lines that go before it, in this order.
        excluded_embed_metadata_keys: metadata that a model does not get to see.
        excluded_llm_metadata_keys: metadata that a language model does not get to see.
        metadata_template: one line of metadata, with `{key}` and `{value}`.
        metadata_separator: what stands between those lines.
        ref_doc_id: `id_` of the document the node was split from.
    """

    model_config = ConfigDict(extra="forbid")

    id_: str = Field(default_factory=lambda: str(uuid.uuid4()))
    embedding: list[float] | None = Field(default=None, repr=False)
    metadata: dict[str, Any] = Field(default_factory=dict)
    excluded_embed_metadata_keys: list[str] = Field(default_factory=list)
    excluded_llm_metadata_keys: list[str] = Field(default_factory=list)
    metadata_template: str = "{key}: {value}"
    metadata_separator: str = "\n"
    ref_doc_id: str | None = None

    @property
    def node_id(self) -> str:
        """The same as `id_`."""
        return self.id_

    @abstractmethod
    def get_content(self, metadata_mode: MetadataMode = MetadataMode.NONE) -> str:
        """Return the content as text, with metadata as the mode asks."""

    def get_metadata_str(self, mode: MetadataMode = MetadataMode.ALL) -> str:
        """Return the metadata that the mode shows, a line for each key."""
        if mode == MetadataMode.NONE:
            return ""
        hidden: list[str] = []
        if mode == MetadataMode.EMBED:
            hidden = self.excluded_embed_metadata_keys
        elif mode == MetadataMode.LLM:
            hidden = self.excluded_llm_metadata_keys
        return self.metadata_separator.join(
            self.metadata_template.format(key=key, value=str(value))
            for key, value in self.metadata.items()
            if key not in hidden
        )

    @property
    def hash(self) -> str:
        """A stable hash of content and metadata, without `id_`, `ref_doc_id` and embedding: 32 hexadecimal digits.

        Raises:
            InvalidInputError: the metadata holds something that has no stable form, or is no plain data.
        """
        own = self.model_dump(exclude={"id_", "embedding", "ref_doc_id"})
        identity = [type(self).__qualname__, self.get_content(metadata_mode=MetadataMode.EMBED), own]
        try:
            canonical = json.dumps(identity, sort_keys=True, default=_tagged)
        except (TypeError, ValueError) as error:
            msg = f"node `{self.id_}` has no stable hash ({error}); keep plain data such as JSON types in `metadata`"
            raise InvalidInputError(msg) from error
        return hashlib.sha256(canonical.encode()).hexdigest()[:32]


class TextNode(BaseNode):
    """A piece of text.

    Attributes:
        text_template: how metadata and text are put together, with `{metadata_str}` and `{content}`.
    """

    text: str = ""
    text_template: str = "{metadata_str}\n\n{content}"

    def get_content(self, metadata_mode: MetadataMode = MetadataMode.NONE) -> str:
        """Return the text, after the metadata that the mode shows."""
        metadata = self.get_metadata_str(metadata_mode).strip()
        if not metadata:
            return self.text
        return self.text_template.format(content=self.text, metadata_str=metadata).strip()


class Document(TextNode):
    """A whole source, before it is split."""

    @property
    def doc_id(self) -> str:
        """The same as `id_`."""
        return self.id_


class ImageNode(TextNode):
    """An image, with a text about it where there is one.

    Attributes:
        image: the content of an image file in base64, or a `data:` URI; bytes are encoded.
        image_path: a path to it.
        image_url: a web address of it.
        image_mimetype: such as "image/png"; informative.
    """

    image: str | None = Field(default=None, repr=False)
    image_path: str | None = None
    image_url: str | None = None
    image_mimetype: str | None = None

    @field_validator("image", mode="before")
    @classmethod
    def _encode(cls, image: Any) -> Any:
        return base64.b64encode(image).decode() if isinstance(image, bytes | bytearray) else image

    @property
    def hash(self) -> str:
        """A stable hash of image, text and metadata; an image in a file counts by its content.

        Raises:
            InvalidInputError: the file cannot be read, or the metadata has no stable form.
        """
        if self.image is not None or self.image_path is None:
            return super().hash
        try:
            with Path(self.image_path).open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            msg = f"node `{self.id_}` has an image that cannot be read ({error}); check its `image_path`"
            raise InvalidInputError(msg) from error
        return hashlib.sha256(f"{super().hash}{content}".encode()).hexdigest()[:32]


def image_of(node: Any) -> Any | None:
    """Return the image of a node as models take it, bytes, path or address; None where there is none.

    Raises:
        InvalidInputError: the node's `image` is not base64.
    """
    image = getattr(node, "image", None)
    if not isinstance(image, str) or image[:5].lower() == "data:":
        given = (image, getattr(node, "image_path", None), getattr(node, "image_url", None))
        return next((one for one in given if one), None)
    try:
        return base64.b64decode("".join(image.split()), validate=True)
    except binascii.Error as error:
        name = getattr(node, "id_", "?")
        msg = f"node `{name}` has an `image` that is not base64 ({error}); pass the file's bytes, or use `image_path`"
        raise InvalidInputError(msg) from error


def _tagged(value: Any) -> Any:
    """Return a stable JSON form of what JSON does not know, with its type, so that no two types look the same."""
    match value:
        case set() | frozenset():
            plain: Any = sorted(json.dumps(one, sort_keys=True, default=_tagged) for one in value)
        case PurePath():
            plain = str(value)
        case np.generic() | np.ndarray():
            plain = value.tolist()
        case _:
            plain = to_jsonable_python(value)
    return {type(value).__qualname__: plain}
