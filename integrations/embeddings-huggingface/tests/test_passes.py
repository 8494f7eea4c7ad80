from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embeddings_huggingface import HuggingFaceEmbedding, SparseEncoderEmbedding
from embeddings_huggingface._passes import in_passes
from hypothesis import given
from hypothesis import strategies as st


def batch(lengths: list[int], *, front: bool) -> dict[str, Any]:
    """Return tokenised rows of some lengths, with their own number in every token, and padding of minus one."""
    import torch

    width = max(lengths)
    mask, ids = torch.zeros((len(lengths), width), dtype=torch.long), -torch.ones((len(lengths), width))
    for row, length in enumerate(lengths):
        real = slice(width - length, width) if front else slice(0, length)
        mask[row, real], ids[row, real] = 1, row
    return {"attention_mask": mask, "input_ids": ids, "rows": torch.arange(len(lengths)), "prompt_length": 3}


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=20), budget=st.integers(1, 200), front=st.booleans())
def test_every_row_goes_through_once_whole_and_in_its_place_and_no_pass_has_more_than_the_budget(
    lengths: list[int], budget: int, front: bool
) -> None:
    sizes: list[tuple[int, int]] = []

    def forward(part: Mapping[str, Any]) -> Any:
        mask, ids = part["attention_mask"], part["input_ids"]
        sizes.append(tuple(mask.shape))
        assert part["prompt_length"] == 3
        assert (ids[mask.bool()] == part["rows"].repeat_interleave(mask.sum(dim=1))).all()
        assert (ids[~mask.bool()] == -1).all()
        return np.stack([part["rows"].numpy(), mask.sum(dim=1).numpy()], axis=1)

    found = in_passes(batch(lengths, front=front), budget, forward)
    assert found.tolist() == [[row, length] for row, length in enumerate(lengths)]
    assert all(rows * width <= max(budget, *lengths) for rows, width in sizes)
    assert all(rows == 1 for rows, width in sizes if rows * width > budget)


def test_a_batch_within_the_budget_and_one_that_is_not_padded_go_through_as_they_are() -> None:
    within, unpadded = batch([3, 2], front=False), {"input_ids": np.arange(100)}
    for features in (within, unpadded):
        assert in_passes(features, 6, lambda part, features=features: part is features)


TEXTS = ["the wing of an aircraft stalls", "bread", "", "the bread " * 40, "an air!"] * 3


@pytest.mark.parametrize("kind", ["tiny", "tiny_bert"])
def test_vectors_do_not_depend_on_the_budget(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    whole = HuggingFaceEmbedding(folder, device="cpu")
    parts = HuggingFaceEmbedding(folder, device="cpu", max_pass_tokens=50)
    assert np.allclose(parts.embed_texts(TEXTS), whole.embed_texts(TEXTS), rtol=0, atol=1e-5)
    assert parts.fingerprint == whole.fingerprint
    assert parts._weights() is whole._weights()
    assert parts._get_text_embeddings(TEXTS).usage == whole._get_text_embeddings(TEXTS).usage


def test_sparse_vectors_neither(tiny_splade: Path) -> None:
    whole, parts = (SparseEncoderEmbedding(tiny_splade, device="cpu", max_pass_tokens=most) for most in (10_000, 50))
    for one, other in zip(parts.get_text_embedding_batch(TEXTS), whole.get_text_embedding_batch(TEXTS), strict=True):
        assert np.array_equal(one.indices, other.indices)
        assert np.allclose(one.weights, other.weights, rtol=0, atol=1e-5)


def test_no_forward_pass_has_more_tokens_than_the_budget(tiny_splade: Path) -> None:
    model = SparseEncoderEmbedding(tiny_splade, device="cpu", max_pass_tokens=64, max_length=31)
    sizes: list[tuple[int, ...]] = []

    def watch(encoder: Any) -> Any:
        import torch

        words = next(part for part in encoder._model.modules() if isinstance(part, torch.nn.Embedding))
        return words.register_forward_hook(lambda _, arguments, __: sizes.append(tuple(arguments[0].shape)))

    hook = model._weights().run(watch)
    model.get_text_embedding_batch(TEXTS)
    hook.remove()
    assert len(sizes) > 1
    assert all(rows * width <= 64 for rows, width in sizes)
    assert sum(rows for rows, _ in sizes) == len(TEXTS)
