"""What `import` takes, in time and memory, each in a fresh interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

from benchmarks._harness import Samples, Target, print_table, ratio, take_turns

_LLAMA = "llama_index.core.embeddings"
_CORE = "embed_core._public"  # all names of `embed_core`, which itself loads none before the first is used
_FOUNDATIONS = "numpy, pydantic"
_MODULES = (
    *("embed_core", _CORE, _LLAMA, "langchain_core.embeddings", _FOUNDATIONS, "numpy, pydantic.main"),
    *("embeddings_openai", "openai"),
)
_ROUNDS = 9

_CODE = """
import sys, time
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20
before, began, used = resident(), time.perf_counter(), time.thread_time()
import {modules}
print(time.thread_time() - used, time.perf_counter() - began, resident() - before)
"""


def main() -> Sequence[Target]:
    """Measure `embed_core` against the embedding layers of LlamaIndex and LangChain."""
    others: dict[str, list[tuple[float, float]]] = {module: [] for module in _MODULES}
    samplers: dict[str, Callable[[], float]] = {module: partial(_import, module, others[module]) for module in _MODULES}
    for sample in samplers.values():  # writes the compiled files, as an installation does
        sample()
    samples = take_turns(samplers, rounds=_ROUNDS)
    memory = {module: median(mib for _, mib in told) for module, told in others.items()}
    wall = {module: median(seconds for seconds, _ in told) for module, told in others.items()}
    print_table(
        ["import", "CPU ms", f"x {_LLAMA}", "elapsed ms", "MiB"],
        [_row(module, samples, wall[module], memory[module]) for module in sorted(_MODULES, key=wall.__getitem__)],
    )
    return [
        # CPU time, because other load on the machine stretches the elapsed time of some rounds and not of others.
        Target("import, CPU time, x LlamaIndex", ratio(samples, _CORE, _LLAMA), 1 / 4, "x"),
        Target(
            "import before a name is used, x numpy and pydantic", ratio(samples, "embed_core", _FOUNDATIONS), 1.2, "x"
        ),
        Target("import, memory, x LlamaIndex", memory[_CORE] / memory[_LLAMA], 1.0, "x"),
    ]


def _row(module: str, samples: Samples, wall: float, mib: float) -> list[str]:
    return [
        module,
        f"{median(samples[module]) * 1e3:.0f}",
        f"{ratio(samples, module, _LLAMA):.2f}",
        f"{wall * 1e3:.0f}",
        f"{mib:.0f}",
    ]


def _import(modules: str, others: list[tuple[float, float]]) -> float:
    code = [sys.executable, "-c", _CODE.format(modules=modules)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    told = subprocess.run(code, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    used, elapsed, mib = map(float, told.stdout.split())
    others.append((elapsed, mib))
    return used
