"""Single files of repositories on the Hugging Face hub, from the cache where they are there."""

from __future__ import annotations

from pathlib import Path

from embeddings_huggingface._failures import is_unreachable


def hub_file(repository: str, file: str, revision: str | None, folder: str | None) -> Path | None:
    """Return the path of a repository's file in the cache, fetched if need be; None says the repository has none."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    cached = known(repository, file, revision, folder)
    if cached is not None:
        return Path(cached) if isinstance(cached, str) else None
    if (error := no_connection(repository, file, revision)) is not None:
        raise error
    try:
        return Path(hf_hub_download(repository, file, cache_dir=folder, revision=revision))
    except LocalEntryNotFoundError:  # a subclass of the next one that says nothing about the repository
        raise
    except EntryNotFoundError:
        return None


def commit_of(path: Path) -> str:
    """Return the commit that a file in the cache belongs to."""
    return path.parts[path.parts.index("snapshots") + 1]


def no_connection(repository: str, file: str, revision: str | None) -> Exception | None:
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


def known(repository: str, file: str, revision: str | None, folder: str | None) -> object:
    """Return a cached file's path, something else where the repository is known to have none, None if nobody knows."""
    from huggingface_hub import try_to_load_from_cache

    return try_to_load_from_cache(repository, file, cache_dir=folder, revision=revision)
