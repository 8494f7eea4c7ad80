"""Failures of local models, in words that say how to go on."""

from __future__ import annotations

import re
from pickle import UnpicklingError
from typing import Any

import numpy as np
from embed_core.errors import (
    AuthenticationError,
    ConfigurationError,
    EmbeddingIntegrityError,
    EmbedError,
    IntegrationNotInstalledError,
    ProviderError,
    ProviderUnavailableError,
)

from embeddings_huggingface._modules import foreign_code

_UNREACHABLE = (
    "`{name}` is not in the local cache, and the Hugging Face hub is out of reach{why}; connect once, or run "
    "`hf download {name} --local-dir FOLDER` where there is a connection, copy the folder here and name it"
)
_NO_CONNECTION = {"ConnectError", "ConnectTimeout", "ConnectionError"}  # of httpx, httpx2 or requests
_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def loading_failed(error: Exception, name: str) -> EmbedError:
    """Return the error that says why a model could not be loaded.

    All but a hub that failed are final: else the engine would search the inputs for the fault, and load for each part.
    """
    if isinstance(error, EmbedError):
        return error
    if isinstance(error, ImportError):
        return IntegrationNotInstalledError(f"`{name}` needs a package that is not installed: {_one_line(error)}")
    if is_out_of_memory(error):
        return ConfigurationError(
            f"there is not enough memory to load `{name}`; try `dtype='bfloat16'` or a smaller model"
        )
    return _hub_failed(error, name) or _files_failed(error, name)


def _hub_failed(error: Exception, name: str) -> EmbedError | None:
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    for cause in _chain(error):
        if isinstance(cause, GatedRepoError):
            msg = f"`{name}` is a gated model; accept its terms on https://huggingface.co/{name} and set `HF_TOKEN`"
            return AuthenticationError(msg)
        if isinstance(cause, RepositoryNotFoundError):
            msg = f"there is no model `{name}` on the Hugging Face hub; correct it, or set `HF_TOKEN` if it is private"
            return ConfigurationError(msg)
        if isinstance(cause, RevisionNotFoundError):
            return ConfigurationError(f"`{name}` has no such revision ({_one_line(cause)}); correct `revision`")
        if isinstance(cause, HFValidationError):
            return ConfigurationError(
                f"`{name}` is neither a folder nor a model's name on the hub, such as `org/model`"
            )
        if isinstance(cause, LocalEntryNotFoundError | OfflineModeIsEnabled):
            return ConfigurationError(_UNREACHABLE.format(name=name, why=""))
        if is_unreachable(cause):
            return ConfigurationError(_UNREACHABLE.format(name=name, why=_reason(cause)))
        if isinstance(cause, HfHubHTTPError):
            return ProviderUnavailableError(f"the Hugging Face hub failed while fetching `{name}`: {_one_line(cause)}")
    return None


def _files_failed(error: Exception, name: str) -> EmbedError:
    text = _one_line(error)
    if "trust_remote_code" in str(error):
        return foreign_code(name)
    if type(error).__name__ == "SafetensorError" or isinstance(error, EOFError | UnpicklingError):
        return ConfigurationError(f"the weights of `{name}` are damaged ({text}); download or save the model again")
    if isinstance(error, OSError) and "safetensors" in text:
        msg = (
            f"`{name}` cannot be loaded as a model: it has no weights in safetensors files ({text}); "
            "if it has a `pytorch_model.bin` that you trust, set `model_kwargs={'use_safetensors': False}`"
        )
        return ConfigurationError(msg)
    if isinstance(error, OSError | KeyError | ValueError):
        return ConfigurationError(f"`{name}` cannot be loaded as a model: {text}")
    return ConfigurationError(f"`{name}` cannot be loaded: {type(error).__name__}: {text}")


def embedding_failed(error: Exception, name: str, count: int) -> EmbedError:
    """Return the error that says why a batch could not be embedded."""
    if isinstance(error, EmbedError):
        return error
    if is_out_of_memory(error):
        msg = (
            f"`{name}` ran out of memory on a batch of {count}; lower `max_pass_tokens` or `max_length`, "
            "or try `dtype='bfloat16'`"
        )
        return ProviderError(msg)
    return ProviderError(f"`{name}` failed on a batch of {count}: {type(error).__name__}: {_one_line(error)}")


def check_finite(vectors: Any, precision: str, name: str) -> None:
    """Refuse numbers that are not finite with the remedy, where float16 is the most likely reason.

    Raises:
        EmbeddingIntegrityError: with the positions in the batch.
    """
    if precision == "float16" and isinstance(vectors, np.ndarray) and not (finite := np.isfinite(vectors)).all():
        msg = f"`{name}` gave numbers that are not finite in float16, which ends at 65,504; set `dtype='bfloat16'`"
        raise EmbeddingIntegrityError(msg, indices=np.flatnonzero(~finite.all(axis=1)).tolist())


def is_unreachable(error: BaseException) -> bool:
    """Tell whether there was no connection to the hub at all, or none is wanted; a slow answer is something else."""
    return any(base.__name__ in _NO_CONNECTION for base in type(error).__mro__)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether torch, CUDA or Python ran out of memory."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _MEMORY)
    )


def _chain(error: BaseException | None) -> list[BaseException]:
    causes: list[BaseException] = []
    while error is not None and error not in causes:
        causes.append(error)
        error = error.__cause__ or error.__context__
    return causes


def _reason(error: BaseException) -> str:
    """Return the reason of the operating system or of TLS, which requests wraps in much else."""
    found = re.search(r"\[(Errno|SSL)[^'\"()]*", str(error))
    return "" if found is None else f" ({found[0].strip()})"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
