"""The way to the server by the SDK, whose answers are decoded here: its own decoding takes twice the time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any, Final

from embed_core.provider import ACCEPTED, Reply, Transport

OWN: Final = {"follow_redirects": False}
"""Options of every request: texts and headers with keys would go along with a redirect."""


class SDKTransport(Transport):
    """Carries requests by openai-python, which is imported on the first one."""

    __slots__ = ()

    def post(self, path: str, body: Any, options: Mapping[str, Any]) -> Reply:
        """Send a JSON body; see `Transport`."""
        import openai

        own = {**options, **OWN, "headers": {**options.get("headers", {}), **ACCEPTED}}
        with self.clients.shared() as client:
            answer = client.post(path, body=body, options=own, cast_to=openai.HttpxBinaryResponseContent)
        return Reply(answer.content, answer.response.headers)

    async def apost(self, path: str, body: Any, options: Mapping[str, Any]) -> Reply:
        """Send a JSON body; see `Transport`."""
        import openai

        own = {**options, **OWN, "headers": {**options.get("headers", {}), **ACCEPTED}}
        async with self.clients.lease() as client, asyncio.timeout(self.attempt_timeout):
            answer = await client.post(path, body=body, options=own, cast_to=openai.HttpxBinaryResponseContent)
        return Reply(answer.content, answer.response.headers)

    def connection_errors(self) -> tuple[type[Exception], ...]:
        """Return the SDK's own; see `Transport`."""
        import openai

        return (openai.APIConnectionError,)


def reading_by(hook: Any, http_client: Any) -> Any:
    """Return an HTTP client with a response hook that reads answers first: the SDK would read all of them."""
    hooks = http_client.event_hooks
    if hook not in hooks["response"]:
        http_client.event_hooks = {**hooks, "response": [hook, *hooks["response"]]}
    return http_client


def without_openais_headers() -> dict[str, Any]:
    """Return headers that take out again those that the SDK adds from the environment: they are for OpenAI alone."""
    from openai import omit

    added = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    names = (line.partition(":")[0].strip() for line in added)
    return dict.fromkeys(("OpenAI-Organization", "OpenAI-Project", *names), omit)


def spelled(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return headers with `Authorization` as the SDK spells it: some versions would send two."""
    return {"Authorization" if name.lower() == "authorization" else name: value for name, value in headers.items()}
