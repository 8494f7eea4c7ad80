"""What a server has been found to support, remembered for its base URL as long as the process lives."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from embed_core.errors import EmbedError, InvalidInputError

from embeddings_openai._errors import refusal
from embeddings_openai._models import TOKENS_PER_BYTE

Format = Literal["base64", "float"] | None
_FORMATS: tuple[Format, ...] = ("base64", "float", None)
_TOO_LARGE = 413
_ABOUT_COUNT = re.compile(r"\bbatch|\barray too long|\b(?:inputs|texts|items|elements)\b")
_MOST_INPUTS = re.compile(
    r"(?:max(?:imum)?|at most|up to|limit|exceed\w*|(?:more|less|larger) than)\D{0,40}?(\d+)"
    r"(?!\d| ?(?:byte|char|[km]i?b\b))"
)
_REQUEST_LIMIT = re.compile(r"requested (\d+) tokens, max (\d+) tokens per request")
_INPUT_LIMIT = re.compile(r"length (?:is|of) (\d+)|less than (\d+) tokens|max\D{0,30}?(\d+) tokens")
_REQUESTED = re.compile(r"requested (\d+)|given: ?(\d+)|(?:resulted in|has|got) (\d+) tokens")


class Counts(NamedTuple):
    """How many tokens a refused input may have and has, as far as the server says."""

    limit: int | None
    requested: int | None


def counts(message: str) -> Counts:
    """Read the numbers out of a server's words, such as "maximum context length is 8192 tokens"."""
    return Counts(*(_number(pattern, message.lower()) for pattern in (_INPUT_LIMIT, _REQUESTED)))


@dataclass(slots=True)
class Capabilities:
    """What one server takes; shared by every model in the process that asks it.

    Needs no lock: every change is one assignment, and one that is lost is learned again.

    Attributes:
        formats: how vectors may be asked for, the best first; None leaves `encoding_format` out.
        without_dimensions: the models that refuse the parameter `dimensions`.
        max_inputs: most inputs of a request, where the server has named a limit.
        max_bytes: most UTF-8 bytes of a request, guessed where it refused more without saying how many it takes.
        max_tokens: most tokens of a request, where it has named a limit.
        tokens_per_byte: how densely it counts at worst.
        input_tokens: most tokens of one input, by model.
        proven: the models that have ever given vectors.
    """

    formats: tuple[Format, ...] = _FORMATS
    without_dimensions: frozenset[str] = frozenset()
    max_inputs: int | None = None
    max_bytes: int | None = None
    max_tokens: int | None = None
    tokens_per_byte: float = TOKENS_PER_BYTE
    input_tokens: Mapping[str, int] = field(default_factory=dict)
    proven: frozenset[str] = frozenset()

    def refused(self, body: Mapping[str, Any], error: EmbedError, *, may_cut: bool) -> bool:
        """Learn from a refusal; tell whether the same inputs can be asked for in another way.

        Args:
            body: what was refused.
            error: the refusal.
            may_cut: whether vectors of full length are of use, because they can be shortened here.
        """
        if (answer := refusal(error)) is None:
            return False
        message = answer.message.lower()
        if "encoding_format" in body and ("encoding_format" in message or "base64" in message):
            return self._without_format(body["encoding_format"])
        if may_cut and "dimensions" in body and "dimension" in message:
            self.without_dimensions |= {body["model"]}
            return True
        if isinstance(error, InvalidInputError):
            self._learn_limits(body, error, message, answer.status)
        return False

    def answered(self, body: Mapping[str, Any], count: int) -> bool:
        """Learn from an answer of so many vectors; tell whether, having none, they can be asked for in another form."""
        if not count:
            format_ = body.get("encoding_format")
            proven = body["model"] in self.proven and format_ == self.formats[0]
            return not proven and self._without_format(format_)
        if body["model"] not in self.proven:
            self.proven |= {body["model"]}
        if self.max_bytes is not None:
            self.max_bytes = max(self.max_bytes, _size(body["input"]))
        return False

    def _without_format(self, format_: Format) -> bool:
        """Ask for vectors in another form from now on; tell whether there is one."""
        if self.formats[0] == format_ and len(self.formats) > 1:  # else another thread has been here
            self.formats = _FORMATS[_FORMATS.index(format_) + 1 :]
        return self.formats[0] != format_

    def _learn_limits(self, body: Mapping[str, Any], error: InvalidInputError, message: str, status: int) -> None:
        """Take a limit from the words, else guess it from what was refused, not from what was guessed before."""
        texts = body["input"]
        size = _size(texts)
        if found := _REQUEST_LIMIT.search(message):
            requested, self.max_tokens = map(int, found.groups())
            self.tokens_per_byte = max(self.tokens_per_byte, requested / max(size, 1))
        elif "token" in message:
            if (limit := counts(message).limit) is not None:
                self.input_tokens = {**self.input_tokens, body["model"]: limit}
        elif len(texts) == 1 or error.indices:  # too many is not the trouble
            return
        elif _ABOUT_COUNT.search(message) and 0 < (most := _number(_MOST_INPUTS, message) or 0) < len(texts):
            self.max_inputs = most
        elif status == _TOO_LARGE:
            self.max_bytes = min(self.max_bytes or size, max(size // 2, 1))


_KNOWN: dict[str, Capabilities] = {}


def capabilities(base_url: str) -> Capabilities:
    """Return what is known of the server at this address."""
    return _KNOWN.setdefault(base_url, Capabilities())


def _size(texts: Sequence[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def _number(pattern: re.Pattern[str], message: str) -> int | None:
    found = pattern.search(message)
    return int(next(filter(None, found.groups()))) if found else None
