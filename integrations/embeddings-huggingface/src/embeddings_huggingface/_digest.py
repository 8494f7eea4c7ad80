"""Digests of folders, so that equal folders are one space in any place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from embeddings_huggingface._files import read_json
from embeddings_huggingface._modules import check_within, mapping

FileStates: TypeAlias = tuple[tuple[str, int, int], ...]
"""Relative path, size and modification time of every file that decides vectors."""

_IRRELEVANT = {".md", ".gitattributes", ".lock"}
_NOT_READ_BY_CODE = {".lock", ".pyc"}
_NAMES_FILES = {  # the keys under which files of settings name others, by the end of their path
    ".index.json": ("weight_map",),
    "/tokenizer_config.json": ("fast_tokenizer_files",),
    "/config.json": ("transformers_weights", "configuration_files"),
}


def file_states(folder: Path, subfolders: Iterable[str] | None) -> FileStates:
    """Look at the files at the top of a folder and in some of its subfolders; nothing is read.

    Args:
        folder: the folder.
        subfolders: their paths; None means every file that is not hidden, for code may read any.
    """
    files = {*(_all_files(folder) if subfolders is None else _files(folder, subfolders))}
    files |= {path for one in files for path in _named_in(one)}
    found = {path.relative_to(folder).as_posix(): path.stat() for path in files}
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in sorted(found.items()))


def digest(folder: Path, files: FileStates) -> str:
    """Return a SHA-256 over names and contents; a file that has not changed is read once in a process."""
    total = hashlib.sha256()
    for name, size, modified in files:
        total.update(f"{name}\0{_file_digest((str(folder / name), size, modified))}\n".encode())
    return total.hexdigest()


def _files(folder: Path, subfolders: Iterable[str]) -> Iterator[Path]:
    places = [folder.iterdir(), *((folder / name).rglob("*") for name in subfolders if name)]
    for place in places:
        for path in place:
            if path.suffix not in _IRRELEVANT and not path.name.startswith(".") and path.is_file():
                yield path


def _named_in(file: Path) -> Iterator[Path]:
    """Yield the weights and other files that a file of settings names, which may lie in a folder of their own.

    Raises:
        ConfigurationError: they lie outside of the model.
    """
    keys = next((keys for ending, keys in _NAMES_FILES.items() if file.as_posix().endswith(ending)), ())
    for named in (mapping(read_json(file)).get(key) for key in keys):
        names = named.values() if isinstance(named, dict) else named if isinstance(named, list) else [named]
        for name in {name for name in names if isinstance(name, str)}:
            check_within(file.name, name, "a file")
            if (path := file.parent / name).is_file():
                yield path


def _all_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not is_hidden and path.suffix not in _NOT_READ_BY_CODE and path.is_file():
            yield path


@lru_cache(maxsize=4096)
def _file_digest(file_as_it_is: tuple[str, int, int]) -> str:
    with Path(file_as_it_is[0]).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
