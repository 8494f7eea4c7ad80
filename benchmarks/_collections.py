"""Public collections with human judgements: documents, queries and what is relevant to which; pairs of sentences."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILES = ("cran.all.1400", "cran.qry", "cranqrel", "stsb-en-test.csv")
"""What `cranfield` and `sts_benchmark` read."""

_SEMANLINK = {
    "arxiv.json": "04b746bc93097986b998288f838098021029331eea01b74c75fd6ac7fcca6494",
    "tags.json": "59580e49b27a6cd6a4dc4db133770f7935c9c11afd8543fdd8e1c6e39c4e335d",
}
_FILED = range(2, 101)  # topics with fewer or more papers tell little: one of them is "arXiv paper" itself


@dataclass(frozen=True, slots=True)
class Retrieval:
    """A collection to search.

    Attributes:
        relevance: how relevant each document is to each query, of shape (queries, documents); 0 is not at all.
    """

    name: str
    documents: Sequence[str]
    queries: Sequence[str]
    relevance: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of sentences, each with the similarity that people gave it."""

    name: str
    first: Sequence[str]
    second: Sequence[str]
    scores: Sequence[float]


def semanlink(folder: Path) -> Retrieval:
    """Return papers from arXiv (title and abstract) and the topics that the curator of semanlink.net filed them under.

    The files are those of the package `cherche` on PyPI. A topic's name is a query; what is filed under it is relevant.

    Raises:
        ValueError: a file is not the one that the figures in the README were measured with.
    """
    papers, topics = (_pinned(folder / name, digest) for name, digest in _SEMANLINK.items())
    filed = Counter(topic for paper in papers for topic in set(paper["tag"]))
    chosen = sorted(topic for topic, count in filed.items() if count in _FILED)
    return Retrieval(
        "Semanlink, arXiv papers",
        [f"{paper['arxiv_title'].strip()}\n{paper['arxiv_summary'].strip()}" for paper in papers],
        [topics[topic]["prefLabel"][0] for topic in chosen],
        np.array([[float(topic in paper["tag"]) for paper in papers] for topic in chosen]),
    )


def cranfield(folder: Path) -> Retrieval:
    """Return the Cranfield collection from `cran.all.1400`, `cran.qry` and `cranqrel`, as they are passed around.

    Judgements number the queries by their order in the file, not by their `.I`. Codes 1 to 4 are degrees of relevance,
    of which the sources disagree whether 1 or 4 is the highest; here all four count the same, the others not.
    """
    documents = _records(folder / "cran.all.1400")
    queries = _records(folder / "cran.qry")
    relevance = np.zeros((len(queries), len(documents)))
    for line in (folder / "cranqrel").read_text(encoding="utf-8").splitlines():
        query, document, code = map(int, line.split()[:3])
        relevance[query - 1, document - 1] = 1 <= code <= 4
    return Retrieval("Cranfield", documents, queries, relevance)


def sts_benchmark(folder: Path) -> Pairs:
    """Return the English test set of the STS benchmark from `stsb-en-test.csv`."""
    with (folder / "stsb-en-test.csv").open(encoding="utf-8", newline="") as file:
        first, second, scores = zip(*csv.reader(file), strict=True)
    return Pairs("STS benchmark, test", first, second, [float(score) for score in scores])


def _pinned(path: Path, digest: str) -> Any:
    data = path.read_bytes()
    if (found := hashlib.sha256(data).hexdigest()) != digest:
        msg = f"`{path}` has the SHA-256 {found}; expected {digest}, of cherche 2.2.1"
        raise ValueError(msg)
    return json.loads(data)


def _records(path: Path) -> list[str]:
    """Return the text, field `.W`, of each record of a file in SMART's format; in documents it repeats the title."""
    records = re.split(r"^\.I .*\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return [" ".join(record.partition(".W\n")[2].split()) for record in records]
