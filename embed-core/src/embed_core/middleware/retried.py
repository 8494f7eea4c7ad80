"""The one layer of retries: for errors that can pass, as the provider asked, within a cap on total time."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt

from embed_core._io import IO
from embed_core._result import likeness
from embed_core._types import Next, Progress, Request, Vectors
from embed_core.errors import EmbedError

if TYPE_CHECKING:
    from tenacity import RetryCallState

_log = logging.getLogger("embed_core")


class RetryPolicy(BaseModel):
    """How often, how long apart and for how long in all a provider call is tried again.

    Waits grow exponentially with full jitter, the scheme of
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/, unless the provider names a time.

    Attributes:
        max_retries: attempts after the first; 0 switches retries off.
        initial_seconds: upper bound of the first wait.
        max_seconds: upper bound of every later wait.
        total_seconds: no attempt is made that would start later than this after the first one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_retries: NonNegativeInt = 6
    initial_seconds: NonNegativeFloat = 0.5
    max_seconds: NonNegativeFloat = 30.0
    total_seconds: NonNegativeFloat = 300.0


Result: TypeAlias = Vectors | BaseException
"""The end of an attempt. An error raised through tenacity would wait, with its inputs, for the garbage collector."""


@dataclass(frozen=True, slots=True)
class Retried:
    """Tries a provider call again after an error that says it can succeed later."""

    policy: RetryPolicy

    async def __call__(self, request: Request, next: Next, io: IO) -> Vectors:
        async def attempt() -> Result:
            request.report.attempts += 1
            try:
                return await next(request)
            except BaseException as error:  # raised below
                return error

        result = await attempt()
        later = isinstance(result, EmbedError) and result.retryable
        if later and self.policy.max_retries and likeness(result) != request.outlived:
            result = await self._again(attempt, result, request.progress, io)
            request.progress.note("")
        if isinstance(result, BaseException):
            try:
                raise result
            finally:
                del result  # else this frame and the error hold each other, and the inputs
        return result

    async def _again(
        self, attempt: Callable[[], Awaitable[Result]], first: Result, progress: Progress, io: IO
    ) -> Result:
        from tenacity import AsyncRetrying, retry_if_result, stop_after_attempt, stop_before_delay

        known = [first]
        ended: list[Result] = []  # emptied below: since Python 3.12 an error's traceback holds tenacity's frames

        async def resume() -> list[Result]:
            ended[:] = [known.pop() if known else await attempt()]
            return ended

        await AsyncRetrying(
            sleep=io.sleep,
            before_sleep=partial(self._tell, progress),  # not the request: tenacity's objects wait for the collector
            retry=retry_if_result(lambda ended: _can_succeed_later(ended[0])),
            wait=self._wait,
            stop=stop_after_attempt(self.policy.max_retries + 1) | stop_before_delay(self.policy.total_seconds),
            retry_error_callback=lambda _: None,
        )(resume)
        return ended.pop()

    def _tell(self, progress: Progress, state: RetryCallState) -> None:
        """Say what failed and how long the wait is, as words: a record of the log must not hold the error."""
        ended: Any = state.outcome
        words = f"trying again in {state.upcoming_sleep:.3g} s, {state.attempt_number} of {self.policy.max_retries}"
        _log.warning("%s; %s", str(ended.result()[0]), words)
        progress.note(words)

    def _wait(self, state: RetryCallState) -> float:
        from tenacity import wait_random_exponential

        ended: Any = state.outcome
        asked: float | None = getattr(ended.result()[0], "retry_after", None)
        if asked is not None:
            return max(asked, 0.0)
        return wait_random_exponential(self.policy.initial_seconds, self.policy.max_seconds)(state)


def _can_succeed_later(result: Result) -> bool:
    return isinstance(result, EmbedError) and result.retryable
