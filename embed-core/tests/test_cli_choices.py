"""`embed alias`, `models`, `plugins` and `cache`: what the user chooses and keeps."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from embed_core import resolve_embed_model
from embed_core._plugins import EMBEDDINGS
from embed_core.cli import main
from embed_core.kvstore import SQLiteKVStore
from embed_core.settings import Settings, load_settings, settings_path

EMBED = Path(sys.executable).with_name("embed")

SOURCE = """
from embed_core import MockEmbedding

class Acme(MockEmbedding):
    @classmethod
    def known_models(cls):
        return ["large", "small"]
"""


def run(*args: str, **options) -> Result:
    return CliRunner().invoke(main, args, **options)


def told(result: Result) -> str:
    """Return the one line of an error."""
    assert result.exit_code in {1, 2}
    return result.stderr.splitlines()[-1]


@pytest.fixture(autouse=True)
def _own_home(home):
    """Every test has settings and a cache of its own."""


# Aliases


def test_an_alias_that_is_set_can_be_used_listed_and_removed():
    assert run("alias", "set", "tiny", "mock?embed_dim=2").exit_code == 0
    assert resolve_embed_model("tiny").embed_dim == 2
    assert len(json.loads(run("text", "a", "-m", "tiny").stdout)) == 2
    assert run("alias", "list").stdout.splitlines() == ["alias  model", "tiny   mock?embed_dim=2"]
    assert run("alias", "remove", "tiny").exit_code == 0
    assert run("alias", "list").stdout == ""
    assert "there is no alias `tiny`; there are: none" in told(run("alias", "remove", "tiny"))


def test_aliases_are_listed_for_programs_too():
    run("alias", "set", "Ünïcode name", "mock")
    assert json.loads(run("alias", "list", "-f", "json").stdout) == [{"alias": "Ünïcode name", "model": "mock"}]


def test_an_alias_may_be_set_again():
    run("alias", "set", "it", "mock?embed_dim=2")
    run("alias", "set", "it", "mock?embed_dim=3")
    assert resolve_embed_model("it").embed_dim == 3


@pytest.mark.parametrize("name", ["", " x", "a:b", "a?b", "a/b", "./a", "~a", "C:\\a", "default", "mock", "a\nb"])
def test_a_name_that_means_something_else_is_no_alias(name):
    assert run("alias", "set", name, "mock").exit_code == 2
    assert load_settings() == Settings()


def test_an_alias_for_what_is_not_there_is_refused():
    assert "declares a provider `nowhere`" in told(run("alias", "set", "it", "nowhere:x"))
    assert "names no provider" in told(run("alias", "set", "it", " "))
    assert load_settings() == Settings()


def test_an_alias_cannot_lead_back_to_itself():
    run("alias", "set", "a", "mock")
    run("alias", "set", "b", "a")
    assert "`a` → `b` → `a` run in a circle" in told(run("alias", "set", "a", "b"))
    assert "run in a circle" in told(run("alias", "set", "a", "a?embed_dim=2"))
    assert resolve_embed_model("b").model_name == "mock"


@pytest.mark.parametrize("option", ["api_key", "API_KEY", "azure_ad_token", "password"])
def test_a_secret_is_not_written_into_the_settings(option):
    for command in (["alias", "set", "it"], ["models", "default"]):
        line = told(run(*command, f"mock?embed_dim=2&{option}=sk-secret"))
        assert f"option `{option}` looks like a secret" in line
        assert "sk-secret" not in line
    assert not settings_path().exists()


def test_settings_that_cannot_be_written_are_told(tmp_path, monkeypatch):
    blocked = tmp_path / "a file"
    blocked.touch()
    monkeypatch.setenv("EMBED_HOME", str(blocked))
    assert "a file" in told(run("alias", "set", "it", "mock"))


# Models


def test_models_lists_aliases_and_what_each_provider_knows(install):
    install("acme", {EMBEDDINGS: {"acme": "acme_models:Acme"}}, {"acme_models": SOURCE})
    run("alias", "set", "tiny", "acme:small")
    run("models", "default", "tiny")
    rows = json.loads(run("models", "-f", "json").stdout)
    assert {"model": "default", "stands for": "tiny", "package": ""} in rows
    assert {"model": "tiny", "stands for": "acme:small", "package": ""} in rows
    assert {"model": "acme:large", "stands for": "", "package": "acme"} in rows
    assert {"model": "mock", "stands for": "", "package": "embed-core"} in rows
    assert all(resolve_embed_model(row["model"]) for row in rows if row["package"] in {"acme", "embed-core"})


def test_a_provider_of_several_names_is_listed_once(install):
    names = {"acme-models": "acme_models:Acme", "acme": "acme_models:Acme", "acme-images": "acme_models:Other"}
    install("acme", {EMBEDDINGS: names}, {"acme_models": f"{SOURCE}\nclass Other(Acme):\n    pass\n"})
    listed = [row["model"] for row in json.loads(run("models", "-f", "json").stdout) if row["package"] == "acme"]
    assert listed == ["acme:large", "acme:small", "acme-images:large", "acme-images:small"]


def test_the_default_is_set_printed_and_removed():
    assert "no default is chosen" in told(run("models", "default"))
    assert run("models", "default", " mock?embed_dim=5 ").exit_code == 0
    assert run("models", "default").stdout == "mock?embed_dim=5\n"
    assert len(json.loads(run("text", "a").stdout)) == 5
    assert run("models", "default", "--remove").exit_code == 0
    assert "no default is chosen" in told(run("models", "default"))


def test_a_wrong_default_is_refused():
    assert "declares a provider `nowhere`" in told(run("models", "default", "nowhere:x"))
    assert "run in a circle" in told(run("models", "default", "default"))
    assert run("models", "default", "mock", "--remove").exit_code == 2
    assert load_settings() == Settings()


@pytest.mark.parametrize(
    "source", ["import nowhere_to_be_found", "Acme = 3", SOURCE.replace('["large', '1 / 0, ["large')]
)
def test_a_plugin_that_fails_to_list_its_models_hides_no_other(install, source):
    install("acme", {EMBEDDINGS: {"acme": "acme_models:Acme"}}, {"acme_models": source})
    result = run("models")
    assert result.exit_code == 0
    assert any(line.startswith("mock ") for line in result.stdout.splitlines())
    assert not any(line.startswith("acme") for line in result.stdout.splitlines())
    assert sum(line.startswith("Warning: `acme`") for line in result.stderr.splitlines()) == 1


def test_a_default_may_be_chosen_before_its_package_imports(install):
    install("acme", {EMBEDDINGS: {"acme": "acme_models:Acme"}}, {"acme_models": "import nowhere_to_be_found"})
    assert run("models", "default", "acme:x").exit_code == 0
    assert "does not import" in told(run("text", "a"))


# Plugins


def test_plugins_lists_packages_with_versions(install):
    install("acme", {EMBEDDINGS: {"acme": "acme_models:Acme"}}, version="3.4")
    rows = json.loads(run("plugins", "-f", "json").stdout)
    assert {"provider": "acme", "package": "acme", "version": "3.4", "class": "acme_models:Acme"} in rows
    table = run("plugins").stdout.splitlines()
    assert table[0].split() == ["provider", "package", "version", "class"]
    assert any(line.split() == ["acme", "acme", "3.4", "acme_models:Acme"] for line in table)


# The cache


def test_the_cache_is_counted_and_emptied(home):
    assert run("cache", "clear", "--yes").stdout == "There is nothing to remove.\n"
    (stats,) = json.loads(run("cache", "stats", "-f", "json").stdout)
    assert (stats["vectors"], stats["bytes"]) == (0, 0)
    assert not (home / "cache").exists()
    run("text", "a", "b", "-m", "mock")
    (stats,) = json.loads(run("cache", "stats", "-f", "json").stdout)
    assert stats["file"] == str(home / "cache" / "vectors.sqlite")
    assert stats["vectors"] == 2
    assert stats["bytes"] > 0
    assert run("cache", "clear", "--yes").stdout == "Removed 2 vectors.\n"
    assert "0" in run("cache", "stats").stdout


@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, 0), ("n\n", 1, 1), ("", 1, 1)])
def test_the_cache_is_emptied_only_after_a_yes(home, answer, code, left):
    run("text", "a", "-m", "mock")
    assert run("cache", "clear", input=answer).exit_code == code
    store = SQLiteKVStore(home / "cache" / "vectors.sqlite")
    assert len(store) == left
    store.close()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT to one process is POSIX")
def test_ctrl_c_at_the_question_removes_nothing_and_is_130(home, start):
    run("text", "a", "-m", "mock")
    process = start(EMBED, "cache", "clear", stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.read(6) == "Remove"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert (process.returncode, stderr) == (130, "\nInterrupted\n")
    (stats,) = json.loads(run("cache", "stats", "-f", "json").stdout)
    assert stats["vectors"] == 1


def test_a_damaged_cache_is_told_in_one_line(home):
    (home / "cache").mkdir(parents=True)
    (home / "cache" / "vectors.sqlite").write_bytes(b"this is no database" * 100)
    for command in (["stats"], ["clear", "--yes"]):
        result = run("cache", *command)
        assert result.exit_code == 1
        assert "vectors.sqlite" in result.stderr
        assert result.stderr.count("\n") == 1
