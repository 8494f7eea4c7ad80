"""Settings are the user's: in the right folder, replaced as a whole, never lost."""

import json
import multiprocessing
import signal
import sys
from pathlib import Path

import pytest
from embed_core.errors import ConfigurationError
from embed_core.settings import Settings, change_settings, load_settings, settings_path, user_folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("home", "config", "cache"),
    [("/e", Path("/e"), Path("/e/cache")), ("~/e", Path.home() / "e", Path.home() / "e/cache")],
)
def test_embed_home_holds_settings_and_cache(monkeypatch, home, config, cache):
    monkeypatch.setenv("EMBED_HOME", home)
    assert (user_folder("config"), user_folder("cache")) == (config, cache)


@pytest.mark.skipif(sys.platform in {"darwin", "win32"}, reason="these are the folders of other systems")
def test_without_embed_home_folders_follow_the_platform(monkeypatch, tmp_path):
    monkeypatch.setenv("EMBED_HOME", "")
    for variable in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_folder("config") == tmp_path / ".config" / "embed-core"
    assert user_folder("cache") == tmp_path / ".cache" / "embed-core"
    monkeypatch.setenv("XDG_CONFIG_HOME", "/x/config")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x/cache")
    assert user_folder("config") == Path("/x/config/embed-core")
    assert user_folder("cache") == Path("/x/cache/embed-core")


def test_there_are_no_settings_before_the_first_choice(home):
    assert load_settings() == Settings()
    assert not home.exists()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(default=st.none() | st.text(), aliases=st.dictionaries(st.text(), st.text()))
def test_what_is_written_is_read_again(home, default, aliases):
    settings_ = Settings(default=default, aliases=aliases)
    change_settings(lambda _: settings_)
    assert load_settings() == settings_


def test_what_a_newer_version_wrote_is_kept(home):
    home.mkdir()
    settings_path().write_text('{"aliases": {"small": "mock"}, "theme": {"dark": true}}', "utf-8")
    change_settings(lambda old: old.model_copy(update={"default": "small"}))
    assert json.loads(settings_path().read_text("utf-8")) == {
        "theme": {"dark": True},
        "default": "small",
        "aliases": {"small": "mock"},
    }


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '"default"', '{"default": 1}', '{"aliases": ["a"]}', '{"aliases": {"a": 1}}', b"\xff\xfe"]
)
def test_a_damaged_file_is_named_and_left_as_it_is(home, text):
    home.mkdir()
    content = text if isinstance(text, bytes) else text.encode()
    settings_path().write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"settings\.json"):
        load_settings()
    with pytest.raises(ConfigurationError, match=r"settings\.json"):
        change_settings(lambda old: old.model_copy(update={"default": "mock"}))
    assert settings_path().read_bytes() == content


def test_a_change_that_fails_leaves_the_old_settings_and_no_other_file(home):
    change_settings(lambda old: old.model_copy(update={"default": "mock"}))
    with pytest.raises(ValueError, match="surrogates"):
        change_settings(lambda old: old.model_copy(update={"default": "\ud800"}))
    assert load_settings().default == "mock"
    assert sorted(path.name for path in home.iterdir()) == ["settings.json", "settings.lock"]


def test_a_symbolic_link_to_the_settings_stays_one(home, tmp_path):
    home.mkdir()
    kept = tmp_path / "dotfiles.json"
    kept.write_text("{}", "utf-8")
    settings_path().symlink_to(kept)
    change_settings(lambda old: old.model_copy(update={"default": "mock"}))
    assert settings_path().is_symlink()
    assert json.loads(kept.read_text("utf-8"))["default"] == "mock"


@pytest.mark.parametrize(
    "option",
    [
        "api_base=https://me:sk-4hT8dR2mV6qN0xB3@here/v1",
        "api_base=https://here/v1?api-key=sk-4hT8dR2mV6qN0xB3",
        'model_kwargs={"token":"sk-4hT8dR2mV6qN0xB3"}',
        'additional_kwargs=%7B"extra_headers":%7B"x-mine":"sk-4hT8dR2mV6qN0xB3"%7D%7D',
    ],
)
def test_a_secret_within_an_option_is_never_written(home, option):
    with pytest.raises(ConfigurationError, match="looks like a secret") as caught:
        change_settings(lambda old: old.model_copy(update={"default": f"acme:x?{option}"}))
    assert "sk-4hT8dR2mV6qN0xB3" not in str(caught.value)
    change_settings(lambda old: old.model_copy(update={"default": "acme:x?api_base=http://here/v1&prompt=a: "}))


def test_a_secret_is_never_written(home):
    with pytest.raises(ConfigurationError, match="option `api_key` looks like a secret") as caught:
        change_settings(
            lambda old: old.model_copy(update={"aliases": {"it": "acme:x?dimensions=2&api_key=sk-4hT8dR2mV6qN0xB3"}})
        )
    assert "sk-4hT8dR2mV6qN0xB3" not in str(caught.value)
    assert load_settings() == Settings()


def add_aliases(writer: int, count: int) -> None:
    for number in range(count):
        change_settings(
            lambda old, name=f"{writer}-{number}": old.model_copy(update={"aliases": {**old.aliases, name: "mock"}})
        )


def test_processes_that_write_at_once_lose_nothing(home):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=add_aliases, args=(writer, 10)) for writer in range(3)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
    assert len(load_settings().aliases) == 30


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is a POSIX signal")
def test_a_killed_writer_leaves_whole_settings_and_no_lock(home, start):
    writes = (
        "from embed_core.settings import *\n"
        "for number in range(10**9):\n"
        "    change_settings(lambda old: old.model_copy(update={'aliases': {'x' * 5000: str(number)}}))\n"
        "    print(number, flush=True)"
    )
    process = start(sys.executable, "-c", writes)
    assert process.stdout.readline() == "0\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(load_settings().aliases) == 1
    change_settings(lambda old: old.model_copy(update={"default": "mock"}))
    assert load_settings().default == "mock"
