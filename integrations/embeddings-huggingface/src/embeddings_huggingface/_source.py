"""Where a model's files are: a folder, or one commit of a repository on the Hugging Face hub."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from embed_core.errors import ConfigurationError

from embeddings_huggingface._digest import FileStates, digest, file_states
from embeddings_huggingface._failures import is_unreachable, loading_failed

_log = logging.getLogger("embeddings_huggingface")

_MODULES, _ROUTER = "modules.json", "router_config.json"
_SETTINGS, _LENGTHS = "config_sentence_transformers.json", "sentence_bert_config.json"
_MARKERS = (_MODULES, "config.json", "adapter_config.json")
_SHORT = {f"BAAI/bge-{size}": f"BAAI/bge-{size}-en-v1.5" for size in ("small", "base", "large")} | {
    "ViT-B/32": "openai/clip-vit-base-patch32",
    "ViT-B/16": "openai/clip-vit-base-patch16",
    "ViT-L/14": "openai/clip-vit-large-patch14",
    "ViT-L/14@336px": "openai/clip-vit-large-patch14-336",
}


@dataclass(frozen=True, slots=True)
class Source:
    """A model's files, found but not loaded.

    Attributes:
        name: an absolute path or a repository, for the loaders.
        marker: a file at the top of it, which is there.
        commit: the commit of a repository, so that a model cannot change under a fingerprint; None for a folder.
        files: the files of a folder when it was found; empty for a repository.
    """

    name: str
    marker: Path
    commit: str | None = None
    files: FileStates = ()

    @property
    def is_sentence_transformer(self) -> bool:
        """Whether it lists the modules of a `SentenceTransformer`."""
        return self.marker.name == _MODULES

    @property
    def normalizes(self) -> bool:
        """Whether the model's own modules end in one that makes vectors unit length."""
        return any(module.get("type", "").endswith(".Normalize") for module in _modules(self.marker))

    def identity(self) -> str:
        """Return the part that decides vectors: the content of a folder, or repository and commit."""
        if self.commit is not None:
            return f"{self.name}@{self.commit}"
        return f"folder:{digest(Path(self.name), self.files)}"

    def fetch_optional(self, cache_folder: str | None) -> None:
        """Fetch the optional files that decide vectors, where the cache does not know of them.

        Loading fails without the others, so it fetches them.
        """
        if self.commit is None or not self.is_sentence_transformer:
            return
        first = _modules(self.marker)[0].get("path", "")
        files = (_SETTINGS, f"{first}/{_LENGTHS}".lstrip("/"))
        unknown = [file for file in files if _known(self.name, file, self.commit, cache_folder) is None]
        try:
            for file in unknown:
                _hub_file(self.name, file, self.commit, cache_folder)
        except Exception as error:  # a cached model is most often whole, if somebody else put it there
            _log.warning(
                "`%s` is taken as it is in the cache; the hub did not say whether it has %s (%s)",
                self.name,
                _listed(unknown),
                type(error).__name__,
            )

    def is_reachable(self) -> bool:
        """Tell whether there is a connection to where the model comes from."""
        return _no_connection(self.name, self.marker.name, self.commit) is None

    def check_unchanged(self) -> None:
        """Refuse a folder that was written to since it was found.

        Raises:
            ConfigurationError: the weights would not be those of the fingerprint.
        """
        if self.commit is None and _look(Path(self.name), self.marker) != self.files:
            msg = f"the files in `{self.name}` have changed since the model was configured; make the model again"
            raise ConfigurationError(msg)


def looks_like_a_path(name: str) -> bool:
    """Tell whether a name can only be meant as a folder."""
    if not name:
        return False
    written_so = name.startswith(("/", "~", "./", "../")) or name in {".", ".."} or "\\" in name
    return written_so or name.count("/") > 1 or Path(name).exists()


def absolute(name: str) -> str:
    """Return the absolute path of an existing folder, or the name as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if looks_like_a_path(name) and path.is_dir() else name


def understood(name: str) -> str:
    """Return the release that a short name stands for, and log it once."""
    return name if name not in _SHORT or Path(name).is_dir() else _release(name)


@cache
def _release(name: str) -> str:
    _log.warning("`%s` is understood as `%s`", name, _SHORT[name])
    return _SHORT[name]


def find(name: str, revision: str | None = None, cache_folder: str | None = None, *, plain: bool = False) -> Source:
    """Find a model's files; of a repository only a small file is fetched, and only if none is cached.

    `revision=None` takes the cached commit of the main branch, or the newest commit; `plain` leaves files of
    sentence-transformers aside.

    Raises:
        ConfigurationError: there is no such folder or repository, or it holds no model.
        ProviderError: the hub cannot be reached and the cache does not help.
    """
    markers = _MARKERS[1:] if plain else _MARKERS
    if looks_like_a_path(name):
        return _folder(Path(name).expanduser(), markers)
    return _repository(name, revision, cache_folder, markers)


def cache_of(folder: str | None) -> str | None:
    """Return where repositories are cached: the folder given, else the one of sentence-transformers, if it is set."""
    return folder or os.environ.get("SENTENCE_TRANSFORMERS_HOME")


def cached_models() -> list[str]:
    """Return the names of the dense models of sentence-transformers in the cache on this machine."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(cache_of(None) or HF_HUB_CACHE)
    found = (path for path in folder.glob(f"models--*--*/snapshots/*/{_MODULES}") if not _is_sparse(path))
    return sorted({"/".join(path.relative_to(folder).parts[0].split("--", 2)[1:]) for path in found})


