from __future__ import annotations

from email.utils import formatdate

import pytest
from embed_core._headers import retry_after, seconds


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        ("6m0s", 360.0),
        ("1s", 1.0),
        ("6ms", 0.006),
        ("1.5s", 1.5),
        ("1h2m3s", 3723.0),
        ("2d", 172800.0),
        ("12", 12.0),
        ("0.25", 0.25),
        ("", None),
        ("soon", None),
        ("6 parsecs", None),
        ("nan", None),
        ("inf", None),
        ("-5", None),
        ("-1s", None),
    ],
)
def test_durations_in_every_form(duration: str, expected: float | None) -> None:
    found = seconds(duration)
    assert found == (None if expected is None else pytest.approx(expected))


def test_milliseconds_win_over_seconds() -> None:
    assert retry_after({"retry-after-ms": "250", "retry-after": "7"}) == 0.25


def test_a_date_is_measured_against_the_servers_own_clock() -> None:
    headers = {"retry-after": "Fri, 20 Nov 2026 10:00:30 GMT", "date": "Fri, 20 Nov 2026 10:00:00 GMT"}
    assert retry_after(headers) == 30.0


def test_a_date_without_a_server_clock_is_measured_against_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1000.0)
    assert retry_after({"retry-after": formatdate(1100, usegmt=True)}) == 100.0


def test_a_date_gone_by_means_now() -> None:
    assert retry_after({"retry-after": "Fri, 20 Nov 2020 10:00:30 GMT"}) == 0.0


def test_nonsense_asks_for_nothing() -> None:
    assert retry_after({"retry-after": "whenever"}) is None


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Please try again in 2.812s. Visit …", 2.812),
        ("Please try again in 6m0s.", 360.0),
        ("Please try again in 20ms.", 0.02),
        ("Please retry after 26 seconds.", 26.0),
        ("Rate limit reached", None),
    ],
)
def test_words_count_where_headers_are_silent(message: str, expected: float | None) -> None:
    found = retry_after({}, message)
    assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("name", ["retry-after", "retry-after-ms"])
def test_a_negative_time_asks_for_nothing(name: str) -> None:
    assert retry_after({name: "-5"}) is None


@pytest.mark.parametrize("reset", [{}, {"x-ratelimit-reset-tokens": "-1"}, {"x-ratelimit-reset-tokens": "0"}])
def test_an_exhausted_budget_that_does_not_tell_when_it_is_full_again_asks_for_nothing(reset: dict[str, str]) -> None:
    assert retry_after({"x-ratelimit-remaining-tokens": "0", **reset}) is None
    known = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1s"}
    assert retry_after({"x-ratelimit-remaining-tokens": "0", **reset, **known}) == 1.0


def test_an_exhausted_budget_tells_when_it_is_full_again() -> None:
    assert retry_after({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1s"}) == 1.0
    assert retry_after({"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "1s"}) is None


EPOCH = "1790000000"


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": EPOCH},
        {"retry-after-ms": f"{EPOCH}000"},
        {"retry-after": "2d"},
        {"retry-after": "Fri, 27 Nov 2026 10:00:30 GMT", "date": "Fri, 20 Nov 2026 10:00:00 GMT"},
        {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": EPOCH},
    ],
)
def test_more_than_a_day_is_a_date_or_nonsense_and_asks_for_nothing(headers: dict[str, str]) -> None:
    assert retry_after(headers) is None
    assert retry_after({}, "Please try again in 9d") is None
