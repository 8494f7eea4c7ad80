"""The OpenVINO engine, against torch."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embed_core.errors import ConfigurationError, IntegrationNotInstalledError
from embed_core.kvstore import MemoryKVStore
from embeddings_huggingface import HuggingFaceEmbedding, SparseEncoderEmbedding
from embeddings_huggingface._openvino import OpenVinoEncoder

TEXTS = [*("the wing of an aircraft stalls " * count for count in (20, 9, 4, 4, 2)), "bread.", "an air!", "a", "ü 日"]


@pytest.fixture(autouse=True)
def openvino() -> Any:
    """Run these tests where OpenVINO is installed."""
    return pytest.importorskip("openvino")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Begin each test without converted models, on disk or in memory."""
    gc.collect()
    monkeypatch.setenv("EMBED_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def on(backend: str, folder: Path, **settings: Any) -> HuggingFaceEmbedding:
    return HuggingFaceEmbedding(folder, device="cpu", backend=backend, **settings)


def near(found: Any, expected: Any, tolerance: float = 1e-5) -> bool:
    return found.dtype == np.float32 and np.allclose(found, expected, rtol=0, atol=tolerance)


def runs_on_openvino(model: HuggingFaceEmbedding) -> bool:
    return isinstance(model._weights().encoder(), OpenVinoEncoder)


def converted(home: Path) -> Path:
    (folder,) = (home / "cache" / "openvino").iterdir()
    return folder


@pytest.mark.parametrize("settings", [{"pooling": "mean"}, {"pooling": "cls", "text_instruction": "passage: "}, {}])
@pytest.mark.parametrize("kind", ["Bert", "Roberta", "MPNet", "ModernBert", "Qwen3"])
def test_vectors_are_those_of_torch(
    kind: str, settings: dict[str, Any], saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = on("torch", saved(kind), **settings).embed_texts(TEXTS)
    model = on("auto", saved(kind), **settings)
    assert near(model.embed_texts(TEXTS), expected)
    assert runs_on_openvino(model)
    assert near(np.array([model.get_text_embedding(text) for text in TEXTS], np.float32), expected)
    assert near(asyncio.run(model.aembed_texts(TEXTS)), expected)


def test_files_of_sentence_transformers_count(tiny: Path, copy_with: Callable[..., Path]) -> None:
    folder = copy_with(tiny, prompts={"query": "query: ", "document": "passage: "})
    for settings in ({}, {"normalize": False}, {"truncate_dim": 5}, {"max_length": 9}, {"max_pass_tokens": 20}):
        ours, theirs = (on(backend, folder, **settings) for backend in ("openvino", "torch"))
        assert near(ours.embed_texts(TEXTS), theirs.embed_texts(TEXTS)), settings
        assert near(ours.embed_queries(TEXTS), theirs.embed_queries(TEXTS)), settings
    for policy in ("error", "mean"):
        ours, theirs = (on(backend, folder, long_text=policy) for backend in ("openvino", "torch"))
        assert near(ours.embed_texts(TEXTS[5:]), theirs.embed_texts(TEXTS[5:]))
    assert near(ours.embed_texts(TEXTS), theirs.embed_texts(TEXTS))
    assert runs_on_openvino(ours)


def test_the_next_process_needs_no_torch(tiny: Path, home: Path) -> None:
    texts = TEXTS[4:]  # none is cut
    expected = on("openvino", tiny).embed_texts(texts)
    script = (
        "import json, sys; from embed_core import resolve_embed_model\n"
        "model = resolve_embed_model('local:' + sys.argv[1])\n"
        "found = model.get_text_embedding_batch(json.loads(sys.argv[2]))\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers'} & sys.modules.keys()\n"
        "print(json.dumps([sorted(heavy), found]))"
    )
    command = [sys.executable, "-c", script, str(tiny), json.dumps(texts)]
    environment = {**os.environ, "EMBED_HOME": str(home)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=240, env=environment)
    heavy, found = json.loads(done.stdout)
    assert heavy == []
    assert near(np.array(found, np.float32), expected)
    assert done.stderr == ""


def test_an_engine_is_no_part_of_the_space(tiny: Path) -> None:
    assert on("openvino", tiny).fingerprint == on("torch", tiny).fingerprint == on("auto", tiny).fingerprint
    assert on("auto", tiny, dtype="bfloat16").fingerprint != on("auto", tiny).fingerprint
    store = MemoryKVStore()
    first = on("torch", tiny, embeddings_cache=store).embed_texts(["bread"])
    model = on("openvino", tiny, embeddings_cache=store)
    assert np.array_equal(model.embed_texts(["bread"]), first)
    assert not model._weights().is_loaded


def test_bfloat16_is_near(tiny: Path) -> None:
    expected = on("torch", tiny).embed_texts(TEXTS)
    model = on("openvino", tiny, dtype="bfloat16")
    found = model.embed_texts(TEXTS)
    assert runs_on_openvino(model)
    assert (found * expected).sum(axis=1).min() > 0.99


@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize("file", ["model.xml", "facts.json", "tokenizer.json"])
def test_a_damaged_file_changes_no_vector(
    file: str, cut: bool, tiny: Path, copy_with: Callable[..., Path], home: Path
) -> None:
    folder = copy_with(tiny)  # no other test holds its weights
    model = on("openvino", folder)
    expected = model.embed_texts(TEXTS)
    damaged = converted(home) / file
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-40] if cut else b"?" * len(content))
    model._weights()._encoder = None  # as in another process
    assert near(model.embed_texts(TEXTS), expected)
    assert runs_on_openvino(model)
    if cut:  # of a file of the same size OpenVINO may take the model that it compiled before
        made = damaged.read_bytes()
        assert (made[:20], made[-2:]) == (content[:20], content[-2:])


