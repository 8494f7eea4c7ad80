"""How far the process grows while a corpus streams through it: 100,000 texts, 1,536 dimensions, 586 MiB of vectors."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks._harness import Target, in_fresh_process, print_table

_TEXTS = 100_000
_DIMENSION = 1536
_LISTED = 10_000
_LIMIT = 200.0


def main() -> Sequence[Target]:
    """Measure `stream_texts` and, for comparison, what holds everything."""
    grown = {name: in_fresh_process(measure) for name, measure in _VARIANTS.items()}
    print_table(
        ["memory, MockEmbedding(embed_dim=1536)", "MiB over the idle process"],
        [[name, f"{mib:.0f}"] for name, mib in grown.items()],
    )
    return [Target("stream of 100,000 texts, peak growth", grown["stream_texts, 100,000 texts"], _LIMIT, "MiB")]


def _stream() -> float:
    return _stream_with(embed_batch_size=32, num_workers=1)


def _stream_wide() -> float:
    return _stream_with(embed_batch_size=512, num_workers=4)


def _stream_with(*, embed_batch_size: int, num_workers: int) -> float:
    from embed_core import MockEmbedding

    model = MockEmbedding(embed_dim=_DIMENSION, embed_batch_size=embed_batch_size, num_workers=num_workers)
    idle = _peak_mib()
    count = sum(len(block) for block in model.stream_texts(f"text number {number}" for number in range(_TEXTS)))
    assert count == _TEXTS
    return _peak_mib() - idle


def _array() -> float:
    from embed_core import MockEmbedding

    model = MockEmbedding(embed_dim=_DIMENSION)
    idle = _peak_mib()
    model.embed_texts(f"text number {number}" for number in range(_TEXTS))
    return _peak_mib() - idle


def _llama() -> float:
    from llama_index.core import MockEmbedding

    model = MockEmbedding(embed_dim=_DIMENSION)
    idle = _peak_mib()
    model.get_text_embedding_batch([f"text number {number}" for number in range(_LISTED)])
    return _peak_mib() - idle


_VARIANTS: dict[str, Callable[[], float]] = {
    "stream_texts, 100,000 texts": _stream,
    "stream_texts, 100,000 texts, batches of 512, 4 workers": _stream_wide,
    "embed_texts, 100,000 texts, one array": _array,
    "LlamaIndex get_text_embedding_batch, 10,000 texts; it has no stream": _llama,
}


def _peak_mib() -> float:
    try:
        status = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    except OSError:  # not Linux
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)
