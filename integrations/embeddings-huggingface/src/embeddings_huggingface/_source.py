"""Where a model's files are: a folder, or one commit of a repository on the Hugging Face hub."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from embed_core.errors import ConfigurationError, EmbedError

from embeddings_huggingface._digest import FileStates, digest, file_states
from embeddings_huggingface._failures import loading_failed
from embeddings_huggingface._files import read_json
from embeddings_huggingface._hub import commit_of, hub_file, known, no_connection
from embeddings_huggingface._modules import (
    CODE,
    LENGTHS,
    MODULES,
    SETTINGS,
    Module,
    mapping,
    modules_of,
    transformers_of,
    with_routes,
)

_log = logging.getLogger("embeddings_huggingface")

_ADAPTER = "adapter_config.json"
_MARKERS = (MODULES, "config.json", _ADAPTER)
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
        elsewhere: the identities of other models and repositories that its files point to.
        cache: where repositories are cached; None means the hub's own place.
        code: whether code that comes with it may run.
    """

    name: str
    marker: Path
    commit: str | None = None
    files: FileStates = ()
    elsewhere: tuple[str, ...] = ()
    cache: str | None = field(default=None, compare=False)
    code: bool = False

    @property
    def is_sentence_transformer(self) -> bool:
        """Whether it lists the modules of a `SentenceTransformer`."""
        return self.marker.name == MODULES

    @property
    def modules(self) -> list[Module]:
        """The modules of a `SentenceTransformer`; none of another model."""
        return modules_of(self.read) if self.is_sentence_transformer else []

    @property
    def transformers(self) -> list[Module]:
        """The modules that may hold a transformer, those behind routers too; of another model the model itself."""
        return transformers_of(self.modules, self.read)

    @property
    def normalizes(self) -> bool:
        """Whether the model's own modules end in one that makes vectors unit length."""
        return any(module.name == "Normalize" for module in self.modules)

    def identity(self) -> str:
        """Return the part that decides vectors: the content of a folder, or repository and commit."""
        if self.commit is not None:
            return f"{self.name}@{self.commit}"
        return f"folder:{digest(Path(self.name), self.files)}"

    def read(self, file: str) -> Any:
        """Return the JSON content of a file; None where there is none."""
        path = self._path(file)
        return None if path is None else read_json(path)

    def has(self, file: str) -> bool:
        """Tell whether there is a file; one of the hub is fetched."""
        return self._path(file) is not None

    def _path(self, file: str) -> Path | None:
        if self.commit is not None:
            return _fetched(self.name, file, self.commit, self.cache)
        path = Path(self.name, file)
        return path if path.is_file() else None

    def fetch_optional(self) -> None:
        """Fetch the optional files that decide vectors, where the cache does not know of them.

        Loading fails without the others, so it fetches them.
        """
        if self.commit is None or not self.is_sentence_transformer:
            return
        files = (SETTINGS, *(module.file(LENGTHS[0]) for module in self.transformers))
        unknown = [file for file in files if known(self.name, file, self.commit, self.cache) is None]
        try:
            for file in unknown:
                hub_file(self.name, file, self.commit, self.cache)
        except Exception as error:  # a cached model is most often whole, if somebody else put it there
            _log.warning(
                "`%s` is taken as it is in the cache; the hub did not say whether it has %s (%s)",
                self.name,
                _listed(unknown),
                type(error).__name__,
            )

    def is_reachable(self) -> bool:
        """Tell whether there is a connection to where the model comes from."""
        return no_connection(self.name, self.marker.name, self.commit) is None

    def check_unchanged(self) -> None:
        """Refuse a folder that was written to since it was found.

        Raises:
            ConfigurationError: the weights would not be those of the fingerprint.
        """
        if self.commit is None and _look(Path(self.name), self.marker, code=self.code) != self.files:
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


