"""OpenTelemetry: a span per user call, a span per provider call inside it, and two histograms.

`dispatcher.add_handler(OpenTelemetryHandler())` is all it takes.

The GenAI conventions are still in development, and the constants of the Python package are marked deprecated, so the
names stand here: https://opentelemetry.io/docs/specs/semconv/gen-ai/ and
https://arize-ai.github.io/openinference/spec/semantic_conventions.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np

from embed_core.errors import IntegrationNotInstalledError
from embed_core.instrumentation.events import (
    EmbeddingCacheEvent,
    EmbeddingEndEvent,
    EmbeddingErrorEvent,
    EmbeddingEvent,
    EmbeddingStartEvent,
    Span,
)

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

Attributes: TypeAlias = dict[str, Any]
Finished: TypeAlias = EmbeddingEndEvent | EmbeddingErrorEvent
ProviderCall: TypeAlias = EmbeddingStartEvent | Finished

_SCOPE = "embed_core"
_MOST_RECORDED = 50  # inputs: texts and vectors of so many leave room for the rest below the SDK's 128 attributes
# Names of the metrics of duration and tokens, and the attribute that marks tokens as input.
_METRICS: Final[Mapping[str, tuple[str, str, Attributes]]] = {
    "current": ("gen_ai.client.operation.duration", "gen_ai.client.token.usage", {"gen_ai.token.type": "input"}),
    "draft": ("gen_ai.client.embeddings.duration", "gen_ai.client.embeddings.operation.input_tokens", {}),
}
# The boundaries that the conventions advise.
_DURATION_BUCKETS: Final = tuple(0.01 * 2**power for power in range(14))
_TOKEN_BUCKETS: Final = tuple(4**power for power in range(14))


class OpenTelemetryHandler:
    """Records spans and metrics; attach it to the dispatcher or to a model's `callback_manager`.

    A user's call is an INTERNAL span and current while it runs. Each provider call is a CLIENT span inside it and
    current too, so the spans of an instrumented HTTP client lie inside. Error messages may quote an input, so they are
    recorded only together with texts.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        attributes: Literal["gen_ai", "openinference"] = "gen_ai",
        conventions: Literal["current", "draft"] = "current",
        record_texts: bool = False,
        record_vectors: bool = False,
    ) -> None:
        """Make the tracer and the histograms.

        Args:
            tracer_provider: receives the spans; None is OpenTelemetry's global one.
            meter_provider: receives the metrics; None is the global one.
            attributes: the conventions that name the attributes of spans; metrics have the GenAI names always.
            conventions: the version of the GenAI conventions; "draft" renames the metrics.
            record_texts: whether spans hold the first fifty texts of each provider call.
            record_vectors: whether they hold the vectors of these texts.

        Raises:
            IntegrationNotInstalledError: OpenTelemetry is not installed.
        """
        try:
            from opentelemetry import context, metrics, trace
        except ImportError as error:
            remedy = 'run `pip install "embed-core[otel]"`'
            msg = f"telemetry needs OpenTelemetry, which cannot be imported ({error}); {remedy}"
            raise IntegrationNotInstalledError(msg) from error
        self._context, self._trace = context, trace
        self._tracer = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)
        self._metrics = _Metrics(metrics.get_meter(_SCOPE, meter_provider=meter_provider), conventions)
        self._openinference = attributes == "openinference"
        self._attributes = _openinference_span if self._openinference else _gen_ai_span
        self._texts, self._vectors = record_texts, record_vectors
        self._open: dict[str, tuple[Any, Any]] = {}

    def __call__(self, event: EmbeddingEvent) -> None:
        """Begin or end the span of a provider call; add the cache's hits and misses to that of the user's call."""
        match event:
            case EmbeddingStartEvent():
                name = "CreateEmbeddings" if self._openinference else f"embeddings {event.model}"
                attributes = {"embed_core.kind": event.kind, "embed_core.inputs": event.batch_size}
                self._begin(event.id, name, "CLIENT", attributes | self._attributes(event), parent=event.call_id)
            case EmbeddingEndEvent() | EmbeddingErrorEvent():
                self._metrics.record(event)
                attributes = {"embed_core.attempts": event.attempts, "embed_core.truncated": event.truncated}
                error = event.error if isinstance(event, EmbeddingErrorEvent) else None
                self._end(event.id, attributes | self._attributes(event) | self._content(event), error)
            case EmbeddingCacheEvent() if event.call_id in self._open:
                counts = {"embed_core.cache.hits": event.hits, "embed_core.cache.misses": event.misses}
                self._open[event.call_id][0].set_attributes(counts)

    def on_span_start(self, span: Span) -> None:
        """Begin the span of a user's call."""
        attributes: Attributes = {"embed_core.kind": span.kind, "embed_core.inputs": span.size}
        if self._openinference:
            attributes["openinference.span.kind"] = "CHAIN"
        self._begin(span.id, f"embed {span.kind}", "INTERNAL", attributes)

    def on_span_end(self, span: Span) -> None:
        """End the span of a user's call."""
        self._end(span.id, {}, span.error)

    def _begin(self, id_: str, name: str, kind: str, attributes: Attributes, parent: str | None = None) -> None:
        around = self._context.get_current()
        if parent in self._open:
            around = self._trace.set_span_in_context(self._open[parent][0], around)
        kinds = self._trace.SpanKind
        span = self._tracer.start_span(name, around, kind=kinds[kind], attributes=_known(attributes))
        self._open[id_] = span, self._context.attach(self._trace.set_span_in_context(span, around))

    def _end(self, id_: str, attributes: Attributes, error: BaseException | None) -> None:
        if id_ not in self._open:  # the handler was attached during the call
            return
        span, token = self._open.pop(id_)
        self._context.detach(token)
        span.set_attributes(_known(attributes))
        if error is not None:
            span.set_attribute("error.type", _type_name(error))
            span.set_status(self._trace.StatusCode.ERROR)
            if self._texts:
                span.record_exception(error)
        span.end()

    def _content(self, event: Finished) -> Attributes:
        """Return texts and vectors, as far as the user asked for them."""
        name = "embedding.embeddings.{}.embedding.{}" if self._openinference else "embed_core.embeddings.{}.{}"
        vectors = _dense_vectors(event)
        attributes: Attributes = {}
        if self._texts:
            texts = enumerate(event.chunks[:_MOST_RECORDED])
            attributes |= {name.format(row, "text"): text for row, text in texts if isinstance(text, str)}
        if self._vectors and vectors is not None:
            rows = enumerate(vectors[:_MOST_RECORDED].tolist())
            attributes |= {name.format(row, "vector"): vector for row, vector in rows}
        return attributes


