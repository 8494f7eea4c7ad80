"""Every error of the package, in one tree.

    EmbedError
    ├── InvalidInputError (ValueError)        an input that cannot be embedded
    │   └── InputTooLongError                 over the model's limit, with `long_text="error"`
    ├── ConfigurationError (ValueError)       an invalid setting, spec or saved configuration
    │   └── UnknownProviderError              no installed package declares the provider
    ├── IntegrationNotInstalledError (ImportError)
    ├── ProviderError                         the provider, or a hook, failed
    │   ├── AuthenticationError
    │   ├── QuotaExceededError
    │   ├── RateLimitError                    (can succeed later)
    │   ├── ProviderTimeoutError              (can succeed later)
    │   └── ProviderUnavailableError          (can succeed later)
    ├── EmbeddingIntegrityError               an answer that does not fit the request
    ├── SpaceMismatchError                    vectors of two spaces, which may not be compared
    ├── StoreError                            the file of a key-value store cannot be read or written
    └── BatchError                            inputs of one call failed for different reasons

`RateLimitError`, `ProviderTimeoutError` and `ProviderUnavailableError` are the only errors a retry can cure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

__all__ = [
    "AuthenticationError",
    "BatchError",
    "ConfigurationError",
    "EmbedError",
    "EmbeddingIntegrityError",
    "InputTooLongError",
    "IntegrationNotInstalledError",
    "InvalidInputError",
    "ProviderError",
    "ProviderTimeoutError",
    "ProviderUnavailableError",
    "QuotaExceededError",
    "RateLimitError",
    "SpaceMismatchError",
    "StoreError",
    "UnknownProviderError",
]


class EmbedError(Exception):
    """The base class of every error of this package.

    Attributes:
        indices: positions of the inputs at fault, in the caller's input; a hook gives positions in its batch.
        completed: the vectors of all finished inputs, float32 of shape (dimension,), by input position.
    """

    retryable: ClassVar[bool] = False

    def __init__(self, message: str = "", *, indices: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.indices = tuple(indices)
        self.completed: Mapping[int, Any] = {}
        self._reasons: Mapping[int, Exception | None] = {}

    @property
    def failed(self) -> Mapping[int, Exception]:
        """The reason of each failed input, by position. An input in neither `failed` nor `completed` was never sent."""
        return {index: self if reason is None else reason for index, reason in self._reasons.items()}

    @failed.setter
    def failed(self, reasons: Mapping[int, Exception]) -> None:
        self._reasons = {index: None if reason is self else reason for index, reason in reasons.items()}


class InvalidInputError(EmbedError, ValueError):
    """An input that cannot be embedded; `indices` has its position."""


class InputTooLongError(InvalidInputError):
    """An input over the model's limit, with the policy `long_text="error"`."""


class ConfigurationError(EmbedError, ValueError):
    """An invalid setting, spec or saved configuration."""


class UnknownProviderError(ConfigurationError):
    """No installed package declares the provider of a spec or a saved configuration."""


class IntegrationNotInstalledError(EmbedError, ImportError):
    """A required package is not installed, or its import fails with the `__cause__`."""


class ProviderError(EmbedError):
    """The provider or the integration's hook failed; the original exception is the `__cause__`.

    Attributes:
        status_code: the HTTP status, if any.
        retry_after: the seconds that the provider asked to wait, if any.
        request_id: the provider's id of the failed request, if any.
    """

    def __init__(
        self,
        message: str = "",
        *,
        indices: Sequence[int] = (),
        status_code: int | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, indices=indices)
        self.status_code = status_code
        self.retry_after = retry_after
        self.request_id = request_id


class AuthenticationError(ProviderError):
    """The provider refused the credentials, or the credentials are missing."""


class QuotaExceededError(ProviderError):
    """The account has no quota or credit left; waiting does not help."""


class RateLimitError(ProviderError):
    """Too many requests or tokens at the moment; `retry_after` is the wait, if the provider named it."""

    retryable = True


class ProviderTimeoutError(ProviderError):
    """The provider did not answer in time."""

    retryable = True


class ProviderUnavailableError(ProviderError):
    """The provider could not be reached, or answered with a server error (5xx)."""

    retryable = True


class EmbeddingIntegrityError(EmbedError):
    """The provider's answer does not fit the request: wrong count, order or dimension, or no finite numbers."""


class SpaceMismatchError(EmbedError):
    """Vectors come from two different spaces and may not be compared."""


class StoreError(EmbedError):
    """The file of a key-value store cannot be read or written; a failing cache is reported and bypassed."""


class BatchError(EmbedError):
    """Inputs failed for different reasons; the first reason is the `__cause__`."""
