"""Real texts with a long tail of lengths, from what comes with the interpreter: the same texts on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from keyword import kwlist
from pydoc_data.topics import topics
from statistics import mean, median, quantiles

_SPECIAL = 2
_PARAGRAPHS = (1, 1, 1, 1, 3)  # of a text, in turns: every fifth one is a short section


def real_texts(count: int) -> list[str]:
    """Return Python's keywords, and paragraphs and sections of its documentation, evenly chosen."""
    paragraphs = (" ".join(part.split()) for topic in topics.values() for part in topic.split("\n\n") if part.strip())
    lengths = cycle(_PARAGRAPHS)
    sections = iter(lambda: " ".join(islice(paragraphs, next(lengths))), "")
    texts = list(dict.fromkeys([*kwlist, *sections]))
    return [texts[number * len(texts) // count] for number in range(count)]


def lengths_told(tokens: Sequence[int], limit: int) -> str:
    """Return a line about lengths in tokens, which a limit cuts."""
    low, *_, high = quantiles(tokens, n=20)
    return (
        f"{len(tokens):,} texts, {sum(tokens):,} tokens with [CLS] and [SEP]: "
        f"mean {mean(tokens):.0f}, median {median(tokens):.0f}, "
        f"5 % have {low:.0f} or fewer and 5 % {high:.0f} or more; "
        f"{tokens.count(_SPECIAL + 1)} of a single word piece, {tokens.count(limit)} at the limit of {limit}"
    )
