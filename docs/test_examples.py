"""Every code block of the documentation runs, or is read as data, or gives the reason for its skip."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from sybil.evaluators.doctest import DocTestEvaluator
from sybil.evaluators.python import PythonEvaluator
from sybil.evaluators.skip import Skipper
from sybil.example import SybilFailure

ROOT = Path(__file__).parents[1]

SHOWN = {"text", "markdown", "html"}
"""Languages of blocks that are not run; all other blocks are examples."""

DIRECTIVE = re.compile(r"\{(?!code|sourcecode|doctest)[\w-]+\}")
PROMPT = re.compile(r"^[ \t>]*>>> ", re.MULTILINE)

CHECKER = f"""
[mypy]
mypy_path = {":".join(map(str, sorted(ROOT.glob("*/src")) + sorted(ROOT.glob("integrations/*/src"))))}
explicit_package_bases = true
follow_imports = silent
ignore_missing_imports = true
check_untyped_defs = true
allow_redefinition = true
# A page may define a name again, and its examples are no annotated code.
disable_error_code = no-redef, var-annotated
[mypy-torch.*,transformers.*,sentence_transformers.*,lancedb.*,pyarrow.*,langchain_core.*,openai.*]
follow_imports = skip
"""


def run_lines(document):
    """Return the lines of all examples and of all blocks that are read as data."""
    lines = set()
    for _, region in document.regions:
        if region.evaluator is not None:
            first = document.text.count("\n", 0, region.start)
            lines.update(range(first, first + document.text.count("\n", region.start, region.end) + 1))
    return lines


def blocks(document):
    """Yield (first line of the content, language) of each code block, found by a Markdown parser."""
    if document.path.endswith(".md"):
        texts = [(0, document.text)]
    else:
        nodes = [
            node
            for node in ast.walk(ast.parse(document.text))
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        texts = [
            (node.body[0].lineno - 1, inspect.cleandoc(ast.get_docstring(node, clean=False)))
            for node in nodes
            if ast.get_docstring(node)
        ]
    for offset, text in texts:
        for token in MarkdownIt().parse(text):
            if token.type == "fence" or (token.type == "code_block" and document.path.endswith(".md")):
                yield offset + token.map[0] + 1, token.info.strip() if token.type == "fence" else "(indented)"


def test_the_examples_are_found(documents):
    names = {document.path.rpartition("/")[2] for document in documents}
    assert {"README.md", "index.md", "_scripted.py"} <= names
    assert any(document.regions for document in documents)


def test_every_block_is_run_or_is_no_code(documents):
    escaped = [
        f"{document.path}:{line} {language or '(no language)'}"
        for document in documents
        for line, language in blocks(document)
        if language not in SHOWN and not DIRECTIVE.match(language) and line not in run_lines(document)
    ]
    assert not escaped


def test_every_prompt_is_run(documents):
    escaped = []
    for document in documents:
        run = run_lines(document)
        for match in PROMPT.finditer(document.text):
            line = document.text.count("\n", 0, match.start())
            if line not in run:
                escaped.append(f"{document.path}:{line + 1}")
    assert not escaped


def python_of(document):
    """Return the Python of all examples of a page, each on its line of the page; `page` is there for hidden ones."""
    lines = ["from typing import Any; page: Any"]
    for _, region in document.regions:
        source = getattr(region.parsed, "source", region.parsed)  # of a doctest
        if isinstance(region.evaluator, PythonEvaluator | DocTestEvaluator):
            first = document.text.index(source.partition("\n")[0], region.start)
            lines += [""] * (document.text.count("\n", 0, first) - len(lines)) + source.splitlines()
    return "\n".join(lines)


def test_a_type_checker_finds_no_error_in_the_pages(documents, tmp_path):
    (tmp_path / "mypy.ini").write_text(CHECKER, "utf-8")
    for document in documents:
        if document.path.endswith(".md"):
            name = re.sub(r"\W", "_", Path(document.path).relative_to(ROOT).with_suffix("").as_posix())
            (tmp_path / f"{name}.py").write_text(python_of(document), "utf-8")
    cache = ROOT / ".pytest_cache" / "mypy"
    command = [sys.executable, "-m", "mypy", "--config-file=mypy.ini", f"--cache-dir={cache}", "."]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_skip_says_why(documents):
    silent = [
        f"{document.path}: {action}"
        for document in documents
        for _, region in document.regions
        if isinstance(region.evaluator, Skipper)
        for action, reason in [region.parsed]
        if action != "end" and len((reason or "").strip("\"'")) < len("a reason")
    ]
    assert not silent


def test_every_test_that_a_page_names_is_there(documents):
    tests = {
        node.name
        for folder in ("docs", "embed-core/tests", "integrations")
        for path in (ROOT / folder).rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    named = {
        name
        for document in documents
        if document.path.endswith(".md")
        for name in re.findall(
            r"(?<!def )\btest_\w+\b(?![.(])", re.sub(r"```.*?```", "", document.text, flags=re.DOTALL)
        )
    }
    assert named - tests == set()


def test_every_public_name_is_in_the_reference():
    import embed_core

    pages = "".join(path.read_text("utf-8") for path in (ROOT / "docs" / "reference").glob("*.md"))
    modules = set(re.findall(r"automodule:: ([\w.]+)", pages))
    named = set(re.findall(r":: ([A-Za-z]\w*)$", pages, re.MULTILINE))
    named |= {name for module in modules for name in vars(importlib.import_module(module))}
    assert set(embed_core.__all__) <= named
    core = {"errors", "index", "instrumentation", "instrumentation.otel", "kvstore", "pipeline", "schema", "testing"}
    assert {f"embed_core.{name}" for name in core} <= modules
    assert {path.parent.name for path in ROOT.glob("integrations/*/src/*/__init__.py")} <= modules


def test_the_figure_shows_the_middleware_in_their_order():
    from embed_core import MockEmbedding, RateLimiter
    from embed_core.kvstore import MemoryKVStore

    names = []

    async def innermost(request, next_, _io):
        callers = [type(info.frame.f_locals.get("self")) for info in reversed(inspect.stack(0))]
        names.extend(cls.__name__ for cls in callers if cls.__module__.startswith("embed_core.middleware."))
        return await next_(request)

    store, limiter = MemoryKVStore(), RateLimiter(requests_per_minute=1)
    MockEmbedding(embeddings_cache=store, rate_limiter=limiter, middlewares=(innermost,)).embed_texts(["a text"])
    names = list(dict.fromkeys(names))
    assert len(names) > len(("Recalled", "Batched", "Remembered"))
    figure = (ROOT / "docs" / "_static" / "way.svg").read_text("utf-8")
    assert [name for name in re.findall(r'class="name"[^>]*>(\w+)<', figure) if name in names] == names


@pytest.mark.parametrize(
    ("example", "complaint"),
    [
        ("```python\nassert 1 == 2, 'no'\n```", "no"),
        ("```python\n>>> 1 + 1\n3\n```", "Expected"),
        ("```console\n$ echo yes\nno\n```", "(expected)\nno"),
        ("```console\n$ false\n```", "exit status 1"),
        ("```console\n$ echo Error: no\nError: no\n```", "exit status 0"),
        ("```console\n$ embed serach\nError: there is something else\n```", "No such command"),
        ("```console\n$ echo one\none\n$ echo two \\\n  three\ntwo four\n```", "two three"),
        ("```json\n{\n```", "Expecting property"),
        ("<!-- needs: unicorn -->", "unicorn"),
    ],
)
def test_a_wrong_example_fails(run_page, example, complaint):
    with pytest.raises((AssertionError, SybilFailure, ValueError), match=re.escape(complaint)):
        run_page(example + "\n")


def test_a_right_example_passes(run_page):
    examples = run_page(
        "<!-- needs: openai -->\n"
        "```console\n$ echo one ... three\none ... three\n$ echo Error: no; false\nError: no\n```\n"
        "```console\n$ seq 3\n1\n...\n3\n$ embed --version\nembed, version ...\n```\n"
        "```python\nimport os\nx = os.environ['OPENAI_BASE_URL']\n```\n"
        "```python\n>>> x[:16]\n'http://127.0.0.1'\n>>> 2 / 3\n0.667\n```\n"
    )
    assert len(examples) == 6
