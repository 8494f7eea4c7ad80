"""Images from wherever they come, checked before anything is paid for; Pillow is loaded on first use."""

from embed_core._images._loader import ImageInput, ImageLoader, open_batch, open_image
from embed_core._images._policy import ImageUrls

__all__ = ["ImageInput", "ImageLoader", "ImageUrls", "open_batch", "open_image"]
