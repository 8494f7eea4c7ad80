"""`ClipEmbedding` against transformers called directly, on small models with random weights and real files."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embed_core import BaseEmbedding, open_image, resolve_embed_model
from embed_core.errors import ConfigurationError, InputTooLongError
from embed_core.kvstore import MemoryKVStore
from embed_core.testing import MultiModalConformance
from embeddings_huggingface import ClipEmbedding, HuggingFaceEmbedding

TEXTS = ["a wing", "bread", "", "an aircraft with far more letters than there are positions"]


def directly(folder: Path, *, texts: list[str] | None = None, pictures: list[Any] | None = None) -> Any:
    """Call transformers for one input at a time."""
    import torch
    from transformers import AutoModel, AutoProcessor

    model, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    padding = "max_length" if model.config.model_type == "siglip" else True
    vectors = []
    with torch.inference_mode():
        for text in texts or ():
            read = processor.tokenizer(text, padding=padding, truncation=True, return_tensors="pt")
            vectors.append(model.get_text_features(**read))
        for picture in pictures or ():
            read = processor.image_processor(picture, return_tensors="pt")
            vectors.append(model.get_image_features(**read))
    return np.concatenate([getattr(vector, "pooler_output", vector).numpy() for vector in vectors])


def as_file(picture: Any, kind: str = "PNG") -> bytes:
    file = BytesIO()
    picture.save(file, format=kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def tiny_siglip(tmp_path_factory: pytest.TempPathFactory, wordpiece: Callable[..., Any]) -> Path:
    """A SigLIP with random weights, which reads texts padded to 16 tokens, without a mask."""
    import torch
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    folder = tmp_path_factory.mktemp("tiny") / "siglip"
    tokenizer = wordpiece(model_max_length=16, model_input_names=["input_ids"])
    tokenizer.save_pretrained(folder)
    SiglipImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = SiglipConfig(
        text_config={**shape, "vocab_size": len(tokenizer), "max_position_embeddings": 16, "projection_size": 16},
        vision_config={**shape, "image_size": 16, "patch_size": 8},
    )
    SiglipModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(params=["clip", "siglip"])
def folder(request: pytest.FixtureRequest, tiny_clip: Path, tiny_siglip: Path) -> Path:
    return tiny_clip if request.param == "clip" else tiny_siglip


class TestConformance(MultiModalConformance):
    tolerance = 1e-5

    @pytest.fixture
    def model(self, tiny_clip: Path) -> BaseEmbedding:
        return ClipEmbedding(tiny_clip, device="cpu", embed_batch_size=2)

    @pytest.fixture
    def images(self, pictures: list[Any]) -> list[bytes]:
        return [as_file(picture) for picture in pictures[:3]]


def test_texts_and_images_are_those_of_transformers(folder: Path, pictures: list[Any]) -> None:
    model = ClipEmbedding(folder, device="cpu", embed_batch_size=2)
    texts = directly(folder, texts=TEXTS)
    assert np.allclose(model.embed_texts(TEXTS), texts, rtol=0, atol=1e-5)
    assert np.allclose(model.embed_queries(TEXTS), texts, rtol=0, atol=1e-5)
    assert np.allclose(asyncio.run(model.aembed_texts(TEXTS)), texts, rtol=0, atol=1e-5)
    files = [as_file(picture) for picture in pictures]
    images = directly(folder, pictures=[open_image(BytesIO(file)) for file in files])
    assert np.allclose(model.embed_images(files), images, rtol=0, atol=1e-5)
    assert np.allclose(asyncio.run(model.aembed_images(pictures)), images, rtol=0, atol=1e-5)
    assert np.allclose(model.get_image_embedding(files[2]), images[2], rtol=0, atol=1e-5)


def test_a_photograph_is_turned_upright_first(tiny_clip: Path, pictures: list[Any]) -> None:
    picture = pictures[1].copy()
    exif = picture.getexif()
    exif[0x0112] = 6  # a quarter turn
    file = BytesIO()
    picture.save(file, format="JPEG", exif=exif)
    model = ClipEmbedding(tiny_clip, device="cpu")
    upright = directly(tiny_clip, pictures=[open_image(BytesIO(file.getvalue()))])
    lying = model.embed_images([as_file(pictures[1], "JPEG")])
    assert np.allclose(model.embed_images([file.getvalue()]), upright, rtol=0, atol=1e-5)
    assert np.abs(upright - lying).max() > 1e-4


def test_the_spec_and_the_local_one_come_to_the_same_vectors(folder: Path, pictures: list[Any]) -> None:
    model = resolve_embed_model(f"clip:{folder}?device=cpu")
    local = resolve_embed_model(f"local:{folder}?device=cpu")
    assert isinstance(model, ClipEmbedding)
    assert type(local) is HuggingFaceEmbedding
    assert np.array_equal(model.embed_texts(TEXTS), local.embed_texts(TEXTS))
    assert np.array_equal(model.embed_images(pictures), local.embed_images(pictures))
    assert model._weights() is local._weights()
    assert ClipEmbedding().model_name == resolve_embed_model("clip").model_name == "openai/clip-vit-base-patch32"


def test_a_folder_of_sentence_transformers_works_too(
    tiny_clip: Path, tiny_clip_sentence: Path, pictures: list[Any]
) -> None:
    plain, saved = ClipEmbedding(tiny_clip), ClipEmbedding(tiny_clip_sentence)
    assert np.allclose(saved.embed_images(pictures), plain.embed_images(pictures), rtol=0, atol=1e-5)
    assert np.allclose(saved.embed_texts(TEXTS), plain.embed_texts(TEXTS), rtol=0, atol=1e-5)


def test_settings_hold_for_both_kinds(tiny_clip: Path, pictures: list[Any]) -> None:
    model = ClipEmbedding(tiny_clip, normalize=True, truncate_dim=5, query_instruction="a wing ")
    for vectors, raw in (
        (model.embed_images(pictures), directly(tiny_clip, pictures=[picture.convert("RGB") for picture in pictures])),
        (model.embed_queries(["b"]), directly(tiny_clip, texts=["a wing b"])),
    ):
        cut = raw[:, :5] / np.linalg.norm(raw[:, :5], axis=1, keepdims=True)
        assert np.allclose(vectors[:3], cut[:3], rtol=0, atol=1e-5)


def test_half_precision_takes_images(tiny_clip: Path, pictures: list[Any]) -> None:
    half, full = ClipEmbedding(tiny_clip, dtype="bfloat16"), ClipEmbedding(tiny_clip)
    vectors, expected = half.embed_images(pictures), full.embed_images(pictures)
    assert vectors.dtype == np.float32
    assert np.allclose(vectors, expected, atol=0.05 * np.abs(expected).max())


def test_a_text_that_is_too_long_is_cut_and_counted_or_refused(folder: Path) -> None:
    answer = ClipEmbedding(folder)._get_text_embeddings(TEXTS)
    assert answer.truncated == 1
    assert answer.usage is not None
    assert answer.usage["tokens"] < 16 * len(TEXTS)
    with pytest.raises(InputTooLongError) as caught:
        ClipEmbedding(folder, long_text="error").embed_texts(TEXTS)
    assert caught.value.indices == (3,)


def test_images_and_texts_share_cache_and_configuration(tiny_clip: Path, pictures: list[Any]) -> None:
    model = ClipEmbedding(tiny_clip, embeddings_cache=MemoryKVStore())
    images, texts = model.embed_images(pictures), model.embed_texts(TEXTS)
    assert np.array_equal(model.embed_images(pictures[::-1])[::-1], images)
    again = resolve_embed_model(model.to_dict(), embeddings_cache=model.embeddings_cache)
    assert isinstance(again, ClipEmbedding)
    assert again.fingerprint == model.fingerprint == pickle.loads(pickle.dumps(model)).fingerprint
    assert np.array_equal(again.embed_images(pictures), images)
    assert np.array_equal(again.embed_texts(TEXTS), texts)


def test_a_model_for_texts_is_refused_in_words(tiny_bert: Path, tiny: Path) -> None:
    for folder in (tiny_bert, tiny):
        with pytest.raises(
            ConfigurationError, match=r"embeds texts only; use it as `local:.*`, or choose a CLIP model"
        ):
            ClipEmbedding(folder).embed_texts(["bread"])
