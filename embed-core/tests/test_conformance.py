"""The kit, run on the mock that unit tests use: with one worker and with several."""

import numpy as np
import pytest
from embed_core import MockEmbedding
from embed_core.testing import EmbeddingConformance, ScriptedEmbedding


class TestMockEmbedding(EmbeddingConformance):
    @pytest.fixture
    def model(self):
        return MockEmbedding(embed_dim=24, embed_batch_size=2)


class TestThreadedEmbedding(EmbeddingConformance):
    @pytest.fixture
    def model(self):
        return ScriptedEmbedding(embed_dim=24, embed_batch_size=2, num_workers=3)


class Scaled(MockEmbedding):
    """Has unit vectors only where it is configured so, and may say so or not."""

    normalizes = False
    length: float = 1.0
    declared: bool = True

    def _normalizes(self):
        return self.declared

    def _answer(self, kind, inputs, contents):
        return super()._answer(kind, inputs, contents) * np.float32(self.length)


def test_the_kit_holds_a_configured_model_to_what_it_says_of_itself():
    check = EmbeddingConformance.test_unit_vectors_are_what_the_model_declares
    check(None, Scaled())
    check(None, Scaled(length=2.0, declared=False))
    with pytest.raises(AssertionError):
        check(None, Scaled(length=2.0))
