"""What a type checker must know of the public surface; mypy reads this file, nothing runs it."""

from typing import Literal, assert_type

from embed_core import (
    BaseSparseEmbedding,
    Chunk,
    Document,
    IngestionPipeline,
    IngestionResult,
    MetadataMode,
    MockEmbedding,
    MockMultiModalEmbedding,
    SparseVector,
    TextNode,
    TextSplitter,
    Vectors,
)
from embed_core.kvstore import SQLiteKVStore

model = MockEmbedding(embed_dim=8, num_workers=2)
assert_type(model.get_text_embedding("a text"), list[float])
assert_type(model.get_text_embedding_batch(["a text"]), list[list[float]])
assert_type(model.get_text_embedding_batch(["a text"], on_error="raise"), list[list[float]])
assert_type(model.get_text_embedding_batch(["a text"], on_error="none"), list[list[float] | None])
assert_type(model.get_query_embedding_batch(iter(["a query"]), on_error="none"), list[list[float] | None])
assert_type(MockMultiModalEmbedding().get_image_embedding_batch(["a.png"]), list[list[float]])
assert_type(MockMultiModalEmbedding().get_image_embedding_batch(["a.png"], on_error="none"), list[list[float] | None])
assert_type(model.embed_texts(["a text"]), Vectors)


def either(on_error: Literal["raise", "none"], sparse: BaseSparseEmbedding) -> None:
    model.get_text_embedding_batch(["a text"], on_error=on_error)
    assert_type(sparse.get_text_embedding_batch(["a text"]), list[SparseVector])
    assert_type(sparse.get_text_embedding_batch(["a text"], on_error="none"), list[SparseVector | None])


async def twins() -> None:
    assert_type(await model.aget_query_embedding_batch(["a query"]), list[list[float]])
    assert_type(await model.aget_text_embedding_batch(["a text"], on_error="none"), list[list[float] | None])
    assert_type(await model.aget_query_embedding("a query"), list[float])
    assert_type(await model.aembed_queries(["a query"]), Vectors)


pipeline = IngestionPipeline([TextSplitter(chunk_size=200), lambda nodes: nodes[:10], model], cache=SQLiteKVStore("x"))
assert_type(pipeline.run([Document(text="a text")]), IngestionResult)
assert_type(TextSplitter().split("a text"), list[Chunk])
assert_type(model([TextNode(text="a text")])[0].text, str)
assert_type(TextNode(text="a text").get_content(MetadataMode.EMBED), str)
