from __future__ import annotations

import asyncio
import gc
import json
import os
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from embed_core import RetryPolicy, Vectors, resolve_embed_model
from embed_core.errors import AuthenticationError, ConfigurationError, InvalidInputError
from embed_core.instrumentation import CallbackManager, EmbeddingEndEvent, EmbeddingEvent
from embed_core.testing import EmbeddingConformance, faults
from embeddings_openai import AzureOpenAIEmbedding, OpenAICompatibleEmbedding, OpenAIEmbedding
from embeddings_openai.testing import FakeEmbeddingServer

Embed = Callable[[OpenAIEmbedding, list[str]], Vectors]

KEY = "sk-this-key-stays-at-home"  # the server fixture takes no other


def asynchronously(model: OpenAIEmbedding, texts: list[str]) -> Vectors:
    return asyncio.run(model.aembed_texts(texts))


both_colours = pytest.mark.parametrize("embed", [OpenAIEmbedding.embed_texts, asynchronously], ids=["sync", "async"])


class TestConformance(EmbeddingConformance):
    @pytest.fixture
    def model(self, server: FakeEmbeddingServer, monkeypatch: pytest.MonkeyPatch) -> OpenAIEmbedding:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        return OpenAIEmbedding(api_key=KEY, api_base=server.base_url)


@both_colours
def test_one_request_for_a_batch_and_vectors_by_index(
    model: OpenAIEmbedding, server: FakeEmbeddingServer, embed: Embed
) -> None:
    server.inject(faults.shuffled())
    texts = ["one", "two", "three"]
    assert np.array_equal(embed(model, texts), server.vectors(texts))
    (request,) = server.requests
    assert request.body == {"model": "text-embedding-3-small", "input": texts, "encoding_format": "base64"}


def test_dimensions_are_asked_of_the_server(server: FakeEmbeddingServer) -> None:
    with OpenAIEmbedding("text-embedding-3-small", dimensions=512, api_key=KEY, api_base=server.base_url) as model:
        assert model.dimension == 512
        assert np.array_equal(model.embed_texts(["a"]), server.vectors(["a"], 512))


def test_the_model_has_its_names_from_llamaindex_too(server: FakeEmbeddingServer) -> None:
    assert OpenAIEmbedding(model="text-embedding-3-large").model_name == "text-embedding-3-large"
    assert OpenAIEmbedding(model_name="text-embedding-ada-002").model_name == "text-embedding-ada-002"
    assert OpenAIEmbedding(model="").model_name == OpenAIEmbedding().model_name == "text-embedding-3-small"


def test_a_spec_names_model_and_options() -> None:
    model = resolve_embed_model("openai:text-embedding-3-small?dimensions=512")
    assert isinstance(model, OpenAIEmbedding)
    assert (model.model_name, model.dimensions) == ("text-embedding-3-small", 512)
    assert resolve_embed_model("openai:").model_name == "text-embedding-3-small"


def test_requests_are_filled_up_to_the_providers_limits_in_input_order() -> None:
    model = OpenAIEmbedding(embed_batch_size=2048)
    short = model._plan("text", ["word"] * 5000)
    assert [len(batch) for batch in short] == [2048, 2048, 904]
    long = list(model._plan("text", ["x" * 30_000] * 100))
    assert [len(batch) for batch in long] == [40, 40, 20]
    assert [row for batch in long for row in batch] == list(range(100))


def test_usage_is_in_the_end_event(model: OpenAIEmbedding) -> None:
    events: list[EmbeddingEvent] = []
    model.callback_manager = CallbackManager()
    model.callback_manager.add_handler(events.append)
    model.embed_texts(["four", "eight888"])
    ended = [event for event in events if isinstance(event, EmbeddingEndEvent)]
    assert [event.usage for event in ended] == [{"tokens": 3}]


def test_events_say_where_vectors_come_from(model: OpenAIEmbedding, server: FakeEmbeddingServer) -> None:
    events: list[EmbeddingEvent] = []
    model.callback_manager = CallbackManager()
    model.callback_manager.add_handler(events.append)
    model.embed_texts(["a"])
    origin = events[0].origin
    assert (origin.provider, origin.address, origin.port) == ("openai", "127.0.0.1", server.port)
    assert origin.encoding_formats == ("base64",)


def test_more_parameters_go_with_every_request_and_into_the_space(server: FakeEmbeddingServer) -> None:
    with OpenAIEmbedding(api_key=KEY, api_base=server.base_url, additional_kwargs={"user": "me"}) as model:
        model.get_text_embedding("a")
    assert server.requests[0].body["user"] == "me"
    assert model.fingerprint != OpenAIEmbedding().fingerprint


