"""Collections in the fields of a model, which tell of their changes: cached vectors must not outlive their settings."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import numpy as np
from pydantic import BaseModel

from embed_core._walk import parts


class Changes:
    """A version of the collections in one model's fields, another one after each change in place."""

    __slots__ = ("version",)

    def __init__(self) -> None:
        self.version = object()


IN_HOOK: ContextVar[Changes | None] = ContextVar("embed_core_in_hook", default=None)
"""The changes of the model whose hook runs in this context; a hook that appends to a list changes no setting."""


def _telling(method: Callable[..., Any]) -> Callable[..., Any]:
    def change(self: Any, *args: Any, **kwargs: Any) -> Any:
        if IN_HOOK.get() is self.changes:
            return method(self, *args, **kwargs)
        self.changes.version = object()
        try:
            return method(self, *args, **kwargs)
        finally:
            self.changes.version = object()  # the fingerprint may have been asked for in between

    return change


def _tracked(kind: Any, writes: str) -> Any:
    """Return a subclass of a collection that tells of its changes; its copies and pickles are plain collections."""
    own = {"__slots__": ("changes",), "__reduce__": lambda self: (kind, (kind(self),))}
    methods = {name: _telling(getattr(kind, name)) for name in writes.split()}
    return type(f"Tracked{kind.__name__.title()}", (kind,), methods | own)


_TRACKED: dict[Any, Any] = {
    dict: _tracked(dict, "__delitem__ __ior__ __setitem__ clear pop popitem setdefault update"),
    list: _tracked(
        list, "__delitem__ __iadd__ __imul__ __setitem__ append clear extend insert pop remove reverse sort"
    ),
    set: _tracked(
        set,
        "__iand__ __ior__ __isub__ __ixor__ add clear difference_update discard intersection_update pop remove "
        "symmetric_difference_update update",
    ),
}
_PLAIN: dict[Any, Any] = {tracked: kind for kind, tracked in _TRACKED.items()}


def tracked(value: Any, changes: Changes) -> Any:
    """Return a value with its dicts, lists and sets made to tell of their changes, however deep they lie.

    A collection that tells already stays the same object; collections put into it since are made to tell too.
    """
    if type(value) is tuple:
        return tuple(tracked(one, changes) for one in value)
    kind = _PLAIN.get(type(value), type(value))
    if kind not in _TRACKED:
        return value
    collection = value
    if kind is type(value) or value.changes is not changes:
        collection = _TRACKED[kind](value)
        collection.changes = changes
    if kind is not set:  # its members cannot change
        for place, one in list(collection.items() if kind is dict else enumerate(collection)):
            kind.__setitem__(collection, place, tracked(one, changes))
    return collection


def untracked(value: Any) -> Any:
    """Return a value with plain dicts, lists and sets in place of those that `tracked` made."""
    kind = _PLAIN.get(type(value), type(value))
    if kind is dict:
        return {name: untracked(one) for name, one in value.items()}
    return kind(map(untracked, value)) if kind in {list, set, tuple} else value


def may_change_unseen(value: Any) -> bool:
    """Tell whether a value can be changed in place without a word, as a deque or a model of pydantic can."""
    inside = parts(value)
    if inside is None:
        return isinstance(value, np.ndarray)
    frozen = value.model_config.get("frozen") if isinstance(value, BaseModel) else _is_frozen(value)
    return not frozen or any(map(may_change_unseen, inside.values()))


def _is_frozen(value: Any) -> bool:
    made = getattr(value, "__dataclass_params__", None)
    return type(value) in _PLAIN or isinstance(value, tuple | frozenset) or (made is not None and made.frozen)
