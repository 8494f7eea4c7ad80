"""The arguments that a constructor takes, which decide vectors as fields do, and the names that secrets have."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from itertools import takewhile
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import BaseModel, SecretBytes, SecretStr

from embed_core._types import OPERATIONAL
from embed_core.errors import ConfigurationError

T = TypeVar("T")

_SECRET = ("key", "password", "secret", "token", "credential")
_CREDENTIALS = (
    *("api_key", "apikey", "access_key", "account_key", "auth_key", "private_key", "secret_key", "shared_key"),
    *("subscription_key", "password", "passphrase", "secret", "credential", "auth_data", "connection_string"),
    *("authorization", "bearer", "cookie"),
)
_CREDENTIAL = {"auth", "key", "pat"}
_TOKENS = {
    *("access", "ad", "api", "auth", "bearer", "client", "hf", "hub", "id", "iam", "jwt", "personal", "refresh"),
    *("secret", "security", "service", "session"),
}
_TRANSPORTS = ("client", "session")
UNNAMED = "*"
"""Stands for positional arguments that the constructor does not name."""

OPAQUE = "…"
"""Stands for a value that is no plain data."""


def looks_like_a_secret(name: str) -> bool:
    """Tell whether a setting may be a secret by its name; errors do not show it, and saved forms leave it out."""
    return name.lower().rstrip("s").endswith(_SECRET) or is_credential(name)


def is_credential(name: str) -> bool:
    """Tell whether a setting is a credential by its name: it decides no vector and never leaves the process.

    `aws_session_token`, `azure_ad_token` and the like are credentials; a `pad_token` or `query_token` is a text.
    """
    lower = name.lower().replace("-", "_").rstrip("s")
    if lower.endswith("token"):
        return lower == "token" or lower.removesuffix("token").rstrip("_").rpartition("_")[2] in _TOKENS
    return lower.endswith(_CREDENTIALS) or name.lower() in _CREDENTIAL


def scrubbed(value: Any) -> Any:
    """Return a value without the credentials in its mappings, such as `{"Authorization": "Bearer …"}` in headers."""
    if isinstance(value, Mapping):
        return {name: scrubbed(one) for name, one in value.items() if not _is_nested_credential(name, one)}
    return type(value)(map(scrubbed, value)) if type(value) in {list, tuple} else value


def _is_nested_credential(name: Any, value: Any) -> bool:
    """Tell whether a text in a mapping is a credential; a bare `key` may be anything there."""
    return isinstance(name, str) and isinstance(value, str) and is_credential(name) and name not in _CREDENTIAL


def is_transport(name: str) -> bool:
    """Tell whether a setting is a connection to a provider by its name, and so decides no vector."""
    return name.lower().endswith(_TRANSPORTS)


def is_secret(annotation: Any) -> bool:
    """Tell whether a type is a pydantic secret, or has one in it."""
    return annotation is SecretStr or annotation is SecretBytes or any(is_secret(part) for part in get_args(annotation))


def holds_secret(value: Any) -> bool:
    """Tell whether a value is a pydantic secret, or a mapping with one in it."""
    if isinstance(value, Mapping):
        return any(holds_secret(one) for one in value.values())
    return isinstance(value, SecretStr | SecretBytes)


def constructors(cls: type) -> list[Callable[..., None]]:
    """Return the constructors of a class that run before pydantic's own, which calls no other."""
    bases = takewhile(lambda base: base is not BaseModel, cls.__mro__)
    own = (vars(base).get("__init__") for base in bases)
    return [init for init in own if init is not None]


def parameters(cls: type) -> set[str]:
    """Return the names of all parameters of a class's constructors."""
    return {name for init in constructors(cls) for name in inspect.signature(init).parameters}


def names_model(cls: type) -> str:
    """Return the parameter by which a class's constructor takes the model: most often `model_name`."""
    taken = (inspect.signature(init).parameters for init in constructors(cls))
    found = (name for names in taken for name in ("model_name", "model", "model_id") if name in names)
    return next(found, "model_name")


def get_from_param_or_env(
    key: str, param: str | None = None, env_key: str | None = None, default: str | None = None
) -> str:
    """Return a setting that was passed, else that of an environment variable, else a default, as LlamaIndex does.

    Args:
        key: the argument's name, for the error.
        param: the argument.
        env_key: the environment variable.
        default: taken where neither is there; None means that the setting is required.

    Raises:
        ConfigurationError: nothing gives the setting.
    """
    found = param if param is not None else os.environ.get(env_key or "") or default
    if found is None:
        hint = f", or set the environment variable `{env_key}`" if env_key else ""
        msg = f"`{key}` is missing; pass `{key}=`{hint}"
        raise ConfigurationError(msg)
    return found


def named(init: Callable[..., None], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a constructor by name, defaults included.

    Raises:
        TypeError: the constructor does not take these arguments.
    """
    bound = inspect.signature(init).bind(None, *args, **kwargs)
    bound.apply_defaults()
    arguments: dict[str, Any] = {}
    for name, value in list(bound.arguments.items())[1:]:
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            arguments |= value
        elif kind is not inspect.Parameter.VAR_POSITIONAL:
            arguments[name] = value
        elif value:
            arguments[UNNAMED] = value
    return arguments


def called(cls: Callable[..., T], init: Callable[..., None], arguments: Mapping[str, Any]) -> T:
    """Call a class with the arguments that `named` has told."""
    kwargs = dict(arguments)
    args, unnamed = [], kwargs.pop(UNNAMED, ())
    for parameter in list(inspect.signature(init).parameters.values())[1:]:
        by_position = unnamed and parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        if by_position or parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            args.append(kwargs.pop(parameter.name))
    return cls(*args, *unnamed, **kwargs)


def operational(cls: type) -> Iterator[str]:
    """Yield the parameters that a class's constructors mark `OPERATIONAL`."""
    for init in constructors(cls):
        with suppress(Exception):  # a hint that names nothing; nobody has to evaluate it
            hints = get_type_hints(init, include_extras=True)
            yield from (name for name, hint in hints.items() if OPERATIONAL in getattr(hint, "__metadata__", ()))


def plain(value: Any) -> Any:
    """Return a value as JSON has it; `OPAQUE` for an object, of which nobody can tell whether another is the same."""
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    found: Any = OPAQUE
    if isinstance(value, list | tuple):
        found = [plain(one) for one in value]
    elif isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        found = {name: plain(one) for name, one in value.items()}
    parts = found.values() if isinstance(found, dict) else found
    return OPAQUE if any(one is OPAQUE for one in parts) else found
