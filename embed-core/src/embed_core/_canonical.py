"""The JSON form of a setting in a space: equal settings have one form on every machine, different ones have two."""

from __future__ import annotations

import datetime as dt
import decimal
import dis
import fractions
import functools
import hashlib
import json
import logging
import math
import os
import re
import sys
import uuid
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum
from functools import partial
from logging import Logger
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, TypeAlias

import numpy as np
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from embed_core._secrets import is_credential, is_secret
from embed_core._walk import parts

OPAQUE = "\0…"
"""Stands for an object, of which nobody can tell whether another one is the same."""

_TOLD_BY_REPR = (
    *(bytes, complex, range, slice, type(...), re.Pattern, uuid.UUID, decimal.Decimal, fractions.Fraction),
    *(dt.date, dt.time, dt.timedelta, dt.tzinfo),
)
_CACHED = type(functools.cache(repr))
_MAIN = {"__main__", "__mp_main__"}
_TOOLS = {"_contextvars", "_thread", "asyncio", "threading", "typing"}  # whose objects say nothing about a vector
_log = logging.getLogger("embed_core")
_OBJECTS = "_embed_core_objects"
_HINT = (
    "only in this process are its vectors found again. Put the class into a module, "
    "or pass the object as an argument that is marked `OPERATIONAL`"
)


Code: TypeAlias = dict[Any, str]
"""The forms of classes and functions, which one model reads once."""


def canonical(value: Any, code: Code | None = None) -> Any:
    """Return the form of a setting: plain data as it is, all else under a name with a NUL, which no JSON key has.

    Functions and classes are known by the name under which they can be imported, or else by their code.
    """
    return _Form({} if code is None else code)(value)


def is_plain(form: Any) -> bool:
    """Tell whether a form is that of plain data, which JSON can hold and give back."""
    return "\\u0000" not in json.dumps(form)


def as_saved(form: Any) -> Any:
    """Return a form with plain numbers in place of those that stand for infinity, and for no number."""
    return json.loads(json.dumps(form), object_hook=_as_number)


def is_opaque(form: Any) -> bool:
    """Tell whether a form stands for an object, or has one in it."""
    return json.dumps(OPAQUE) in json.dumps(form)


def known_as(thing: Any, code: Code) -> Any:
    """Return the form of a class: the shortest name under which it can be imported, or else a digest of its code."""
    return _Form(code).named(thing)


class _Form:
    """One walk.

    Attributes:
        code: the forms of classes and functions that are known.
        objects: what some code refers to, and its form, by id; None outside of code. Objects are known by a token, and
            collections by their content when they were seen first, so that a double may note its calls in a list.
    """

    def __init__(self, code: Code) -> None:
        self.code = code
        self.objects: dict[int, tuple[Any, Any]] | None = None
        self._seen: dict[int, int] = {}

    def __call__(self, value: Any) -> Any:
        if isinstance(value, Enum):
            return self(value.value)
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"\0float": str(float(value))}
        if isinstance(value, np.ndarray | np.generic) and value.dtype != object:
            content = hashlib.sha256(value.tobytes()).hexdigest()
            return self(value.item()) if value.ndim == 0 else {"\0array": [str(value.dtype), *value.shape, content]}
        if isinstance(value, type | FunctionType) or (callable(value) and _importable(value) is not None):
            return {"\0name": self.named(value)}
        told = _told(value)
        return self._composed(value) if told is None else {f"\0{type(value).__qualname__}": self(told)}

    def _composed(self, value: Any) -> Any:
        space, inside = getattr(value, "_space", None), parts(value)
        if inside is None or (space is not None and self.objects is not None):
            return self._object(value)
        if space is not None:
            return {"\0model": space()}
        if (place := self._seen.get(id(value))) is not None:
            return {"\0again": place}
        if self.objects is not None and id(value) in self.objects:
            return self.objects[id(value)][1]
        self._seen[id(value)] = len(self._seen)
        try:
            form = self._parts(value, inside)
        finally:
            del self._seen[id(value)]
        if self.objects is not None and not isinstance(value, tuple | frozenset):
            self.objects[id(value)] = value, form
        return form

    def _parts(self, value: Any, inside: Mapping[Any, Any]) -> Any:
        inside = {name: one for name, one in inside.items() if not _is_no_key(name, one)}
        if isinstance(value, Mapping):
            more = {"\0default": self(value.default_factory)} if isinstance(value, defaultdict) else {}
            return more | {
                name if isinstance(name, str) else f"\0{self(name)!r}": self(one) for name, one in inside.items()
            }
        if isinstance(value, set | frozenset):
            return sorted(map(self, value), key=json.dumps)
        if hasattr(value, "__dataclass_fields__") or isinstance(value, BaseModel):
            return {"\0": self.named(type(value))} | {name: self(one) for name, one in inside.items()}
        return [self(one) for one in value if getattr(one, "operational", None) is not True]

    def _object(self, value: Any) -> str:
        if self.objects is None:
            return OPAQUE
        if type(value).__module__ in _TOOLS:
            return f"\0{type(value).__qualname__}"
        if id(value) not in self.objects:
            self.objects[id(value)] = value, f"\0{uuid.uuid4().hex}"
            _log.warning("a class of this script uses a `%s`; %s", type(value).__qualname__, _HINT)
        form: str = self.objects[id(value)][1]
        return form

    # Classes and functions

    def named(self, thing: Any) -> Any:
        """Return the form of a class or function."""
        if self.objects is not None:  # within other code, where it depends on the objects that were met
            return self._named(thing)
        if thing not in self.code:
            self.code[thing] = self._named(thing)
        return self.code[thing]

    def _named(self, thing: Any) -> Any:
        if (name := _importable(thing)) is not None:
            return name
        if (place := self._seen.get(id(thing))) is not None:
            return {"\0again": place}
        self._seen[id(thing)] = len(self._seen)
        outer = self.objects
        if outer is None:
            self.objects = _objects_of(thing)
        code = self._class(thing) if isinstance(thing, type) else self._function(thing)
        self.objects = outer
        if outer is not None:
            return code
        return f"{thing.__qualname__}\0{hashlib.sha256(json.dumps(code, sort_keys=True).encode()).hexdigest()}"

    def _class(self, cls: type) -> Any:
        private = getattr(cls, "__private_attributes__", {})
        members = {name: _unwrapped(one) for name, one in vars(cls).items() if name != _OBJECTS}
        members |= {name: one.default_factory or one.default for name, one in private.items()}
        told = {
            name: self(one)
            for name, one in members.items()
            if isinstance(one, FunctionType)
            or not (name.startswith(("__", "_abc")) or hasattr(BaseModel, name) or one is PydanticUndefined)
        }
        return {"name": cls.__qualname__, "bases": [self.named(base) for base in cls.__bases__], "members": told}

    def _function(self, function: FunctionType) -> Any:
        code = function.__code__
        cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
        outside: dict[str, Any] = {}
        for name, cell in cells.items():
            with suppress(ValueError):  # not set yet
                outside[name] = cell.cell_contents
        outside |= {name: function.__globals__[name] for name in _names(code) if name in function.__globals__}
        written = _written(code)  # such as the number of calls so far
        outside = {name: one for name, one in outside.items() if name not in written and not is_secret(name, one)}
        defaults = [function.__defaults__, function.__kwdefaults__]
        return {"code": self._code(code), "defaults": self(defaults), "outside": self(outside)}

    def _code(self, code: CodeType) -> Any:
        constants = [self._code(one) if isinstance(one, CodeType) else self(one) for one in code.co_consts]
        return [code.co_code.hex(), constants, code.co_names, code.co_varnames]


