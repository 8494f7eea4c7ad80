"""Times variants side by side, prints a table of them, and says which targets were missed."""

from __future__ import annotations

import gc
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module, metadata
from multiprocessing import get_context
from statistics import median
from typing import TypeAlias, TypeVar

from benchmarks._processor import describe, processor

T = TypeVar("T")

ROUNDS = 7
_SECONDS = 0.2

Samples: TypeAlias = Mapping[str, Sequence[float]]
"""What each variant took, round by round: entry `i` of every variant was measured right beside the others."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to do a job.

    Attributes:
        name: what it is called in the table.
        run: does the job once.
        items: by which the time of one run is divided.
    """

    name: str
    run: Callable[[], object]
    items: int = 1


@dataclass(frozen=True, slots=True)
class Target:
    """A figure that must not exceed its limit."""

    what: str
    measured: float
    limit: float
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the limit holds; a figure that is not a number never does."""
        return self.measured <= self.limit


def interleave(
    variants: Sequence[Variant],
    *,
    rounds: int = ROUNDS,
    seconds: float = _SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> Samples:
    """Return seconds per item of each variant in each round.

    In every round all variants run, each for about `seconds`, beginning with another one each time: whatever else
    the machine does hits all of them. The garbage collector is off while a variant runs, as in `timeit`.

    Args:
        variants: what is compared.
        rounds: how often each is measured.
        seconds: how long each is measured in a round; one run at least.
        clock: what counts seconds; `time.thread_time` for work of the calling thread alone, since other load on the
            machine does not count there.
    """
    return take_turns({one.name: _sampler(one, seconds, clock) for one in variants}, rounds=rounds)


def take_turns(samplers: Mapping[str, Callable[[], float]], *, rounds: int = ROUNDS) -> Samples:
    """Call each sampler once a round, beginning with another one each time; return what they gave."""
    samples: dict[str, list[float]] = {name: [] for name in samplers}
    names = list(samplers)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            samples[name].append(samplers[name]())
    return samples


def in_fresh_process(call: Callable[..., T], *args: object) -> T:
    """Return what a module's function returns in a new interpreter, which has imported and allocated nothing yet."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        return fresh.submit(call, *args).result()


class Apart:
    """A process of its own that makes something once, and calls functions with it."""

    def __init__(self, make: Callable[[], object]) -> None:
        self._make = make
        self._process = ProcessPoolExecutor(1, mp_context=get_context("spawn"))

    def call(self, function: Callable[..., T], *args: object) -> T:
        """Return what a module's function of the thing returns."""
        return self._process.submit(_call, self._make, function, *args).result()

    def close(self) -> None:
        self._process.shutdown()


_made: list[object] = []


def _call(make: Callable[[], object], function: Callable[..., T], *args: object) -> T:
    if not _made:
        _made.append(make())
    return function(_made[0], *args)


def _sampler(variant: Variant, seconds: float, clock: Callable[[], float]) -> Callable[[], float]:
    variant.run()  # the first run makes what later ones find
    repeats = max(1, round(seconds / max(timed(variant.run, 1, clock), 1e-7)))
    return lambda: timed(variant.run, repeats, clock) / repeats / variant.items


def timed(run: Callable[[], object], repeats: int = 1, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds of some runs, with the garbage collector off."""
    gc.collect()
    gc.disable()
    try:
        began = clock()
        for _ in range(repeats):
            run()
        return clock() - began
    finally:
        gc.enable()


def ratio(samples: Samples, name: str, base: str) -> float:
    """Return the median of how many times `base` a variant took, each round for itself."""
    return median(mine / theirs for mine, theirs in zip(samples[name], samples[base], strict=True))


def run_benchmark(module: str) -> Sequence[Target]:
    """Run a benchmark's `main`, which prints its tables; return its targets."""
    targets: Sequence[Target] = import_module(module).main()
    return targets


def show(
    title: str, unit: str, samples: Samples, *, base: str, scale: float = 1.0, notes: Mapping[str, str] | None = None
) -> None:
    """Print the variants as a Markdown table, fastest first, with ratios to `base`."""
    rows = [
        [name, _number(median(values) * scale), _spread(values, scale), f"{ratio(samples, name, base):.2f}"]
        for name, values in sorted(samples.items(), key=lambda item: median(item[1]))
    ]
    told = notes or {}
    print_table([title, unit, "spread", f"x {base}", "note"], [[*row, told.get(row[0], "")] for row in rows])


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table with columns wide enough to read it as plain text."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    print()
    for line in lines:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |", flush=True)


def machine(packages: Sequence[str]) -> str:
    """Return what the figures depend on: the processor, Python and the versions of what was measured."""
    versions = ", ".join(f"{name} {_version(name)}" for name in packages)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{cores} cores of {describe(processor())}, {platform.machine()}, {platform.system()}, "
        f"{platform.python_implementation()} {platform.python_version()}; {versions}"
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _spread(values: Sequence[float], scale: float) -> str:
    return f"{_number(min(values) * scale)} to {_number(max(values) * scale)}"


def _number(value: float) -> str:
    return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
