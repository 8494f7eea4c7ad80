"""The one layer of retries: only what can succeed later, as the provider asked, within a cap on total time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt

from embed_core._io import IO
from embed_core._types import Next, Request, Vectors
from embed_core.errors import EmbedError

if TYPE_CHECKING:
    from tenacity import RetryCallState


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


@dataclass(frozen=True, slots=True)
class Retried:
    """Tries a provider call again after an error that says it can succeed later."""

    policy: RetryPolicy

    async def __call__(self, request: Request, next: Next, io: IO) -> Vectors:
        async def attempt() -> Vectors:
            request.report.attempts += 1
            return await next(request)

        try:
            return await attempt()
        except EmbedError as error:
            if not error.retryable or not self.policy.max_retries:
                raise
            first = error
        return await self._again(attempt, first, io)

    async def _again(self, attempt: Callable[[], Awaitable[Vectors]], first: EmbedError, io: IO) -> Vectors:
        from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, stop_before_delay

        failed = [first]

        async def resume() -> Vectors:
            if failed:
                raise failed.pop()
            return await attempt()

        return await AsyncRetrying(
            sleep=io.sleep,
            retry=retry_if_exception(lambda error: isinstance(error, EmbedError) and error.retryable),
            wait=self._wait,
            stop=stop_after_attempt(self.policy.max_retries + 1) | stop_before_delay(self.policy.total_seconds),
            reraise=True,
        )(resume)

    def _wait(self, state: RetryCallState) -> float:
        from tenacity import wait_random_exponential

        error = state.outcome and state.outcome.exception()
        asked: float | None = getattr(error, "retry_after", None)
        if asked is not None:
            return max(asked, 0.0)
        return wait_random_exponential(self.policy.initial_seconds, self.policy.max_seconds)(state)
