"""OpenTelemetry: a span per user call, a span per provider call inside it, and two histograms.

`dispatcher.add_handler(OpenTelemetryHandler())` is all it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from embed_core.errors import IntegrationNotInstalledError
from embed_core.instrumentation import _conventions as names
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

_SCOPE = "embed_core"
_MOST_RECORDED = 50  # inputs: texts and vectors of so many leave room for the rest below the SDK's 128 attributes


class OpenTelemetryHandler:
    """Records spans and metrics; attach it to the dispatcher or to a model's `callback_manager`.

    A user's call is an INTERNAL span and current while it runs; each provider call is a CLIENT span inside it and
    current too, so what an instrumented HTTP client records lies inside. Error messages may quote an input, so they
    are recorded only together with texts.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        attributes: Literal["gen_ai", "openinference"] = "gen_ai",
        conventions: names.Version = "current",
        record_texts: bool = False,
        record_vectors: bool = False,
    ) -> None:
        """Make tracer and histograms.

        Args:
            tracer_provider: where spans go; None is OpenTelemetry's global one.
            meter_provider: where metrics go; None is the global one.
            attributes: which names the spans use; metrics have the GenAI names always.
            conventions: the version of the GenAI names; "draft" renames the metrics.
            record_texts: whether spans hold the first fifty texts of each provider call.
            record_vectors: whether they hold their vectors.

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
        self._names = names.NAMES[conventions]
        self._metrics = _Metrics(metrics.get_meter(_SCOPE, meter_provider=meter_provider), self._names)
        self._openinference = attributes == "openinference"
        self._texts, self._vectors = record_texts, record_vectors
        self._open: dict[str, tuple[Any, Any]] = {}

    def __call__(self, event: EmbeddingEvent) -> None:
        """Begin or end the span of a provider call; note what the cache held."""
        match event:
            case EmbeddingStartEvent():
                self._begin(event.id, self._span_name(event), "CLIENT", self._asked(event), parent=event.call_id)
            case EmbeddingEndEvent() | EmbeddingErrorEvent():
                self._metrics.record(event)
                self._end(event.id, self._answered(event), getattr(event, "error", None))
            case EmbeddingCacheEvent() if event.call_id in self._open:
                held = {names.CACHE_HITS: event.hits, names.CACHE_MISSES: event.misses}
                self._open[event.call_id][0].set_attributes(held)

    def on_span_start(self, span: Span) -> None:
        """Begin the span of a user's call."""
        told: Attributes = {names.KIND: span.kind, names.INPUTS: span.size}
        if self._openinference:
            told[names.SPAN_KIND] = "CHAIN"
        self._begin(span.id, f"embed {span.kind}", "INTERNAL", told)

    def on_span_end(self, span: Span) -> None:
        """End the span of a user's call."""
        self._end(span.id, {}, span.error)

    def _begin(self, id_: str, name: str, kind: str, attributes: Attributes, parent: str | None = None) -> None:
        around = self._context.get_current()
        if parent in self._open:
            around = self._trace.set_span_in_context(self._open[parent][0], around)
        kinds = self._trace.SpanKind
        span = self._tracer.start_span(name, around, kind=kinds[kind], attributes=attributes)
        self._open[id_] = span, self._context.attach(self._trace.set_span_in_context(span, around))

    def _end(self, id_: str, attributes: Attributes, error: BaseException | None) -> None:
        if id_ not in self._open:  # the handler was attached in the middle
            return
        span, token = self._open.pop(id_)
        self._context.detach(token)
        span.set_attributes(attributes)
        if error is not None:
            span.set_attribute(self._names.error, _name_of(error))
            span.set_status(self._trace.StatusCode.ERROR)
            if self._texts:
                span.record_exception(error)
        span.end()

    def _span_name(self, event: EmbeddingStartEvent) -> str:
        return names.OPENINFERENCE_SPAN if self._openinference else f"{names.OPERATION} {event.model}"

    def _asked(self, event: EmbeddingStartEvent) -> Attributes:
        told: Attributes = {names.KIND: event.kind, names.INPUTS: event.batch_size}
        if self._openinference:
            return told | {names.SPAN_KIND: "EMBEDDING", names.MODEL_NAME: event.model}
        told |= _described(event, self._names)
        if event.origin.encoding_formats:
            told[self._names.encoding_formats] = event.origin.encoding_formats
        return told

    def _answered(self, event: Finished) -> Attributes:
        told: Attributes = {names.ATTEMPTS: event.attempts, names.TRUNCATED: event.truncated}
        if event.tokens is not None:
            told[names.PROMPT_TOKENS if self._openinference else self._names.input_tokens] = event.tokens
        if not self._openinference and event.response_model is not None:
            told[self._names.response_model] = event.response_model
        vectors = event.embeddings if isinstance(event, EmbeddingEndEvent) and _is_dense(event.embeddings) else None
        if vectors is not None and not self._openinference:
            told[self._names.dimension] = vectors.shape[1]
        return told | self._content(event, vectors)

    def _content(self, event: Finished, vectors: Any) -> Attributes:
        """Return texts and vectors, as far as they were asked for."""
        item = names.OPENINFERENCE_ITEM if self._openinference else names.ITEM
        told: Attributes = {}
        if self._texts:
            shown = enumerate(event.chunks[:_MOST_RECORDED])
            told |= {item.format(row, "text"): text for row, text in shown if isinstance(text, str)}
        if self._vectors and vectors is not None:
            told |= {item.format(row, "vector"): one for row, one in enumerate(vectors[:_MOST_RECORDED].tolist())}
        return told


class _Metrics:
    """The two histograms of the GenAI conventions; the dimension is never an attribute of theirs."""

    def __init__(self, meter: Any, using: names.Names) -> None:
        self._names = using
        self._duration = meter.create_histogram(
            using.duration,
            unit="s",
            description="Duration of a call of an embedding model",
            explicit_bucket_boundaries_advisory=names.DURATION_BUCKETS,
        )
        self._tokens = meter.create_histogram(
            using.usage,
            unit="{token}",
            description="Input tokens of a call of an embedding model",
            explicit_bucket_boundaries_advisory=names.TOKEN_BUCKETS,
        )

    def record(self, event: Finished) -> None:
        """Record a provider call that has ended."""
        told = _described(event, self._names)
        if event.response_model is not None:
            told[self._names.response_model] = event.response_model
        if event.tokens is not None:
            kind = {} if self._names.usage_kind is None else {self._names.usage_kind: "input"}
            self._tokens.record(event.tokens, told | kind)
        if isinstance(event, EmbeddingErrorEvent):
            told[self._names.error] = _name_of(event.error)
        self._duration.record(event.duration, told)


def _described(event: EmbeddingStartEvent | Finished, using: names.Names) -> Attributes:
    origin = event.origin
    told: Mapping[str, Any] = {
        using.operation: names.OPERATION,
        using.provider: origin.provider,
        using.request_model: event.model,
        using.server_address: origin.address,
        using.server_port: origin.port,
    }
    return {name: value for name, value in told.items() if value is not None}


def _is_dense(vectors: Any) -> bool:
    return bool(vectors.dtype == np.float32)


def _name_of(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
