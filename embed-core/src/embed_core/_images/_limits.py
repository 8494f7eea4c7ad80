"""The limits within which images are fetched from the network."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt


class ImageUrls(BaseModel):
    """Switches `http(s)` images on, within these limits; private and local addresses are never asked.

    Attributes:
        max_bytes: most bytes of one image.
        timeout: most seconds for one image, name resolution and redirects included.
        max_redirects: most redirects followed for one image.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_bytes: PositiveInt = 20 * 1024 * 1024
    timeout: PositiveFloat = 20.0
    max_redirects: NonNegativeInt = 3
