"""Waiting times that a provider asks for, in headers and in words."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

_UNIT_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_LONGEST_PAUSE = 86_400.0  # seconds; more than that is a date, or nonsense
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|d|h|m|s)")
_ASKED = re.compile(r"(?:try again|retry) (?:in|after) ((?:\d+(?:\.\d+)?\s*(?:ms|d|h|m|s)(?![a-z])\s*)+|\d+ seconds?)")


def seconds(duration: str) -> float | None:
    """Return the seconds of a duration such as "6m0s", "20ms" or "1.5"; None if it is none, as "-1" is."""
    text = duration.strip().lower()
    try:
        number = float(text)
    except ValueError:
        parts = _PART.findall(text)
        if not parts or _PART.sub("", text).strip():
            return None
        return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)
    return number if math.isfinite(number) and number >= 0 else None


def retry_after(headers: Mapping[str, str], message: str = "") -> float | None:
    """Return the seconds to wait that the headers ask for, or else the message; None where no plausible time is there.

    Args:
        headers: with names in lower case, or found in any case.
        message: the provider's words.
    """
    asked = _asked(headers, message)
    return asked if asked is None or asked <= _LONGEST_PAUSE else None


def _asked(headers: Mapping[str, str], message: str) -> float | None:
    if (milliseconds := seconds(headers.get("retry-after-ms", ""))) is not None:
        return milliseconds / 1000
    asked = headers.get("retry-after", "")
    if (waited := seconds(asked)) is not None:
        return waited
    if asked and (waited := _until(asked, headers.get("date", ""))) is not None:
        return waited
    if match := _ASKED.search(message.lower()):
        return seconds(match[1].replace(" seconds", "s").replace(" second", "s"))
    spent = [name for name in ("requests", "tokens") if headers.get(f"x-ratelimit-remaining-{name}") == "0"]
    return max(filter(None, (seconds(headers.get(f"x-ratelimit-reset-{name}", "")) for name in spent)), default=None)


def _until(date: str, now: str) -> float | None:
    """Measure an HTTP date against the server's own clock where it tells it, because clocks differ."""
    try:
        moment = parsedate_to_datetime(date).timestamp()
        return max(0.0, moment - (parsedate_to_datetime(now).timestamp() if now else time.time()))
    except ValueError:
        return None
