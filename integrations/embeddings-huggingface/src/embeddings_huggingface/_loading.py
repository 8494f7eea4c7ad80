"""From a model's files to its encoder."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import Any

from embed_core.errors import EmbedError

from embeddings_huggingface import _plain, _sentence
from embeddings_huggingface._engines import kept, with_engine
from embeddings_huggingface._failures import is_out_of_memory, loading_failed
from embeddings_huggingface._files import read_json
from embeddings_huggingface._gate import guarded
from embeddings_huggingface._hub import known
from embeddings_huggingface._modules import (
    LENGTHS,
    SETTINGS,
    Module,
    check_classes,
    check_named_code,
    check_native,
    check_weights,
    with_routes,
)
from embeddings_huggingface._runtime import Options
from embeddings_huggingface._source import Source
from embeddings_huggingface._weights import Encoder

_OBJECTS = (
    *("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json"),
    *("adapter_config.json", SETTINGS, *LENGTHS),
)
_OUT_OF_REACH = "if that is because files are missing from the cache: the Hugging Face hub is out of reach"


def load(source: Source, options: Options) -> Encoder:
    """Load a model from the files on this machine if they are enough, else with the hub.

    Left to themselves, the loaders ask the hub for every file that a repository might have, cached model or not.

    Raises:
        EmbedError: it cannot be loaded, and why.
    """
    try:
        source.check_unchanged()
        source.fetch_optional()
        _check(source, options)
        if (encoder := kept(source, options)) is not None:
            return encoder
        return with_engine(_loaded(source, options), source, options)
    except EmbedError:
        raise
    except Exception as error:
        raise loading_failed(error, source.name) from error


def _loaded(source: Source, options: Options) -> Encoder:
    try:
        return _load(source, options, local=True)
    except Exception as error:  # a file is missing: the hub has it, or knows the reason
        if source.commit is None or isinstance(error, EmbedError) or is_out_of_memory(error):
            raise
        if not source.is_reachable():
            told = loading_failed(error, source.name)
            raise type(told)(f"{told} ({_OUT_OF_REACH})") from error
    for file in (module.file(name) for module in source.transformers for name in LENGTHS):
        source.has(file)  # fetched, because it may name code
    _check(source, options)
    return _load(source, options, local=False)


def _check(source: Source, options: Options) -> None:
    """Refuse files that are damaged, would run code, or read a pickle, which the user has not allowed."""
    modules, read, name = source.modules, source.read, source.name
    for module in (Module("", ""), *with_routes(modules, read)):
        for file in _OBJECTS:  # the loaders would not name a damaged one
            read_json(source.marker.parent / module.file(file))
    check_named_code(source.transformers, read, options.config_kwargs)
    if not options.trust_remote_code:
        check_classes(modules, read, name)
        check_native(source.transformers, partial(_read_there, source), name, options.config_kwargs)
    if options.model_kwargs.get("use_safetensors", True):
        check_weights(modules, read, source.has, name)


def _read_there(source: Source, file: str) -> Any:
    """Return the JSON content of a file on this machine, as the loaders read it; nothing is fetched."""
    there = source.commit is None or known(source.name, file, source.commit, source.cache) is not None
    return source.read(file) if there else None


def _load(source: Source, options: Options, *, local: bool) -> Encoder:
    options = deepcopy(options)  # the libraries change their arguments
    with guarded(safetensors=options.model_kwargs.get("use_safetensors", True)):
        if options.sparse or source.is_sentence_transformer:
            return _sentence.load(source, options, local=local)
        return _plain.load(source, options, local=local)
