"""Models without sentence-transformers' files, against transformers called directly."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embed_core import Pooling, resolve_embed_model
from embed_core.errors import ConfigurationError, EmbeddingIntegrityError, IntegrationNotInstalledError
from embed_core.kvstore import MemoryKVStore
from embeddings_huggingface import HuggingFaceEmbedding

TEXTS = ["the wing of an aircraft stalls", "bread.", "", "the bread " * 40, "query: an air!"]


def directly(folder: Path, texts: list[str], pooling: str, max_length: int = 48) -> Any:
    """Embed texts one at a time, so that nothing is padded."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    vectors = []
    with torch.inference_mode():
        for text in texts:
            hidden = model(**tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt"))[0][0]
            vectors.append((hidden[0] if pooling == "cls" else hidden.mean(0)).numpy())
    return np.stack(vectors)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_vectors_are_the_pooled_last_layer(tiny_bert: Path, pooling: str) -> None:
    model = HuggingFaceEmbedding(model_name=tiny_bert, pooling=pooling, device="cpu")
    assert np.allclose(model.embed_texts(TEXTS), directly(tiny_bert, TEXTS, pooling), rtol=0, atol=1e-5)
    assert np.allclose(model.embed_queries(TEXTS), directly(tiny_bert, TEXTS, pooling), rtol=0, atol=1e-5)


def test_without_a_word_about_pooling_it_is_the_mean(tiny_bert: Path) -> None:
    model, mean = (HuggingFaceEmbedding(model_name=tiny_bert, pooling=pooling) for pooling in (None, Pooling.MEAN))
    assert np.array_equal(model.embed_texts(TEXTS), mean.embed_texts(TEXTS))


def test_instructions_lengths_and_unit_length_work_as_everywhere(tiny_bert: Path) -> None:
    model = HuggingFaceEmbedding(
        model_name=tiny_bert, query_instruction="query: ", max_length=10, normalize=True, truncate_dim=16
    )
    expected = directly(tiny_bert, ["query: the wing", "query: " + "the " * 30], "mean", max_length=10)[:, :16]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(model.embed_queries(["the wing", "the " * 30]), expected, rtol=0, atol=1e-5)


def test_what_is_cut_is_counted(tiny_bert: Path) -> None:
    answer = HuggingFaceEmbedding(model_name=tiny_bert)._get_text_embeddings(["the " * 46, "the " * 47, "bread"])
    assert answer.truncated == 1
    assert answer.usage == {"tokens": 48 + 48 + 3}


def test_the_mean_of_windows(tiny_bert: Path) -> None:
    model = HuggingFaceEmbedding(model_name=tiny_bert, long_text="mean")
    parts = directly(tiny_bert, ["the " * 46, "the " * 24], "mean")
    expected = np.average(parts, axis=0, weights=[46, 24])
    assert np.allclose(model.embed_texts(["the " * 70])[0], expected, rtol=0, atol=1e-5)


def test_an_explicit_pooling_wins_over_sentence_transformers_files(tiny: Path, tiny_bert: Path) -> None:
    by_files, by_hand = HuggingFaceEmbedding(model_name=tiny), HuggingFaceEmbedding(model_name=tiny, pooling="cls")
    assert np.allclose(np.linalg.norm(by_files.embed_texts(TEXTS), axis=1), 1)
    assert np.allclose(by_hand.embed_texts(TEXTS), directly(tiny_bert, TEXTS, "cls"), rtol=0, atol=1e-5)


def test_half_precision_gives_float32_vectors(tiny_bert: Path) -> None:
    model = HuggingFaceEmbedding(model_name=tiny_bert, dtype="bfloat16")
    vectors, expected = model.embed_texts(TEXTS), directly(tiny_bert, TEXTS, "mean")
    assert vectors.dtype == np.float32
    assert np.abs(vectors - expected).max() > 1e-5
    assert np.allclose(vectors, expected, atol=0.1)


def test_positions_are_counted_as_roberta_counts_them(tmp_path: Path, wordpiece: Callable[..., Any]) -> None:
    import torch
    from transformers import RobertaConfig, RobertaModel

    tokenizer = wordpiece()  # knows no length of its own
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    config = RobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=22, pad_token_id=1, **shape)
    RobertaModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = HuggingFaceEmbedding(model_name=tmp_path, device="cpu")
    assert model._get_text_embeddings(["the " * 100]).usage == {"tokens": 20}


