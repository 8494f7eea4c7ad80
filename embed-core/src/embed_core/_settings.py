"""The user's folders and settings: aliases, and the model that `default` stands for."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from embed_core.errors import ConfigurationError

_NAME = "embed-core"
_PLACES: Mapping[tuple[str, str], tuple[str, str, str]] = {
    # use, platform: a variable that names the place, the place under home, a folder inside ours
    ("config", "win32"): ("APPDATA", "AppData/Roaming", ""),
    ("cache", "win32"): ("LOCALAPPDATA", "AppData/Local", "Cache"),
    ("config", "darwin"): ("", "Library/Application Support", ""),
    ("cache", "darwin"): ("", "Library/Caches", ""),
    ("config", "xdg"): ("XDG_CONFIG_HOME", ".config", ""),
    ("cache", "xdg"): ("XDG_CACHE_HOME", ".cache", ""),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user has chosen once for all.

    Attributes:
        default: the spec that `default` stands for; None leaves it to the package.
        aliases: a spec by the name that stands for it.
        other: what a newer version has written; kept as it is.
    """

    default: str | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    other: Mapping[str, Any] = field(default_factory=dict)


def user_folder(
    use: Literal["config", "cache"], environ: Mapping[str, str] = os.environ, platform: str = sys.platform
) -> Path:
    """Return the folder for the user's settings or for what can be made again; `EMBED_HOME` overrides both.

    Otherwise the platform's convention: the XDG variables, `~/Library`, or `%APPDATA%` and `%LOCALAPPDATA%`.
    """
    if home := environ.get("EMBED_HOME"):
        root = Path(home).expanduser()
        return root if use == "config" else root / "cache"
    variable, under_home, inside = _PLACES[use, platform if platform in {"win32", "darwin"} else "xdg"]
    named = environ.get(variable, "")
    # The XDG specification: a relative path is invalid and to be ignored.
    root = Path(named) if named and Path(named).is_absolute() else Path.home() / under_home
    return root / _NAME / inside


def settings_path() -> Path:
    """Return the file that holds the settings, whether it is there or not."""
    return user_folder("config") / "settings.json"


def load_settings() -> Settings:
    """Return the user's settings, empty where there are none.

    Raises:
        ConfigurationError: the file cannot be read or is no settings file.
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
    """Replace the settings by what `change` makes of them; several processes may do so at once.

    The file is replaced as a whole, so that a reader, or a crash on the way, sees the old settings or the new ones.
    """
    path = settings_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path = path.resolve()  # a symbolic link, as keepers of dotfiles make, stays one
    with _locked(path.with_suffix(".lock")):
        new = change(load_settings())
        values = {**new.other, "default": new.default, "aliases": dict(sorted(new.aliases.items()))}
        _replace(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def _are_strings(values: Iterable[object]) -> bool:
    return all(isinstance(one, str) for one in values)


def _replace(path: Path, text: str) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the file's lock, which the system releases when the process dies."""
    with path.open("a+b") as file:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
