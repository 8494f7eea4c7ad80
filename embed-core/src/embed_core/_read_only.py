"""Collections in the fields of a model, which change by assignment only."""

from __future__ import annotations

from typing import Any, NoReturn


def _refuse(self: Any, *_: Any, **__: Any) -> NoReturn:
    kind = type(self).mro()[1].__name__
    what = f"a `{kind}` in a field of a model is read-only, since vectors are cached under its value"
    raise TypeError(f"{what}; assign a new one to the field; `copy.deepcopy` gives a plain one to start from")


def _read_only(kind: Any, writes: str) -> Any:
    """Return a class of collections that refuse to be changed; their copies and pickles are plain ones."""
    methods = dict.fromkeys(writes.split(), _refuse)
    own = {"__slots__": (), "__reduce__": lambda self: (kind, (kind(self),))}
    return type(f"ReadOnly{kind.__name__.title()}", (kind,), methods | own)


_READ_ONLY: dict[Any, Any] = {
    dict: _read_only(dict, "__delitem__ __ior__ __setitem__ clear pop popitem setdefault update"),
    list: _read_only(
        list, "__delitem__ __iadd__ __imul__ __setitem__ append clear extend insert pop remove reverse sort"
    ),
    set: _read_only(
        set,
        "__iand__ __ior__ __isub__ __ixor__ add clear difference_update discard intersection_update pop remove "
        "symmetric_difference_update update",
    ),
}

_PLAIN: dict[Any, Any] = {frozen: kind for kind, frozen in _READ_ONLY.items()}


def read_only(value: Any) -> Any:
    """Return a value with its plain dicts, lists and sets made read-only, however deep they lie."""
    kind = type(value)
    if kind is dict:
        return _READ_ONLY[dict]({name: read_only(one) for name, one in value.items()})
    if kind is tuple or kind in _READ_ONLY:
        return _READ_ONLY.get(kind, tuple)(map(read_only, value))
    return value


def writable(value: Any) -> Any:
    """Return a value with what `read_only` has made of it undone, in copies."""
    plain = _PLAIN.get(type(value))
    if plain is dict:
        return {name: writable(one) for name, one in value.items()}
    if plain is not None or type(value) is tuple:
        return (plain or tuple)(map(writable, value))
    return value
