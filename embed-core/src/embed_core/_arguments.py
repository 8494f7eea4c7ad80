"""What a constructor takes beside the fields of its class, which decides vectors as a field does."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import wraps
from typing import Any, get_type_hints

from embed_core._types import OPERATIONAL

_SECRET = ("key", "password", "secret", "token")
_CREDENTIALS = ("api_key", "apikey", "access_key", "password", "secret", "secret_key")
_TOKENS = ("access_token", "ad_token", "api_token", "auth_token", "hf_token", "token")
_TRANSPORTS = ("client", "session")
UNNAMED = "*"
"""Stands for arguments without a name, which are part of the space and of no copy."""


def looks_like_a_secret(name: str) -> bool:
    """Tell whether a setting may be a secret by its name, as `pad_token` may: it is then neither shown nor saved."""
    return name.lower().endswith(_SECRET)


def is_credential(name: str) -> bool:
    """Tell whether a setting is surely a credential by its name, and so decides no vector and is never saved."""
    lower = name.lower()
    return lower.endswith(_CREDENTIALS) or lower in _TOKENS or lower == "key"


def is_transport(name: str) -> bool:
    """Tell whether a setting is surely how a provider is reached by its name, and so decides no vector."""
    return name.lower().endswith(_TRANSPORTS)


def remembering(init: Callable[..., None]) -> Callable[..., None]:
    """Return a constructor that keeps what it is given beside fields, where `OPERATIONAL` does not mark it.

    A model whose constructor keeps such a thing in a private attribute is written everywhere but here; another model
    with another value would share its cached vectors, and a copy would be made without it.
    """
    signature = inspect.signature(init)

    @wraps(init)
    def construct(self: Any, /, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        cls: Any = type(self)
        if cls.__init__ is construct:  # not on the way up from a subclass
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            known = _known(cls)
            self._arguments = {name: value for name, value in _given(cls, construct, bound) if name not in known}
            if self._arguments:
                self._changed(operational=False)  # what was derived while it was constructed knew nothing of them

    construct.__dict__["marked"] = _marked(init)
    return construct


def _given(cls: type, construct: Any, bound: inspect.BoundArguments) -> Iterator[tuple[str, Any]]:
    """Yield all arguments but the first, which is the model, by name; `*` has what has none."""
    for name, value in list(bound.arguments.items())[1:]:
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            yield from value.items()
        elif kind is inspect.Parameter.VAR_POSITIONAL:
            names = _names_after(cls, construct)
            yield from zip(names, value, strict=False)
            if len(value) > len(names):
                yield UNNAMED, value[len(names) :]
        else:
            yield name, value


def _names_after(cls: type, construct: Any) -> list[str]:
    """Return the positional parameters of the constructor that comes after this one, to which `*args` are passed on."""
    inits = [vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base)]
    after = inits[inits.index(construct) + 1]
    named = list(inspect.signature(after).parameters.values())[1:]
    return [one.name for one in named if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]


def _known(cls: Any) -> set[str]:
    """Return what needs no remembering: fields, which are known anyway, and what is marked."""
    fields = {name for field, info in cls.model_fields.items() for name in (field, info.alias) if name}
    return fields.union(*(getattr(vars(base).get("__init__"), "marked", ()) for base in cls.__mro__))


def _marked(init: Callable[..., None]) -> frozenset[str]:
    try:
        hints = get_type_hints(init, include_extras=True)
    except Exception:  # whatever stands in a hint that nobody has to evaluate
        return frozenset()
    return frozenset(name for name, hint in hints.items() if OPERATIONAL in getattr(hint, "__metadata__", ()))


def plain(value: Any) -> Any:
    """Return a value as JSON has it.

    Raises:
        TypeError: it is no plain data, so nobody can tell whether another one is the same.
    """
    if isinstance(value, Enum):
        return plain(value.value)
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: plain(one) for name, one in value.items()}
    raise TypeError(type(value).__name__)
