"""Models made like others: copies, pickles and saved forms all go through the constructor."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, SecretStr

from embed_core._arguments import called, constructors, is_transport
from embed_core._canonical import canonical, is_opaque
from embed_core._secrets import is_credential, is_secret, masked, may_be_credential, scrubbed
from embed_core.errors import ConfigurationError

ModelT = TypeVar("ModelT", bound=BaseModel)

ENVIRONMENT = "$env"
"""Stands in a saved argument for the environment variable that held it."""

_SHORTEST_SECRET = 8


def made_like(
    cls: type[ModelT],
    fields: Mapping[str, Any],
    arguments: Mapping[str, Any] | None,
    changes: Mapping[str, Any],
    fields_of: Callable[[ModelT], Mapping[str, Any]],
) -> ModelT:
    """Make a model from the fields and arguments of another one, but for some changes.

    A class without a constructor of its own takes fields as arguments. Any other is made from the arguments alone,
    because it may take a field by another name, or none of those of its base; then the fields that had been assigned
    since are assigned again.
    """
    if arguments is None:
        return cls(**{**fields, **changes})
    model = _constructed(cls, arguments)
    made = fields_of(model)
    assigned = {name: value for name, value in fields.items() if not same(made.get(name), value)}
    if changes:
        own = {name: value for name, value in changes.items() if name in made and name not in arguments}
        for name in own:
            if (argument := argument_of(made[name], arguments)) is not None:
                msg = (
                    f"`{cls.__name__}` takes `{name}` as its argument `{argument}`; change that: `with_({argument}=…)`"
                )
                raise ConfigurationError(msg)
        given = {name: value for name, value in changes.items() if name not in own}
        model = _constructed(cls, {**arguments, **given})
        assigned = {name: value for name, value in assigned.items() if name not in changes} | own
    for name, value in assigned.items():
        setattr(model, name, value)
    return model


def unpickled(cls: Any, fields: Mapping[str, Any], arguments: Mapping[str, Any] | None, identity: str) -> Any:
    """Make a model again in another process, or in this one."""
    model = made_like(cls, fields, arguments, {}, cls._values)
    model._identity = identity
    return model


def argument_of(value: Any, arguments: Mapping[str, Any]) -> str | None:
    """Return the argument of another name that a constructor has the value of a field from, and may keep too."""
    if not (isinstance(value, str) and value):
        return None
    return next((name for name, given in arguments.items() if isinstance(given, str) and given == value), None)


def kept(arguments: Mapping[str, Any], clean: Callable[[str], str] = masked) -> dict[str, Any]:
    """Return the arguments that may leave the process; for a credential, the name of the variable that holds it.

    Args:
        arguments: of a constructor.
        clean: masks secrets in the texts that are none.
    """
    found: dict[str, Any] = {}
    for name, value in arguments.items():
        if not is_secret(name, value):
            if not (is_transport(name) and is_opaque(canonical(value))):
                found[name] = scrubbed(value, name, clean)
        elif is_credential(name) and (variable := _variable(value)) is not None:
            found[name] = {ENVIRONMENT: variable}
    return found


def variables(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment variables that saved arguments refer to, by argument.

    Only a credential may: a saved form that comes from a stranger must not have any variable sent as a text.
    """
    references = {name: value for name, value in arguments.items() if is_credential(name)}
    return {
        name: str(value[ENVIRONMENT])
        for name, value in references.items()
        if isinstance(value, Mapping) and value.keys() == {ENVIRONMENT}
    }


def _variable(value: Any) -> str | None:
    """Return the name of the environment variable that holds a secret."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str) or len(text) < _SHORTEST_SECRET:
        return None
    return next((name for name, one in sorted(os.environ.items()) if one == text and may_be_credential(name)), None)


def _constructed(cls: type[ModelT], arguments: Mapping[str, Any]) -> ModelT:
    given, referred = dict(arguments), variables(arguments)
    for name, variable in referred.items():
        if variable in os.environ:
            given[name] = os.environ[variable]
        else:
            del given[name]
    (init, *_) = constructors(cls)
    for parameter in list(inspect.signature(init).parameters.values())[1:]:
        if parameter.default is parameter.empty and may_be_credential(parameter.name):
            given.setdefault(parameter.name, None)  # the constructor may find it in the environment
    return called(cls, init, given)


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are the same, where that is easily told: arrays are compared by identity."""
    if one is other:
        return True
    equal = type(one) is type(other) and one == other
    return equal is True