def test_a_tokenizer_without_padding_pads_with_the_end(tiny_bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_bert, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": "[SEP]"}))
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    model = HuggingFaceEmbedding(model_name=folder, device="cpu")
    assert np.allclose(model.embed_texts(TEXTS), directly(tiny_bert, TEXTS, "mean"), rtol=0, atol=1e-5)


def test_damaged_weights_are_named(tiny_bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_bert, folder)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ConfigurationError, match=r"the weights of `.*model` are damaged .*; download or save"):
        HuggingFaceEmbedding(model_name=folder).embed_texts(["bread"])


@pytest.mark.parametrize("failure", [RuntimeError("size mismatch"), MemoryError(), AssertionError("odd")])
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_model_that_cannot_be_loaded_is_loaded_once_for_all_inputs(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, colour: str
) -> None:
    loads: list[object] = []

    def fail(name: object, **options: object) -> None:
        loads.append(name)
        raise failure

    from transformers import AutoModel

    monkeypatch.setattr(AutoModel, "from_pretrained", fail)
    model = HuggingFaceEmbedding(model_name=tiny_bert)
    texts = [f"text {number}" for number in range(64)]
    with pytest.raises(ConfigurationError, match="load"):
        model.embed_texts(texts) if colour == "sync" else asyncio.run(model.aembed_texts(texts))
    assert len(loads) == 1


def test_missing_weights_are_named_and_can_be_put_there(tiny_bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_bert, folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    model = HuggingFaceEmbedding(model_name=folder)
    with pytest.raises(ConfigurationError, match=r"`.*model` cannot be loaded as a model: .*safetensors"):
        model.embed_texts(["bread"])
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(ConfigurationError, match="make the model again"):
        model.embed_texts(["bread"])
    assert HuggingFaceEmbedding(model_name=folder).embed_texts(["bread"]).shape == (1, 32)


def test_a_closed_model_is_not_loaded_from_other_files(tiny_bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_bert, folder)
    model = HuggingFaceEmbedding(model_name=folder, embeddings_cache=MemoryKVStore())
    with model:
        model.embed_texts(["bread"])
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert model.embed_texts(["bread"]).shape == (1, 32)  # from the cache
    with pytest.raises(ConfigurationError, match="make the model again"):
        model.embed_texts(["a wing"])


def test_code_that_comes_with_a_model_does_not_run(tiny_bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_bert, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ConfigurationError, match="set `trust_remote_code=True` if you trust it"):
        resolve_embed_model(f"local:{folder}").embed_texts(["bread"])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["tiny", "tiny_bert"])
def test_an_overflow_of_half_precision_names_the_remedy(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(request.getfixturevalue(kind), folder)
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.1.output.LayerNorm.weight"] *= 1e6
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(EmbeddingIntegrityError, match=r"not finite in float16.*set `dtype='bfloat16'`") as caught:
        HuggingFaceEmbedding(folder, device="cpu", dtype="float16").embed_texts(["bread"])
    assert caught.value.indices == (0,)
    assert np.isfinite(HuggingFaceEmbedding(folder, device="cpu", dtype="bfloat16").embed_texts(["bread"])).all()


def test_a_model_is_loaded_before_it_is_used(tiny_bert: Path) -> None:
    for number, load in enumerate((lambda model: model.load(), lambda model: asyncio.run(model.aload()))):
        model = HuggingFaceEmbedding(tiny_bert, device="cpu", processor_kwargs={"own": number})  # weights of its own
        load(model)
        assert model._held is not None
        assert model._held._encoder is not None
    with pytest.raises(ConfigurationError, match="does not exist"):
        HuggingFaceEmbedding("./nowhere").load()


@pytest.mark.skipif(find_spec("peft") is not None, reason="peft is installed")
def test_an_adapter_says_which_package_it_needs(tiny_bert: Path, tmp_path: Path) -> None:
    settings = {"base_model_name_or_path": str(tiny_bert), "peft_type": "LORA"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(IntegrationNotInstalledError, match=r"is an adapter, .*; run `pip install peft`"):
        HuggingFaceEmbedding(tmp_path, device="cpu").embed_texts(["bread"])
