"""The torch engine, against sentence-transformers and transformers, one text at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from embed_core import Pooling
from embeddings_huggingface._packed import Bounds, PackedTransformer
from embeddings_huggingface._torch import TorchEngine
from embeddings_huggingface._weights import Parts

TEXTS = [*("the wing of an aircraft stalls " * count for count in (9, 4, 4, 2)), "bread.", "an air!", "a", ""]
KINDS = ("Bert", "Roberta", "MPNet", "ModernBert", "Qwen3")
PACKED = {kind: kind != "MPNet" for kind in KINDS}  # it adds a bias to attention that depends on positions


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    """In models as small as these, cores would only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def sentence(saved: Callable[[str], Path]) -> Callable[[str, str], Any]:
    """Load a model with a pooling of sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    def load(kind: str, pooling: str = "mean") -> Any:
        model = SentenceTransformer(str(saved(kind)), device="cpu").eval()
        model[1] = type(model[1])(32, pooling)
        return model

    return load


def ids_of(tokenizer: Any, texts: Sequence[str] = TEXTS) -> list[list[int]]:
    return list(tokenizer(list(texts), truncation=True, max_length=48)["input_ids"])


def alone(model: Any, texts: Sequence[str] = TEXTS) -> Any:
    """Embed texts with sentence-transformers one at a time, so that nothing is padded."""
    return np.stack([model.encode(text, show_progress_bar=False) for text in texts])


def near(found: Any, expected: Any) -> bool:
    return found.dtype == np.float32 and np.allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_those_of_sentence_transformers(
    kind: str, pooling: str, sentence: Callable[[str, str], Any]
) -> None:
    model = sentence(kind, pooling)
    engine = TorchEngine(Parts(model, model.tokenizer))
    ids = ids_of(model.tokenizer)
    assert engine.packed == PACKED[kind]
    assert {len(ids[0]), len(ids[1]) - len(ids[2]), len(ids[-1])} == {48, 0, 2}
    assert near(engine.run(ids), alone(model))
    assert near(engine.run(ids[:1]), alone(model)[:1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", Pooling)
def test_vectors_are_the_pooled_last_layer_of_transformers(
    kind: str, pooling: Pooling, saved: Callable[[str], Path]
) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(saved(kind)).eval(), AutoTokenizer.from_pretrained(saved(kind))
    ids = [*ids_of(tokenizer), [7]]
    with torch.inference_mode():
        expected = np.stack([pooling(model(torch.tensor([one]))[0][0]).numpy() for one in ids])
    before = model.config._attn_implementation
    engine = TorchEngine(Parts(model, tokenizer, pooling))
    assert engine.packed == PACKED[kind]
    assert near(engine.run([np.array(one) for one in ids]), expected)
    assert model.config._attn_implementation == before  # the user's model stays as it is


def test_the_padding_token_within_a_text_is_no_padding(sentence: Callable[..., Any]) -> None:
    model = sentence("Roberta")
    ids = ids_of(model.tokenizer, ["the [PAD] wing", "[PAD]"])
    assert near(TorchEngine(Parts(model, model.tokenizer)).run(ids), alone(model, ["the [PAD] wing", "[PAD]"]))


def test_several_threads_get_the_rows_of_one(sentence: Callable[..., Any]) -> None:
    model = sentence("ModernBert")
    engine = TorchEngine(Parts(model, model.tokenizer))
    steps = [ids_of(model.tokenizer)[start : start + 3] for start in range(5)] * 8
    expected = [engine.run(step) for step in steps]
    with ThreadPoolExecutor(4, initializer=engine.enter) as threads:
        found = list(threads.map(engine.run, steps))
    assert all(map(near, found, expected))


def test_a_thread_that_enters_has_one_core_and_others_keep_theirs(sentence: Callable[..., Any]) -> None:
    import torch

    torch.set_num_threads(3)
    model = sentence("Bert")
    engine = TorchEngine(Parts(model, model.tokenizer))
    counts = []

    def count() -> None:
        counts.append(torch.get_num_threads())

    for job in (lambda: (engine.enter(), engine.enter(), count()), count):
        thread = Thread(target=job)
        thread.start()
        thread.join()
    count()
    assert counts == [1, 3, 3]
    assert engine.streams == 3


def test_padding_stays_where_vectors_differ_without_it(
    sentence: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    model = sentence("Bert")
    model[0].auto_model.encoder.layer[0].register_forward_hook(lambda _, __, out: out + out.mean(1, keepdim=True))
    with caplog.at_level(logging.DEBUG, "embeddings_huggingface"):
        assert not TorchEngine(Parts(model, model.tokenizer)).packed
    assert "`SentenceTransformer` runs with padding: without it vectors differ by" in caplog.text


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_near(dtype: str, sentence: Callable[..., Any]) -> None:
    import torch

    model = sentence("Bert")
    expected = alone(model)
    model.to(getattr(torch, dtype))
    engine = TorchEngine(Parts(model, model.tokenizer))
    assert engine.packed
    assert np.allclose(engine.run(ids_of(model.tokenizer)), expected, rtol=0, atol=5e-2)


@pytest.mark.parametrize("kind", [kind for kind, packed in PACKED.items() if packed])
def test_a_gpu_is_given_all_texts_at_once(
    kind: str, sentence: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from torch.nn.attention import varlen

    def instead(query: Any, key: Any, value: Any, starts: Any, _: Any, *longest: int, **options: Any) -> Any:
        """Do what torch documents of `varlen_attn`, without a GPU."""
        before, after = (1_000 if most < 0 else most for most in options["window_size"])
        parts = []
        for start, stop in zip(starts.tolist(), starts.tolist()[1:], strict=False):
            mask = torch.ones(stop - start, stop - start, dtype=torch.bool).tril(after).triu(-before)
            one = [part[start:stop].transpose(0, 1) for part in (query, key, value)]
            attend = torch.nn.functional.scaled_dot_product_attention
            parts.append(attend(*one, attn_mask=mask, scale=options["scale"], enable_gqa=options["enable_gqa"]))
        return torch.cat(parts, 1).transpose(0, 1)

    monkeypatch.setattr(varlen, "varlen_attn", instead)
    model = sentence(kind)
    ids = ids_of(model.tokenizer)
    flat, lengths = torch.tensor([np.concatenate(ids).tolist()]), [len(one) for one in ids]
    first = 1 if kind == "Roberta" else 0
    with torch.inference_mode():
        one, other = (PackedTransformer(model[0].auto_model, first, varlen=way)(flat, lengths) for way in (True, False))
    assert torch.allclose(one, other, atol=1e-5)


def test_attention_that_is_no_window_is_refused() -> None:
    with pytest.raises(ValueError, match="window"):
        Bounds.of([4, 2], "cpu", lambda _, __, query, key: (query - key) % 2 == 0)
