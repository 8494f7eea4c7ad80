"""The meaning of a failed request: one of `embed_core.errors`, with the way out."""

from __future__ import annotations

import re
import ssl
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from os import environ
from typing import Any
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from embed_core._headers import retry_after
from embed_core._secrets import cleanse, quoted
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

_QUOTA = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "access_terminated"}
_BUSY = {"rate_limit_exceeded", "ratelimitreached", "429", "overloaded", "too_many_requests", "tokens", "requests"}
_TOO_LONG = re.compile(
    r"tokens per request|maximum input length|max(?:imum)? .{0,20}tokens|less than \d+ tokens|batch size .{0,20}maximum"
    r"|too many tokens|longer than the (?:max|model|limit|context)"
    r"|(?<!dimensions )exceeds? .{0,40}(?:context|tokens?|length)"
    r"|(?:input|text|prompt|sequence)s?\b.{0,40}(?<!took )\btoo (?:long|large)|context (?:length|window|size)"
    r"|sequence length|(?:reduce|shorten) .{0,20}(?:length|input|text|prompt)"
    r"|(?:输入|文本|内容|入力|テキスト).{0,10}(?:[过過]长|超长|太长|長すぎ)",
    re.IGNORECASE,
)
_TOO_LONG_BY_500 = re.compile(
    r"input (?:\(\d+ tokens\) )?is too large|input length exceeds .{0,20}context length", re.IGNORECASE
)
_ABOUT_INPUT = re.compile(r"\binputs?\b(?! should be| are not permitted| type)|empty string", re.IGNORECASE)
_NO_EMBEDDINGS = re.compile(r"(?:not|n't) support embeddings?(?: api)?\s*(?:[^\w\s]|$)", re.IGNORECASE)
_PYDANTIC = re.compile(r"""["']loc["']: ?[\[(](.{0,200}?)[\])], ["']msg["']: ?(["'])(.{0,300}?)\2""")
_NAMED = re.compile(r"\binput\[(\d+)\]")
_READ = 4096  # characters of an answer's words: searching them takes time, and the rest repeats the inputs
_SHOWN = 300
_SHORTEST_SECRET = 8


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The model and server that every message names.

    Attributes:
        secret: the key, only to take it out of messages.
        others: groups of header values, which may be secrets too where they are long enough.
        key_variable: the environment variable that the key may come from.
        errors: the provider's own codes, in lower case, and the errors that they mean.
        address_field: the model's field for its address.
    """

    model: str
    base_url: str
    secret: str = ""
    others: tuple[Collection[str], ...] = ()
    key_variable: str = ""
    errors: Mapping[str, type[EmbedError]] = field(default_factory=dict)
    address_field: str = "api_base"

    def __repr__(self) -> str:
        return f"Endpoint({self.model!r}, {self.base_url!r})"

    def __str__(self) -> str:
        return f"`{self.model}` at {self.base_url}"

    def scrub(self, text: str) -> str:
        """Return the text without secrets."""
        secrets = {self.secret, *(one for group in self.others for one in group if len(one) >= _SHORTEST_SECRET)}
        for secret in sorted(filter(None, secrets), key=len, reverse=True):  # one may be a part of another
            text = text.replace(secret, "***")
        return text

    def quote(self, text: object) -> str:
        """Return a foreign text as one line of decent length, without secrets."""
        line = " ".join(self.scrub(str(text)).split())
        return line if len(line) <= _SHOWN else line[:_SHOWN] + " …"

    def meaning(self, error: Exception, connection_errors: tuple[type[Exception], ...]) -> EmbedError:
        """Return the error of our tree for an exception of a client, and take secrets out of the latter.

        Args:
            error: raised by an HTTP library or an SDK; a refused request has a `response`.
            connection_errors: the types that the client raises when there is no answer.
        """
        response: Any = getattr(error, "response", None)
        if isinstance(getattr(response, "status_code", None), int):
            body = getattr(error, "body", None) or _parsed(response)
            meaning = Refusal.read(response.status_code, response.headers, body).as_error(self)
        elif "Timeout" in type(error).__name__ and not _failed_to_connect(error):
            words = "no answer in time; raise `timeout` or lower `embed_batch_size`"
            meaning = ProviderTimeoutError(f"{self}: {words}")
        elif isinstance(error, connection_errors):
            meaning = self._unreachable(error)
        elif isinstance(error, _OF_A_FILE) and (names := [name for name in _CERTIFICATES if environ.get(name)]):
            words = f"no certificates can be read from the file that `{names[0]}` names; correct it or unset it"
            meaning = ConfigurationError(f"{self}: {words} ({self.quote(error)})")
        else:
            meaning = ProviderError(f"{self}: {type(error).__name__}: {self.quote(error)}")
        self.cleanse(error)
        location = getattr(response, "headers", {}).get("location", "")
        address = self.elsewhere(location)
        if (shown := quoted(address)) != address or "#" in location:  # httpx has it in its words
            cleanse(error, lambda text: text.replace(location, shown))
        return meaning

    def elsewhere(self, location: str) -> str:
        """Return the address that an answer leads to, which may hold a password or key, without its fragment."""
        address = "%20".join(location.split()).partition("#")[0]
        with suppress(ValueError):  # it is no address
            return urljoin(self.base_url, address)
        return address

    def _unreachable(self, error: BaseException) -> EmbedError:
        chain = [*_causes(error)[::-1], error]  # the system's words first: libraries put their own around them
        said = self.quote(next((one for one in chain if str(one)), type(error).__name__))
        proxy, names = self._proxy(), f"check `{self.address_field}`"
        for one in chain:
            lower = f"{type(one).__name__} {one}".lower()
            for words, meaning, kind in _CONNECTION:
                if any(word in lower for word in words):
                    told = _BY_PROXY if proxy and meaning in _NOT_THERE else meaning
                    return kind(f"{self}: {told.format(check=names, proxy=proxy, field=self.address_field)} ({said})")
        failed = f"the connection failed ({said}); check the network and `{self.address_field}`"
        return ProviderUnavailableError(f"{self}: {failed}")

    def _proxy(self) -> str:
        """Return the variable of the proxy that requests go by unless a client says otherwise, if there is one."""
        parts, proxies = urlsplit(self.base_url), getproxies_environment()
        name = next((name for name in (parts.scheme, "all") if name in proxies), "")
        return f"{name.upper()}_PROXY" if name and not proxy_bypass(parts.netloc) else ""

    def cleanse(self, error: BaseException) -> None:
        """Take secrets out of the exceptions that stay visible as causes: servers echo them, and so does `httpx`."""
        cleanse(error, self.scrub)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error answer, whatever form its body has.

    Attributes:
        status: of HTTP, or the status that the body names where a gateway hides it behind 200.
        code: the provider's code or type in lower case.
    """

    status: int
    code: str
    message: str
    headers: Mapping[str, str]

    @classmethod
    def read(cls, status: int, headers: Mapping[str, str], body: Any) -> Refusal:
        """Read the forms of OpenAI, Google, Azure, TEI, vLLM, Ollama, FastAPI and plain text."""
        inner = body.get("error", body) if isinstance(body, Mapping) else body
        if not isinstance(inner, Mapping):
            outer = body if isinstance(body, Mapping) else {}
            inner = {"message": inner or "an empty body", "code": outer.get("error_type")}
        names = [str(inner.get(name) or "").lower() for name in ("code", "status", "type", "error_type")]
        # Google has the status there, and a word elsewhere
        words = [name for name in names if name and not name.isdecimal()] or [*filter(None, names), ""]
        code = next((word for word in words if word in _QUOTA | _BUSY), words[0])
        message = _without_echo(str(inner.get("message") or inner.get("detail") or inner)[:_READ])
        if status < 300:  # a gateway wraps an error in a success
            status = next((int(name) for name in names if name.isdecimal() and 400 <= int(name) < 600), 502)
        return cls(status, code, message, headers)

    def kind(self, own: Mapping[str, type[EmbedError]] | None = None) -> type[EmbedError]:
        """Return the error that this is, by the provider's own codes first."""
        kind = (own or {}).get(self.code) or self._kind()
        final = kind.retryable and self.headers.get("x-should-retry", "").lower() == "false"
        return ProviderError if final else kind

    def _kind(self) -> type[EmbedError]:
        status, about_input = self.status, self.status in {400, 422}
        too_long = _TOO_LONG if about_input else _TOO_LONG_BY_500  # of llama.cpp and Ollama; others' may pass
        for applies, kind in (
            (self.code in _QUOTA or status == 402, QuotaExceededError),
            (status == 429 or (self.code in _BUSY and status >= 500), RateLimitError),
            (status in {401, 403}, AuthenticationError),
            (_NO_EMBEDDINGS.search(self.message), ConfigurationError),
            (status == 408, ProviderTimeoutError),
            (status == 413 or too_long.search(self.message), InputTooLongError),
            (status in {409, 424, 425} or status >= 500, ProviderUnavailableError),
            (about_input and _ABOUT_INPUT.search(self.message), InvalidInputError),
        ):
            if applies:
                return kind
        return ProviderError

    def as_error(self, where: Endpoint) -> EmbedError:
        """Return the error, with the provider's words and the way out."""
        said, kind = where.quote(self.message), self.kind(where.errors)
        request_id = self.headers.get("x-request-id") or self.headers.get("apim-request-id")
        named = f"; request id {request_id}" if request_id else ""
        message = f"{where}: {self._words(kind, where)} ({self.status}: {said}{named})"
        if issubclass(kind, ProviderError):
            asked = retry_after(self.headers, self.message)
            error: EmbedError = kind(message, status_code=self.status, retry_after=asked, request_id=request_id)
        else:
            error = kind(message, indices=[int(index) for index in _NAMED.findall(self.message)])
        vars(error)["refusal"] = replace(self, message=where.scrub(self.message), headers={})
        return error

    def _words(self, kind: type[EmbedError], where: Endpoint) -> str:
        if kind is ProviderError and self.status == 404:
            if "model" in self.code or "model" in self.message.lower() or "deployment" in self.code:
                return "the model is unknown there or not open to this key; check `model`"
            ending = ", which usually ends in `/v1`" if where.address_field == "api_base" else ""
            return f"nothing answers at this address; check `{where.address_field}`{ending}"
        if kind is ProviderError and self.status < 400:
            there = where.quote(quoted(where.elsewhere(self.headers.get("location", ""))))
            change = f"change `{where.address_field}` if that is right"
            return f"the address leads to {there} but redirects are not followed; {change}"
        if kind is AuthenticationError and self.status == 403:
            return "the key may not do this; check its permissions, project and region"
        if kind is AuthenticationError:
            return f"the key was refused; set `{where.key_variable}` or pass `api_key=`"
        return _WORDS.get(kind, "the request was refused; check the arguments of the model")


