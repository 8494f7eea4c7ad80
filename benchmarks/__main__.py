"""Runs the benchmarks: `python -m benchmarks [NAME…]`; ends with 1 where a target is missed or a benchmark fails."""

from __future__ import annotations

import math
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from benchmarks._harness import Target, in_fresh_process, machine, print_table, run_benchmark

_PACKAGES = (
    "embed-core",
    "numpy",
    "pydantic",
    "llama-index-core",
    "langchain-core",
    "sentence-transformers",
    "transformers",
    "torch",
    "openvino",
    "fastembed",
    "openai",
)


def main(chosen: Sequence[str]) -> int:
    """Run the chosen benchmarks, or all; return how many targets were missed."""
    known = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
    if unknown := set(chosen) - set(known):
        sys.exit(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    print(machine(_PACKAGES), flush=True)
    targets: list[Target] = []
    for name in chosen or known:
        try:
            targets += in_fresh_process(run_benchmark, f"benchmarks.bench_{name}")
        except Exception:  # the other figures are still worth having
            traceback.print_exc()
            targets.append(Target(f"{name}: it runs to its end", math.nan, 0))
    rows = [
        [one.what, f"{one.measured:.3g} {one.unit}", f"{one.limit:.3g} {one.unit}", "met" if one.met else "MISSED"]
        for one in targets
    ]
    if rows:
        print_table(["target", "measured", "at most", ""], rows)
    return sum(not one.met for one in targets)


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
