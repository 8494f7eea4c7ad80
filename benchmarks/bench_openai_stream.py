"""A million short texts streamed through an API at 1,536 dimensions, with a restart of the server in the middle."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np
from embeddings_openai import OpenAIEmbedding
from embeddings_openai.testing import FakeEmbeddingServer

from benchmarks._harness import Target, print_table

_COUNT = 1_000_000
_SETTLED = 100_000  # texts after which memory should not grow any more
_BATCH = 256
_WORKERS = 8
_EVERY = 997  # one in so many vectors is compared with what the server must have said

_SERVER = """
import sys, time
from embeddings_openai.testing import FakeEmbeddingServer
server = FakeEmbeddingServer(dimension=1536).start()
print(server.base_url, flush=True)
for command in sys.stdin:
    server.stop()
    time.sleep(1)
    server.start()
print(sum(len(request.inputs) for request in server.requests), flush=True)
"""


def main() -> Sequence[Target]:
    """Measure the growth of memory, and count what was sent twice and what came out wrong."""
    expected = FakeEmbeddingServer(dimension=1536)
    with subprocess.Popen([sys.executable, "-c", _SERVER], stdin=-1, stdout=-1, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        wrong = seen = settled = 0
        began = time.perf_counter()
        with OpenAIEmbedding(api_key="x", api_base=url, embed_batch_size=_BATCH, num_workers=_WORKERS) as model:
            for block in model.stream_texts(_texts(server)):
                for row in range(-seen % _EVERY, len(block), _EVERY):
                    wrong += not np.array_equal(block[row], expected.vector(f"short text number {seen + row}"))
                seen += len(block)
                if seen >= _SETTLED and not settled:
                    settled = _peak_mib()
        took = time.perf_counter() - began
        server.stdin.close()
        received = int(server.stdout.readline())
    twice = received - _COUNT
    print_table(
        ["a million texts", "value"],
        [
            ["texts a second", f"{_COUNT / took:,.0f}"],
            ["vectors", f"{seen:,}"],
            ["sent twice", f"{twice:,}"],
            [f"peak after {_SETTLED:,}", f"{settled:,.0f} MiB"],
            ["peak at the end", f"{_peak_mib():,.0f} MiB"],
        ],
    )
    return [
        Target("a million texts: vectors missing", _COUNT - seen, 0),
        Target("a million texts: vectors wrong or out of order", wrong, 0),
        Target("a million texts: sent twice, over what was in flight", max(0, twice - _BATCH * _WORKERS), 0),
        Target("a million texts: growth after the first tenth", _peak_mib() - settled, 20, "MiB"),
    ]


def _texts(server: subprocess.Popen[str]) -> Iterator[str]:
    for number in range(_COUNT):
        if number == _COUNT // 2:
            assert server.stdin is not None
            server.stdin.write("restart\n")
            server.stdin.flush()
        yield f"short text number {number}"


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
