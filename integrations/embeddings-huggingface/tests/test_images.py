"""Images through a sentence-transformers CLIP folder, against sentence-transformers itself."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embed_core import open_image
from embed_core.errors import ConfigurationError, InvalidInputError
from embed_core.kvstore import MemoryKVStore
from embeddings_huggingface import HuggingFaceEmbedding
from embeddings_huggingface._images import batches
from PIL import Image

TEXTS = ["a wing", "bread and more bread than fits", ""]


@pytest.fixture(scope="module")
def theirs(tiny_clip_sentence: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(tiny_clip_sentence), device="cpu")


@pytest.fixture
def model(tiny_clip_sentence: Path) -> HuggingFaceEmbedding:
    return HuggingFaceEmbedding(model_name=tiny_clip_sentence, device="cpu", embed_batch_size=2)


def as_png(picture: Any) -> bytes:
    file = BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


def test_images_are_those_of_sentence_transformers(
    model: HuggingFaceEmbedding, theirs: Any, pictures: list[Any]
) -> None:
    files = [as_png(picture) for picture in pictures]
    expected = theirs.encode([open_image(BytesIO(file)) for file in files], show_progress_bar=False)
    assert np.allclose(model.embed_images(files), expected, rtol=0, atol=1e-5)
    assert np.allclose(model.embed_images(pictures), expected, rtol=0, atol=1e-5)
    assert np.allclose(asyncio.run(model.aembed_images(files)), expected, rtol=0, atol=1e-5)
    assert np.allclose(model.get_image_embedding(files[1]), expected[1], rtol=0, atol=1e-5)


def test_texts_share_the_space(model: HuggingFaceEmbedding, theirs: Any, pictures: list[Any]) -> None:
    assert np.allclose(model.embed_texts(TEXTS), theirs.encode(TEXTS, show_progress_bar=False), rtol=0, atol=1e-5)
    assert model.embed_images(pictures).shape[1] == model.embed_queries(TEXTS).shape[1] == 12


def test_a_text_that_is_cut_is_counted(model: HuggingFaceEmbedding) -> None:
    assert model._get_text_embeddings(TEXTS).truncated == 1


def test_unit_length_and_leading_dimensions_hold_for_images(tiny_clip_sentence: Path, pictures: list[Any]) -> None:
    model = HuggingFaceEmbedding(model_name=tiny_clip_sentence, truncate_dim=5)
    vectors = model.embed_images(pictures)
    assert vectors.shape == (len(pictures), 5)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)


def test_images_are_cached_by_content(model: HuggingFaceEmbedding, pictures: list[Any], tmp_path: Path) -> None:
    model.embeddings_cache = MemoryKVStore()
    file = as_png(pictures[0])
    vector = model.embed_images([file])
    (tmp_path / "one.png").write_bytes(file)
    assert np.array_equal(model.embed_images([tmp_path / "one.png", file]), np.concatenate([vector, vector]))
    assert len(model.embeddings_cache) == 1


def test_black_drawings_on_a_transparent_ground_are_told_apart(model: HuggingFaceEmbedding) -> None:
    one, other = Image.new("RGBA", (16, 16)), Image.new("RGBA", (16, 16))
    one.paste((0, 0, 0, 255), (0, 0, 8, 16))
    other.paste((0, 0, 0, 255), (0, 0, 16, 8))
    vectors = model.embed_images([one, other, one.convert("RGB")])
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3
    assert np.abs(vectors[0] - vectors[2]).max() > 1e-3


def test_one_image_is_brought_to_its_size_before_the_next_is_decoded() -> None:
    import torch

    alive: list[weakref.ref[Any]] = []

    def decoded() -> Iterator[Any]:
        for number in range(6):
            assert sum(image() is not None for image in alive) <= 1
            image = Image.new("RGB", (4, 4), (number, 0, 0))
            alive.append(weakref.ref(image))
            yield image
            del image

    def read(images: list[Any]) -> dict[str, Any]:
        (image,) = images
        width = 2 if image.getpixel((0, 0))[0] < 4 else 3  # a processor that pads within a batch
        return {"pixel_values": torch.full((1, width), image.getpixel((0, 0))[0]), "notes": [0], "kind": "image"}

    first, second = batches(decoded(), read)
    assert first["pixel_values"].tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]
    assert second["pixel_values"].tolist() == [[4, 4, 4], [5, 5, 5]]
    assert (first["notes"], first["kind"]) == ([0] * 4, "image")


def test_what_is_no_image_is_refused_by_index(model: HuggingFaceEmbedding, pictures: list[Any]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        model.embed_images([pictures[0], b"not an image"])
    assert caught.value.indices == (1,)


def test_a_model_for_texts_refuses_images_in_words(tiny: Path, tiny_bert: Path, pictures: list[Any]) -> None:
    for folder in (tiny, tiny_bert):
        with pytest.raises(ConfigurationError, match="embeds texts only; for images choose a CLIP model"):
            HuggingFaceEmbedding(model_name=folder).embed_images(pictures)