@pytest.mark.parametrize("source", ["argument", "environment"])
def test_an_address_with_a_password_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    given = "http://me:secret@gateway/v1"
    if source == "environment":
        monkeypatch.setenv("OPENAI_BASE_URL", given)
    with pytest.raises(ValueError, match="must not hold a user") as caught:
        OpenAIEmbedding(api_key=KEY, api_base=given if source == "argument" else None).get_text_embedding("a")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("given", ["ftp://here/v1", "api.openai.com/v1", "localhost:8080/v1", "http:///v1", "here"])
@pytest.mark.parametrize("source", ["argument", "environment"])
def test_an_address_of_another_scheme_is_refused(monkeypatch: pytest.MonkeyPatch, source: str, given: str) -> None:
    if source == "environment":
        monkeypatch.setenv("OPENAI_BASE_URL", given)
    with pytest.raises(ValueError, match="an address begins with `http://` or `https://` and a host"):
        OpenAIEmbedding(api_key=KEY, api_base=given if source == "argument" else None).get_text_embedding("a")


def test_max_retries_is_short_for_a_retry_policy() -> None:
    assert OpenAIEmbedding(max_retries=1).retry == RetryPolicy(max_retries=1)
    both = OpenAIEmbedding(max_retries=1, retry=RetryPolicy(total_seconds=5))
    assert both.retry == RetryPolicy(max_retries=1, total_seconds=5)


# Keys


def test_a_missing_key_is_said_before_anything_is_sent() -> None:
    with pytest.raises(AuthenticationError, match="set `OPENAI_API_KEY`"):
        OpenAIEmbedding().get_text_embedding("a")


def test_the_key_of_the_environment_is_read_on_use(
    server: FakeEmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    with OpenAIEmbedding() as model:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        assert model.get_text_embedding("a") == server.vector("a").tolist()


def test_secrets_are_nowhere_to_be_seen(server: FakeEmbeddingServer) -> None:
    wrong = "sk-wrong-and-secret"
    model = OpenAIEmbedding(api_key=wrong, api_base=server.base_url, default_headers={"x-gateway": wrong})
    with model, pytest.raises(AuthenticationError) as caught:
        model.get_text_embedding("a")
    cause = caught.value.__cause__
    shown = [repr(model), json.dumps(model.to_dict()), str(caught.value), str(cause), repr(cause)]
    assert not any(wrong in one for one in shown)
    assert wrong.encode() not in pickle.dumps(model)
    with pytest.raises(ValueError, match="did you mean `api_key`") as refused:
        OpenAIEmbedding(api_keyy=wrong)
    assert wrong not in str(refused.value)


def test_default_headers_are_sent(server: FakeEmbeddingServer) -> None:
    with OpenAIEmbedding(api_key=KEY, api_base=server.base_url, default_headers={"x-gateway": "yes"}) as model:
        model.get_text_embedding("a")
    assert server.requests[0].headers["x-gateway"] == "yes"


def azure(server: FakeEmbeddingServer, **headers: str) -> AzureOpenAIEmbedding:
    return AzureOpenAIEmbedding(azure_endpoint=server.azure_endpoint, api_key=KEY, default_headers=headers)


def compatible(server: FakeEmbeddingServer, **headers: str) -> OpenAICompatibleEmbedding:
    return OpenAICompatibleEmbedding("m", api_base=server.base_url, api_key=KEY, default_headers=headers)


@pytest.mark.parametrize("cls", [OpenAIEmbedding, OpenAICompatibleEmbedding])
@pytest.mark.parametrize("name", ["authorization", "Authorization", "AUTHORIZATION"])
def test_a_users_own_authorization_is_the_only_one(server: FakeEmbeddingServer, cls: type[Any], name: str) -> None:
    own = {name: f"Bearer {KEY}"}
    with cls("m", api_key="another", api_base=server.base_url, default_headers=own) as model:
        model.get_text_embedding("a")
        asyncio.run(model.aget_text_embedding("b"))
    more = {"extra_headers": own}
    with cls("m", api_key="another", api_base=server.base_url, additional_kwargs=more) as model:
        model.get_text_embedding("c")
    assert [request.headers["authorization"] for request in server.requests] == [f"Bearer {KEY}"] * 3


@pytest.mark.parametrize("make", [azure, compatible])
@pytest.mark.parametrize("name", ["Authorization", "authorization", "X-Secret"])
def test_what_the_environment_holds_for_openai_does_not_go_to_others(
    server: FakeEmbeddingServer, monkeypatch: pytest.MonkeyPatch, make: Callable[..., Any], name: str
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "for-openai")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "for-openai")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"X-Other: for-openai\nno header\n{name}: for-openai")
    with make(server, own="mine") as model:
        assert np.array_equal(model.embed_texts(["a"]), server.vectors(["a"]))
        assert np.array_equal(asyncio.run(model.aembed_texts(["b"])), server.vectors(["b"]))
        clients = model._settled().transport.clients
        assert model._settled().transport.clients is clients
    for request in server.requests:
        assert request.headers["own"] == "mine"
        assert not any("for-openai" in value for value in request.headers.values())


