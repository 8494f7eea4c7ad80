"""The OpenTelemetry handler, heard through the SDK's own in-memory exporters."""

import asyncio
import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from embed_core import MockEmbedding, MockMultiModalEmbedding, ProviderResponse, RetryPolicy
from embed_core.errors import IntegrationNotInstalledError, ProviderError, RateLimitError
from embed_core.instrumentation import CallbackManager, EmbeddingEndEvent, EmbeddingStartEvent, dispatcher
from embed_core.instrumentation.otel import OpenTelemetryHandler
from embed_core.kvstore import MemoryKVStore
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

SECRET = "a text that nobody may see"


class Service(MockEmbedding):
    """A provider that tells all it can about itself, and fails as often as told."""

    failures: int = 0

    def _origin(self):
        return dataclasses.replace(
            super()._origin(), provider="acme", address="api.acme.example", port=443, encoding_formats=("base64",)
        )

    def _get_text_embeddings(self, texts):
        if self.failures:
            self.__dict__["failures"] -= 1
            raise RateLimitError(f"not now: {texts}", retry_after=0.0)
        vectors = super()._get_text_embeddings(texts)
        return ProviderResponse(vectors, usage={"tokens": 5 * len(texts)}, truncated=1, model="mock-002")

    async def _aget_text_embeddings(self, texts):
        await asyncio.sleep(0)
        return self._get_text_embeddings(texts)


class Telemetry:
    """A handler with its own providers, and what they collect."""

    def __init__(self, **options):
        self.exporter, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        meters = MeterProvider(metric_readers=[self._reader])
        self.handler = OpenTelemetryHandler(tracer_provider=self.tracers, meter_provider=meters, **options)

    def model(self, kind=Service, **options):
        return kind(callback_manager=CallbackManager([self.handler]), **options)

    @property
    def spans(self):
        return self.exporter.get_finished_spans()

    def of(self, kind):
        return [span for span in self.spans if span.kind is kind]

    @property
    def metrics(self):
        data = self._reader.get_metrics_data()
        found = [metric for r in data.resource_metrics for scope in r.scope_metrics for metric in scope.metrics]
        return {metric.name: metric for metric in found}

    def points(self, name):
        return list(self.metrics[name].data.data_points)


@pytest.fixture
def telemetry():
    return Telemetry()


def test_a_provider_call_is_a_client_span_with_the_conventions_names(telemetry):
    telemetry.model(embed_dim=16).embed_texts(["a", "b"])
    (span,) = telemetry.of(SpanKind.CLIENT)
    assert span.name == "embeddings mock"
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "acme",
        "gen_ai.request.model": "mock",
        "gen_ai.response.model": "mock-002",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.embeddings.dimension.count": 16,
        "gen_ai.request.encoding_formats": ("base64",),
        "server.address": "api.acme.example",
        "server.port": 443,
        "embed_core.kind": "text",
        "embed_core.inputs": 2,
        "embed_core.attempts": 1,
        "embed_core.truncated": 1,
    }
    assert span.status.status_code is StatusCode.UNSET


def test_what_is_not_known_is_not_recorded(telemetry):
    telemetry.model(MockEmbedding).get_query_embedding("a")
    (span,) = telemetry.of(SpanKind.CLIENT)
    missing = {
        "gen_ai.response.model",
        "gen_ai.usage.input_tokens",
        "gen_ai.request.encoding_formats",
        "server.address",
    }
    assert not missing & set(span.attributes)
    assert span.attributes["gen_ai.provider.name"] == "mock"
    assert span.attributes["embed_core.kind"] == "query"
    assert set(telemetry.metrics) == {"gen_ai.client.operation.duration"}