def _is_sparse(marker: Path) -> bool:
    settings = marker.with_name(_SETTINGS)
    return settings.is_file() and b'"SparseEncoder"' in settings.read_bytes()  # a damaged file is told when it is used


def _folder(path: Path, expected: Sequence[str]) -> Source:
    if not path.is_dir():
        kind = "is a file, not a folder" if path.is_file() else "does not exist"
        msg = f"the folder `{path}` {kind}; expected one that holds a model, or a name such as `org/model`"
        raise ConfigurationError(msg)
    markers = [path / marker for marker in expected if (path / marker).is_file()]
    if not markers:
        msg = (
            f"the folder `{path}` holds no model, for it has none of {_listed(expected)}; "
            "name the folder that `save_pretrained` wrote to"
        )
        raise ConfigurationError(msg)
    return Source(str(path.resolve()), markers[0], files=_look(path, markers[0]))


def _look(folder: Path, marker: Path) -> FileStates:
    folders = [module.get("path", "") for module in _modules(marker)]
    routers = [path for name in folders if (path := folder / name / _ROUTER).is_file()]
    routes = [(path.parent / name).relative_to(folder) for path in routers for name in _json(path).get("types", {})]
    return file_states(folder, [*folders, *map(str, routes), "onnx", "openvino"])


def _modules(marker: Path) -> list[dict[str, Any]]:
    if marker.name != _MODULES:
        return []
    modules: list[dict[str, Any]] = _json(marker)
    return modules


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        msg = f"`{path}` is damaged ({error}); save or download the model again"
        raise ConfigurationError(msg) from error


def _repository(name: str, revision: str | None, folder: str | None, markers: Sequence[str]) -> Source:
    # sentence-transformers' own models go by their bare names
    repositories = [name] if "/" in name else [f"sentence-transformers/{name}", name]
    failures: list[Exception] = []
    for repository in repositories:
        try:
            return _in_repository(repository, revision, folder, markers)
        except Exception as error:  # raised below, in our words
            failures.append(error)
    raise loading_failed(failures[0], name) from failures[0]


def _in_repository(repository: str, revision: str | None, folder: str | None, markers: Sequence[str]) -> Source:
    for marker in markers:
        path = _hub_file(repository, marker, revision, folder)
        if path is not None:
            commit = path.parts[path.parts.index("snapshots") + 1]
            return Source(repository, path, commit=commit)
    msg = f"`{repository}` holds no model, for it has none of {_listed(markers)}; choose another one"
    raise ConfigurationError(msg)


def _hub_file(repository: str, file: str, revision: str | None, folder: str | None) -> Path | None:
    """Return the path of a repository's file in the cache, fetched if need be; None says the repository has none."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    known = _known(repository, file, revision, folder)
    if known is not None:
        return Path(known) if isinstance(known, str) else None
    if (error := _no_connection(repository, file, revision)) is not None:
        raise error
    try:
        return Path(hf_hub_download(repository, file, cache_dir=folder, revision=revision))
    except LocalEntryNotFoundError:  # a subclass of the next one that says nothing about the repository
        raise
    except EntryNotFoundError:
        return None


def _no_connection(repository: str, file: str, revision: str | None) -> Exception | None:
    """Ask the hub for a file once; return the error where there is no connection, and nothing else.

    A download tries for half a minute before it fails, and so does the download of every other file.
    """
    from huggingface_hub import get_session, hf_hub_url
    from huggingface_hub.constants import HF_HUB_ETAG_TIMEOUT

    try:
        get_session().head(hf_hub_url(repository, file, revision=revision), timeout=HF_HUB_ETAG_TIMEOUT)
    except Exception as error:  # an answer of the hub is for the download to tell
        return error if is_unreachable(error) else None
    return None


def _known(repository: str, file: str, revision: str | None, folder: str | None) -> object:
    """Return a cached file's path, something else where the repository is known to have none, None if nobody knows."""
    from huggingface_hub import try_to_load_from_cache

    return try_to_load_from_cache(repository, file, cache_dir=folder, revision=revision)


def _listed(files: Sequence[str]) -> str:
    return ", ".join(f"`{file}`" for file in files)