class _Metrics:
    """The two histograms of the GenAI conventions."""

    def __init__(self, meter: Any, version: str) -> None:
        duration, tokens, self._token_attributes = _METRICS[version]
        self._duration = meter.create_histogram(
            duration,
            unit="s",
            description="Duration of a call of an embedding model",
            explicit_bucket_boundaries_advisory=_DURATION_BUCKETS,
        )
        self._tokens = meter.create_histogram(
            tokens,
            unit="{token}",
            description="Input tokens of a call of an embedding model",
            explicit_bucket_boundaries_advisory=_TOKEN_BUCKETS,
        )

    def record(self, event: Finished) -> None:
        """Record a finished provider call."""
        attributes = _known(_gen_ai_metric(event))
        if event.tokens is not None:
            self._tokens.record(event.tokens, attributes | self._token_attributes)
        if isinstance(event, EmbeddingErrorEvent):
            attributes["error.type"] = _type_name(event.error)
        self._duration.record(event.duration, attributes)


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _gen_ai_metric(event: ProviderCall) -> Attributes:
    """Return the attributes of a metric; the dimension is never among them, which has too many values."""
    return {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": event.origin.provider,
        "gen_ai.request.model": event.model,
        "gen_ai.response.model": getattr(event, "response_model", None),  # the start of a call has none yet
        "server.address": event.origin.address,
        "server.port": event.origin.port,
    }


def _gen_ai_span(event: ProviderCall) -> Attributes:
    vectors = _dense_vectors(event)
    return _gen_ai_metric(event) | {
        "gen_ai.request.encoding_formats": event.origin.encoding_formats or None,
        "gen_ai.usage.input_tokens": getattr(event, "tokens", None),
        "gen_ai.embeddings.dimension.count": None if vectors is None else vectors.shape[1],
    }


def _openinference_span(event: ProviderCall) -> Attributes:
    return {
        "openinference.span.kind": "EMBEDDING",
        "embedding.model_name": event.model,
        "llm.token_count.prompt": getattr(event, "tokens", None),
    }


def _dense_vectors(event: ProviderCall) -> Any:
    """Return the array of vectors; None where there is none yet, or the vectors are sparse."""
    vectors = getattr(event, "embeddings", None)
    return vectors if vectors is not None and vectors.dtype == np.float32 else None


def _known(attributes: Attributes) -> Attributes:
    """Return the attributes that have a value."""
    return {name: value for name, value in attributes.items() if value is not None}