def test_where_nothing_can_be_written_the_model_runs_all_the_same(tiny: Path, home: Path) -> None:
    home.write_text("a file")
    model = on("openvino", tiny)
    assert near(model.embed_texts(TEXTS), on("torch", tiny).embed_texts(TEXTS))
    assert runs_on_openvino(model)


def test_a_model_that_does_not_convert_runs_on_torch_and_is_not_tried_again(
    tiny: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def refuse(*_: Any) -> None:
        tried.append(1)
        raise RuntimeError("no such operator")

    monkeypatch.setattr("openvino.frontend.FrontEndManager.load_by_framework", refuse)
    for _ in range(2):
        model = on("auto", tiny)
        assert len(model.embed_texts(TEXTS)) == len(TEXTS)
        assert not runs_on_openvino(model)
        model._weights()._encoder = None  # as in another process
    assert tried == [1, 1]  # with both implementations of attention
    told = f"`{tiny}` runs on torch, because OpenVINO does not take it (RuntimeError: no such operator)"
    assert told in [record.message for record in caplog.records if record.levelno == logging.WARNING]
    with pytest.raises(ConfigurationError, match=r"does not run on OpenVINO: RuntimeError: no such operator; leave"):
        on("openvino", tiny).embed_texts(["bread"])


def test_a_model_without_plain_tokens_runs_on_its_library(tiny_clip: Path) -> None:
    model = on("auto", tiny_clip)
    assert model.embed_texts(["bread"]).shape == (1, 12)
    assert not runs_on_openvino(model)
    with pytest.raises(ConfigurationError, match="its texts are no plain sequences of token ids; leave `backend` out"):
        on("openvino", tiny_clip).embed_texts(["bread"])


@pytest.mark.parametrize("settings", [{"device": "meta"}, {"device": "cpu", "dtype": "float16"}])
def test_it_is_for_cpus_and_two_types(settings: dict[str, Any], tiny: Path) -> None:
    with pytest.raises(ConfigurationError, match="`backend='openvino'` is for dense models on `device='cpu'`"):
        HuggingFaceEmbedding(tiny, backend="openvino", **settings).embed_texts(["bread"])


def test_sparse_models_run_on_torch(tiny_splade: Path) -> None:
    assert len(SparseEncoderEmbedding(tiny_splade, device="cpu").get_text_embedding("bread")) > 0
    with pytest.raises(ConfigurationError, match="is for dense models"):
        SparseEncoderEmbedding(tiny_splade, device="cpu", backend="openvino").get_text_embedding("bread")


def test_arguments_that_are_no_plain_values_leave_nothing_behind(
    tiny_bert: Path, copy_with: Callable[..., Path], home: Path
) -> None:
    folder = copy_with(tiny_bert)
    model = on("auto", folder, model_kwargs={"subfolder": Path()})
    assert model.embed_texts(["bread"]).shape == (1, 32)
    assert not runs_on_openvino(model)
    assert not (home / "cache" / "openvino").exists()


def test_a_missing_package_is_named(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert len(on("auto", tiny).embed_texts(["bread"])) == 1
    with pytest.raises(IntegrationNotInstalledError, match="run `pip install openvino`"):
        on("openvino", tiny).embed_texts(["bread"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_forked_child_runs_on_torch(tiny: Path, home: Path) -> None:
    script = (
        "import os, sys; from embeddings_huggingface import HuggingFaceEmbedding\n"
        "model = HuggingFaceEmbedding(sys.argv[1], device='cpu')\n"
        "before = model.embed_texts(['bread', 'a wing'])\n"
        "child = os.fork()\n"
        "same = abs(model.embed_texts(['bread', 'a wing']) - before).max() < 1e-5\n"
        "same = same and ('torch' in sys.modules) == (child == 0)\n"
        "os._exit(not same) if child == 0 else sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or not same)"
    )
    on("openvino", tiny).load()
    environment = {**os.environ, "EMBED_HOME": str(home)}
    command = [sys.executable, "-c", script, str(tiny)]
    subprocess.run(command, check=True, capture_output=True, timeout=240, env=environment)


def test_other_files_and_other_settings_have_converted_models_of_their_own(
    tiny: Path, tiny_bert: Path, home: Path
) -> None:
    for model in (on("openvino", tiny), on("openvino", tiny_bert), on("openvino", tiny_bert, pooling="cls")):
        model.embed_texts(["bread"])
    on("openvino", tiny, truncate_dim=4, query_instruction="query: ").embed_texts(["bread"])
    assert len(list((home / "cache" / "openvino").iterdir())) == 3
