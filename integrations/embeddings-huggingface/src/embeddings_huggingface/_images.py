"""Images on their way into a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any


def batches(images: Iterable[Any], read: Callable[[list[Any]], Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the features of images in batches, each image brought to the model's size before the next one is decoded.

    A large image takes a thousand times the memory of its features. Images with features of other shapes, which no
    padding has made equal, come in batches of their own.

    Args:
        images: RGB images, decoded while they are taken.
        read: returns the features of a list of images.
    """
    features = (dict(read([image])) for image in images)
    for _, group in groupby(features, key=_shapes):
        yield _joined(list(group))


def _shapes(features: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(name, tuple(value.shape[1:])) for name, value in features.items() if hasattr(value, "shape")]


def _joined(features: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    import torch

    joined: dict[str, Any] = {}
    for name, first in features[0].items():
        values = [one[name] for one in features]
        if isinstance(first, torch.Tensor):
            joined[name] = torch.cat(values)
        else:
            joined[name] = [item for value in values for item in value] if isinstance(first, list) else first
    return joined
