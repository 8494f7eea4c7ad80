"""The one way into composed settings: mappings, collections, dataclasses and nested models."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel


def parts(value: Any) -> dict[Any, Any] | None:
    """Return the parts of a composed value by name or position; None for a value that has none."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, BaseModel):
        return {**value.__dict__, **(value.__pydantic_extra__ or {})}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name, None) for field in fields(value)}
    return dict(enumerate(value)) if isinstance(value, list | tuple | set | frozenset | deque) else None


def rebuilt(value: Any, changed: Mapping[Any, Any]) -> Any:
    """Return a composed value of the same kind with these parts: an object has None in place of a missing one."""
    if isinstance(value, Mapping):
        return dict(changed)
    if not isinstance(value, BaseModel) and not is_dataclass(value):
        return type(value)(*changed.values()) if hasattr(value, "_fields") else type(value)(changed.values())
    twin = copy.copy(value)
    for name in parts(value) or ():
        object.__setattr__(twin, name, changed.get(name))
    return twin
