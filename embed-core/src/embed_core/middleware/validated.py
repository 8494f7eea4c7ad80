"""Bad input costs nothing: all of it is looked at before the first provider call."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from embed_core._images import ImageLoader
from embed_core._io import IO
from embed_core._result import Onward, Result, without
from embed_core._stream import several
from embed_core._types import Kind, Request
from embed_core.errors import InvalidInputError

_SHOWN = 10


def collect(kind: Kind, inputs: Iterable[Any]) -> list[Any]:
    """Return the inputs of a batch method as a list; see `several`."""
    return list(several(kind, inputs))


@dataclass(frozen=True, slots=True)
class Validated:
    """Refuses inputs that cannot be embedded, by index; images through their loader, `workers` at a time."""

    accepts_blank: bool
    image_loader: Callable[[], ImageLoader] = ImageLoader
    workers: int = 1

    async def __call__(self, request: Request, next: Onward, io: IO) -> Result:
        if request.kind == "image":
            with self.image_loader() as loader:
                return await self._with_images(request, loader, next, io)
        wrong = self._wrong(request.inputs)
        if wrong:
            reasons = {request.indices[row]: reason for row, reason in wrong.items()}
            error = InvalidInputError(_message(reasons), indices=list(reasons))
            return await without(request, dict.fromkeys(wrong, error), next)
        return await next(request)

    async def _with_images(self, request: Request, loader: ImageLoader, next: Onward, io: IO) -> Result:
        images: list[Any] = list(request.inputs)
        wrong: dict[int, InvalidInputError] = {}

        async def load(row: int) -> None:
            try:
                images[row] = await io.call(lambda: loader.load(request.inputs[row], request.indices[row]))
            except InvalidInputError as error:
                wrong[row] = error

        await io.map(load, range(len(images)), workers=min(self.workers, len(images)))
        loaded = replace(request, inputs=images)
        if wrong:
            reasons = {request.indices[row]: str(wrong[row]) for row in sorted(wrong)}
            error = InvalidInputError(_message(reasons), indices=list(reasons))
            error.__cause__ = wrong[min(wrong)].__cause__
            return await without(loaded, dict.fromkeys(sorted(wrong), error), next)
        return await next(loaded)

    def _wrong(self, texts: Sequence[Any]) -> dict[int, str]:
        """Return the reason by row of each text that cannot be embedded."""
        wrong: dict[int, str] = {}
        for row, text in enumerate(texts):
            if not isinstance(text, str):
                wrong[row] = f"is {_describe(text)}, not a `str`; {_remedy(text)}"
            elif not (text.isascii() or _encodable(text)):
                wrong[row] = (
                    "holds a lone surrogate, so it is no valid Unicode; decode its source with `errors='replace'`"
                )
            elif not self.accepts_blank and not text.strip():
                wrong[row] = "is empty or blank, which this model's provider refuses; leave it out"
        return wrong


def _message(wrong: Mapping[int, str]) -> str:
    lines = [f"input {index} {reason}" for index, reason in list(wrong.items())[:_SHOWN]]
    if len(wrong) > _SHOWN:
        lines.append(f"and {len(wrong) - _SHOWN} more inputs")
    return "\n".join(lines)


def _describe(value: object) -> str:
    return "`None`" if value is None else f"a `{type(value).__name__}`"


def _remedy(value: object) -> str:
    if value is None or _is_missing(value):
        return "leave it out"
    if isinstance(value, bytes | bytearray):
        return "decode it first: `data.decode('utf-8')`"
    return "convert it first, for example with `str()`"


def _is_missing(value: object) -> bool:
    """Tell whether a value stands for a missing one: it differs from itself, or is pandas' `NA`, which never tells."""
    try:
        return bool(operator.ne(value, value))
    except Exception:  # of a foreign class
        return type(value).__name__ == "NAType"


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
