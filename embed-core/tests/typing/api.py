"""What a type checker must know of the public surface; mypy reads this file, nothing runs it."""

from typing import assert_type

from embed_core import MockEmbedding, Vectors

model = MockEmbedding(embed_dim=8, num_workers=2)
assert_type(model.get_text_embedding("a text"), list[float])
assert_type(model.get_text_embedding_batch(["a text"]), list[list[float]])
assert_type(model.embed_texts(["a text"]), Vectors)


async def twins() -> None:
    assert_type(await model.aget_query_embedding("a query"), list[float])
    assert_type(await model.aembed_queries(["a query"]), Vectors)
