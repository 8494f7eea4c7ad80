"""Nodes: pieces of documents with metadata, and the text of each that a model embeds."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path, PurePath
from typing import Any, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import to_jsonable_python

from embed_core.errors import InvalidInputError


class MetadataMode(StrEnum):
    """The reader of a node's content, which decides the metadata in it; the values are LlamaIndex's."""

    ALL = "all"
    EMBED = "embed"
    LLM = "llm"
    NONE = "none"


class SupportsEmbedding(Protocol):
    """A node: any object with content and an attribute for the vector, such as LlamaIndex's nodes."""

    embedding: Any

    def get_content(self, metadata_mode: Any = ...) -> str:
        """Return the text, with the metadata of the mode."""
        ...


def check_nodes(nodes: Any) -> None:
    """Refuse anything that is no list of nodes.

    Raises:
        InvalidInputError: an input is no node, or the whole is no list.
    """
    one = isinstance(nodes, str) or not isinstance(nodes, Iterable)
    for index, node in enumerate([nodes] if one else nodes):
        if one or not hasattr(node, "get_content"):
            found = f"a `{type(node).__name__}`, no {'list of nodes' if one else 'node'}"
            remedy = "pass nodes like `[TextNode(text=…)]`, or texts to `get_text_embedding_batch`"
            raise InvalidInputError(f"input {index} is {found}; {remedy}", indices=[index])


class BaseNode(BaseModel, ABC):
    """Base class of all nodes; fields and defaults are LlamaIndex's.

    Attributes:
        id_: unique among the nodes of a collection; a random UUID by default.
        embedding: the vector, once a model has set it.
        metadata: facts about the content; printed before it, one line per key, in this order.
        excluded_embed_metadata_keys: metadata hidden from embedding models.
        excluded_llm_metadata_keys: metadata hidden from language models.
        metadata_template: one line of metadata, with `{key}` and `{value}`.
        metadata_separator: separates the lines of metadata.
        ref_doc_id: `id_` of the document from which the node was split.
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
        """Equal to `id_`."""
        return self.id_

    @abstractmethod
    def get_content(self, metadata_mode: MetadataMode = MetadataMode.NONE) -> str:
        """Return the content as text, with the metadata of the mode."""

    def get_metadata_str(self, mode: MetadataMode = MetadataMode.ALL) -> str:
        """Return the metadata of the mode, a line for each key."""
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
            InvalidInputError: a value in the metadata has no stable JSON form.
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
        text_template: joins metadata and text, with `{metadata_str}` and `{content}`.
    """

    text: str = ""
    text_template: str = "{metadata_str}\n\n{content}"

    def get_content(self, metadata_mode: MetadataMode = MetadataMode.NONE) -> str:
        """Return the text, after the metadata of the mode."""
        metadata = self.get_metadata_str(metadata_mode).strip()
        if not metadata:
            return self.text
        return self.text_template.format(content=self.text, metadata_str=metadata).strip()


class Document(TextNode):
    """A whole source, before it is split."""

    @property
    def doc_id(self) -> str:
        """Equal to `id_`."""
        return self.id_


class ImageNode(TextNode):
    """An image, with an optional text about it.

    Attributes:
        image: the content of an image file in base64, or a `data:` URI; bytes are encoded.
        image_path: the path of the image file.
        image_url: the web address of the image.
        image_mimetype: such as "image/png"; for information only.
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
        """A stable hash of image, text and metadata; an image file is hashed by its content.

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
    """Return the image of a node in a form that models accept (bytes, path or address), or None.

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
    """Return a stable JSON form of a value that JSON lacks, with its type, so that values of two types differ."""
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