def _told(value: Any) -> Any:
    """Return plain data that tells a value of some kinds; None for any other."""
    if isinstance(value, _TOLD_BY_REPR):
        return repr(value)
    if isinstance(value, MethodType):
        return [value.__self__, value.__name__]
    if isinstance(value, _CACHED):
        return value.__wrapped__
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, ModuleType):
        return value.__name__
    if value is os.environ:
        return "os.environ"
    return value.name if isinstance(value, Logger) else None


def _importable(thing: Any) -> str | None:
    """Return the shortest name under which a class or function can be imported; None where there is none."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "<")
    if not isinstance(module, str) or module in _MAIN or "<" in name:
        return None
    packages = module.split(".")
    for end in range(1, len(packages) + 1):
        found: Any = sys.modules.get(path := ".".join(packages[:end]))
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is thing:
            return f"{path}:{name}"
    return None


def _as_number(form: dict[str, Any]) -> Any:
    return float(form["\0float"]) if "\0float" in form else form


def _names(code: CodeType) -> set[str]:
    inner = (_names(one) for one in code.co_consts if isinstance(one, CodeType))
    return {*code.co_names}.union(*inner)


def _written(code: CodeType) -> set[str]:
    """Return the names outside of some code that it assigns to."""
    own = {one.argval for one in dis.get_instructions(code) if one.opname in {"STORE_GLOBAL", "STORE_DEREF"}}
    return own.union(*(_written(one) for one in code.co_consts if isinstance(one, CodeType)))


def _is_no_key(name: Any, value: Any) -> bool:
    """Tell whether a setting is a credential that is not set, which makes no difference to one that is."""
    return isinstance(name, str) and is_credential(name) and (value is None or (isinstance(value, str) and not value))


def _unwrapped(member: Any) -> Any:
    """Return the function in a method, a property or a decorator of pydantic."""
    for name in ("__func__", "fget", "func", "wrapped"):
        if not isinstance(member, FunctionType | type) and (inner := getattr(member, name, None)) is not None:
            return _unwrapped(inner)
    return member


def _objects_of(thing: Any) -> dict[int, tuple[Any, Any]]:
    """Return the forms of the objects that some code refers to, which live as long as the code."""
    if _OBJECTS not in vars(thing):
        setattr(thing, _OBJECTS, {})
    objects: dict[int, tuple[Any, Any]] = vars(thing)[_OBJECTS]
    return objects
