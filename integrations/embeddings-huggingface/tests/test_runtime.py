from __future__ import annotations

from pathlib import Path

import pytest
import torch
from embed_core.errors import (
    AuthenticationError,
    ConfigurationError,
    EmbedError,
    IntegrationNotInstalledError,
    InvalidInputError,
    ProviderError,
    ProviderUnavailableError,
)
from embeddings_huggingface import HuggingFaceEmbedding
from embeddings_huggingface._failures import embedding_failed, is_unreachable, loading_failed
from embeddings_huggingface._runtime import resolve_device


def test_the_best_device_is_taken_and_an_explicit_one_wins() -> None:
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert resolve_device(None) == best
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("meta") == "meta"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there_is_named(tiny: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"`device='cuda'` was asked for, but torch \S+ sees no CUDA device"):
        HuggingFaceEmbedding(model_name=tiny, device="cuda").embed_texts(["bread"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_device_beyond_the_last_is_named() -> None:
    with pytest.raises(ConfigurationError, match="sees only"):
        resolve_device("cuda:99")


def test_what_is_no_device_says_what_is() -> None:
    with pytest.raises(ConfigurationError, match="`device='gpu'` is no device; expected 'cuda'"):
        resolve_device("gpu")


def response(status: int) -> object:
    """Return an HTTP response of the client that the installed huggingface_hub uses."""
    import huggingface_hub.errors

    module = huggingface_hub.errors.HfHubHTTPError.__mro__[1].__module__.partition(".")[0]
    client = __import__(module)
    if module == "requests":
        made = client.Response()
        made.status_code, made.request = status, client.Request("GET", "https://hub").prepare()
        return made
    return client.Response(status, request=client.Request("GET", "https://hub"))


def hub_errors() -> list[tuple[Exception, type[EmbedError], str]]:
    from huggingface_hub import errors

    return [
        (errors.GatedRepoError("no", response=response(403)), AuthenticationError, "accept its terms"),
        (errors.RepositoryNotFoundError("no", response=response(404)), ConfigurationError, "there is no model `org/m`"),
        (errors.RevisionNotFoundError("no", response=response(404)), ConfigurationError, "no such revision"),
        (errors.LocalEntryNotFoundError("no"), ConfigurationError, "out of reach"),
        (errors.OfflineModeIsEnabled("no"), ConfigurationError, "out of reach"),
        (errors.HfHubHTTPError("502", response=response(502)), ProviderUnavailableError, "the Hugging Face hub failed"),
        (errors.HFValidationError("no"), ConfigurationError, "neither a folder nor a model's name"),
    ]


def client_error(message: str, *names: str) -> Exception:
    """Return an error of the client that the installed huggingface_hub uses, by the first name that it knows."""
    client = __import__(type(response(500)).__module__.partition(".")[0])
    made: Exception = next(getattr(client, name) for name in names if hasattr(client, name))(message)
    return made


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("[Errno -2] Name or service not known", r" \(\[Errno -2\] Name or service not known\);"),
        ('Retries (by by New("x: [Errno 111] Connection refused"))', r" \(\[Errno 111\] Connection refused\);"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] verify failed (_ssl.c:1)", r" \(\[SSL: CERTIFICATE_VERIFY_FAILED\] .*\);"),
        ("something else", ";"),
    ],
)
def test_a_hub_out_of_reach_says_why_where_the_system_does(message: str, reason: str) -> None:
    told = loading_failed(client_error(message, "ConnectError", "ConnectionError"), "org/m")
    assert type(told) is ConfigurationError
    with pytest.raises(ConfigurationError, match=f"the Hugging Face hub is out of reach{reason} connect once"):
        raise told


def test_a_slow_hub_is_not_out_of_reach() -> None:
    assert is_unreachable(client_error("", "ConnectTimeout"))
    assert not is_unreachable(client_error("", "ReadTimeout"))


@pytest.mark.parametrize("number", range(7))
def test_what_the_hub_says_is_told_in_words_however_deep_it_is_wrapped(number: int) -> None:
    error, kind, message = hub_errors()[number]
    for wrapped in (error, _caused(OSError("we could not connect"), error)):
        told = loading_failed(wrapped, "org/m")
        assert type(told) is kind
        assert message in str(told)


def _caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ImportError("No module named 'einops'"), IntegrationNotInstalledError, "needs a package .*einops"),
        (ValueError("pass trust_remote_code=True"), ConfigurationError, "brings Python code of its own"),
        (
            OSError("no file named\n  pytorch_model.bin"),
            ConfigurationError,
            "cannot be loaded as a model: no file named py",
        ),
        (RuntimeError("size mismatch"), ConfigurationError, "cannot be loaded: RuntimeError: size mismatch"),
        (MemoryError(), ConfigurationError, "not enough memory to load"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), ConfigurationError, "try `dtype='bfloat16'`"),
        (ConfigurationError("as it is"), ConfigurationError, "^as it is$"),
    ],
)
def test_what_goes_wrong_while_loading_is_told_in_words(error: Exception, kind: type[EmbedError], message: str) -> None:
    told = loading_failed(error, "org/m")
    assert type(told) is kind
    with pytest.raises(kind, match=message):
        raise told


def test_running_out_of_memory_says_what_to_lower() -> None:
    error = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    told = embedding_failed(error, "org/m", 512)
    assert type(told) is ProviderError
    assert str(told).startswith("`org/m` ran out of memory on a batch of 512; lower `max_pass_tokens` or `max_length`")


def test_other_failures_keep_their_type_and_message() -> None:
    assert "IndexError: index out of range in self" in str(
        embedding_failed(IndexError("index out of range in self"), "m", 2)
    )
    mine = InvalidInputError("mine")
    assert embedding_failed(mine, "m", 2) is mine
