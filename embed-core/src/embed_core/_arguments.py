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


def looks_like_a_secret(name: str) -> bool:
    """Tell whether a setting is a secret by its name."""
    return name.lower().endswith(_SECRET)


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
            self._arguments = {name: value for name, value in _given(bound) if name not in known}

    construct.__dict__["marked"] = _marked(init)
    return construct


def _given(bound: inspect.BoundArguments) -> Iterator[tuple[str, Any]]:
    """Yield all arguments but the first, which is the model, by name."""
    for name, value in list(bound.arguments.items())[1:]:
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            yield from value.items()
        elif value or kind is not inspect.Parameter.VAR_POSITIONAL:
            yield name, value


def _known(cls: Any) -> set[str]:
    """Return what needs no remembering: fields, which are known anyway, and what is marked."""
    fields = {name for field, info in cls.model_fields.items() for name in (field, info.alias) if name}
    return fields.union(*(getattr(vars(base).get("__init__"), "marked", ()) for base in cls.__mro__))


def _marked(init: Callable[..., None]) -> frozenset[str]:
    try:
        hints = get_type_hints(init, include_extras=True)
    except NameError:  # types that are there for a type checker only
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