def test_what_the_environment_holds_for_openai_goes_there(
    model: OpenAIEmbedding, server: FakeEmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "mine")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Other: mine")
    model.get_text_embedding("a")
    headers = server.requests[0].headers
    assert (headers["openai-organization"], headers["x-other"]) == ("mine", "mine")


def test_blank_texts_cost_nothing(model: OpenAIEmbedding, server: FakeEmbeddingServer) -> None:
    with pytest.raises(InvalidInputError) as caught:
        model.embed_texts(["a", "", " \n"])
    assert caught.value.indices == (1, 2)
    assert server.requests == []


# Clients


def test_importing_the_package_imports_no_sdk() -> None:
    code = "import sys, embeddings_openai; assert 'openai' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_one_event_loop_after_the_other_and_nothing_leaks(model: OpenAIEmbedding, server: FakeEmbeddingServer) -> None:
    for _ in range(3):
        assert np.array_equal(asynchronously(model, ["a"]), server.vectors(["a"]))
    gc.collect()  # a leaked connection warns here, and warnings are errors


def test_threads_with_loops_of_their_own_share_a_model(model: OpenAIEmbedding, server: FakeEmbeddingServer) -> None:
    found: list[Vectors] = []
    threads = [threading.Thread(target=lambda: found.append(asynchronously(model, ["a", "b"]))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(one, server.vectors(["a", "b"])) for one in found)
    assert len(found) == 4


def test_close_reaches_the_clients_of_idle_running_and_closed_loops(
    model: OpenAIEmbedding, server: FakeEmbeddingServer
) -> None:
    idle = asyncio.new_event_loop()
    idle.run_until_complete(model.aembed_texts(["a"]))
    closed = asyncio.new_event_loop()
    closed.run_until_complete(model.aembed_texts(["a"]))
    closed.run_until_complete(closed.shutdown_asyncgens())
    closed.close()

    async def running() -> None:
        await model.aembed_texts(["a"])
        model.close()
        assert np.array_equal(await model.aembed_texts(["b"]), server.vectors(["b"]))
        await model.aclose()

    model.close()
    asyncio.run(running())
    idle.close()
    gc.collect()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of asyncio, for the connections of a loop that is only closed
@pytest.mark.parametrize("end", ["shut down", "only closed"])
def test_clients_of_closed_loops_are_let_go(
    server: FakeEmbeddingServer, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    import openai

    def alive() -> int:
        gc.collect()
        return sum(type(one) is openai.AsyncOpenAI for one in gc.get_objects())

    async def count_in_another_loop() -> int:
        await model.aget_text_embedding("b")
        found = alive()
        await asyncio.sleep(0)
        return found

    before = alive()
    with OpenAIEmbedding(api_key=KEY, api_base=server.base_url) as model:
        for _ in range(5):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(model.aget_text_embedding("a"))
            if end == "shut down":
                loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
        assert alive() == before + 1
        assert asyncio.run(count_in_another_loop()) == before + 1
    assert caplog.records == []


def test_a_model_and_its_clients_go_with_the_last_name_for_it(server: FakeEmbeddingServer) -> None:
    model = OpenAIEmbedding(api_key=KEY, api_base=server.base_url, max_cost=1)
    model.get_text_embedding("a")
    asyncio.run(model.aget_text_embedding("b"))
    alive = weakref.ref(model)
    gc.collect()
    gc.disable()
    try:
        del model
        assert alive() is None
    finally:
        gc.enable()


def change_a_setting(model: OpenAIEmbedding) -> None:
    model.default_headers = {"x-new": "yes"}
    model.get_text_embedding("other")


def use_and_close(model: OpenAIEmbedding) -> None:
    with model:
        model.get_text_embedding("other")


@pytest.mark.parametrize("change", [change_a_setting, use_and_close, OpenAIEmbedding.close])
@both_colours
def test_a_change_elsewhere_leaves_requests_under_way_alone(
    model: OpenAIEmbedding, server: Any, embed: Embed, change: Callable[[OpenAIEmbedding], None]
) -> None:
    def change_three_times() -> None:
        for text in ("0", "8", "16"):
            server.wait_for(text)
            change(model)
            server.release(text)

    model.embed_batch_size, model.num_workers, model.retry = 1, 4, RetryPolicy(max_retries=0)
    embed(model, ["warm"])
    texts = [str(number) for number in range(20)]
    server.held = {"0", "8", "16"}
    changes = threading.Thread(target=change_three_times)
    changes.start()
    assert np.array_equal(embed(model, texts), server.vectors(texts))
    changes.join()
    assert sum(request.inputs != ["other"] for request in server.requests) == 1 + len(texts)
    model.close()
    gc.collect()  # a leaked connection warns here, and warnings are errors


def test_a_request_that_comes_too_late_for_a_change_leaves_no_client_open(model: OpenAIEmbedding) -> None:
    former = model._settled().transport.clients
    model.default_headers = {"x-new": "yes"}
    assert model._settled().transport.clients is not former

    async def ask() -> Any:
        async with former.lease() as late:
            assert not late.is_closed()
        while not late.is_closed():
            await asyncio.sleep(0)
        return late

    with former.shared() as late:
        assert not late.is_closed()
    assert late.is_closed()
    assert asyncio.run(ask()).is_closed()


def test_clients_of_the_user_are_used_and_left_open(server: FakeEmbeddingServer) -> None:
    import openai

    mine = openai.DefaultHttpxClient(headers={"x-mine": "yes"})
    with OpenAIEmbedding(api_key=KEY, api_base=server.base_url, http_client=mine) as model:
        model.get_text_embedding("a")
    assert server.requests[0].headers["x-mine"] == "yes"
    assert not mine.is_closed
    mine.close()


def test_an_async_client_of_the_user_is_used_and_left_open(server: FakeEmbeddingServer) -> None:
    import openai

    async def use() -> None:
        mine = openai.DefaultAsyncHttpxClient(headers={"x-mine": "yes"})
        async with OpenAIEmbedding(api_key=KEY, api_base=server.base_url, async_http_client=mine) as model:
            await model.aget_text_embedding("a")
        assert not mine.is_closed
        await mine.aclose()

    asyncio.run(use())
    assert server.requests[0].headers["x-mine"] == "yes"


def test_a_function_of_the_user_makes_clients_that_the_model_closes(server: FakeEmbeddingServer) -> None:
    import openai

    made: list[Any] = []

    def make(kind: Callable[..., Any]) -> Any:
        made.append(kind(headers={"x-mine": "yes"}))
        return made[-1]

    model = OpenAIEmbedding(
        api_key=KEY,
        api_base=server.base_url,
        http_client=partial(make, openai.DefaultHttpxClient),
        async_http_client=partial(make, openai.DefaultAsyncHttpxClient),
    )
    with model:
        for _ in range(2):
            model.get_text_embedding("a")
            asyncio.run(model.aget_text_embedding("a"))
        assert len(made) == 3  # one for threads, one for each event loop
    assert all(request.headers["x-mine"] == "yes" for request in server.requests)
    assert all(client.is_closed for client in made)


def test_a_new_setting_is_used_at_once(model: OpenAIEmbedding, server: FakeEmbeddingServer) -> None:
    model.get_text_embedding("a")
    model.default_headers = {"x-new": "yes"}
    model.get_text_embedding("a")
    assert server.requests[1].headers["x-new"] == "yes"


def test_a_pickled_model_reads_its_key_from_the_environment(
    model: OpenAIEmbedding, server: FakeEmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.get_text_embedding("a")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pickle.loads(pickle.dumps(model)) as twin:
        assert twin.get_text_embedding("a") == server.vector("a").tolist()
    assert server.requests[1].headers["authorization"] == f"Bearer {KEY}"


def make_client() -> Any:
    import openai

    return openai.DefaultHttpxClient()


def test_a_client_of_the_user_cannot_be_pickled_but_a_function_that_makes_one_can() -> None:
    model = OpenAIEmbedding(http_client=make_client)
    assert pickle.loads(pickle.dumps(model)).http_client is make_client
    with make_client() as mine:
        model.http_client = mine
        with pytest.raises(ConfigurationError, match="`http_client` is a client"):
            pickle.dumps(model)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_uses_connections_of_its_own(model: OpenAIEmbedding, server: FakeEmbeddingServer) -> None:
    model.get_text_embedding("a")
    with model._settled().transport.clients.shared() as ours:
        pass
    child = os.fork()
    if child == 0:
        with model._settled().transport.clients.shared() as mine:
            fine = mine is not ours and model.get_text_embedding("b") == server.vector("b").tolist()
        model.close()
        os._exit(0 if fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with model._settled().transport.clients.shared() as still:
        assert still is ours
    assert model.get_text_embedding("c") == server.vector("c").tolist()


def test_a_setting_of_the_engine_keeps_the_connections(model: OpenAIEmbedding) -> None:
    server = model._settled()
    model.num_workers, model.embed_batch_size, model.rate_limiter = 2, 7, None
    assert model._settled() is server
    model.timeout = 5.0
    assert model._settled() is not server
