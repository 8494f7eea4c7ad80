"""The frame of the command line: quick to load, one line for an error, the right exit code."""

import importlib
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from embed_core._plugins import EMBEDDINGS
from embed_core.cli import COMMANDS, main

SOURCE = """
import click
from embed_core import MockEmbedding
from embed_core.errors import BatchError

ERRORS = {
    "bug": RuntimeError("first line\\n  second line \\x1b[31mred"),
    "silent": RuntimeError(),
    "ours": BatchError("several\\nreasons"),
    "file": FileNotFoundError(2, "No such file or directory", "/somewhere/else"),
    "stop": KeyboardInterrupt(),
    "stop-with-words": KeyboardInterrupt("stopped; run it again to go on"),
    "pipe": BrokenPipeError(32, "Broken pipe"),
    "usage": click.UsageError("wrong words"),
    "exit": click.exceptions.Exit(7),
}

class Failing(MockEmbedding):
    @classmethod
    def from_spec(cls, model, /, **options):
        raise ERRORS[model]
"""

EMBED = Path(sys.executable).with_name("embed")


def run(*args: str, **options) -> Result:
    return CliRunner().invoke(main, args, **options)


@pytest.fixture
def failing(install, home):
    return install("failing", {EMBEDDINGS: {"failing": "failing_models:Failing"}}, {"failing_models": SOURCE})


def test_every_command_is_a_file_with_the_help_that_the_table_shows():
    for name, help_ in COMMANDS.items():
        command = importlib.import_module(f"embed_core.cli.{name}").command
        assert isinstance(command, click.Command)
        assert command.name == name
        assert command.help.partition("\n")[0] == help_


def test_every_file_is_a_command_or_known_as_shared():
    folder = Path(importlib.import_module("embed_core.cli").__file__).parent
    assert {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")} == set(COMMANDS)


def test_help_lists_the_commands_without_importing_one():
    code = (
        "import sys\nfrom embed_core.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted(name for name in sys.modules if name.startswith('embed_core.cli.')))\n"
        "print([name for name in ('lancedb', 'openai', 'torch', 'tqdm', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *help_, commands, heavy = done.stdout.splitlines()
    assert all(any(name in line for line in help_) for name in COMMANDS)
    assert (commands, heavy) == ("['embed_core.cli._common']", "[]")


def test_no_command_shows_the_help_and_a_wrong_one_is_a_usage_error():
    assert "Commands:" in run().output
    result = run("txet")
    assert result.exit_code == 2
    assert "No such command 'txet'" in result.stderr


def test_the_version_is_the_packages():
    assert run("--version").output.startswith("embed, version 0.")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_and_takes_debug(name):
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "--debug" in result.output


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("bug", "Error: RuntimeError: first line second line \ufffd[31mred (`--debug` shows where)"),
        ("silent", "Error: RuntimeError (`--debug` shows where)"),
        ("ours", "Error: several reasons"),
        ("file", "Error: No such file or directory: `/somewhere/else`"),
    ],
)
def test_an_error_is_one_line_on_standard_error_and_exit_code_1(failing, error, line):
    result = run("text", "a", "-m", f"failing:{error}")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"{line}\n")


@pytest.mark.parametrize("args", [["--debug", "text", "a"], ["text", "--debug", "a"], ["text", "a", "--debug"]])
def test_debug_anywhere_shows_the_traceback(failing, args):
    result = run(*args, "-m", "failing:bug")
    assert isinstance(result.exception, RuntimeError)


@pytest.mark.parametrize(("value", "shown"), [("1", True), ("0", False), ("", False)])
def test_embed_raise_errors_shows_the_traceback(failing, monkeypatch, value, shown):
    monkeypatch.setenv("EMBED_RAISE_ERRORS", value)
    result = run("text", "a", "-m", "failing:bug")
    assert isinstance(result.exception, RuntimeError) is shown


@pytest.mark.parametrize(
    ("error", "code", "stderr"),
    [
        ("stop", 130, "\nInterrupted\n"),
        ("stop-with-words", 130, "\nstopped; run it again to go on\n"),
        ("pipe", 1, ""),
        ("exit", 7, ""),
    ],
)
def test_an_end_that_is_no_error_has_its_own_code(failing, error, code, stderr):
    result = run("text", "a", "-m", f"failing:{error}")
    assert (result.exit_code, result.stderr) == (code, stderr)


def test_wrong_usage_is_exit_code_2(failing):
    assert run("text", "a", "-m", "failing:usage").exit_code == 2
    assert run("text", "--no-such-option").exit_code == 2


def embed(*args: str, stdout: Any = subprocess.PIPE, **environ: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [EMBED, *args], stdout=stdout, stderr=subprocess.PIPE, text=True, env=os.environ | environ, check=False
    )


def test_the_program_runs_and_fails_in_one_line(home):
    done = embed("text", "a", "-m", "nowhere:x")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Error: no installed package declares a provider `nowhere`")
    assert done.stderr.count("\n") == 1
    shown = embed("--debug", "text", "a", "-m", "nowhere:x")
    assert shown.returncode == 1
    assert "Traceback" in shown.stderr


@pytest.fixture
def stream(home, start):
    """`embed text` at work on lines that come from a pipe; its first vector has come."""
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "text": False}
    process = start(EMBED, "text", "-i", "-", "--lines", "-m", "mock", **pipes)
    process.stdin.write(b"".join(b"line %d\n" % number for number in range(5000)))
    process.stdin.flush()
    assert len(json.loads(process.stdout.readline())) == 8
    return process


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT to one process is POSIX")
def test_ctrl_c_ends_the_program_with_130_and_one_line(stream):
    stream.send_signal(signal.SIGINT)
    _, stderr = stream.communicate()
    assert (stream.returncode, stderr) == (130, b"\nInterrupted\n")


def test_a_reader_that_goes_away_is_no_error(stream):
    stream.stdout.close()
    for end in (lambda: stream.stdin.write(b"one more\n" * 100_000), stream.stdin.close):
        with suppress(BrokenPipeError):
            end()
    assert stream.stderr.read() == b""
    assert stream.wait() == 1


def test_a_full_device_is_told(home):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no device that is always full")
    with full.open("w") as stdout:
        done = embed("text", "a", "-m", "mock", stdout=stdout)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr.splitlines()[0]
    assert "Traceback" not in done.stderr


def test_a_broken_plugin_breaks_no_command_but_its_own(install, home):
    site = str(install("broken", {EMBEDDINGS: {"broken": "broken_models:Broken"}}, {"broken_models": "import nowhere"}))
    assert embed("text", "a", "-m", "mock", PYTHONPATH=site).returncode == 0
    listed = embed("plugins", PYTHONPATH=site)
    assert listed.returncode == 0
    assert "broken_models:Broken" in listed.stdout
    models = embed("models", PYTHONPATH=site)
    assert models.returncode == 0
    assert "mock" in models.stdout
    assert "`broken` of `broken` 1.0 does not import (ModuleNotFoundError" in models.stderr
    failed = embed("text", "a", "-m", "broken", PYTHONPATH=site)
    assert failed.returncode == 1
    assert "pip install --upgrade broken" in failed.stderr


@pytest.mark.parametrize("command", [[], ["text"], ["models", "default"]])
def test_h_is_help(command):
    short, long = (CliRunner().invoke(main, [*command, option]) for option in ("-h", "--help"))
    assert (short.exit_code, short.stdout) == (0, long.stdout)
