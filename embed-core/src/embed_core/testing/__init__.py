"""The conformance kit: the contract as tests. The only room that knows pytest and hypothesis (extra `testing`)."""

from embed_core.testing import faults
from embed_core.testing._conformance import EmbeddingConformance, MultiModalConformance
from embed_core.testing._http import Received
from embed_core.testing._scripted import Script, ScriptedEmbedding, Turn, honest
from embed_core.testing._server import FakeEmbeddingServer, Limits

__all__ = [
    "EmbeddingConformance",
    "FakeEmbeddingServer",
    "Limits",
    "MultiModalConformance",
    "Received",
    "Script",
    "ScriptedEmbedding",
    "Turn",
    "faults",
    "honest",
]
