"""The meaning of failures: the forms of many servers, in one line, without secrets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from embed_core.errors import (
    AuthenticationError,
    EmbedError,
    InputTooLongError,
    InvalidInputError,
    ProviderError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitError,
)
from embed_core.provider import Endpoint, Refusal, refusal

KEY = "sk-this-key-stays-at-home"
HERE = Endpoint("m", "http://here/v1", KEY)


def wrong(*place: object, said: str = "Input should be a valid string") -> dict[str, object]:
    """Return what pydantic says of a field, and all that it repeats."""
    return {"type": "string_type", "loc": place, "msg": said, "input": ["a text with `input` and token", 5]}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": {"message": "'$.input' is invalid"}}, InvalidInputError),
        (400, {"error": {"message": "Requested 9 tokens, max 5 tokens per request"}}, InputTooLongError),
        (400, {"error": {"message": "unknown parameter: colour"}}, ProviderError),
        (
            413,
            {"error": "`inputs` must have less than 512 tokens. Given: 600", "error_type": "Validation"},
            InputTooLongError,
        ),
        (413, "Payload Too Large", InputTooLongError),
        (
            422,
            {"error": "batch size 33 > maximum allowed batch size 32", "error_type": "Validation"},
            InputTooLongError,
        ),
        (422, {"detail": [{"loc": ["body", "input"], "msg": "field required"}]}, InvalidInputError),
        (422, {"detail": [wrong("body", "input", 3)]}, InvalidInputError),
        (422, {"detail": [wrong("body", "user")]}, ProviderError),
        (422, {"detail": [wrong("body", "input_type")]}, ProviderError),
        (422, {"detail": [wrong("body", "colour", said="Extra inputs are not permitted")]}, ProviderError),
        (400, {"object": "error", "message": str([wrong("body", "user")]), "code": 400}, ProviderError),
        (400, {"object": "error", "message": str([wrong("body", "input")]), "code": 400}, InvalidInputError),
        (400, {"message": "user\n  Input should be a valid string [type=string_type, input_value=5]"}, ProviderError),
        (400, {"error": {"message": "Input type 'qery' is unknown"}}, ProviderError),
        (400, {"error": {"message": "`dimensions` is too large"}}, ProviderError),
        (500, {"error": {"message": "input is too large to process.", "type": "server_error"}}, InputTooLongError),
        (424, {"error": "CUDA error", "error_type": "Backend"}, ProviderUnavailableError),
        (429, {"error": "Model is overloaded", "error_type": "Overloaded"}, RateLimitError),
        (400, {"object": "error", "message": "maximum context length is 512 tokens", "code": 400}, InputTooLongError),
        (200, {"error": {"message": "slow down", "code": 429}}, RateLimitError),
        (200, {"error": {"message": "oops", "code": "500"}}, ProviderUnavailableError),
        (200, {"error": {"message": "oops"}}, ProviderUnavailableError),
        (503, {"error": {"message": "busy", "code": "too_many_requests"}}, RateLimitError),
        (402, {"error": {"message": "no credits"}}, QuotaExceededError),
        (500, b"", ProviderUnavailableError),
        (500, None, ProviderUnavailableError),
    ],
)
def test_the_forms_of_many_servers_are_understood(status: int, body: object, kind: type[EmbedError]) -> None:
    assert type(Refusal.read(status, {}, body).as_error(HERE)) is kind


WORDS: dict[tuple[int, type[EmbedError]], list[str]] = {
    (400, InputTooLongError): [
        "The input (120 tokens) is longer than the model's context length",
        "input (600 tokens) is too large to process. increase the physical batch size",
        "exceed context window of 512",
        "Input is too long for this model",
        "sequence length 900 > 512",
        "This model's maximum context length is 512 tokens, however you requested 700 tokens",
        "Please reduce the length of the input.",
        "inputs must have less than 512 tokens. Given: 700",
        "文本过长",
    ],
    (400, ProviderError): [
        "request id in content header is too long",
        "the content of `user` is too long",
        "用户名过长",
        "dimensions exceeds the maximum embedding length 1024",
    ],
    (500, InputTooLongError): [
        "input (600 tokens) is too large to process. increase the physical batch size",
        "the input length exceeds the context length",
    ],
    (500, ProviderUnavailableError): [
        "context deadline exceeded",
        "json: unsupported value: NaN",
        "EOF",
        "out of memory",
        "Processing of the input took too long, please try again later",
        "处理时间过长",
        "failed to create context: context size 8192 does not fit in free memory",
        "request exceeds rate: 1000 tokens per minute",
        "upstream response exceeds Content-Length",
        "max concurrent tokens reached, retry",
    ],
}


@pytest.mark.parametrize(("status", "kind", "said"), [(*key, said) for key, words in WORDS.items() for said in words])
def test_words_tell_a_long_text_from_other_faults(status: int, kind: type[EmbedError], said: str) -> None:
    assert type(Refusal.read(status, {}, {"error": {"message": said}}).as_error(HERE)) is kind


def test_an_answer_of_several_lines_is_one_line() -> None:
    said = "400, message:\n  Not enough data"
    assert "(500: 400, message: Not enough data)" in str(Refusal.read(500, {}, said).as_error(HERE))
    assert str(HERE.meaning(OSError(said), ())).endswith("OSError: 400, message: Not enough data")


def test_a_long_answer_is_shortened() -> None:
    assert len(str(Refusal.read(500, {}, "x" * 10_000).as_error(HERE))) < 500


@pytest.mark.parametrize("form", [str, lambda said: {"error": {"message": said}}, lambda said: {"detail": [said]}])
def test_only_the_beginning_of_a_long_answer_is_searched(form: Callable[[str], object]) -> None:
    said = "unknown parameter" + " x" * 100_000 + " too many tokens for the input"
    error = Refusal.read(400, {}, form(said)).as_error(HERE)
    assert type(error) is ProviderError
    answer = refusal(error)
    assert answer is not None
    assert "unknown parameter" in answer.message
    assert len(answer.message) <= 4096


def test_an_endpoint_shows_no_key() -> None:
    assert KEY not in repr(HERE)


def test_googles_word_counts_and_not_its_number() -> None:
    body = {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "API key not valid."}}
    refused = Refusal.read(400, {}, body)
    assert refused.code == "invalid_argument"
    here = Endpoint("m", "http://here/v1", errors={"invalid_argument": AuthenticationError}, key_variable="ACME_KEY")
    assert type(refused.as_error(here)) is AuthenticationError


def test_a_word_counts_more_than_the_429_beside_it() -> None:
    spent = {"error": {"code": 429, "type": "insufficient_quota", "message": "pay first"}}
    assert type(Refusal.read(429, {}, spent).as_error(HERE)) is QuotaExceededError
    assert Refusal.read(429, {}, {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}).code == "resource_exhausted"


def test_an_empty_body_is_named() -> None:
    assert "(307: an empty body)" in str(Refusal.read(307, {}, "").as_error(HERE))


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("certificate verify failed: unable to get local issuer certificate", "set `SSL_CERT_FILE`"),
        ("certificate verify failed: self-signed certificate in certificate chain", "set `SSL_CERT_FILE`"),
        ("certificate verify failed: certificate has expired", "check the network and `api_base`"),
        ("Hostname mismatch, certificate is not valid for 'here'", "check the network and `api_base`"),
        ("[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] sslv3 alert handshake failure", "check the network and `api_base`"),
        ("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred", "check the network and `api_base`"),
    ],
)
def test_only_an_unknown_issuer_asks_for_a_certificate(said: str, advice: str) -> None:
    error = HERE.meaning(ConnectionError(said), (ConnectionError,))
    assert advice in str(error)
    assert said in str(error)
    assert ("SSL_CERT_FILE" in str(error)) == (advice == "set `SSL_CERT_FILE`")
