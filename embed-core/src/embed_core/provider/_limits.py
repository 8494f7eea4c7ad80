"""Limits of an API: stated by its integration, or learned from refusals and remembered for its address."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from embed_core.errors import EmbedError, InvalidInputError
from embed_core.provider._errors import refusal

BYTES_OF_ANY_TOKEN = 8
"""Natural text stays below six bytes a token; a text that exceeds this is too long without asking."""

_TOO_LARGE = 413
_ABOUT_COUNT = re.compile(r"\bbatch|\barray too long|\b(?:inputs|texts|items|elements)\b")
_MOST_INPUTS = re.compile(
    r"(?:max(?:imum)?|at most|up to|limit|exceed\w*|(?:more|less|larger) than)\D{0,40}?(\d+)"
    r"(?!\d| ?(?:byte|char|[km]i?b\b))"
)
_REQUEST_LIMIT = re.compile(r"requested (\d+) tokens, max (\d+) tokens per request")
_INPUT_LIMIT = re.compile(r"length (?:is|of) (\d+)|less than (\d+) tokens|max\D{0,30}?(\d+) tokens")
_REQUESTED = re.compile(r"requested (\d+)|given: ?(\d+)|(?:resulted in|has|got) (\d+) tokens")


@dataclass(frozen=True, slots=True)
class KnownModel:
    """The facts that a provider documents of one model.

    Attributes:
        dimension: the length of its vectors.
        price: US dollars for a million tokens; None where it is not known.
        max_input_tokens: most tokens of one input.
        roles: the API's own word for each kind of input, such as `{"query": "search_query"}`.
        retires: from this day on the provider does not answer; the user is told the successor.
        successor: the model to use instead.
    """

    dimension: int | None = None
    price: float | None = None
    max_input_tokens: int | None = None
    roles: Mapping[str, str] = field(default_factory=dict, hash=False)
    retires: date | None = None
    successor: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one request that a provider documents; None leaves it to be learned.

    Attributes:
        inputs: most inputs.
        bytes: most UTF-8 bytes.
        tokens: most tokens.
        tokens_per_byte: how densely the provider counts, or a guess; no tokenizer is needed.
        counts_inputs: whether the provider's quota of requests counts every input as one.
    """

    inputs: int | None = None
    bytes: int | None = None
    tokens: int | None = None
    tokens_per_byte: float = 0.25
    counts_inputs: bool = False


def counts(error: EmbedError) -> tuple[int | None, int | None]:
    """Return the most tokens of an input and those of the refused one, as far as the server's words tell them."""
    answer = refusal(error)
    message = answer.message.lower() if answer is not None else ""
    return _number(_INPUT_LIMIT, message), _number(_REQUESTED, message)


@dataclass(slots=True)
class Capabilities:
    """The abilities of one server; shared by every model in the process that asks it.

    Needs no lock: every change is one assignment, and one that is lost is learned again.

    Attributes:
        max_inputs: most inputs of a request, where a limit is known.
        max_bytes: most UTF-8 bytes of a request, guessed where the server refused more without naming its limit.
        max_tokens: most tokens of a request, where a limit is known.
        tokens_per_byte: how densely it counts at worst.
        input_tokens: most tokens of one input, by model.
        lacks: features that the server refused, in any form that the integration likes.
        proven: the models that have ever given vectors.
    """

    max_inputs: int | None = None
    max_bytes: int | None = None
    max_tokens: int | None = None
    tokens_per_byte: float = 0.25
    input_tokens: Mapping[str, int] = field(default_factory=dict)
    lacks: frozenset[Hashable] = frozenset()
    proven: frozenset[str] = frozenset()

    @classmethod
    def of(cls, base_url: str, limits: Limits) -> Capabilities:
        """Return the abilities of the server at an address, so far those that its integration states."""
        new = cls(limits.inputs, limits.bytes, limits.tokens, limits.tokens_per_byte)
        return _learned.setdefault((base_url, limits), new)

    def plan(self, inputs: Sequence[Any], most: int, input_tokens: int | None) -> Iterator[range]:
        """Fill requests of at most that many inputs in input order; a text that may be too long goes alone."""
        most = min(most, self.max_inputs or most)
        room = min(self.max_bytes or math.inf, (self.max_tokens or math.inf) / self.tokens_per_byte)
        alone = (input_tokens or math.inf) / self.tokens_per_byte
        start, size, before = 0, 0, 0
        for position, one in enumerate(inputs):
            length = len(one.encode()) if isinstance(one, str) else 0
            full = position - start == most or size + length > room or max(length, before) > alone
            if full and position > start:
                yield range(start, position)
                start, size = position, 0
            size, before = size + length, length
        yield range(start, len(inputs))

    def answered(self, model: str, texts: Sequence[Any]) -> None:
        """Learn from an answer."""
        if model not in self.proven:
            self.proven |= {model}
        if self.max_bytes is not None:
            self.max_bytes = max(self.max_bytes, size_of(texts))

    def refused(self, model: str, texts: Sequence[Any], error: EmbedError) -> None:
        """Take a limit from the words of a refusal, else guess it from the request, not from former guesses."""
        answer = refusal(error)
        if answer is None or not isinstance(error, InvalidInputError):
            return
        message, size = answer.message.lower(), size_of(texts)
        if found := _REQUEST_LIMIT.search(message):
            requested, self.max_tokens = map(int, found.groups())
            self.tokens_per_byte = max(self.tokens_per_byte, requested / max(size, 1))
        elif "token" in message:
            if (limit := counts(error)[0]) is not None:
                self.input_tokens = {**self.input_tokens, model: limit}
        elif len(texts) == 1 or error.indices:  # too many is not the trouble
            return
        elif _ABOUT_COUNT.search(message) and 0 < (most := _number(_MOST_INPUTS, message) or 0) < len(texts):
            self.max_inputs = most
        elif answer.status == _TOO_LARGE and size:
            self.max_bytes = min(self.max_bytes or size, max(size // 2, 1))


_learned: dict[tuple[str, Limits], Capabilities] = {}


def size_of(inputs: Sequence[Any]) -> int:
    """Return the UTF-8 bytes of some texts; 0 for inputs that are no texts."""
    try:
        return sum(map(len, map(str.encode, inputs)))
    except TypeError:
        return 0


def _number(pattern: re.Pattern[str], message: str) -> int | None:
    found = pattern.search(message)
    return int(next(filter(None, found.groups()))) if found else None