_WORDS: Mapping[type[EmbedError], str] = {
    QuotaExceededError: "the account has no quota left, so waiting is no help; add credit or raise its limit",
    RateLimitError: "too many requests or tokens for now; lower `num_workers` or set a `rate_limiter`",
    ProviderTimeoutError: "no answer in time; raise `timeout` or lower `embed_batch_size`",
    ProviderUnavailableError: "the provider is down or overloaded; try again later",
    InputTooLongError: "more tokens than one input or request may have; see `long_text` and `embed_batch_size`",
    InvalidInputError: "an input was refused",
    ConfigurationError: "the model makes no embeddings; choose another `model`, or start its server for embeddings",
}
_UNKNOWN_HOST = "the host name is unknown; {check}"
_NOBODY = "nobody listens there; {check} and that the server runs"
_NOT_THERE = (_UNKNOWN_HOST, _NOBODY)
_BY_PROXY = "no connection, most likely to the proxy that `{proxy}` names; check it, `NO_PROXY` and `{field}`"
_CONNECTION: tuple[tuple[tuple[str, ...], str, type[EmbedError]], ...] = (
    (
        ("wrong_version_number", "record layer failure", "packet length too long"),
        "this port speaks no TLS; begin `{field}`, or the address of your proxy, with `http://`",
        ConfigurationError,
    ),
    (
        ("self-signed", "self signed", "get local issuer", "get issuer", "verify the first certificate"),
        "no trusted TLS connection; set `SSL_CERT_FILE` to your proxy's root certificate",
        ProviderUnavailableError,
    ),
    (("proxy",), "the proxy refused the connection; check `HTTPS_PROXY` and `NO_PROXY`", ProviderUnavailableError),
    (("name or service", "nodename", "getaddrinfo", "name resolution"), _UNKNOWN_HOST, ProviderUnavailableError),
    (("refused",), _NOBODY, ProviderUnavailableError),
    (("unsupportedprotocol", "invalidurl"), "no usable address; {check}", ConfigurationError),
)
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_OF_A_FILE = (FileNotFoundError, PermissionError, ssl.SSLError)


def refusal(error: BaseException) -> Refusal | None:
    """Return the provider's answer that an error stands for; None where it is about something else."""
    found: Refusal | None = vars(error).get("refusal")
    return found


def _without_echo(message: str) -> str:
    """Return place and words, such as "body.user: Input should be a valid string", of errors that hold all inputs."""
    found = [
        (".".join(part.strip(" '\"") for part in place.split(",") if part), said)
        for place, _, said in _PYDANTIC.findall(message)
    ]
    return "; ".join(f"{place}: {said}" for place, said in found) or message


def _parsed(response: Any) -> Any:
    try:
        return response.json()
    except ValueError:
        return response.text


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
