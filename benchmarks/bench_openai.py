"""An API on this machine that takes 50 ms a request: 2,000 short texts at 1,536 dimensions, 100 in each request."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import openai
from embeddings_openai import OpenAIEmbedding
from langchain_openai import OpenAIEmbeddings
from llama_index.embeddings.openai import OpenAIEmbedding as LlamaIndexEmbedding

from benchmarks._harness import ROUNDS, Samples, Target, ratio, show, take_turns

_LATENCY = 0.05
_BATCH = 100
_WORKERS = 4
_MANY = 20  # a request for each of them
_TEXTS = [f"a short text, number {number}, of some words" for number in range(2000)]
_BATCHES = [_TEXTS[start : start + _BATCH] for start in range(0, len(_TEXTS), _BATCH)]
_IDEAL = len(_BATCHES) / _WORKERS * _LATENCY
_MODEL = "text-embedding-3-small"
_BARE = "http.client in threads"

_SERVER = """
import sys
from embeddings_openai.testing import FakeEmbeddingServer
server = FakeEmbeddingServer(dimension=1536, latency=float(sys.argv[1])).start()
print(server.base_url, flush=True)
sys.stdin.read()
"""


def main() -> Sequence[Target]:
    """Measure our client, the SDK's default path, LlamaIndex and LangChain."""
    loop = asyncio.new_event_loop()
    with (
        _server() as url,
        _ours(url, _WORKERS) as ours,
        _ours(url, _MANY) as wide,
        _ours(url, _WORKERS, async_http_client=openai.DefaultAioHttpClient) as by_aiohttp,
    ):
        variants = _sync(ours, wide, url)
        calls = _async(ours, wide, url) | {"async by aiohttp": partial(by_aiohttp.aembed_texts, _TEXTS)}
        for name, call in calls.items():
            variants[name] = partial(_wait_for, loop, call)
        wall, cpu = _measured(variants)
        short = {name: variants[name] for name in ("sync", "async", "async by aiohttp")}
        near, _ = _measured(short | {_BARE: partial(_bare, url)}, rounds=20)  # each is soon done
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    show("wall time", "ms", wall, base="LlamaIndex", scale=1e3)
    ideal = f"wall time at {_WORKERS} workers, ideal {_IDEAL * 1000:.0f} ms"
    show(ideal, "ms", near, base=_BARE, scale=1e3, notes={_BARE: "what server and machine allow; decodes nothing"})
    show("CPU of the client", "µs a vector", cpu, base="SDK", scale=1e6 / len(_TEXTS))
    best = {name: min(values) for name, values in wall.items()}  # other load on the machine only ever adds
    llama_async = min(value for name, value in best.items() if name.startswith("LlamaIndex async"))
    return [
        Target("wall, sync, x ideal, best round", min(near["sync"]) / _IDEAL, 1.15, "x"),
        Target("wall, async, x ideal, best round", min(near["async"]) / _IDEAL, 1.15, "x"),
        Target("wall, sync, x LlamaIndex", best[f"sync, {_MANY} workers"] / best["LlamaIndex"], 1 / 5, "x"),
        Target("wall, async, x LlamaIndex's best async", best[f"async, {_MANY} workers"] / llama_async, 1, "x"),
        Target("CPU, sync, x SDK", ratio(cpu, "sync", "SDK"), 1 / 2, "x"),
        Target("CPU, async, x SDK async", ratio(cpu, "async", "SDK async"), 1 / 2, "x"),
        Target("CPU, sync, x LangChain", ratio(cpu, "sync", "LangChain"), 1 / 3, "x"),
    ]


def _ours(url: str, workers: int, **more: Any) -> OpenAIEmbedding:
    return OpenAIEmbedding(_MODEL, api_key="x", api_base=url, embed_batch_size=_BATCH, num_workers=workers, **more)


