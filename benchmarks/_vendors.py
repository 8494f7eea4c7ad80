"""Fakes of any vendor's SDK or HTTP client: every name exists, and every call answers vectors of the texts in it.

One object serves as client, request and answer. It finds the texts in its arguments by the words `TEXT`, is a list of
one vector for each, and gives itself for any attribute, key, call, `await` or `with`. As a real client does, it refuses
to be copied or pickled.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import json
import sys
from collections.abc import Collection, Generator, Iterable, Iterator
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, ClassVar, Self

from pydantic_core.core_schema import CoreSchema, any_schema

KEY = "sk-ported-0123456789"
TEXT = "ported text"
SIZE = 4
_ABSENT = {"code", "detail", "error", "errors"}
_ERRORS = ("Error", "Exception", "Failure")
_SETTINGS = {"api_base", "api_key", "api_type", "api_version", "base_url"}


class _Names(type):
    """Gives a class of an SDK any class attribute: a constructor such as `from_pretrained`, a member of an enum."""

    def __getattr__(cls, name: str) -> Any:
        return _member(cls(), name)


class Fake(list[Any], metaclass=_Names):
    """A client, a request or an answer.

    A vector depends on its text and on all else that the client and the request were told (model, task, headers), so a
    copy that has lost an argument embeds otherwise.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        told = list(_leaves((args, kwargs)))
        self.texts = [one for one in told if isinstance(one, str) and TEXT in one]
        # An SDK finds a key that is not handed over in the environment, so that makes no difference.
        self.told = {str(one) for one in told} - {*self.texts, KEY, "None"}
        self.alone = _is_alone((*args, *kwargs.values(), *_bodies(kwargs)))

    def answer(self, client: Fake) -> Self:
        """Fill an answer with vectors, as this client gives them."""
        told = sorted(self.told | client.told)
        self.extend(_Vector(f"{told}{text}", position) for position, text in enumerate(self.texts))
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if args and callable(args[0]) and not isinstance(args[0], Fake):
            return args[0]  # this is a decorator
        request = Fake(*args, **kwargs)
        if request.texts:
            return request.answer(self)
        self.told |= request.told  # such as the headers of a session
        return self

    def __getattr__(self, name: str) -> Any:
        return _member(self, name)

    def __getitem__(self, key: Any) -> Any:
        return _member(self, key) if isinstance(key, str) else super().__getitem__(key)

    def __contains__(self, key: Any) -> bool:
        return key not in _ABSENT

    def __bool__(self) -> bool:
        return True

    def __await__(self) -> Generator[None, None, Self]:
        yield from ()
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    __hash__ = object.__hash__

    def __reduce_ex__(self, _: Any) -> Any:
        raise TypeError("cannot pickle '_thread.lock' object")

    __copy__ = __deepcopy__ = __reduce_ex__

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> CoreSchema:
        return any_schema()  # the type of an SDK may be a union or a `Literal`

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, as a dictionary does."""
        return default if key in _ABSENT else self[key]

    def tolist(self) -> list[Any]:
        """Return plain lists, as an array does."""
        return [one.tolist() for one in self]


class _Vector(Fake):
    """One vector of an answer, and the record that holds it; numbers that a float32 holds exactly."""

    def __init__(self, content: str, position: int) -> None:
        super().__init__()
        self.extend(byte / 256 + 0.5 for byte in hashlib.sha256(content.encode()).digest()[:SIZE])
        self.__dict__.update(index=position, text_index=position)

    def __getitem__(self, key: Any) -> Any:
        return self.__dict__.get(key, self) if isinstance(key, str) else super().__getitem__(key)

    def tolist(self) -> list[Any]:
        return list(self)


def _member(owner: Fake, name: str) -> Any:
    """Return an attribute or a key."""
    if name.startswith("__"):
        raise AttributeError(name)
    if name.endswith(_ERRORS):
        return type(name, (Exception,), {})
    if name in ("status_code", "status"):
        return 200
    if name == "embedding" and owner.alone and len(owner) == 1:
        return owner[0]
    if name == "embed_query":
        return lambda *args, **kwargs: owner(*args, **kwargs)[0]
    if name == "shape":
        return (SIZE,) if isinstance(owner, _Vector) else (len(owner), SIZE)
    if name == "squeeze":
        return lambda **_: owner[0]
    if name == "decode":
        return lambda *_: json.dumps({"embedding": owner.tolist()[0], "embeddings": owner.tolist()})
    return owner


def _leaves(value: Any) -> Iterator[Any]:
    """Yield every plain value in the arguments of a call, however deep it lies, in JSON too."""
    if isinstance(value, Fake):
        yield from (*value.texts, *value.told)
    elif isinstance(value, str) and value.startswith("{"):
        yield from _leaves(json.loads(value))
    elif isinstance(value, str | int | float):
        yield value
    elif isinstance(value, dict):
        yield from _leaves(list(value.values()))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _leaves(one)


def _bodies(kwargs: dict[str, Any]) -> Iterator[Any]:
    body = kwargs.get("json")
    yield from body.values() if isinstance(body, dict) else ()


def _is_alone(values: Iterable[Any]) -> bool:
    """Tell whether a call is about one text, not about a list of texts."""
    return not any(not one.alone if isinstance(one, Fake) else isinstance(one, list | tuple) for one in values)


class _Module(ModuleType):
    __path__: ClassVar[list[str]] = []  # of a package, so that it has submodules

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in _SETTINGS:
            return None
        made = _member(Fake(), name)
        if isinstance(made, Fake) and name[0].isupper():
            made = type(name, (Fake,), {})
        setattr(self, name, made)
        return made


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports any module of some packages, installed or not, as a module in which every name exists."""

    def __init__(self, packages: Collection[str]) -> None:
        """Take the names of top-level packages."""
        self.packages = packages

    def install(self) -> None:
        """Answer all further imports of these packages."""
        for name in [one for one in sys.modules if one.partition(".")[0] in self.packages]:
            del sys.modules[name]
        sys.meta_path.insert(0, self)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """Return a specification for a module of these packages."""
        return ModuleSpec(fullname, self) if fullname.partition(".")[0] in self.packages else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module."""
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: names are made when they are asked for."""
