"""The length of a model's vectors, as far as files on this machine tell it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from embed_core.errors import ConfigurationError

from embeddings_huggingface._files import read_json
from embeddings_huggingface._hub import known
from embeddings_huggingface._modules import MODULES, SETTINGS, Read, is_native, mapping, modules_of, number
from embeddings_huggingface._source import looks_like_a_path

_AS_WIDE_AS_HIDDEN = {  # encoders whose last layer is as wide as `hidden_size` says; OPT's is not
    *("albert", "bert", "camembert", "deberta-v2", "electra", "mistral", "modernbert", "mpnet", "qwen2", "qwen3"),
    *("roberta", "xlm-roberta"),
}
_KEEP_THE_LENGTH = {"Dropout", "LayerNorm", "Normalize"}


def dimension_of(name: str, revision: str | None, cache: str | None, *, pooled: bool) -> int | None:
    """Return the length of a model's vectors; None where its files are elsewhere, or leave the length open.

    Args:
        name: a folder or a repository.
        revision: of a repository.
        cache: where repositories are cached.
        pooled: whether files of sentence-transformers are left aside and the last layer is pooled.
    """
    try:
        folder = Path(name) if looks_like_a_path(name) else _snapshot(name, revision, cache, pooled=pooled)
        if folder is None:
            return None

        def read(file: str) -> Any:
            return read_json(folder / file)

        if pooled or not (folder / MODULES).is_file():
            return _of_transformer(read("config.json"), features=not pooled)
        width, cut = _of_modules(read), mapping(read(SETTINGS)).get("truncate_dim")
        return width if cut is None else width and number(cut) and min(width, cut)
    except (ConfigurationError, OSError, TypeError, ValueError):  # loading tells
        return None


def _snapshot(name: str, revision: str | None, cache: str | None, *, pooled: bool) -> Path | None:
    """Return the cached folder of a repository; None where nobody knows all of the files that decide."""
    for marker in ("config.json",) if pooled else (MODULES, "config.json"):
        found = known(name if "/" in name else f"sentence-transformers/{name}", marker, revision, cache)
        if found is None or isinstance(found, str):
            return None if found is None else Path(found).parent
    return None


def _of_modules(read: Read) -> int | None:
    modules = [module for module in modules_of(read) if module.name not in _KEEP_THE_LENGTH]
    if not modules or not all(map(is_native, modules)):
        return None
    first, last = modules[0], modules[-1]
    config = mapping(read(last.file("config.json")))
    if last.name == "Dense" and config.get("module_output_name") in {None, "sentence_embedding"}:
        return number(config.get("out_features"))
    if last.name == "CLIPModel":
        return _of_transformer(config, features=True)
    if [module.name for module in modules] != ["Transformer", "Pooling"]:
        return None
    one_mode = isinstance(config.get("pooling_mode", ""), str)
    one_mode &= sum(config[key] is True for key in config if key.startswith("pooling_mode_")) < 2
    width = _of_transformer(read(first.file("config.json")), features=False)
    told = config.get("word_embedding_dimension", config.get("embedding_dimension"))
    return width if one_mode and width == told else None


def _of_transformer(config: Any, *, features: bool) -> int | None:
    config = mapping(config)
    kind = None if "auto_map" in config else config.get("model_type")
    if features and kind == "clip":
        return number(config.get("projection_dim"))
    return number(config.get("hidden_size")) if kind in _AS_WIDE_AS_HIDDEN else None
