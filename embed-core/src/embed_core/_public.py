"""The public names of the package, which `embed_core` loads on first use."""

from embed_core._arguments import get_from_param_or_env
from embed_core._base import BaseEmbedding
from embed_core._cache import Cache
from embed_core._engine import aembed, block_size, cache_of, embed, estimate
from embed_core._files import load_embedding, save_embedding
from embed_core._images import ImageUrls, open_image
from embed_core._io import Ended
from embed_core._ledger import IngestionResult
from embed_core._limits import RateLimiter
from embed_core._mock import MockCall, MockEmbedding, MockMultiModalEmbedding, MockSparseEmbedding
from embed_core._model import Model
from embed_core._multimodal import MultiModalEmbedding
from embed_core._plugins import Plugin, installed_providers
from embed_core._pooling import Pooling
from embed_core._registry import plugin_of, resolve_embed_model
from embed_core._result import Result
from embed_core._similarity import SimilarityMode, mean_agg, similarity
from embed_core._sparse import BaseSparseEmbedding, SparseVector
from embed_core._splitting import Chunk, Syntax, TextSplitter
from embed_core._state import Places
from embed_core._threads import in_thread
from embed_core._types import (
    DEFAULT_EMBED_BATCH_SIZE,
    OPERATIONAL,
    Embedding,
    ImageType,
    Kind,
    Middleware,
    ProviderResponse,
    Request,
    Vectors,
)
from embed_core.errors import EmbedError
from embed_core.middleware.retried import RetryPolicy
from embed_core.middleware.weighed import Estimate
from embed_core.pipeline import IngestionPipeline
from embed_core.schema import BaseNode, Document, ImageNode, MetadataMode, TextNode

__all__ = [
    "DEFAULT_EMBED_BATCH_SIZE",
    "OPERATIONAL",
    "BaseEmbedding",
    "BaseNode",
    "BaseSparseEmbedding",
    "Cache",
    "Chunk",
    "Document",
    "EmbedError",
    "Embedding",
    "Ended",
    "Estimate",
    "ImageNode",
    "ImageType",
    "ImageUrls",
    "IngestionPipeline",
    "IngestionResult",
    "Kind",
    "MetadataMode",
    "Middleware",
    "MockCall",
    "MockEmbedding",
    "MockMultiModalEmbedding",
    "MockSparseEmbedding",
    "Model",
    "MultiModalEmbedding",
    "Places",
    "Plugin",
    "Pooling",
    "ProviderResponse",
    "RateLimiter",
    "Request",
    "Result",
    "RetryPolicy",
    "SimilarityMode",
    "SparseVector",
    "Syntax",
    "TextNode",
    "TextSplitter",
    "Vectors",
    "aembed",
    "block_size",
    "cache_of",
    "embed",
    "estimate",
    "get_from_param_or_env",
    "in_thread",
    "installed_providers",
    "load_embedding",
    "mean_agg",
    "open_image",
    "plugin_of",
    "resolve_embed_model",
    "save_embedding",
    "similarity",
]