@pytest.mark.parametrize("workers", [1, 3])
async def test_provider_calls_lie_inside_the_users_call_and_that_inside_what_is_current(telemetry, workers):
    model = telemetry.model(embed_batch_size=1, num_workers=workers)
    tracer = telemetry.tracers.get_tracer("application")
    for asynchronous in (False, True):
        telemetry.exporter.clear()
        with tracer.start_as_current_span("request") as outer:
            vectors = await model.aembed_texts(["a", "b", "c"]) if asynchronous else model.embed_texts(["a", "b", "c"])
            assert trace.get_current_span() is outer
        assert len(vectors) == 3
        call, request = telemetry.of(SpanKind.INTERNAL)
        assert call.name == "embed text"
        assert call.parent.span_id == request.context.span_id
        assert (call.attributes["embed_core.kind"], call.attributes["embed_core.inputs"]) == ("text", 3)
        clients = telemetry.of(SpanKind.CLIENT)
        assert len(clients) == 3
        assert {span.parent.span_id for span in clients} == {call.context.span_id}
        assert {span.context.trace_id for span in telemetry.spans} == {request.context.trace_id}
        assert all(call.start_time <= span.start_time <= span.end_time <= call.end_time for span in clients)


async def test_what_a_hook_records_lies_inside_its_provider_call(telemetry):
    tracer = telemetry.tracers.get_tracer("an http client")

    class Calling(MockEmbedding):
        def _get_text_embeddings(self, texts):
            with tracer.start_as_current_span("POST"):
                return super()._get_text_embeddings(texts)

        async def _aget_text_embeddings(self, texts):
            return self._get_text_embeddings(texts)

    model = telemetry.model(Calling)
    model.get_text_embedding("a")
    await model.aget_text_embedding("a")
    posts = [span for span in telemetry.spans if span.name == "POST"]
    assert [post.parent.span_id for post in posts] == [span.context.span_id for span in telemetry.of(SpanKind.CLIENT)]
    assert not trace.get_current_span().is_recording()


async def test_concurrent_calls_keep_their_spans_apart(telemetry):
    model = telemetry.model(embed_batch_size=1, num_workers=2)
    await asyncio.gather(*(model.aembed_texts([f"{call} {row}" for row in range(3)]) for call in range(5)))
    calls = {span.context.span_id for span in telemetry.of(SpanKind.INTERNAL)}
    parents = [span.parent.span_id for span in telemetry.of(SpanKind.CLIENT)]
    assert len(calls) == 5
    assert sorted(parents) == sorted([*calls] * 3)


def test_the_call_says_what_the_cache_held(telemetry):
    model = telemetry.model(embeddings_cache=MemoryKVStore())
    model.embed_texts(["a", "b"])
    model.embed_texts(["a", "b", "c"])
    model.embed_texts(["a"])
    found = [
        (s.attributes["embed_core.cache.hits"], s.attributes["embed_core.cache.misses"])
        for s in telemetry.of(SpanKind.INTERNAL)
    ]
    assert found == [(0, 2), (2, 1), (1, 0)]
    assert len(telemetry.of(SpanKind.CLIENT)) == 2


def test_a_failure_marks_both_spans_with_its_type(telemetry):
    model = telemetry.model(failures=9, retry=RetryPolicy(initial_seconds=0, max_retries=2))
    with pytest.raises(RateLimitError):
        model.get_text_embedding("a")
    for span in telemetry.spans:
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes["error.type"] == "embed_core.errors.RateLimitError"
    assert telemetry.of(SpanKind.CLIENT)[0].attributes["embed_core.attempts"] == 3
    (point,) = telemetry.points("gen_ai.client.operation.duration")
    assert point.attributes["error.type"] == "embed_core.errors.RateLimitError"


def test_an_interruption_ends_both_spans(telemetry):
    class Interrupted(MockEmbedding):
        def _get_text_embeddings(self, texts):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        telemetry.model(Interrupted).get_text_embedding("a")
    assert [span.attributes["error.type"] for span in telemetry.spans] == ["KeyboardInterrupt"] * 2
    assert not trace.get_current_span().is_recording()


# Metrics


