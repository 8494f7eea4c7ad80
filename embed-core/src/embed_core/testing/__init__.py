"""The conformance kit, the contract as tests; and stand-ins for a provider.

The kit is the only room that knows pytest (extra `testing`), which is loaded with it and not before.
"""

from typing import TYPE_CHECKING, Any

from embed_core.testing import faults
from embed_core.testing._http import Received
from embed_core.testing._scripted import Script, ScriptedEmbedding, Turn, honest
from embed_core.testing._server import FakeServer

if TYPE_CHECKING:
    from embed_core.testing._conformance import EmbeddingConformance, MultiModalConformance

__all__ = [
    "EmbeddingConformance",
    "FakeServer",
    "MultiModalConformance",
    "Received",
    "Script",
    "ScriptedEmbedding",
    "Turn",
    "faults",
    "honest",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    from embed_core.testing import _conformance

    return getattr(_conformance, name)
