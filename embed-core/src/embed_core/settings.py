"""The user's settings: aliases, and the model that `default` stands for.

`embed alias` and `embed models default` write them, and a program may too: `change_settings(lambda old: replace(old,
default="local"))`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from embed_core._arguments import looks_like_a_secret
from embed_core.errors import ConfigurationError

__all__ = ["Settings", "change_settings", "load_settings", "settings_path", "user_folder"]


@dataclass(frozen=True, slots=True)
class Settings:
    """The user's choices.

    Attributes:
        default: the spec that `default` stands for; None leaves the choice to the package.
        aliases: the spec of each alias.
        other: entries of a newer version; kept as they are.
    """

    default: str | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    other: Mapping[str, Any] = field(default_factory=dict)


def user_folder(use: Literal["config", "cache"]) -> Path:
    """Return the user's folder for settings or caches: `EMBED_HOME` where it is set, else the platform's."""
    if home := os.environ.get("EMBED_HOME"):
        root = Path(home).expanduser()
        return root if use == "config" else root / "cache"
    from platformdirs import PlatformDirs

    folders = PlatformDirs("embed-core", appauthor=False, roaming=True)
    return folders.user_config_path if use == "config" else folders.user_cache_path


def settings_path() -> Path:
    """Return the path of the settings file, which need not exist."""
    return user_folder("config") / "settings.json"


def load_settings() -> Settings:
    """Return the user's settings, empty where there is no file.

    Raises:
        ConfigurationError: the file cannot be read, or holds no settings.
    """
    path = settings_path()
    try:
        values: Any = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return Settings()
    except (OSError, ValueError) as error:
        msg = f"the settings in `{path}` cannot be read ({error}); repair or delete the file"
        raise ConfigurationError(msg) from error
    match {"default": None, "aliases": {}, **values} if isinstance(values, dict) else values:
        case {"default": str() | None as default, "aliases": dict(aliases), **other} if _are_strings(aliases.values()):
            return Settings(default, aliases, {str(name): value for name, value in other.items()})
    msg = f'`{path}` holds no settings; expected `{{"default": "SPEC", "aliases": {{"NAME": "SPEC"}}}}`'
    raise ConfigurationError(msg)


def change_settings(change: Callable[[Settings], Settings]) -> None:
    """Replace the settings by the result of `change`; several processes may do so at once.

    A killed process leaves the old settings or the new ones.

    Raises:
        ConfigurationError: the file cannot be read, or a new spec holds a secret.
    """
    from filelock import FileLock

    path = settings_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path = path.resolve()  # a symbolic link to a file among the user's dotfiles stays a link
    with FileLock(path.with_suffix(".lock")):
        old = load_settings()
        new = change(old)
        _refuse_secrets({new.default, *new.aliases.values()} - {old.default, *old.aliases.values()})
        values = {**new.other, "default": new.default, "aliases": dict(sorted(new.aliases.items()))}
        content = f"{json.dumps(values, indent=2, ensure_ascii=False)}\n".encode()
        path.with_suffix(".new").write_bytes(content)
        path.with_suffix(".new").replace(path)


def _are_strings(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def _refuse_secrets(specs: Iterable[str | None]) -> None:
    for spec in specs:
        for pair in (spec or "").partition("?")[2].split("&"):
            option = pair.partition("=")[0]
            if looks_like_a_secret(option):
                msg = f"option `{option}` looks like a secret, which settings never hold; put it in the environment"
                raise ConfigurationError(msg)
