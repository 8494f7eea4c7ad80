"""What the engine costs beside the provider: a no-op provider, one batch of 100 texts, 1,536 dimensions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from statistics import median

import numpy as np
from embed_core._io import Blocking, drive
from embed_core._types import Middleware, Next, Request, Vectors
from embed_core.middleware.instrumented import Instrumented
from embed_core.middleware.traced import Traced

from benchmarks._harness import Samples, Target, Variant, interleave, ratio, show
from benchmarks._peers import BATCH, TEXTS, VECTORS, LlamaIndex, LlamaIndexOfLists, Ours, OursOfLists

_MICRO = 1e6
_AWAITED = 50
_ARRAYS, _LISTS = "LlamaIndex, provider of arrays", "LlamaIndex, provider of lists"
_NOTES = {
    "get_text_embedding_batch": "unlike the others: makes lists of floats",
    "aget_text_embedding_batch": "unlike the others: makes lists of floats",
    "embed_texts, provider of lists": "makes an array of them, checked",
    _LISTS: "passes them on",
    _ARRAYS: "passes its rows on",
}


def main() -> Sequence[Target]:
    """Measure batches, single calls and events."""
    return [*_batch(), *_awaited_batch(), *_single(), *_events()]


def _batch() -> Sequence[Target]:
    texts = TEXTS[:BATCH]
    ours, of_lists = Ours(embed_batch_size=BATCH), OursOfLists(embed_batch_size=BATCH)
    arrays, lists = LlamaIndex(embed_batch_size=BATCH), LlamaIndexOfLists(embed_batch_size=BATCH)
    samples = interleave(
        [
            Variant("embed_texts", partial(ours.embed_texts, texts), BATCH),
            Variant("get_text_embedding_batch", partial(ours.get_text_embedding_batch, texts), BATCH),
            Variant("embed_texts, provider of lists", partial(of_lists.embed_texts, texts), BATCH),
            Variant(_ARRAYS, partial(arrays.get_text_embedding_batch, texts), BATCH),
            Variant(_LISTS, partial(lists.get_text_embedding_batch, texts), BATCH),
            Variant("numpy copy of the array", VECTORS[:BATCH].copy, BATCH),
        ],
        clock=time.thread_time,
    )
    show("overhead of a batch of 100", "CPU µs a text", samples, base=_LISTS, scale=_MICRO, notes=_NOTES)
    return _thirds("overhead", samples, "embed_texts")


def _awaited_batch() -> Sequence[Target]:
    texts = TEXTS[:BATCH]
    ours = Ours(embed_batch_size=BATCH)
    arrays, lists = LlamaIndex(embed_batch_size=BATCH), LlamaIndexOfLists(embed_batch_size=BATCH)
    with asyncio.Runner() as runner:

        def awaited(name: str, call: Callable[[], Awaitable[object]]) -> Variant:
            async def often() -> None:
                for _ in range(_AWAITED):
                    await call()

            return Variant(name, lambda: runner.run(often()), BATCH * _AWAITED)

        samples = interleave(
            [
                awaited("aembed_texts", partial(ours.aembed_texts, texts)),
                awaited("aget_text_embedding_batch", partial(ours.aget_text_embedding_batch, texts)),
                awaited(_ARRAYS, partial(arrays.aget_text_embedding_batch, texts)),
                awaited(_LISTS, partial(lists.aget_text_embedding_batch, texts)),
            ],
            clock=time.thread_time,
        )
    show("overhead of a batch of 100, async", "CPU µs a text", samples, base=_LISTS, scale=_MICRO, notes=_NOTES)
    return _thirds("overhead, async", samples, "aembed_texts")


def _thirds(what: str, samples: Samples, name: str) -> Sequence[Target]:
    """Return the target against the same provider, and against the one LlamaIndex is fastest with."""
    return [Target(f"{what}, x {peer}", ratio(samples, name, peer), 1 / 3, "x") for peer in (_ARRAYS, _LISTS)]


def _single() -> Sequence[Target]:
    ours, llama = Ours(), LlamaIndex()
    base = "LlamaIndex get_text_embedding"
    samples = interleave(
        [
            Variant("get_text_embedding", partial(ours.get_text_embedding, TEXTS[0])),
            Variant("embed_texts of one", partial(ours.embed_texts, TEXTS[:1])),
            Variant(base, partial(llama.get_text_embedding, TEXTS[0])),
        ]
    )
    notes = {"get_text_embedding": "unlike the others: makes a list of floats"}
    show("overhead of a single call", "CPU µs", samples, base=base, scale=_MICRO, notes=notes)
    return []


def _events() -> Sequence[Target]:
    """Measure the steps that tell events and spans, where nobody listens, against the same call without them."""
    request = Request("text", TEXTS[:BATCH], range(BATCH), ids=range(BATCH))
    io, vectors = Blocking(), np.ones((BATCH, 8), dtype=np.float32)

    async def provider(_: Request) -> Vectors:
        return vectors

    def before(step: Middleware, onward: Next) -> Next:
        return lambda request: step(request, onward, io)

    model = Ours()
    instrumented = Instrumented(model.model_name, model._origin, tuple)
    telling = before(Traced(model.model_name, tuple, tuple), before(instrumented, provider))
    silent, told = "a provider call", "the same with events and spans, nobody listening"
    samples = interleave(
        [Variant(silent, lambda: drive(provider(request))), Variant(told, lambda: drive(_awaiting(telling, request)))],
        clock=time.thread_time,
    )
    show("cost of events", "CPU µs a batch", samples, base=silent, scale=_MICRO)
    cost = median(more - less for more, less in zip(samples[told], samples[silent], strict=True))
    return [Target("events when nobody listens", cost * _MICRO, 2.0, "µs a batch")]


async def _awaiting(onward: Next, request: Request) -> Vectors:
    return await onward(request)
