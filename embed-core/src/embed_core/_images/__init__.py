"""Images from any source, checked before anything is paid for; Pillow is loaded on first use."""

from embed_core._images._limits import ImageUrls
from embed_core._images._loader import ImageInput, ImageLoader, open_batch, open_image

__all__ = ["ImageInput", "ImageLoader", "ImageUrls", "open_batch", "open_image"]
