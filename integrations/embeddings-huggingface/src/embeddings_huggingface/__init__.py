"""Local Hugging Face and sentence-transformers models for embed-core."""

from embeddings_huggingface._adapter import SentenceTransformerEmbedding, adapt
from embeddings_huggingface._clip import ClipEmbedding
from embeddings_huggingface._embedding import HuggingFaceEmbedding
from embeddings_huggingface._sparse import SparseEncoderEmbedding

__all__ = ["ClipEmbedding", "HuggingFaceEmbedding", "SentenceTransformerEmbedding", "SparseEncoderEmbedding", "adapt"]
