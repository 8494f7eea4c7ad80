"""Every error of the package, in one tree.

    EmbedError
    ├── InvalidInputError (ValueError)        an input that no model could embed
    │   └── InputTooLongError                 longer than the model, and `long_text="error"`
    ├── ConfigurationError (ValueError)       a setting, spec or saved config that makes no sense
    │   └── UnknownProviderError              no installed package declares that name
    ├── IntegrationNotInstalledError (ImportError)
    ├── ProviderError                         the provider, or a hook, failed
    │   ├── AuthenticationError
    │   ├── QuotaExceededError
    │   ├── RateLimitError                    (can succeed later)
    │   ├── ProviderTimeoutError              (can succeed later)
    │   └── ProviderUnavailableError          (can succeed later)
    ├── EmbeddingIntegrityError               an answer that does not fit the question
    ├── SpaceMismatchError                    vectors of two models that may not be compared
    ├── StoreError                            a key-value store's file that cannot be read or written
    └── BatchError                            several batches of one call failed for different reasons

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
    """The root of every error this package raises.

    Attributes:
        indices: positions that the error is about, in the caller's input; a hook gives them in its batch.
        completed: float32 vector of shape (dimension,) by input position, for what was finished before the error.
    """

    retryable: ClassVar[bool] = False

    def __init__(self, message: str = "", *, indices: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.indices = tuple(indices)
        self.completed: Mapping[int, Any] = {}
        self._reasons: Mapping[int, Exception | None] = {}

    @property
    def failed(self) -> Mapping[int, Exception]:
        """The reason of each input that failed, by position. What is neither here nor `completed` was never sent."""
        return {index: self if reason is None else reason for index, reason in self._reasons.items()}

    @failed.setter
    def failed(self, reasons: Mapping[int, Exception]) -> None:
        self._reasons = {index: None if reason is self else reason for index, reason in reasons.items()}


class InvalidInputError(EmbedError, ValueError):
    """An input that cannot be embedded; `indices` says which."""


class InputTooLongError(InvalidInputError):
    """An input longer than the model takes, where the policy is not to truncate."""


class ConfigurationError(EmbedError, ValueError):
    """A setting, a spec or a saved configuration that makes no sense."""


class UnknownProviderError(ConfigurationError):
    """No installed package declares the provider that a spec or a saved configuration names."""


class IntegrationNotInstalledError(EmbedError, ImportError):
    """A package that the request needs is not installed or does not import; the cause is kept."""


class ProviderError(EmbedError):
    """The provider, or the integration's hook, raised; its own exception is the `__cause__`.

    Attributes:
        status_code: the HTTP status, where there was one.
        retry_after: seconds the provider asked to wait, where it did.
        request_id: the provider's own id of the failed request, where it gave one.
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
    """The provider refused the credentials, or there are none."""


class QuotaExceededError(ProviderError):
    """The account has no quota or credit left; waiting does not help."""


class RateLimitError(ProviderError):
    """Too many requests or tokens for now; `retry_after` says how long to wait if the provider did."""

    retryable = True


class ProviderTimeoutError(ProviderError):
    """The provider did not answer in time."""

    retryable = True


class ProviderUnavailableError(ProviderError):
    """The provider could not be reached, or answered that it is down (5xx)."""

    retryable = True


class EmbeddingIntegrityError(EmbedError):
    """The provider's answer does not fit the request: count, order, dimension or a value that is not finite."""


class SpaceMismatchError(EmbedError):
    """Two sets of vectors come from different spaces and may not be compared."""


class StoreError(EmbedError):
    """A key-value store's file cannot be read or written; as a cache it is reported and bypassed."""


class BatchError(EmbedError):
    """Several batches failed, for different reasons; the first one is the `__cause__`."""
