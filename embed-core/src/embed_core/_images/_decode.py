"""Pillow within limits: raster formats only, a bounded number of pixels, upright."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

from embed_core.errors import IntegrationNotInstalledError, InvalidInputError

if TYPE_CHECKING:
    from PIL import Image

# Not all of Pillow's formats: EPS, for one, runs Ghostscript on the file.
_FORMATS = {
    "AVIF", "BMP", "DIB", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "QOI", "TGA", "TIFF", "WEBP",
}  # fmt: skip
_MAX_PIXELS = 89_478_485  # Pillow's own default: a quarter of a GiB at three bytes each
_DIGEST_BYTES = 32
_OPAQUE = 255

_log = logging.getLogger("embed_core")


def pillow() -> Any:
    """Return the `PIL.Image` module."""
    try:
        from PIL import Image
    except ImportError as error:
        msg = f'images need Pillow, which cannot be imported ({error}); run `pip install "embed-core[images]"`'
        raise IntegrationNotInstalledError(msg) from error
    return Image


def check(encoded: bytes) -> None:
    """Decode an image as cheaply as its format allows, to the last byte; refuse it where that fails."""
    with _opened(encoded) as image:
        image.draft(None, (1, 1))  # JPEG at an eighth of its size: every byte is read, few pixels are made
        image.load()


def decode(encoded: bytes) -> Image.Image:
    """Return the image upright, with the pixels of its file."""
    with _opened(encoded) as image:
        return _upright(image, in_place=True)


def rgb(image: Image.Image) -> Image.Image:
    """Return the image as eight bits of red, green and blue, on white where it is transparent.

    Sixteen-bit grey is scaled, where Pillow would clip it.
    """
    if image.mode.startswith("I"):
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    elif image.has_transparency_data:
        image = _on_white(image.convert("RGBA"))
    return image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """Lay an image on white: below transparent pixels files have any colour, most often the black of the drawing."""
    alpha = image.getchannel("A")
    if alpha.getextrema()[0] == _OPAQUE:
        return image
    _say_once("images with transparency are embedded on a white ground; for another one, paste them on it before")
    ground: Image.Image = pillow().new("RGB", image.size, "white")
    ground.paste(image, mask=alpha)
    return ground


@cache
def _say_once(message: str) -> None:
    _log.warning(message)


def canonical(image: Image.Image) -> Image.Image:
    """Return upright pixels in a mode that a PNG keeps exactly."""
    with _one_error():
        _refuse_bomb(image)
        image = _upright(image)
        if image.mode in {"LA", "RGBA"}:
            return image
        if image.has_transparency_data:
            return image.convert("RGBA")
        if image.mode.startswith("I"):
            return image.convert("I").convert("I;16")
        return image if image.mode in {"1", "L", "RGB"} else image.convert("RGB")


def pixel_digest(image: Image.Image) -> bytes:
    """Return a hash over mode, size and pixels."""
    digest = hashlib.blake2b(f"{image.mode} {image.size}".encode(), digest_size=_DIGEST_BYTES, person=b"pixels")
    digest.update(image.tobytes())
    return digest.digest()


def encoded_digest(encoded: bytes) -> bytes:
    """Return a hash over the bytes of an image file."""
    return hashlib.blake2b(encoded, digest_size=_DIGEST_BYTES).digest()


def png(image: Image.Image) -> bytes:
    """Encode pixels without loss; quickly, since the provider's hook decodes them at once."""
    stream = BytesIO()
    image.save(stream, "PNG", compress_level=1, exif=b"")
    return stream.getvalue()


def _upright(image: Image.Image, *, in_place: bool = False) -> Image.Image:
    from PIL import ImageOps

    image.load()
    transpose: Any = ImageOps.exif_transpose  # its overloads take no `bool`
    with suppress(Exception):  # metadata too damaged to read turn nothing, as in browsers
        return transpose(image, in_place=in_place) or image
    return image


@contextmanager
def _opened(encoded: bytes) -> Iterator[Any]:
    with _one_error(), pillow().open(BytesIO(encoded), formats=_formats()) as image:
        _refuse_bomb(image)
        yield image


@contextmanager
def _one_error() -> Iterator[None]:
    """Raise `InvalidInputError`, whose message begins with a verb, for the many exceptions of Pillow's decoders."""
    image_module = pillow()
    try:
        yield
    except InvalidInputError:
        raise
    except image_module.UnidentifiedImageError as error:
        msg = f"is no image in a format that is read here ({', '.join(_formats())})"
        raise InvalidInputError(msg) from error
    except (image_module.DecompressionBombError, image_module.DecompressionBombWarning) as error:
        msg = f"is too large when unpacked ({error}); if you trust it, raise `PIL.Image.MAX_IMAGE_PIXELS`"
        raise InvalidInputError(msg) from error
    except Exception as error:
        msg = f"is a damaged or truncated image ({type(error).__name__}: {error})"
        raise InvalidInputError(msg) from error


def _refuse_bomb(image: Image.Image) -> None:
    pixels, limit = image.width * image.height, pillow().MAX_IMAGE_PIXELS or _MAX_PIXELS
    if not pixels:
        msg = f"is empty: {image.width} x {image.height} pixels"
        raise InvalidInputError(msg)
    if pixels > limit:
        msg = f"unpacks to {image.width} x {image.height} pixels, more than {limit}; shrink it, or if you trust it"
        raise InvalidInputError(f"{msg}, raise `PIL.Image.MAX_IMAGE_PIXELS`")


@cache
def _formats() -> tuple[str, ...]:
    """Return the installed formats in Pillow's own order, in which it tries them."""
    image = pillow()
    image.init()
    return tuple(name for name in image.ID if name in _FORMATS)
