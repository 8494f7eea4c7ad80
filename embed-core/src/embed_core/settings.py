"""The user's settings: aliases, and the model that `default` stands for.

`embed alias` and `embed models default` write them, and a program may too:
`change_settings(lambda old: old.model_copy(update={"default": "local"}))`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, ValidationError

from embed_core._secrets import is_secret, may_be_credential, quoted, scrubbed
from embed_core.errors import ConfigurationError

__all__ = ["Settings", "change_settings", "load_settings", "settings_path", "user_folder"]


class Settings(BaseModel):
    """The user's choices; entries of a newer version are kept.

    Attributes:
        default: the spec that `default` stands for; None leaves the choice to the package.
        aliases: the spec of each alias.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    default: str | None = None
    aliases: Mapping[str, str] = {}


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
        return Settings.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return Settings()
    except (OSError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        msg = f"the settings in `{path}` cannot be read ({reason}); repair or delete the file"
        raise ConfigurationError(msg) from error


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
        content = f"{new.model_dump_json(indent=2)}\n".encode()
        path.with_suffix(".new").write_bytes(content)
        path.with_suffix(".new").replace(path)


def _refuse_secrets(specs: Iterable[str | None]) -> None:
    for spec in specs:
        for pair in (spec or "").partition("?")[2].split("&"):
            option, _, value = pair.partition("=")
            if may_be_credential(option) or _holds_secret(option, unquote(value)):
                msg = f"option `{option}` looks like a secret, which settings never hold; put it in the environment"
                raise ConfigurationError(msg)


def _holds_secret(option: str, value: str) -> bool:
    """Tell whether the text of an option has a secret in it, such as a key in an address or in a JSON object."""
    given: Any = value
    with suppress(ValueError):
        given = json.loads(value)
    return is_secret(option, given) or quoted(value) != value or scrubbed(given, option, quoted) is not given
