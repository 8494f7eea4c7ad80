"""Images from any source: checked once, hashed, and read again when the provider is called."""

from __future__ import annotations

import base64
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote_to_bytes

import numpy as np

from embed_core._images import _decode
from embed_core._images._limits import ImageUrls
from embed_core.errors import InvalidInputError

if TYPE_CHECKING:
    from PIL import Image

_MAX_BYTES = 512 * 1024 * 1024
_new_spool = partial(SpooledTemporaryFile, max_size=16 * 1024 * 1024)  # in memory up to here
_SHOWN = 60  # characters of a path


@dataclass(frozen=True, slots=True, repr=False)
class ImageInput:
    """An image on its way to the provider.

    Attributes:
        index: its position in the caller's input.
        digest: a hash of its content, 32 bytes; the same for a path, bytes and a `data:` URI of the same file.
        read: returns its digest and its content as a file, read again.
    """

    index: int
    digest: bytes
    read: Callable[[], tuple[bytes, bytes]]

    def open(self) -> BytesIO:
        """Return the image's file content; refuse an image that is not the checked one any more."""
        try:
            digest, encoded = self.read()
        except (OSError, InvalidInputError) as error:
            msg = f"input {self.index} could be read a moment ago and now cannot ({error}); run again without it"
            raise InvalidInputError(msg) from error
        if digest != self.digest:
            msg = f"input {self.index} changed while it was being embedded; run again when nothing writes to it"
            raise InvalidInputError(msg)
        return BytesIO(encoded)

    def __repr__(self) -> str:
        return f"<image {self.index}, {self.digest.hex()[:12]}>"


def open_batch(images: Iterable[ImageInput]) -> list[BytesIO]:
    """Return the content of the images of one batch; `indices` of an error has the position in the batch."""
    opened = []
    for row, image in enumerate(images):
        try:
            opened.append(image.open())
        except InvalidInputError as error:
            error.indices = (row,)
            raise
    return opened


class ImageLoader:
    """Loads the images of one call; a source that can be read only once is kept in a temporary file meanwhile."""

    def __init__(self, urls: ImageUrls | None = None) -> None:
        self._urls = urls
        self._lock = threading.Lock()
        self._kept = _new_spool()

    def load(self, source: Any, index: int = 0) -> ImageInput:
        """Check one image from its first byte to its last; the message of a refusal begins with a verb."""
        if _is_pixels(source):
            return ImageInput(index, _decode.pixel_digest(_pixels(source)), lambda: _as_png(source))
        encoded, read_again = self.content(source)
        _decode.check(encoded)
        read = read_again or self._keep(encoded)
        return ImageInput(index, _decode.encoded_digest(encoded), lambda: _with_digest(read()))

    def content(self, source: Any) -> tuple[bytes, Callable[[], bytes] | None]:
        """Return the content of an image file and, where it can be read twice, the function that reads it again."""
        if hasattr(source, "as_py"):  # an Arrow scalar
            source = source.as_py()
        if isinstance(source, str) and source[:8].lower().startswith(("http://", "https://")):
            return self._fetch(source), None
        if hasattr(source, "read"):
            return _read_stream(source), None
        if isinstance(source, bytes | bytearray | memoryview):
            read = partial(bytes, source)
        elif isinstance(source, str) and source[:5].lower() == "data:":
            read = partial(_read_data_uri, source)
        elif isinstance(source, str | os.PathLike):
            read = partial(_read_file, Path(source).absolute())  # the working directory may change before the second
        else:
            name = "`None`" if source is None else f"of type `{type(source).__name__}`"
            msg = f"is {name}, not a path, bytes, a file object, a PIL image, a numpy array or a `data:` URI"
            raise InvalidInputError(msg)
        return read(), read

    def _fetch(self, url: str) -> bytes:
        if self._urls is None:
            msg = "is a web address, and fetching is off; set the model's `image_urls=ImageUrls()` or pass the bytes"
            raise InvalidInputError(msg)
        from embed_core._images._fetch import Fetcher

        return Fetcher(self._urls)(url)

    def _keep(self, content: bytes) -> Callable[[], bytes]:
        with self._lock:
            start = self._kept.seek(0, os.SEEK_END)
            self._kept.write(content)
        return partial(self._read_kept, start, len(content))  # not a lambda, which would hold on to the content

    def _read_kept(self, start: int, length: int) -> bytes:
        with self._lock:
            self._kept.seek(start)
            return self._kept.read(length)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._kept.close()


