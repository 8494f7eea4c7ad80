"""What a failed request means: one of `embed_core.errors`, with what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from embed_core.errors import (
    AuthenticationError,
    ConfigurationError,
    EmbedError,
    InputTooLongError,
    InvalidInputError,
    ProviderError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitError,
)

from embeddings_openai._headers import retry_after

_QUOTA = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "access_terminated"}
_BUSY = {"rate_limit_exceeded", "ratelimitreached", "429", "overloaded", "too_many_requests", "tokens", "requests"}
_TOO_LONG = re.compile(
    r"tokens per request|maximum context length|maximum input length|max(?:imum)? .{0,20}tokens|less than \d+ tokens"
    r"|batch size .{0,20}maximum|too many tokens|longer than the maximum|exceeds? .{0,40}(?:context|tokens?|length)",
    re.IGNORECASE,
)
_ABOUT_INPUT = re.compile(r"\binputs?\b(?! should be| are not permitted| type)|empty string", re.IGNORECASE)
_PYDANTIC = re.compile(r"""["']loc["']: ?[\[(](.{0,200}?)[\])], ["']msg["']: ?(["'])(.{0,300}?)\2""")
_NAMED = re.compile(r"\binput\[(\d+)\]")
_SHOWN = 300
_SHORTEST_SECRET = 8


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Who was asked: what every message names.

    Attributes:
        secret: the key, only to take it out of what others say.
        others: the values of headers, which may be secrets too where they are long enough.
        key_variable: the environment variable it may come from.
    """

    model: str
    base_url: str
    secret: str = ""
    others: tuple[str, ...] = ()
    key_variable: str = "OPENAI_API_KEY"

    def __repr__(self) -> str:
        return f"Endpoint({self.model!r}, {self.base_url!r})"

    def scrub(self, text: str) -> str:
        """Return the text without secrets."""
        secrets = {self.secret, *(other for other in self.others if len(other) >= _SHORTEST_SECRET)}
        for secret in sorted(filter(None, secrets), key=len, reverse=True):  # one may be a part of another
            text = text.replace(secret, "***")
        return text

    def quote(self, text: object) -> str:
        """Return what somebody else said as one line of decent length, without secrets."""
        line = " ".join(self.scrub(str(text)).split())
        return line if len(line) <= _SHOWN else line[:_SHOWN] + " …"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error answer, whatever form its body has.

    Attributes:
        status: of HTTP, or what the body says it would be where a gateway hides it behind 200.
        code: the provider's code or type in lower case.
    """

    status: int
    code: str
    message: str
    headers: Mapping[str, str]

    @classmethod
    def read(cls, status: int, headers: Mapping[str, str], body: Any) -> Refusal:
        """Read the forms of OpenAI, Azure, TEI, vLLM, Ollama, FastAPI and plain text."""
        inner = body.get("error", body) if isinstance(body, Mapping) else body
        if not isinstance(inner, Mapping):
            outer = body if isinstance(body, Mapping) else {}
            inner = {"message": inner, "code": outer.get("error_type")}
        names = [str(inner.get(name) or "").lower() for name in ("code", "type", "error_type")]
        code = next((name for name in names if name in _QUOTA | _BUSY), next(filter(None, names), ""))
        message = _without_echo(str(inner.get("message") or inner.get("detail") or inner))
        if status < 400:  # a gateway wraps an error in a success
            status = next((int(name) for name in names if name.isdecimal() and 400 <= int(name) < 600), 502)
        return cls(status, code, message, headers)

    @property
    def kind(self) -> type[EmbedError]:
        """The error this is."""
        kind = self._kind()
        final = kind.retryable and self.headers.get("x-should-retry", "").lower() == "false"
        return ProviderError if final else kind

    def _kind(self) -> type[EmbedError]:
        if self.code in _QUOTA or self.status == 402:
            return QuotaExceededError
        if self.status == 429 or (self.code in _BUSY and self.status >= 500):
            return RateLimitError
        if self.status in {401, 403}:
            return AuthenticationError
        if self.status == 408:
            return ProviderTimeoutError
        if self.status == 500 and "input is too large" in self.message:  # llama.cpp
            return InputTooLongError
        if self.status in {409, 424, 425} or self.status >= 500:
            return ProviderUnavailableError
        if self.status == 413 or (self.status in {400, 422} and _TOO_LONG.search(self.message)):
            return InputTooLongError
        if self.status in {400, 422} and _ABOUT_INPUT.search(self.message):
            return InvalidInputError
        return ProviderError

    def as_error(self, where: Endpoint) -> EmbedError:
        """Return the error, saying what happened and what to do."""
        said = where.quote(self.message)
        request_id = self.headers.get("x-request-id") or self.headers.get("apim-request-id")
        named = f"; request id {request_id}" if request_id else ""
        message = f"`{where.model}` at {where.base_url}: {self._words(where)} ({self.status}: {said}{named})"
        kind = self.kind
        if issubclass(kind, ProviderError):
            asked = retry_after(self.headers, self.message)
            error: EmbedError = kind(message, status_code=self.status, retry_after=asked, request_id=request_id)
        else:
            error = kind(message, indices=[int(index) for index in _NAMED.findall(self.message)])
        vars(error)["refusal"] = replace(self, message=where.scrub(self.message), headers={})
        return error

    def _words(self, where: Endpoint) -> str:
        kind = self.kind
        if kind is ProviderError and self.status == 404:
            if "model" in self.code or "model" in self.message.lower() or "deployment" in self.code:
                return "the model is unknown there or not open to this key; check `model`"
            return "nothing answers at this address; check `api_base`, which usually ends in `/v1`"
        if kind is AuthenticationError and self.status == 403:
            return "the key may not do this; check its permissions, project and region"
        return {
            QuotaExceededError: "the account has no quota left, so waiting is no help; add credit or raise its limit",
            RateLimitError: "too many requests or tokens for now; lower `num_workers` or set a `rate_limiter`",
            AuthenticationError: f"the key was refused; set `{where.key_variable}` or pass `api_key=`",
            ProviderTimeoutError: "no answer in time; raise `timeout` or lower `embed_batch_size`",
            ProviderUnavailableError: "the provider is down or overloaded; try again later",
            InputTooLongError: "more tokens than one input or request may have; see `long_text` and `embed_batch_size`",
            InvalidInputError: "an input was refused",
        }.get(kind, "the request was refused; check the arguments of the model")


def _without_echo(message: str) -> str:
    """Return where and what, such as "body.user: Input should be a valid string", of errors that hold all inputs."""
    found = [
        (".".join(part.strip(" '\"") for part in place.split(",") if part), said)
        for place, _, said in _PYDANTIC.findall(message)
    ]
    return "; ".join(f"{place}: {said}" for place, said in found) or message


def refusal(error: EmbedError) -> Refusal | None:
    """Return the provider's answer that the error stands for; None where it is about something else."""
    return vars(error).get("refusal")


@contextmanager
def translated(where: Endpoint) -> Iterator[None]:
    """Raise what the SDK raises inside the block as one of `embed_core.errors`, with the SDK's as its cause."""
    try:
        yield
    except EmbedError:
        raise
    except Exception as error:
        meaning = _translate(error, where)
        _scrub(error, where)
        raise meaning from error


def _translate(error: Exception, where: Endpoint) -> EmbedError:
    import openai

    asked = f"`{where.model}` at {where.base_url}"
    if isinstance(error, openai.APIStatusError):
        return Refusal.read(error.status_code, error.response.headers, error.body or error.message).as_error(where)
    if isinstance(error, openai.APITimeoutError) and not _failed_to_connect(error):
        return ProviderTimeoutError(f"{asked}: no answer in time; raise `timeout` or lower `embed_batch_size`")
    if isinstance(error, openai.APIConnectionError):
        kind, words = _connection_words(error, where)
        return kind(f"{asked}: {words}")
    return ProviderError(f"{asked}: {type(error).__name__}: {where.quote(error)}")


def _connection_words(error: BaseException, where: Endpoint) -> tuple[type[EmbedError], str]:
    chain = _causes(error)[::-1]  # what the system said first: libraries put words of their own around it
    said = where.quote(next((one for one in chain if str(one)), type(error).__name__))
    for one in chain:
        lower = f"{type(one).__name__} {one}".lower()
        for words, meaning in _CONNECTION:
            if any(word in lower for word in words):
                kind = ConfigurationError if meaning == _NO_ADDRESS else ProviderUnavailableError
                return kind, f"{meaning} ({said})"
    return ProviderUnavailableError, f"the connection failed ({said}); check the network and `api_base`"


def _failed_to_connect(error: BaseException) -> bool:
    """Tell whether the system refused a connection, which is called a timeout where aiohttp is the transport."""
    return any(isinstance(one, OSError) and not isinstance(one, TimeoutError) for one in _causes(error))


def _causes(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    return chain


_NO_ADDRESS = "no usable address; check `api_base`"
_CONNECTION = (
    (("certificate", "ssl", "tls"), "no trusted TLS connection; set `SSL_CERT_FILE` to your proxy's root certificate"),
    (("proxy",), "the proxy refused the connection; check `HTTPS_PROXY` and `NO_PROXY`"),
    (("name or service", "nodename", "getaddrinfo", "name resolution"), "the host name is unknown; check `api_base`"),
    (("refused",), "nobody listens there; check `api_base` and that the server runs"),
    (("unsupportedprotocol", "invalidurl"), _NO_ADDRESS),
)


def _scrub(error: BaseException, where: Endpoint) -> None:
    """Take secrets out of the exceptions that stay visible as causes: servers echo them, and so does `httpx`."""
    for one in (error, *_causes(error)):
        if where.scrub(str(one)) != str(one):
            one.args = tuple(where.scrub(part) if isinstance(part, str) else part for part in one.args)
            if hasattr(one, "message"):
                one.message = where.scrub(str(one.message))
