"""What a type checker must know of the public surface; mypy reads this file, nothing runs it."""

from typing import assert_type

from embed_core import (
    Chunk,
    Document,
    IngestionPipeline,
    IngestionResult,
    MetadataMode,
    MockEmbedding,
    TextNode,
    TextSplitter,
    Vectors,
)
from embed_core.kvstore import SQLiteKVStore

model = MockEmbedding(embed_dim=8, num_workers=2)
assert_type(model.get_text_embedding("a text"), list[float])
assert_type(model.get_text_embedding_batch(["a text"]), list[list[float]])
assert_type(model.embed_texts(["a text"]), Vectors)


async def twins() -> None:
    assert_type(await model.aget_query_embedding("a query"), list[float])
    assert_type(await model.aembed_queries(["a query"]), Vectors)


pipeline = IngestionPipeline([TextSplitter(chunk_size=200), lambda nodes: nodes[:10], model], cache=SQLiteKVStore("x"))
assert_type(pipeline.run([Document(text="a text")]), IngestionResult)
assert_type(TextSplitter().split("a text"), list[Chunk])
assert_type(model([TextNode(text="a text")])[0].text, str)
assert_type(TextNode(text="a text").get_content(MetadataMode.EMBED), str)