def open_image(source: Any) -> Image.Image:
    """Open an image for a model: upright, RGB, safe to decode.

    An integration calls it on each `BytesIO` that its image hook receives. Transparent pixels become white.

    Args:
        source: a path, bytes, a file object, a PIL image, a `data:` URI, or a `uint8` array of shape (height, width),
            (height, width, 3) or (height, width, 4).

    Returns:
        A `PIL.Image.Image` of mode RGB.

    Raises:
        InvalidInputError: it is no image, damaged, or too large when unpacked.
        IntegrationNotInstalledError: Pillow is not installed.
    """
    try:
        if _is_pixels(source):
            return _decode.rgb(_pixels(source))
        with ImageLoader() as loader:
            return _decode.rgb(_decode.decode(loader.content(source)[0]))
    except InvalidInputError as error:
        msg = f"the image {error}"
        raise InvalidInputError(msg) from (error.__cause__ or error)


def _is_pixels(source: Any) -> bool:
    return isinstance(source, np.ndarray | _decode.pillow().Image)


def _pixels(source: Any) -> Image.Image:
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim not in {2, 3} or source.shape[2:] not in {(), (3,), (4,)}:
            msg = f"is an array of shape {source.shape} and type {source.dtype}; images are `uint8` arrays of shape"
            raise InvalidInputError(f"{msg} (height, width), (height, width, 3) or (height, width, 4)")
        source = _decode.pillow().fromarray(np.ascontiguousarray(source))
    return _decode.canonical(source)


def _as_png(source: Any) -> tuple[bytes, bytes]:
    image = _pixels(source)
    return _decode.pixel_digest(image), _decode.png(image)


def _with_digest(encoded: bytes) -> tuple[bytes, bytes]:
    return _decode.encoded_digest(encoded), encoded


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except InvalidInputError:
        raise
    except (OSError, ValueError) as error:
        msg = f"is {name}, which cannot be read ({getattr(error, 'strerror', None) or error})"
        raise InvalidInputError(msg) from error


def _read_file(path: Path) -> bytes:
    shown = str(path) if len(str(path)) <= _SHOWN else f"{str(path)[:_SHOWN]}…"
    with _reading(f"the path `{shown}`"):
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a named pipe would wait for ever
            msg = f"is `{shown}`, which is no regular file"
            raise InvalidInputError(msg)
        _refuse_large(status.st_size)
        return path.read_bytes()


def _read_stream(source: Any) -> bytes:
    with _reading("a file object"):
        if hasattr(source, "seek") and getattr(source, "seekable", lambda: True)():
            source.seek(0)  # as `PIL.Image.open` does; a buffer just written stands at its end
        content = source.read(_MAX_BYTES + 1)
    if not isinstance(content, bytes):
        msg = f"is a file object that gives `{type(content).__name__}`, not bytes; open the file with mode 'rb'"
        raise InvalidInputError(msg)
    _refuse_large(len(content))
    return content


def _read_data_uri(uri: str) -> bytes:
    head, comma, payload = uri.partition(",")
    if not comma:
        msg = "is a `data:` URI without a comma, so without content"
        raise InvalidInputError(msg)
    with _reading("a damaged `data:` URI"):
        content = unquote_to_bytes(payload)
        if head.lower().endswith(";base64"):
            content = base64.b64decode(b"".join(content.split()), validate=True)
        return content


def _refuse_large(size: int) -> None:
    if size > _MAX_BYTES:
        msg = f"is larger than {_MAX_BYTES >> 20} MiB; shrink it"
        raise InvalidInputError(msg)
