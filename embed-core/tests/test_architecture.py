"""The rules of the house, held by tests: sizes, surface, twins, words, configuration."""

import ast
import importlib
import inspect
import json
import re
import statistics
import subprocess
import sys
import tokenize
import tomllib
from collections import Counter
from importlib.metadata import distribution
from pathlib import Path

import pytest
from embed_core import BaseEmbedding, MultiModalEmbedding

ROOT = Path(__file__).parents[2]
PACKAGES = [ROOT / "embed-core", *sorted(path.parent for path in ROOT.glob("integrations/*/pyproject.toml"))]
SOURCES = sorted(path for package in PACKAGES for path in (package / "src").rglob("*.py"))
TESTS = sorted(path for package in PACKAGES for path in (package / "tests").rglob("*.py"))
OTHERS = [ROOT / "conftest.py", *sorted((ROOT / "docs").glob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]

MOST_LINES = 300  # of a module, everything counted
MEDIAN_LINES = 80  # of the lines that hold code
MOST_LINES_OF_THE_BASE_CLASS = 200
LONG_FUNCTION = 20
MOST_LONG_FUNCTIONS = 0.02  # of all functions
MOST_SUPPRESSIONS = 10
MOST_PRONOUNS = 3  # "what" and "whatever" in 1,000 words of docstrings and comments

PUBLIC = [
    "embed_core",
    *(
        f"embed_core.{name}"
        for name in ("errors", "index", "instrumentation", "kvstore", "provider", "settings", "testing")
    ),
]
INTEGRATIONS = [path.parent.name for package in PACKAGES[1:] for path in package.glob("src/*/__init__.py")]


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def docstrings(path):
    """Yield the syntax node of every docstring, of attributes too: a string that is a statement."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node


def lines_of_code(path):
    """Count the lines that are not blank, comment or docstring."""
    prose = {line for node in docstrings(path) for line in range(node.lineno, node.end_lineno + 1)}
    lines = enumerate(path.read_text("utf-8").splitlines(), 1)
    return sum(number not in prose and not re.match(r"\s*(#|$)", line) for number, line in lines)


def functions():
    """Yield (place, lines of the body without the docstring) of every function in the sources."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                yield f"{name_of(path)}:{node.name}", node.end_lineno - body[0].lineno + 1 if body else 0


def comments(path):
    """Yield (line number, comment) of a Python file; strings that look like comments are none."""
    with tokenize.open(path) as file:
        for token in tokenize.generate_tokens(file.readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string


def public_objects(module):
    """Yield (name, object) of what a module offers, with the public methods of its classes."""
    for name in module.__all__:
        value = getattr(module, name)
        yield name, value
        if isinstance(value, type):
            for member, definition in vars(value).items():
                function = getattr(definition, "__func__", getattr(definition, "fget", definition))
                said = member.startswith("test_")  # the name of a test is its sentence
                if not (member.startswith("_") or said) and inspect.isfunction(function):
                    yield f"{name}.{member}", function


class TestSizes:
    def test_no_module_is_long(self):
        sizes = {name_of(path): len(path.read_text("utf-8").splitlines()) for path in SOURCES}
        assert {name: size for name, size in sizes.items() if size > MOST_LINES} == {}

    def test_most_modules_are_short(self):
        assert statistics.median(map(lines_of_code, SOURCES)) < MEDIAN_LINES

    def test_a_function_is_rarely_long(self):
        found = list(functions())
        assert [place for place, lines in found if lines > 2 * LONG_FUNCTION] == []
        long = [place for place, lines in found if lines > LONG_FUNCTION]
        assert len(long) <= MOST_LONG_FUNCTIONS * len(found), long

    def test_the_base_class_stays_small(self):
        assert len(inspect.getsource(BaseEmbedding).splitlines()) < MOST_LINES_OF_THE_BASE_CLASS


class TestSurface:
    @pytest.mark.parametrize("module", [*PUBLIC, *INTEGRATIONS])
    def test_all_is_sorted_and_true(self, module):
        loaded = importlib.import_module(module)
        assert sorted(set(loaded.__all__), key=_as_ruff_sorts) == list(loaded.__all__)
        assert [name for name in loaded.__all__ if not hasattr(loaded, name)] == []

    @pytest.mark.parametrize("module", [*PUBLIC, *INTEGRATIONS])
    def test_everything_public_has_a_docstring(self, module):
        loaded = importlib.import_module(module)
        assert loaded.__doc__
        silent = [
            name
            for name, value in public_objects(loaded)
            if (isinstance(value, type) or inspect.isroutine(value)) and not inspect.getdoc(value)
        ]
        assert silent == []

    def test_every_docstring_begins_with_one_sentence(self):
        bad = []
        for path in SOURCES:
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    first = (ast.get_docstring(node) or "Fine.").split("\n\n")[0]
                    if not first.endswith((".", "?", ":")):
                        bad.append(f"{name_of(path)}: {first}")
        assert bad == []

    @pytest.mark.parametrize("cls", [BaseEmbedding, MultiModalEmbedding])
    def test_every_method_and_its_async_twin_have_one_signature(self, cls):
        methods = {name: value for name, value in inspect.getmembers(cls, callable) if not name.startswith("_")}
        twins = {name: f"a{name}" for name in methods if f"a{name}" in methods}
        assert len(twins) > len({"query", "text", "batch", "embed", "stream", "close"})
        for name, twin in {**twins, "__call__": "acall"}.items():
            sync, async_ = inspect.signature(getattr(cls, name)), inspect.signature(getattr(cls, twin))
            expected = [(one.name, one.kind, one.default) for one in sync.parameters.values()]
            assert [(one.name, one.kind, one.default) for one in async_.parameters.values()] == expected, name
        asynchronous = {
            name
            for name in methods
            if inspect.iscoroutinefunction(getattr(cls, name)) or inspect.isasyncgenfunction(getattr(cls, name))
        }
        assert asynchronous == {*twins.values(), "acall"}

    @pytest.mark.parametrize("cls", [BaseEmbedding, MultiModalEmbedding])
    def test_every_embedding_method_has_an_async_twin(self, cls):
        embeds = [name for name in dir(cls) if re.match(r"(get_.*embedding|embed_|stream_)", name)]
        embeds = [name for name in embeds if callable(getattr(cls, name))]
        assert [name for name in embeds if not hasattr(cls, f"a{name}")] == []


class TestImports:
    """A package is imported quickly; what it needs for a call is loaded with the call."""

    @pytest.mark.parametrize(
        ("package", "later"),
        [
            (
                "embed_core",
                [
                    *("tqdm", "click", "asyncio", "tenacity", "filelock", "platformdirs"),
                    *("torch", "openai", "PIL", "lancedb", "pyarrow", "pytest"),
                ],
            ),
            ("embeddings_openai", ["openai", "httpx", "httpx2", "tqdm", "torch"]),
            ("embeddings_huggingface", ["torch", "transformers", "sentence_transformers", "tokenizers", "tqdm"]),
        ],
    )
    def test_an_import_loads_no_package_that_only_calls_need(self, package, later):
        loaded = loaded_after(f"import {package}")
        assert package in loaded
        assert loaded.isdisjoint(later)

    def test_a_first_call_loads_no_extra_either(self):
        calls = "from embed_core import MockEmbedding; MockEmbedding().embed_texts(['a text'])"
        assert loaded_after(calls).isdisjoint(
            {"tqdm", "click", "asyncio", "tenacity", "filelock", "platformdirs", "PIL"}
        )

    def test_the_help_of_the_command_loads_no_command(self):
        help_ = "import sys; sys.argv[1:] = ['--help']\nfrom embed_core.cli import main\nmain(standalone_mode=False)"
        loaded = loaded_after(help_)
        assert not [name for name in loaded if re.match(r"embed_core\.cli\.[a-z]", name)]
        assert loaded.isdisjoint({"lancedb", "torch"})


class TestConfiguration:
    def test_there_is_one_tool_configuration(self):
        names = {
            "ruff.toml",
            ".ruff.toml",
            "mypy.ini",
            ".mypy.ini",
            "pytest.ini",
            "tox.ini",
            "setup.cfg",
            ".coveragerc",
        }
        folders = [path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
        files = [*ROOT.iterdir(), *(path for folder in folders for path in folder.rglob("*"))]
        strays = [name_of(path) for path in files if path.name in names]
        assert strays == []
        for package in PACKAGES:
            tools = tomllib.loads((package / "pyproject.toml").read_text("utf-8")).get("tool", {})
            assert set(tools) <= {"hatch"}, package

    def test_the_import_contract_for_tools_names_every_private_module(self):
        contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
        (named,) = (one["forbidden_modules"] for one in contracts if one["name"].startswith("Tools and integrations"))
        modules = (ROOT / "embed-core" / "src" / "embed_core").glob("_[a-z]*")
        assert named == sorted({f"embed_core.{path.stem}" for path in modules})

    @pytest.mark.parametrize("name", ["embed_core", *INTEGRATIONS])
    def test_an_installed_wheel_is_loaded_and_not_the_sources(self, name):
        installed = distribution(name)
        origin = json.loads(installed.read_text("direct_url.json") or "{}")
        if origin.get("dir_info", {}).get("editable"):
            pytest.skip("it is installed in place")
        assert Path(importlib.import_module(name).__file__) == Path(installed.locate_file(name), "__init__.py")

    @pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
    def test_every_version_has_a_changelog_heading(self, package):
        version = tomllib.loads((package / "pyproject.toml").read_text("utf-8"))["project"]["version"]
        headings = re.findall(r"^## (\S+)", (package / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
        assert version in headings
        assert len(headings) == len(set(headings))

    @pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
    def test_every_package_is_complete(self, package):
        (module,) = (path for path in (package / "src").iterdir() if path.is_dir() and path.name != "__pycache__")
        assert module.name == package.name.replace("-", "_")
        assert (module / "py.typed").exists()
        assert "MIT License" in (package / "LICENSE").read_text("utf-8")
        assert len((package / "README.md").read_text("utf-8").splitlines()) > len(("title", "", "purpose"))


class TestVoice:
    def test_docstrings_and_comments_name_the_thing(self):
        pronouns, words = Counter(), 0
        for path in SOURCES:
            prose = [*(node.value.value for node in docstrings(path)), *(comment for _, comment in comments(path))]
            pronouns[name_of(path)] = len(re.findall(r"\bwhat(?:ever)?\b", " ".join(prose), re.IGNORECASE))
            words += sum(len(text.split()) for text in prose)
        found = 1000 * pronouns.total() / words
        assert found <= MOST_PRONOUNS, f"{found:.1f} in 1,000 words; most in {pronouns.most_common(3)}"


class TestHonesty:
    def test_suppressions_are_few_and_say_why(self):
        found = [
            (f"{name_of(path)}:{line}", comment)
            for path in [*SOURCES, *TESTS, *OTHERS]
            for line, comment in comments(path)
            if re.search(r"#\s*(noqa|type:\s*ignore|pragma:\s*no cover|pyright:|mypy:|ruff:)", comment)
        ]
        form = re.compile(r"# (noqa: [A-Z]+\d+(, [A-Z]+\d+)*|type: ignore\[[\w-]+\]|pragma: no cover)  # \S.*")
        assert [one for one in found if not form.match(one[1])] == []
        assert len(found) < MOST_SUPPRESSIONS, found

    def test_every_broad_except_raises_or_says_why_not(self):
        silent = []
        for path in SOURCES:
            why = dict(comments(path))
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.ExceptHandler) and _is_broad(node):
                    raises = any(isinstance(one, ast.Raise) for one in ast.walk(node))
                    if not raises and len(why.get(node.lineno, "")) < len("# a reason"):
                        silent.append(f"{name_of(path)}:{node.lineno}")
        assert silent == []

    def test_tests_patch_nothing_of_ours(self):
        ours = r"(embed_core|embeddings_\w+)"
        strings = re.compile(rf"(setattr|delattr|patch|patch\.object)\(\s*[\"']{ours}")
        bad = []
        for path in TESTS:
            text = path.read_text("utf-8")
            names = set(re.findall(rf"^\s*import {ours}[\w.]* as (\w+)", text, re.MULTILINE)) | {
                (package, name.split(" as ")[-1].strip())
                for package, names in re.findall(rf"^\s*from {ours}[\w.]* import \(?([^)\n]*)", text, re.MULTILINE)
                for name in names.split(",")
            }
            objects = "|".join(re.escape(name) for _, name in names if name) or "nothing"
            patched = re.compile(rf"(patch\.object|(?:monkey)?patch\.(?:set|del)attr)\(\s*({objects}|{ours})\b")
            bad += [f"{name_of(path)}: {found[0]}" for found in (strings.search(text), patched.search(text)) if found]
        assert bad == []

    def test_tests_read_no_clock_and_do_not_sleep(self):
        clocks = re.compile(
            r"(import|from) (.*, )?time\b|\btimeit\b|\bloop\.time\(|\bdatetime\.(utc)?now\(|\basyncio\.sleep\((?!0\))"
        )
        tests = [*TESTS, ROOT / "conftest.py", *sorted((ROOT / "benchmarks").glob("test_*.py"))]
        found = [(name_of(path), match[0]) for path in tests for match in clocks.finditer(path.read_text("utf-8"))]
        assert found == []  # count work, wait for an event, or inject a clock

    def test_nothing_names_the_machine_it_was_made_on(self):
        texts = [path for folder in ("docs", "embed-core", "integrations", "benchmarks") for path in text_files(folder)]
        texts += [ROOT / "README.md", ROOT / "Makefile", ROOT / "conftest.py", ROOT / "pyproject.toml"]
        assert [name_of(path) for path in texts if re.search(r"/(work|home|root)/\w", path.read_text("utf-8"))] == []


def text_files(folder):
    """Yield the files of a folder that people read."""
    for path in (ROOT / folder).rglob("*"):
        if path.suffix in {".py", ".md", ".toml", ".svg", ".css"} and "_build" not in path.parts:
            yield path


def loaded_after(code):
    """Return the modules that a fresh interpreter has loaded after running some code."""
    ask = f"{code}\nimport json, sys\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", ask], check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def _as_ruff_sorts(name):
    """Return the key of ruff's RUF022: constants, then classes, then the rest."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)


def _is_broad(handler):
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(one is None or (isinstance(one, ast.Name) and one.id.endswith("Exception")) for one in types)
