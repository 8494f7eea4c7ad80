"""Models that put images and texts into one space."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import Annotated, Any, Literal, overload

from embed_core._base import BaseEmbedding, NodeT
from embed_core._engine import array, lists, only, run, runner
from embed_core._images import ImageLoader, ImageUrls
from embed_core._io import IO, Asyncio, Blocking, drive
from embed_core._model import default_hook, own
from embed_core._threads import in_thread
from embed_core._types import OPERATIONAL, Answer, Answers, Embedding, Kind, OnError, Vectors
from embed_core.errors import EmbedError
from embed_core.kvstore import KVStore
from embed_core.schema import MetadataMode, check_nodes, image_of


class MultiModalEmbedding(BaseEmbedding):
    """A model that turns images as well as texts into vectors of one space.

    An image is a path, bytes, a file object, a PIL image, a `uint8` numpy array, a `data:` URI, or where `image_urls`
    is set an `http(s)` address. Hooks receive each as a `BytesIO` of an image file, metadata included: open it with
    `embed_core.open_image`, which turns photographs upright.

    Attributes:
        image_urls: limits within which images are fetched from public web addresses; None fetches nothing.
    """

    image_urls: Annotated[ImageUrls | None, OPERATIONAL] = None

    @abstractmethod
    def _get_image_embedding(self, image: BytesIO) -> Answer:
        """Embed one image; return a vector of shape (dimension,)."""

    @default_hook
    def _get_image_embeddings(self, images: list[BytesIO]) -> Answers:
        return [own(self._get_image_embedding(image)) for image in images]

    @default_hook
    async def _aget_image_embedding(self, image: BytesIO) -> Answer:
        return await in_thread(lambda: self._get_image_embedding(image))

    @default_hook
    async def _aget_image_embeddings(self, images: list[BytesIO]) -> Answers:
        return await self._abatch("image", images)

    def _image_loader(self) -> ImageLoader:
        return ImageLoader(self.image_urls)

    def get_image_embedding(self, image: Any) -> Embedding:
        """Embed an image; return its vector as a list of `dimension` floats."""
        return only(drive(run(self, Blocking(), "image", [image])))

    async def aget_image_embedding(self, image: Any) -> Embedding:
        """Embed an image; see `get_image_embedding`."""
        return only(await run(self, Asyncio(), "image", [image]))

    @overload
    def get_image_embedding_batch(
        self, images: Iterable[Any], *, show_progress: bool = False, on_error: Literal["raise"] = "raise"
    ) -> list[Embedding]: ...
    @overload
    def get_image_embedding_batch(
        self, images: Iterable[Any], *, show_progress: bool = False, on_error: Literal["none"]
    ) -> list[Embedding | None]: ...
    def get_image_embedding_batch(
        self, images: Iterable[Any], *, show_progress: bool = False, on_error: OnError = "raise"
    ) -> list[Any]:
        """Embed images; return one list of floats for each, in input order."""
        return drive(lists(self, runner(self), "image", images, show_progress=show_progress, on_error=on_error))

    @overload
    async def aget_image_embedding_batch(
        self, images: Iterable[Any], *, show_progress: bool = False, on_error: Literal["raise"] = "raise"
    ) -> list[Embedding]: ...
    @overload
    async def aget_image_embedding_batch(
        self, images: Iterable[Any], *, show_progress: bool = False, on_error: Literal["none"]
    ) -> list[Embedding | None]: ...
    async def aget_image_embedding_batch(
        self, images: Iterable[Any], *, show_progress: bool = False, on_error: OnError = "raise"
    ) -> list[Any]:
        """Embed images; see `get_image_embedding_batch`."""
        return await lists(self, Asyncio(), "image", images, show_progress=show_progress, on_error=on_error)

    def embed_images(
        self, images: Iterable[Any], *, show_progress: bool = False, on_error: OnError = "raise"
    ) -> Vectors:
        """Embed images; return a float32 array of shape (n, dimension), rows in input order."""
        return drive(array(self, runner(self), "image", images, show_progress=show_progress, on_error=on_error))

    async def aembed_images(
        self, images: Iterable[Any], *, show_progress: bool = False, on_error: OnError = "raise"
    ) -> Vectors:
        """Embed images; see `embed_images`."""
        return await array(self, Asyncio(), "image", images, show_progress=show_progress, on_error=on_error)

    async def _embed_nodes(
        self, io: IO, nodes: Sequence[NodeT], *, show_progress: bool, cache: KVStore | None = None
    ) -> Sequence[NodeT]:
        check_nodes(nodes)
        inputs: dict[Kind, dict[int, Any]] = {"image": {}, "text": {}}
        for position, node in enumerate(nodes):
            if (image := image_of(node)) is not None:
                inputs["image"][position] = image
            else:
                inputs["text"][position] = node.get_content(metadata_mode=MetadataMode.EMBED)
        done: dict[int, Any] = {}
        for kind, some in inputs.items():
            try:
                vectors = await run(
                    self, io, kind, some.values(), indices=list(some), show_progress=show_progress, cache=cache
                )
            except EmbedError as error:
                error.completed = done | dict(error.completed)
                raise
            done.update(zip(some, vectors, strict=True))
        for position, node in enumerate(nodes):
            node.embedding = done[position].tolist()
        return nodes