def test_duration_and_tokens_are_histograms_without_the_dimension(telemetry):
    model = telemetry.model(embed_batch_size=2)
    model.embed_texts(["a", "b", "c"])
    duration, tokens = (
        telemetry.metrics["gen_ai.client.operation.duration"],
        telemetry.metrics["gen_ai.client.token.usage"],
    )
    assert (duration.unit, tokens.unit) == ("s", "{token}")
    common = {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "acme",
        "gen_ai.request.model": "mock",
        "gen_ai.response.model": "mock-002",
        "server.address": "api.acme.example",
        "server.port": 443,
    }
    (spent,), (counted,) = duration.data.data_points, tokens.data.data_points
    assert dict(spent.attributes) == common
    assert dict(counted.attributes) == common | {"gen_ai.token.type": "input"}
    assert (spent.count, counted.count, counted.sum) == (2, 2, 15)
    assert 0 < spent.sum < 10
    assert counted.explicit_bounds[:3] == (1, 4, 16)
    assert np.allclose(spent.explicit_bounds[-2:], (40.96, 81.92))


def test_the_draft_of_the_conventions_renames_the_metrics_and_nothing_else():
    telemetry = Telemetry(conventions="draft")
    telemetry.model().get_text_embedding("a")
    assert set(telemetry.metrics) == {
        "gen_ai.client.embeddings.duration",
        "gen_ai.client.embeddings.operation.input_tokens",
    }
    (counted,) = telemetry.points("gen_ai.client.embeddings.operation.input_tokens")
    assert "gen_ai.token.type" not in counted.attributes
    assert telemetry.of(SpanKind.CLIENT)[0].attributes["gen_ai.usage.input_tokens"] == 5


# Texts and vectors


def everything(telemetry):
    return "".join(span.to_json() for span in telemetry.spans) + "".join(
        metric.to_json() for metric in telemetry.metrics.values()
    )


@pytest.mark.parametrize("attributes", ["gen_ai", "openinference"])
def test_texts_and_vectors_are_never_recorded_unless_asked_for(attributes):
    telemetry = Telemetry(attributes=attributes)
    vector = telemetry.model().get_text_embedding(SECRET)
    failing = telemetry.model(failures=1, retry=RetryPolicy(max_retries=0))
    with pytest.raises(ProviderError, match=SECRET):  # an error message may quote the input
        failing.get_text_embedding(SECRET)
    assert len(telemetry.spans) == 4
    assert SECRET not in everything(telemetry)
    assert str(vector[0])[:8] not in everything(telemetry)


@pytest.mark.parametrize(
    ("attributes", "name"),
    [("gen_ai", "embed_core.embeddings.{}.{}"), ("openinference", "embedding.embeddings.{}.embedding.{}")],
)
def test_texts_and_vectors_are_recorded_where_asked_for(attributes, name):
    telemetry = Telemetry(attributes=attributes, record_texts=True, record_vectors=True)
    vectors = telemetry.model().get_text_embedding_batch(["a", "b"])
    (span,) = telemetry.of(SpanKind.CLIENT)
    assert [span.attributes[name.format(row, "text")] for row in (0, 1)] == ["a", "b"]
    assert [list(span.attributes[name.format(row, "vector")]) for row in (0, 1)] == vectors
    with pytest.raises(RateLimitError):
        telemetry.model(failures=1, retry=RetryPolicy(max_retries=0)).get_text_embedding("c")
    failed = telemetry.of(SpanKind.CLIENT)[-1]
    assert failed.attributes[name.format(0, "text")] == "c"
    assert failed.events[0].attributes["exception.message"].startswith("not now")


def test_a_large_batch_leaves_room_for_what_matters():
    telemetry = Telemetry(record_texts=True, record_vectors=True)
    telemetry.model(embed_batch_size=500).embed_texts([str(number) for number in range(500)])
    (span,) = telemetry.of(SpanKind.CLIENT)
    assert span.dropped_attributes == 0
    assert span.attributes["gen_ai.operation.name"] == "embeddings"
    assert span.attributes["embed_core.embeddings.49.text"] == "49"
    assert "embed_core.embeddings.50.text" not in span.attributes


