"""The contract as tests: subclass `EmbeddingConformance`, give it a model, run pytest."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import SecretStr

from embed_core import BaseEmbedding, Embedding, MultiModalEmbedding, Vectors
from embed_core.errors import InvalidInputError
from embed_core.kvstore import MemoryKVStore

TEXTS = (
    "The wing of an aircraft stalls when the flow separates.",
    "bread",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. 🥊",
    "A text of some more words, so that a batch of these texts has to be padded by a local model. " * 3,
    "日本語のテキスト",
)


class EmbeddingConformance(ABC):
    """The contract that every embedding model must keep.

    Example:
        ```python
        class TestMyEmbedding(EmbeddingConformance):
            @pytest.fixture
            def model(self):
                return MyEmbedding(model_name="small")
        ```

    Attributes:
        tolerance: largest absolute difference between the vectors of one input on two paths; 0 where the provider is
            deterministic, and the documented one where it is not.
    """

    tolerance: ClassVar[float] = 0.0

    @pytest.fixture
    @abstractmethod
    def model(self) -> BaseEmbedding:
        """Return a model that can be used right away; a fixture in the subclass."""

    def same(self, one: Vectors | Embedding, other: Vectors | Embedding) -> bool:
        """Tell whether two arrays of vectors are equal within the tolerance."""
        return bool(np.allclose(one, other, rtol=0.0, atol=self.tolerance))

    def test_vectors_are_float32_rows_in_input_order(self, model: BaseEmbedding) -> None:
        vectors = model.embed_texts(TEXTS)
        assert vectors.dtype == np.float32
        assert vectors.flags["C_CONTIGUOUS"]
        assert vectors.shape == (len(TEXTS), model.dimension)
        assert np.isfinite(vectors).all()
        reverse = model.embed_texts(reversed(TEXTS))
        assert self.same(vectors, reverse[::-1])

    def test_every_path_gives_the_same_vector(self, model: BaseEmbedding) -> None:
        vectors = model.embed_texts(TEXTS)
        assert self.same(vectors, np.array([model.get_text_embedding(text) for text in TEXTS]))
        assert self.same(vectors, np.array(model.get_text_embedding_batch(TEXTS)))
        assert self.same(vectors, np.concatenate(list(model.stream_texts(iter(TEXTS)))))
        queries = model.embed_queries(TEXTS)
        assert self.same(queries, np.array([model.get_query_embedding(text) for text in TEXTS]))
        assert self.same(queries, np.array(model.get_query_embedding_batch(TEXTS)))

    def test_async_gives_what_sync_gives_in_one_event_loop_after_the_other(self, model: BaseEmbedding) -> None:
        async def every_path() -> list[Vectors]:
            blocks = [block async for block in model.astream_texts(TEXTS)]
            singles = [await model.aget_text_embedding(text) for text in TEXTS]
            batch = await model.aget_text_embedding_batch(TEXTS)
            array = await model.aembed_texts(TEXTS)
            queries = await model.aget_query_embedding_batch(TEXTS)
            await model.aclose()
            return [np.concatenate(blocks), np.array(singles), np.array(batch), array, np.array(queries)]

        vectors, queries = model.embed_texts(TEXTS), model.embed_queries(TEXTS)
        for _ in range(2):
            *texts, asked = asyncio.run(every_path())
            assert all(self.same(vectors, found) for found in texts)
            assert self.same(queries, asked)

    def test_threads_may_share_a_model(self, model: BaseEmbedding) -> None:
        vectors = model.embed_texts(TEXTS)
        found: list[Vectors] = []
        threads = [threading.Thread(target=lambda: found.append(model.embed_texts(TEXTS))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == len(threads)
        assert all(self.same(vectors, one) for one in found)

    def test_the_cache_gives_the_same_bits_and_saves_the_call(self, model: BaseEmbedding) -> None:
        model.embeddings_cache = MemoryKVStore()
        first = model.embed_texts(TEXTS)
        assert np.array_equal(first, model.embed_texts(TEXTS))
        assert np.array_equal(first, asyncio.run(model.aembed_texts(TEXTS)))
        assert len(model.embeddings_cache) == len(TEXTS)

    def test_a_query_and_a_text_share_no_cache_entry(self, model: BaseEmbedding) -> None:
        model.embeddings_cache = MemoryKVStore()
        model.get_query_embedding("bread")
        model.get_text_embedding("bread")
        assert len(model.embeddings_cache) == len(("query", "text"))

    def test_no_input_gives_no_vectors(self, model: BaseEmbedding) -> None:
        assert len(model.embed_texts([])) == 0
        assert model.get_text_embedding_batch(iter(())) == model.get_query_embedding_batch(iter(())) == []

    @pytest.mark.parametrize("bad", [None, 7, b"bytes", "\ud800"])
    def test_what_is_no_text_is_refused_by_index(self, model: BaseEmbedding, bad: object) -> None:
        with pytest.raises(InvalidInputError) as caught:
            model.embed_texts(["a text", bad])  # type: ignore[list-item]  # that is the test
        assert caught.value.indices == (1,)

    def test_a_single_text_is_no_batch(self, model: BaseEmbedding) -> None:
        with pytest.raises(InvalidInputError, match="wrap it in a list"):
            model.embed_texts("a text")

    def test_blank_text_is_embedded_or_refused_by_index(self, model: BaseEmbedding) -> None:
        if model.accepts_blank:
            assert model.embed_texts(["a text", " "]).shape == (2, model.dimension)
            return
        with pytest.raises(InvalidInputError) as caught:
            model.embed_texts(["a text", " "])
        assert caught.value.indices == (1,)

    def test_a_changed_result_changes_nothing_else(self, model: BaseEmbedding) -> None:
        model.embeddings_cache = MemoryKVStore()
        first = model.get_text_embedding("bread")
        expected = list(first)
        first[0] = 42.0
        assert model.get_text_embedding("bread") == expected

    def test_unit_vectors_are_what_the_model_declares(self, model: BaseEmbedding) -> None:
        if model._normalizes():
            norms = np.linalg.norm(model.embed_texts(TEXTS).astype(np.float64), axis=1)
            assert np.allclose(norms, 1.0, atol=1e-5)

    def test_a_copy_a_pickle_and_a_saved_configuration_are_the_same_model(self, model: BaseEmbedding) -> None:
        vector = model.get_text_embedding("bread")
        pickled = pickle.loads(pickle.dumps(model))  # noqa: S301  # our own bytes
        for twin in (copy.deepcopy(model), pickled, type(model).from_dict(model.to_dict())):
            assert twin.fingerprint == model.fingerprint
            with twin:
                assert self.same(twin.get_text_embedding("bread"), vector)

    def test_secrets_stay_at_home(self, model: BaseEmbedding) -> None:
        secrets = [value.get_secret_value() for _, value in model if isinstance(value, SecretStr)]
        for secret in secrets:
            assert secret not in repr(model)
            assert secret not in str(model.to_dict())
            assert secret.encode() not in pickle.dumps(model)

    def test_an_unknown_argument_names_the_nearest_one(self, model: BaseEmbedding) -> None:
        misspelt: dict[str, Any] = {"embed_batch_sise": 3}
        with pytest.raises(ValueError, match="did you mean `embed_batch_size`"):
            type(model)(**misspelt)

    def test_settings_that_change_no_vector_change_no_fingerprint(self, model: BaseEmbedding) -> None:
        before = model.fingerprint
        model.embed_batch_size, model.num_workers = 7, 3
        assert model.fingerprint == before

    def test_a_closed_model_opens_again(self, model: BaseEmbedding) -> None:
        vector = model.get_text_embedding("bread")
        model.close()
        assert self.same(model.get_text_embedding("bread"), vector)

    def test_texts_differ(self, model: BaseEmbedding) -> None:
        vectors = model.embed_texts(TEXTS)
        assert len({vector.tobytes() for vector in vectors}) == len(TEXTS)


class MultiModalConformance(EmbeddingConformance):
    """The contract of a model that takes images too."""

    @pytest.fixture
    @abstractmethod
    def images(self) -> list[bytes]:
        """Return two or more different pictures as encoded bytes; a fixture in the subclass."""

    def test_images_are_rows_of_the_same_space(self, model: MultiModalEmbedding, images: list[bytes]) -> None:
        vectors = model.embed_images(images)
        assert vectors.shape == (len(images), model.dimension)
        assert self.same(vectors, np.array([model.get_image_embedding(image) for image in images]))
        assert self.same(vectors, asyncio.run(model.aembed_images(images)))
        assert model.embed_texts(["a text"]).shape[1] == vectors.shape[1]
        assert len({vector.tobytes() for vector in vectors}) == len(images)

    def test_images_are_cached_by_content(self, model: MultiModalEmbedding, images: list[bytes]) -> None:
        model.embeddings_cache = MemoryKVStore()
        first = model.embed_images(images)
        assert np.array_equal(first, model.embed_images(images))
        assert len(model.embeddings_cache) == len(images)

    def test_what_is_no_image_is_refused_by_index(self, model: MultiModalEmbedding, images: list[bytes]) -> None:
        with pytest.raises(InvalidInputError) as caught:
            model.embed_images([images[0], b"not an image"])
        assert caught.value.indices == (1,)
