"""Exceptions of any client in a hook: tried again where they can pass, as long after as they say."""

import http.client
import socket
import urllib.error
from types import SimpleNamespace

import aiohttp
import httpx
import pytest
from embed_core import RetryPolicy
from embed_core._foreign import translate
from embed_core.errors import (
    AuthenticationError,
    ProviderError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExceededError,
    RateLimitError,
)
from embed_core.testing import ScriptedEmbedding

REQUEST = httpx.Request("POST", "http://here")


def like(name, *bases, message="no", **facts):
    """Return an exception as a library that is not installed here raises it."""
    kind = Exception
    for base in (*reversed(bases), name):
        kind = type(base, (kind,), {})
    error = kind(message)
    vars(error).update(facts)
    return error


def of_requests(status, **headers):
    response = SimpleNamespace(status_code=status, headers=httpx.Headers(headers))
    return like("HTTPError", "RequestException", response=response)


def of_httpx(status, **headers):
    return httpx.HTTPStatusError("no", request=REQUEST, response=httpx.Response(status, headers=headers))


def of_aiohttp(status, **headers):
    asked = SimpleNamespace(real_url="http://here")
    return aiohttp.ClientResponseError(asked, (), status=status, headers=headers)


def of_aws(status, code, **headers):
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    return like("ClientError", response={"Error": {"Code": code}, "ResponseMetadata": metadata})


class Code:
    name = "UNAVAILABLE"


PASSING = {
    "httpx.ConnectError": (httpx.ConnectError("no"), ProviderUnavailableError),
    "httpx.ReadError": (httpx.ReadError("no"), ProviderUnavailableError),
    "httpx.RemoteProtocolError": (httpx.RemoteProtocolError("no"), ProviderUnavailableError),
    "httpx.ReadTimeout": (httpx.ReadTimeout("no"), ProviderTimeoutError),
    "httpx 503": (of_httpx(503), ProviderUnavailableError),
    "httpx 429": (of_httpx(429), RateLimitError),
    "requests.ConnectionError": (like("ConnectionError", "RequestException"), ProviderUnavailableError),
    "requests.ConnectTimeout": (like("ConnectTimeout", "RequestException"), ProviderTimeoutError),
    "requests.ReadTimeout": (like("ReadTimeout", "RequestException"), ProviderTimeoutError),
    "requests.ChunkedEncodingError": (like("ChunkedEncodingError", "RequestException"), ProviderUnavailableError),
    "requests 500": (of_requests(500), ProviderUnavailableError),
    "requests 429": (of_requests(429), RateLimitError),
    "urllib3.MaxRetryError": (like("MaxRetryError", "HTTPError"), ProviderUnavailableError),
    "urllib3.ProtocolError": (like("ProtocolError", "HTTPError"), ProviderUnavailableError),
    "aiohttp.ServerDisconnectedError": (aiohttp.ServerDisconnectedError(), ProviderUnavailableError),
    "aiohttp.ClientPayloadError": (aiohttp.ClientPayloadError("no"), ProviderUnavailableError),
    "aiohttp.ServerTimeoutError": (aiohttp.ServerTimeoutError("no"), ProviderTimeoutError),
    "aiohttp 429": (
        of_aiohttp(429),
        RateLimitError,
    ),
    "urllib 502": (urllib.error.HTTPError("http://here", 502, "no", {}, None), ProviderUnavailableError),
    "urllib.URLError": (urllib.error.URLError("no"), ProviderUnavailableError),
    "socket.gaierror": (socket.gaierror(-3, "no"), ProviderUnavailableError),
    "http.client.RemoteDisconnected": (http.client.RemoteDisconnected("no"), ProviderUnavailableError),
    "http.client.IncompleteRead": (http.client.IncompleteRead(b""), ProviderUnavailableError),
    "botocore throttles": (of_aws(400, "ThrottlingException"), RateLimitError),
    "botocore 503": (of_aws(503, "ServiceUnavailableException"), ProviderUnavailableError),
    "botocore.EndpointConnectionError": (like("EndpointConnectionError", "BotoCoreError"), ProviderUnavailableError),
    "botocore.ReadTimeoutError": (like("ReadTimeoutError", "BotoCoreError"), ProviderTimeoutError),
    "google.ResourceExhausted": (like("ResourceExhausted", code=429), RateLimitError),
    "google.ServiceUnavailable": (like("ServiceUnavailable", code=503), ProviderUnavailableError),
    "google.DeadlineExceeded": (like("DeadlineExceeded", "GatewayTimeout", code=504), ProviderUnavailableError),
    "google.genai.APIError": (like("ClientError", "APIError", code=429, status="RESOURCE_EXHAUSTED"), RateLimitError),
    "grpc": (like("_InactiveRpcError", "RpcError", code=Code), ProviderUnavailableError),
}

FINAL = {
    "no file": (FileNotFoundError("no"), ProviderError),
    "a bug": (AttributeError("no"), ProviderError),
    "httpx 400": (of_httpx(400), ProviderError),
    "requests 401": (of_requests(401), AuthenticationError),
    "not implemented": (of_httpx(501), ProviderError),
    "a wrong address": (like("InvalidURL", "RequestException"), ProviderError),
    "no quota": (like("RateLimitError", status_code=429, code="insufficient_quota"), QuotaExceededError),
}


@pytest.mark.parametrize(("raised", "kind"), PASSING.values(), ids=PASSING)
def test_a_failure_of_any_client_that_can_pass_is_tried_again(raised, kind):
    assert type(translate(raised, "m")) is kind

    def fail_once(turn):
        if not turn.number:
            raise raised
        return turn.vectors

    model = ScriptedEmbedding(script=fail_once, retry=RetryPolicy(max_retries=1, initial_seconds=0))
    assert len(model.get_text_embedding("a")) == 8


@pytest.mark.parametrize(("raised", "kind"), FINAL.values(), ids=FINAL)
def test_a_failure_that_cannot_pass_is_tried_once(raised, kind):
    def fail(turn):
        raise raised

    model = ScriptedEmbedding(script=fail, retry=RetryPolicy(initial_seconds=0))
    with pytest.raises(ProviderError) as caught:
        model.get_text_embedding("a")
    assert type(caught.value) is kind
    assert model.call_count == 1


@pytest.mark.parametrize(
    "raised",
    [
        of_httpx(429, **{"Retry-After": "7"}),
        of_requests(429, **{"Retry-After": "7"}),
        aiohttp.ClientResponseError(
            SimpleNamespace(real_url="http://here"), (), status=429, headers={"retry-after": "7"}
        ),
        urllib.error.HTTPError("http://here", 503, "no", {"retry-after": "7"}, None),
        of_aws(429, "ThrottlingException", **{"retry-after": "7"}),
        like("ResourceExhausted", message="Quota exceeded. Please retry in 7s.", code=429),
    ],
)
def test_the_time_that_a_provider_asks_for_is_read_from_any_client(raised):
    assert translate(raised, "m").retry_after == 7
