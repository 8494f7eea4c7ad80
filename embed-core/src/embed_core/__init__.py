"""embed-core: the right vector for the right input, always."""

from embed_core._base import BaseEmbedding
from embed_core._files import load_embedding, save_embedding
from embed_core._images import ImageUrls, open_image
from embed_core._limits import RateLimiter
from embed_core._mock import MockCall, MockEmbedding, MockMultiModalEmbedding
from embed_core._multimodal import MultiModalEmbedding
from embed_core._plugins import Plugin, installed_providers
from embed_core._pooling import Pooling
from embed_core._registry import resolve_embed_model
from embed_core._similarity import SimilarityMode, mean_agg, similarity
from embed_core._sparse import BaseSparseEmbedding, SparseVector
from embed_core._types import OPERATIONAL, Embedding, Kind, Middleware, ProviderResponse, Request, Vectors
from embed_core.errors import EmbedError
from embed_core.middleware.retried import RetryPolicy

__all__ = [
    "OPERATIONAL",
    "BaseEmbedding",
    "BaseSparseEmbedding",
    "EmbedError",
    "Embedding",
    "ImageUrls",
    "Kind",
    "Middleware",
    "MockCall",
    "MockEmbedding",
    "MockMultiModalEmbedding",
    "MultiModalEmbedding",
    "Plugin",
    "Pooling",
    "ProviderResponse",
    "RateLimiter",
    "Request",
    "RetryPolicy",
    "SimilarityMode",
    "SparseVector",
    "Vectors",
    "installed_providers",
    "load_embedding",
    "mean_agg",
    "open_image",
    "resolve_embed_model",
    "save_embedding",
    "similarity",
]
