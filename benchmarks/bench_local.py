"""Local inference on a processor: 1,000 texts in every library, one query, and 64 queries at once.

`EMBED_BENCH_TEXTS` takes another number of texts, for a slow machine.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import median

from benchmarks._agreement import agreement
from benchmarks._harness import Apart, Samples, Target, ratio, show, take_turns
from benchmarks._local import (
    BASE,
    CONTESTANTS,
    LIMIT,
    OPENVINO,
    TORCH,
    lengths,
    operations_a_token,
    seconds,
    vectors,
)
from benchmarks._processor import gemm_peak, kind, multiplies_bfloat16, processor
from benchmarks._texts import lengths_told, real_texts

_COUNT = int(os.environ.get("EMBED_BENCH_TEXTS", "1000"))
_ROUNDS = 5
_QUERY = "how do I open a file for writing?"
_QUERIES = 64
_WAYS = ("one call", "threads", "tasks")
_CONCURRENT = 1.6  # x one call

_KINDS = ("AMD Zen 5", "Intel AMX")
_BFLOAT16 = ", bfloat16"
_SPEEDS = (  # how many times as fast as another one, by the kind of processor
    (OPENVINO, BASE, 2.8, 1.6),
    (OPENVINO + _BFLOAT16, BASE, 4.8, 4.0),
    (TORCH, BASE, 1.3, 1.5),
    (TORCH + _BFLOAT16, BASE, 2.8, 3.0),
    (OPENVINO, "LlamaIndex", 5.0, 2.8),
    (OPENVINO, "fastembed", 5.0, 2.8),
)
_SPEEDS_OF_ONE = ((OPENVINO, BASE, 3.5, 2.4),)


def main() -> Sequence[Target]:
    """Measure the defaults of each library; nothing is tuned."""
    texts = real_texts(_COUNT)
    tokens = lengths(texts)
    print(f"\n{lengths_told(tokens, LIMIT)}", flush=True)
    running: dict[str, Apart] = {}
    try:
        notes = _start(running, texts)
        return [*_many(running, notes, texts, sum(tokens)), *_one(running), *_at_once(running, texts)]
    finally:
        for process in running.values():
            process.close()


def _start(running: dict[str, Apart], texts: Sequence[str]) -> Mapping[str, str]:
    """Start a process for each library whose vectors are those of sentence-transformers; return how near they are."""
    able, notes, expected = multiplies_bfloat16(processor()), {}, None
    for one in CONTESTANTS:
        if one.dtype == "bfloat16" and not able:
            print(f"left out: {one.name}, since the processor does not multiply bfloat16", flush=True)
            continue
        process = running[one.name] = Apart(one.load)
        try:
            found = process.call(vectors, texts)
            expected = found if expected is None else expected
            agrees, notes[one.name] = agreement(found, expected, one.dtype)
        except Exception as error:  # the other libraries are still worth measuring
            agrees, notes[one.name] = False, f"{type(error).__name__}: {error}"
        if not agrees:
            print(f"left out: {one.name}: {notes[one.name]}", flush=True)
            running.pop(one.name).close()
    return notes


def _many(running: Mapping[str, Apart], notes: Mapping[str, str], texts: Sequence[str], tokens: int) -> list[Target]:
    types = {one.name: one.dtype for one in CONTESTANTS if one.name in running}
    samplers = {name: partial(process.call, seconds, "one call", texts) for name, process in running.items()}
    bare = Apart(dict)  # multiplies matrices as fast as it goes in a process without models
    peaks = {dtype: partial(bare.call, gemm_peak, dtype) for dtype in set(types.values())}
    samples = take_turns({**samplers, **peaks}, rounds=_ROUNDS)
    bare.close()
    peak = {dtype: max(samples[dtype]) for dtype in peaks}
    for dtype, rate in peak.items():
        print(f"\n{rate / 1e9:,.0f} GFLOP/s in {dtype} is the most that torch and numpy reach", flush=True)
    work = tokens * operations_a_token()
    shares = {name: work / median(samples[name]) / peak[dtype] for name, dtype in types.items()}
    told = {name: f"{share:.0%} of the peak; {notes[name]}" for name, share in shares.items()}
    mine = {name: samples[name] for name in types}
    show(f"{len(texts):,} texts", "ms a text", mine, base=BASE, scale=1e3 / len(texts), notes=told)
    return _targets(samples, _SPEEDS, "texts")


def _one(running: Mapping[str, Apart]) -> list[Target]:
    samplers = {name: partial(process.call, seconds, "in turn", [_QUERY]) for name, process in running.items()}
    samples = take_turns(samplers, rounds=_ROUNDS)
    show("one short query", "ms", samples, base=BASE, scale=1e3)
    return _targets(samples, _SPEEDS_OF_ONE, "one query")


def _at_once(running: Mapping[str, Apart], texts: Sequence[str]) -> list[Target]:
    queries, targets = texts[:: max(1, len(texts) // _QUERIES)][:_QUERIES], []
    for name in [name for name in (OPENVINO, TORCH) if name in running]:
        samplers = {way: partial(running[name].call, seconds, way, queries) for way in _WAYS}
        samples = take_turns(samplers, rounds=_ROUNDS)
        show(f"{name}: {len(queries)} queries", "ms", samples, base=_WAYS[0], scale=1e3)
        for way in _WAYS[1:]:
            what = f"{name}: {len(queries)} queries in {way}, x {_WAYS[0]}"
            targets.append(Target(what, ratio(samples, way, _WAYS[0]), _CONCURRENT, "x"))
    return targets


def _targets(samples: Samples, promised: Sequence[tuple[str, str, float, float]], what: str) -> list[Target]:
    """Return what is promised for this kind of processor; a library that was left out misses its target."""
    if not (mine := kind(processor())):
        return []
    return [
        Target(
            f"{what}: {name}, x {base}",
            ratio(samples, name, base) if name in samples and base in samples else math.nan,
            1 / limits[_KINDS.index(mine)],
            "x",
        )
        for name, base, *limits in promised
    ]