def _sync(ours: OpenAIEmbedding, wide: OpenAIEmbedding, url: str) -> dict[str, Callable[[], Any]]:
    sdk = openai.OpenAI(api_key="x", base_url=url)
    llama = LlamaIndexEmbedding(model=_MODEL, api_key="x", api_base=url, embed_batch_size=_BATCH)
    chain = OpenAIEmbeddings(
        model=_MODEL, api_key="x", base_url=url, chunk_size=_BATCH, check_embedding_ctx_length=False
    )

    def by_sdk() -> None:
        for batch in _BATCHES:
            [one.embedding for one in sdk.embeddings.create(model=_MODEL, input=batch).data]

    return {
        "sync": partial(ours.embed_texts, _TEXTS),
        f"sync, {_MANY} workers": partial(wide.embed_texts, _TEXTS),
        "SDK": by_sdk,
        "LlamaIndex": partial(llama.get_text_embedding_batch, _TEXTS),
        "LangChain": partial(chain.embed_documents, _TEXTS),
    }


def _bare(url: str) -> None:
    """Send the same requests by Python's own client, on new connections, and decode nothing."""
    bodies = [json.dumps({"model": _MODEL, "input": batch, "encoding_format": "base64"}) for batch in _BATCHES]

    def work() -> None:
        address = urlsplit(url)
        with closing(HTTPConnection(address.hostname or "", address.port)) as connection:
            while bodies:
                connection.request("POST", f"{address.path}/embeddings", bodies.pop())
                connection.getresponse().read()

    with ThreadPoolExecutor(_WORKERS) as threads:
        for done in [threads.submit(work) for _ in range(_WORKERS)]:
            done.result()


def _async(ours: OpenAIEmbedding, wide: OpenAIEmbedding, url: str) -> dict[str, Callable[[], Awaitable[Any]]]:
    sdk = openai.AsyncOpenAI(api_key="x", base_url=url)
    chain = OpenAIEmbeddings(
        model=_MODEL, api_key="x", base_url=url, chunk_size=_BATCH, check_embedding_ctx_length=False
    )

    def llama(workers: int | None) -> LlamaIndexEmbedding:
        return LlamaIndexEmbedding(
            model=_MODEL, api_key="x", api_base=url, embed_batch_size=_BATCH, num_workers=workers
        )

    async def by_sdk() -> None:
        for batch in _BATCHES:
            [one.embedding for one in (await sdk.embeddings.create(model=_MODEL, input=batch)).data]

    return {
        "async": partial(ours.aembed_texts, _TEXTS),
        f"async, {_MANY} workers": partial(wide.aembed_texts, _TEXTS),
        "SDK async": by_sdk,
        "LlamaIndex async": partial(llama(None).aget_text_embedding_batch, _TEXTS),
        f"LlamaIndex async, {_WORKERS} workers": partial(llama(_WORKERS).aget_text_embedding_batch, _TEXTS),
        f"LlamaIndex async, {_MANY} workers": partial(llama(_MANY).aget_text_embedding_batch, _TEXTS),
        "LangChain async": partial(chain.aembed_documents, _TEXTS),
    }


def _measured(variants: dict[str, Callable[[], Any]], rounds: int = ROUNDS) -> tuple[Samples, Samples]:
    """Return seconds on the wall and of this process's CPU, round by round."""
    cpu: dict[str, list[float]] = {name: [] for name in variants}

    def sampler(name: str) -> float:
        gc.collect()  # what the others have left behind is not this one's to clear away
        began, used = time.perf_counter(), time.process_time()
        variants[name]()
        cpu[name].append(time.process_time() - used)
        return time.perf_counter() - began

    for run in variants.values():
        run()  # opens connections
    return take_turns({name: partial(sampler, name) for name in variants}, rounds=rounds), cpu


def _wait_for(loop: asyncio.AbstractEventLoop, call: Callable[[], Awaitable[Any]]) -> None:
    async def wait() -> None:
        await call()

    loop.run_until_complete(wait())


@contextmanager
def _server() -> Iterator[str]:
    """Run the server in a process of its own, so that its work is not counted."""
    command = [sys.executable, "-c", _SERVER, str(_LATENCY)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate()