def test_images_are_never_texts():
    telemetry = Telemetry(record_texts=True)
    telemetry.model(MockMultiModalEmbedding).get_image_embedding(np.zeros((2, 2), dtype=np.uint8))
    (span,) = telemetry.of(SpanKind.CLIENT)
    assert not [name for name in span.attributes if name.endswith("text")]


# OpenInference


def test_openinference_has_its_own_names():
    telemetry = Telemetry(attributes="openinference")
    telemetry.model(embed_dim=16).embed_texts(["a"])
    (span,), (call,) = telemetry.of(SpanKind.CLIENT), telemetry.of(SpanKind.INTERNAL)
    assert span.name == "CreateEmbeddings"
    assert dict(span.attributes) == {
        "openinference.span.kind": "EMBEDDING",
        "embedding.model_name": "mock",
        "llm.token_count.prompt": 5,
        "embed_core.kind": "text",
        "embed_core.inputs": 1,
        "embed_core.attempts": 1,
        "embed_core.truncated": 1,
    }
    assert call.attributes["openinference.span.kind"] == "CHAIN"


# Attaching


def test_one_handler_hears_every_model_of_the_process(telemetry):
    dispatcher.add_handler(telemetry.handler)
    try:
        MockEmbedding(model_name="one").get_text_embedding("a")
        MockEmbedding(model_name="two").get_text_embedding("a")
    finally:
        dispatcher.remove_handler(telemetry.handler)
    assert [span.name for span in telemetry.of(SpanKind.CLIENT)] == ["embeddings one", "embeddings two"]


def test_a_handler_attached_in_the_middle_of_a_call_hears_what_begins_then(telemetry, caplog):
    class Attaching(MockEmbedding):
        def _get_text_embeddings(self, texts):
            self.callback_manager.set_handlers([telemetry.handler])
            return super()._get_text_embeddings(texts)

    model = Attaching(callback_manager=CallbackManager([lambda event: None]), embed_batch_size=1)
    model.embed_texts(["a", "b"])
    assert [span.kind for span in telemetry.spans] == [SpanKind.CLIENT]
    assert telemetry.spans[0].parent is None
    assert caplog.records == []


def test_a_handler_removed_in_the_middle_leaves_nothing_open(telemetry, caplog):
    class Removing(MockEmbedding):
        def _get_text_embeddings(self, texts):
            self.callback_manager.set_handlers([])
            return super()._get_text_embeddings(texts)

    telemetry.model(Removing).get_text_embedding("a")
    assert len(telemetry.spans) == 2
    assert not trace.get_current_span().is_recording()
    assert caplog.records == []


def test_the_end_of_a_call_whose_start_was_not_heard_is_counted_and_nothing_more(telemetry):
    start = EmbeddingStartEvent(kind="text", model="m", chunks=["a"])
    told = {"duration": 0.5, "attempts": 1, "usage": None, "truncated": 0, "embeddings": np.zeros((1, 2), np.float32)}
    telemetry.handler(EmbeddingEndEvent(kind="text", model="m", chunks=["a"], id=start.id, **told))
    assert telemetry.spans == ()
    assert telemetry.points("gen_ai.client.operation.duration")[0].sum == 0.5


def test_without_opentelemetry_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(IntegrationNotInstalledError, match=r'pip install "embed-core\[otel\]"'):
        OpenTelemetryHandler()


def test_the_global_providers_are_the_default():
    MockEmbedding(callback_manager=CallbackManager([OpenTelemetryHandler()])).get_text_embedding("a")


def test_importing_the_handler_does_not_load_opentelemetry():
    code = "import sys, embed_core.instrumentation.otel; print('opentelemetry' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