def find(
    name: str, revision: str | None = None, cache_folder: str | None = None, *, plain: bool = False, code: bool = False
) -> Source:
    """Find a model's files; of a repository only small files are fetched, and only if they are not cached.

    Args:
        name: a folder or a repository.
        revision: of a repository; None takes the cached commit of the main branch, or the newest commit.
        cache_folder: where repositories are cached.
        plain: whether files of sentence-transformers are left aside.
        code: whether code that the files name may run, so that it decides vectors too.

    Raises:
        ConfigurationError: there is no such folder or repository, or it holds no model.
        ProviderError: the hub cannot be reached and the cache does not help.
    """
    source = _located(name, revision, cache_folder, _MARKERS[1:] if plain else _MARKERS, code=code)
    return replace(source, elsewhere=(*_base(source), *(_code(source) if code else ())))


def _located(
    name: str, revision: str | None, cache_folder: str | None, markers: Sequence[str], *, code: bool
) -> Source:
    if looks_like_a_path(name):
        source = _folder(Path(name).expanduser(), markers, code=code)
    else:
        source = _repository(name, revision, cache_folder, markers)
    return replace(source, cache=cache_folder)


def _base(source: Source) -> Iterator[str]:
    """Yield the identities of the models that adapters are for."""
    for module in source.transformers:
        asked = source.commit is None or source.marker.name == _ADAPTER or module.name.endswith("Transformer")
        if not asked or (source.commit is not None and source.has(module.file("config.json"))):
            continue  # most often, and then the hub is asked for a file less
        name = mapping(source.read(module.file(_ADAPTER))).get("base_model_name_or_path")
        if isinstance(name, str) and name:
            try:
                yield _located(name, None, source.cache, _MARKERS, code=source.code).identity()
            except EmbedError:  # loading tells, where the base is needed: merged weights may lie beside
                yield f"unknown:{name}"


def _code(source: Source) -> Iterator[str]:
    """Yield the identities of other repositories with code for this model, named as `repository--module.Class`."""
    named = [module.type for module in with_routes(source.modules, source.read)]
    for file in (module.file(file) for module in source.transformers for file in CODE):
        for value in mapping(mapping(source.read(file)).get("auto_map")).values():
            named += value if isinstance(value, list) else [value]
    for one in sorted({str(one) for one in named if "--" in str(one)}):
        repository, _, code = one.partition("--")
        if looks_like_a_path(repository):
            yield f"folder:{digest(Path(repository), file_states(Path(repository), None))}"
        elif (path := _fetched(repository, f"{code.partition('.')[0]}.py", None, source.cache)) is not None:
            yield f"{repository}@{commit_of(path)}"


def _fetched(repository: str, file: str, revision: str | None, folder: str | None) -> Path | None:
    try:
        return hub_file(repository, file, revision, folder)
    except Exception as error:
        raise loading_failed(error, repository) from error


def cache_of(folder: str | None) -> str | None:
    """Return where repositories are cached: the folder given, else the one of sentence-transformers, if it is set."""
    return folder or os.environ.get("SENTENCE_TRANSFORMERS_HOME")


def cached_models() -> list[str]:
    """Return the names of the dense models of sentence-transformers in the cache on this machine."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(cache_of(None) or HF_HUB_CACHE)
    found = (path for path in folder.glob(f"models--*--*/snapshots/*/{MODULES}") if not _is_sparse(path))
    return sorted({"/".join(path.relative_to(folder).parts[0].split("--", 2)[1:]) for path in found})


def _is_sparse(marker: Path) -> bool:
    settings = marker.with_name(SETTINGS)
    return settings.is_file() and b'"SparseEncoder"' in settings.read_bytes()  # a damaged file is told when it is used


def _folder(path: Path, expected: Sequence[str], *, code: bool) -> Source:
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
    return Source(str(path.resolve()), markers[0], files=_look(path, markers[0], code=code), code=code)


def _look(folder: Path, marker: Path, *, code: bool) -> FileStates:
    if code:
        return file_states(folder, None)

    def read(file: str) -> Any:
        return read_json(folder / file)

    modules = modules_of(read) if marker.name == MODULES else []
    return file_states(folder, [*(module.path for module in with_routes(modules, read)), "onnx", "openvino"])


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
        path = hub_file(repository, marker, revision, folder)
        if path is not None:
            return Source(repository, path, commit=commit_of(path))
    msg = f"`{repository}` holds no model, for it has none of {_listed(markers)}; choose another one"
    raise ConfigurationError(msg)


def _listed(files: Sequence[str]) -> str:
    return ", ".join(f"`{file}`" for file in files)
