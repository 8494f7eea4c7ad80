"""Converted models that are kept on this machine, so that later processes load them without torch."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from embed_core.settings import user_folder

from embeddings_huggingface._openvino import OpenVinoEncoder, encoder_of
from embeddings_huggingface._runtime import Options
from embeddings_huggingface._source import Source

_log = logging.getLogger("embeddings_huggingface")

_FORMAT = 1
_DECIDING = ("openvino", "sentence-transformers", "tokenizers", "torch", "transformers")
_FACTS, _TOKENIZER, _MODEL, _REFUSED = "facts.json", "tokenizer.json", "model.xml", "refused.txt"


def load(source: Source, options: Options) -> OpenVinoEncoder | None:
    """Return the encoder of a model that was converted before; None where it was not, or was damaged since."""
    from tokenizers import Tokenizer

    try:
        folder = _folder(source, options)
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        if facts["sizes"] != _sizes(folder):
            return None
        return encoder_of(facts, folder / _MODEL, Tokenizer.from_file(str(folder / _TOKENIZER)), folder)
    except FileNotFoundError:
        return None
    except Exception as error:  # the libraries raise errors of any kind for a damaged file
        _log.debug("no converted model of `%s` can be loaded: %s", source.name, error)
        return None


def keep(graph: Any, encoder: OpenVinoEncoder, source: Source, options: Options) -> OpenVinoEncoder:
    """Keep a converted model for later processes; return its encoder, from the files if they could be written."""
    import openvino

    folder = _folder(source, options)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as place:
            made = Path(place, "made")
            made.mkdir()
            (made / _TOKENIZER).write_text(encoder.bulk.tokenizer.to_str(), encoding="utf-8")
            openvino.save_model(graph, made / _MODEL, compress_to_fp16=False)
            (made / _FACTS).write_text(json.dumps({**encoder.facts, "sizes": _sizes(made)}), encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
    except OSError as error:  # another process was faster, or nothing can be written
        _log.debug("the converted model of `%s` is not kept: %s", source.name, error)
    return load(source, options) or encoder


def refusal(source: Source, options: Options) -> str | None:
    """Return the reason why the model does not run on OpenVINO, if an earlier process found one."""
    try:
        return (_folder(source, options) / _REFUSED).read_text(encoding="utf-8")
    except OSError:
        return None
    except TypeError:  # a folder named by the object's address would be another one in each process
        return "an argument for its loaders is no plain value, so a converted model could not be found again"


def refuse(source: Source, options: Options, why: str) -> None:
    """Keep the reason why a model does not run on OpenVINO, so that the next process does not try."""
    folder = _folder(source, options)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _REFUSED).write_text(why, encoding="utf-8")
    except OSError as error:
        _log.debug("that `%s` does not run on OpenVINO is not kept: %s", source.name, error)


def _folder(source: Source, options: Options) -> Path:
    """Return the folder of a converted model, named by all that decides it.

    Raises:
        TypeError: an argument for the loaders is no plain value.
    """
    versions = [_version(name) for name in _DECIDING]
    loaded = [options.dtype, options.pooling, options.raw, options.trust_remote_code]
    bags = [options.model_kwargs, options.processor_kwargs, options.config_kwargs]
    deciding = [_FORMAT, versions, source.identity(), source.elsewhere, source.is_sentence_transformer, loaded, bags]
    key = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()
    return user_folder("cache") / "openvino" / key[:32]


def _version(name: str) -> str:
    try:
        return version(name)
    except ImportError:  # a package without metadata
        return ""


def _sizes(folder: Path) -> dict[str, int]:
    return {name: (folder / name).stat().st_size for name in (_MODEL, "model.bin", _TOKENIZER)}
