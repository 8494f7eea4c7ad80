"""The kit, run on the mock that unit tests use: with one worker and with several."""

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
