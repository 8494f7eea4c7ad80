"""From a loaded model to the engine that its texts run on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from embed_core import Kind, Vectors
from embed_core.errors import ConfigurationError

from embeddings_huggingface import _kept, _openvino
from embeddings_huggingface._runtime import Options
from embeddings_huggingface._source import Source
from embeddings_huggingface._steps import Row, Steps
from embeddings_huggingface._tokens import Bulk
from embeddings_huggingface._torch import TorchEngine
from embeddings_huggingface._weights import Encoder, waited

_log = logging.getLogger("embeddings_huggingface")

_KINDS: tuple[Kind, ...] = ("query", "text")
_BUDGET = 8_192
_NEAR = 1e-5  # of any number, in float32
_LEAST_COSINE = 0.999  # in bfloat16 and float16
_PROBES = ("", "a", "  Bread is BAKED from flour,\n water and time.  ", "e\u0301 ü 日本 🥊")


def kept(source: Source, options: Options) -> Encoder | None:
    """Return the encoder of a model that OpenVINO has run before on this machine; torch is not imported."""
    return _kept.load(source, options) if _openvino.is_wanted(options) else None


def with_engine(encoder: Encoder, source: Source, options: Options) -> Encoder:
    """Return an encoder whose texts run on the fastest engine that gives the model's vectors.

    Raises:
        ConfigurationError: `backend="openvino"` is asked for, and the model does not run on it.
    """
    if _openvino.is_wanted(options):
        sample = _sample(encoder)
        found: Encoder | str = "its texts are no plain sequences of token ids"
        if sample is not None:
            found = _converted(encoder, sample, source, options)
        if isinstance(found, Encoder):
            return found
        if options.backend == "openvino":
            raise _refused(source.name, found)
        if sample is not None:
            _log.warning("`%s` runs on torch, because OpenVINO does not take it (%s)", source.name, found)
    return on_torch(encoder)


def on_torch(encoder: Encoder) -> Encoder:
    """Let the texts of a model run as token ids, where its library gives the same vectors for them."""
    sample = _sample(encoder)
    if sample is not None and encoder.parts is not None:
        try:
            steps = Steps(TorchEngine(encoder.parts))
            sample.check(steps)
            encoder.bulk, encoder.steps = sample.bulk, steps
        except Exception as error:  # the library itself embeds the texts then
            _log.debug("a model runs on its library, which takes texts and no token ids (%s)", error)
    return encoder


@dataclass(frozen=True, slots=True)
class _Sample:
    """A few texts of a model, to compare an engine with the model's library.

    Attributes:
        bulk: the model's own tokenizer, by itself.
        rows: their token ids, the longest first.
        expected: the library's vectors of them.
        precision: the type of the model's weights.
    """

    bulk: Bulk
    rows: Sequence[Row]
    expected: Vectors
    precision: str

    def check(self, steps: Steps) -> None:
        """Embed the texts in one pass, and a text alone.

        Raises:
            ValueError: the vectors differ from the library's.
        """
        found = np.concatenate([waited(steps.submit(rows, None, np.asarray)) for rows in (self.rows, self.rows[:1])])
        expected = np.concatenate([self.expected, self.expected[:1]])
        if self.precision == "float32":
            most = float(np.abs(found - expected).max())
            if not most <= _NEAR * max(1.0, float(np.abs(expected).max())):
                raise ValueError(f"its vectors differ from the library's by up to {most:.1e}")
            return
        norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
        least = float(((found * expected).sum(axis=1) / norms).min())
        if not least >= _LEAST_COSINE:
            raise ValueError(f"its vectors have a cosine of only {least:.4f} with the library's")


def _sample(encoder: Encoder) -> _Sample | None:
    """Return texts to compare engines with; None where the model's texts are no plain sequences of token ids."""
    bulk = _bulk(encoder)
    if bulk is None:
        return None
    texts = [_PROBES[2] * 20, *sorted(_PROBES, key=len, reverse=True)]
    expected = encoder.encode_texts(texts, "text", "", encoder.max_length, _BUDGET).vectors
    rows, _ = bulk.rows(texts, encoder.max_length)
    order = sorted(range(len(rows)), key=lambda at: -len(rows[at]))
    return _Sample(bulk, [rows[at] for at in order], expected[order], encoder.precision)


def _bulk(encoder: Encoder) -> Bulk | None:
    """Return the model's own tokenizer by itself; None where it is no fast one, or the model's tokens are others."""
    tokenizer = None if encoder.parts is None else encoder.parts.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if tokenizer is None or backend is None:
        return None
    bare = type(backend).from_str(backend.to_str())
    bare.no_padding()
    bare.no_truncation()
    bulk, limit = Bulk(bare, left=tokenizer.truncation_side == "left"), encoder.max_length
    texts = [*_PROBES, "a " * limit] if limit is not None else list(_PROBES)
    for kind in _KINDS:
        for prompt in ("", "query: "):
            rows, _ = bulk.rows([prompt + text for text in texts], limit)
            if encoder.token_ids(texts, kind, prompt) != rows:
                return None
    return bulk


def _converted(encoder: Encoder, sample: _Sample, source: Source, options: Options) -> Encoder | str:
    """Return the encoder of the model on OpenVINO, or the reason why it does not run there."""
    if (told := _kept.refusal(source, options)) is not None:
        return told
    why = ""
    for attention in (None, "eager"):  # with the eager one a text may be shorter than the window of its neighbour
        try:
            graph, converted = _openvino.convert(encoder, sample.bulk, sample.rows[-2:], attention)
            sample.check(converted.steps)
            return _kept.keep(graph, converted, source, options)
        except Exception as error:  # tracing stumbles over code that torch runs
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            if isinstance(error, MemoryError | OSError):
                return why
    _kept.refuse(source, options, why)
    return why


def _refused(name: str, why: str) -> ConfigurationError:
    msg = f"`{name}` does not run on OpenVINO: {why}; leave `backend` out, and it runs on torch"
    return ConfigurationError(msg)
