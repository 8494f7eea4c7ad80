"""The arguments that a constructor takes, which decide vectors as fields do."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import takewhile
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import BaseModel, SecretBytes, SecretStr

from embed_core._types import OPERATIONAL
from embed_core.errors import ConfigurationError

T = TypeVar("T")

UNNAMED = "*"
"""Stands for positional arguments that the constructor does not name."""


def is_transport(name: str) -> bool:
    """Tell whether an object is a connection to a provider by its name, which no pickle can hold."""
    return name.lower().endswith(("client", "session"))


def is_secret_type(annotation: Any) -> bool:
    """Tell whether a type is a pydantic secret, or has one in it."""
    return (
        annotation is SecretStr
        or annotation is SecretBytes
        or any(is_secret_type(part) for part in get_args(annotation))
    )


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
