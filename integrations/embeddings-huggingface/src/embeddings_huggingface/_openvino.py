"""The OpenVINO engine: a model converted once on a machine, and loaded without torch from then on."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from embed_core import Kind
from embed_core.errors import ConfigurationError, IntegrationNotInstalledError
from embed_core.forks import reset_in_children
from numpy.typing import NDArray

from embeddings_huggingface._runtime import Options
from embeddings_huggingface._steps import Row, Steps, padded
from embeddings_huggingface._tokens import Bulk, Tokens
from embeddings_huggingface._weights import Encoder, Parts

_BUDGET = 1_024  # tokens of a pass; measured best from 512 to 2,048 on two cores
_MOST_STREAMS = 8
_HINTS = {"float32": "f32", "bfloat16": "bf16"}

_inherited: list[Any] = []
_used_in: set[int] = set()  # processes; the threads of OpenVINO are in no fork of them


def is_wanted(options: Options) -> bool:
    """Tell whether a model shall run on OpenVINO, if it can.

    Raises:
        IntegrationNotInstalledError: `backend="openvino"` is asked for, and the package is missing.
        ConfigurationError: it is asked for beside a device or a type for which it is not used.
    """
    fits = options.device == "cpu" and options.dtype != "float16" and not options.sparse
    forked = bool(_used_in) and os.getpid() not in _used_in
    if options.backend != "openvino":
        return options.backend == "auto" and fits and is_installed() and not forked
    if forked:
        msg = "OpenVINO does not run in a fork of a process that has used it; use `spawn`, or leave `backend` out"
        raise ConfigurationError(msg)
    if not fits:
        msg = "`backend='openvino'` is for dense models on `device='cpu'` in float32 or bfloat16; leave `backend` out"
        raise ConfigurationError(msg)
    if not is_installed():
        msg = "`backend='openvino'` needs OpenVINO; run `pip install openvino`"
        raise IntegrationNotInstalledError(msg)
    return True


def is_installed() -> bool:
    """Tell whether OpenVINO can be imported."""
    try:
        return find_spec("openvino") is not None
    except ValueError:  # an import that is blocked
        return False


class OpenVinoEngine:
    """A compiled model.

    Attributes:
        streams: how many threads may call `run` at once: one for each core, up to 8.
        budget: the tokens of a pass with which it is fast.
    """

    budget = _BUDGET

    def __init__(self, model: Any, precision: str, pad: int, *, left: bool, cache: Path | None = None) -> None:
        """Compile a model.

        Args:
            model: an `openvino.Model`, or the path of its file.
            precision: the type that it computes in, where the processor can.
            pad: the token id of padding.
            left: whether padding stands in front.
            cache: the folder for what is compiled.
        """
        import openvino

        self._pad, self._left = pad, left
        self.streams = max(1, min(_MOST_STREAMS, _cores()))
        settings = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "NUM_STREAMS": self.streams}
        if cache is not None:
            settings["CACHE_DIR"] = str(cache)
        _used_in.add(os.getpid())
        self._compiled = openvino.Core().compile_model(model, "CPU", settings)
        self._own = threading.local()
        reset_in_children(self)

    def reset(self) -> None:
        """Keep the compiled model of a forked child's parent for good: its end would wait for threads that are gone."""
        _inherited.append((self._compiled, self._own))

    def enter(self) -> None:
        """Do nothing: OpenVINO has threads of its own."""

    def run(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Return an array of shape (n, dimension) for the token ids of n texts."""
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._compiled.create_infer_request()
        request.infer(padded(rows, self._pad, left=self._left), share_inputs=True)
        return np.array(request.get_output_tensor(0).data, np.float32)


class OpenVinoEncoder(Encoder):
    """A converted model with its tokenizer, and the facts about it that a torch model has as attributes."""

    bulk: Bulk
    steps: Steps

    def __init__(self, facts: Mapping[str, Any], bulk: Bulk, steps: Steps) -> None:
        self.facts, self.bulk, self.steps, self.tokens = facts, bulk, steps, Tokens(bulk.tokenizer)
        self.max_length, self.positions = facts["max_length"], facts["positions"]
        self.precision, self.cuts = facts["precision"], facts["cuts"]
        self._process = os.getpid()

    @property
    def is_usable(self) -> bool:
        return self._process == os.getpid()

    def prompt(self, kind: Kind) -> str:
        return str(self.facts["prompts"].get(kind, ""))


def convert(encoder: Encoder, bulk: Bulk, sample: Sequence[Row], attention: str | None) -> tuple[Any, OpenVinoEncoder]:
    """Return a model of torch as a graph of OpenVINO, and its encoder.

    Args:
        encoder: the loaded model.
        bulk: its tokenizer.
        sample: token ids for tracing the model, the longest first.
        attention: the name of another implementation of attention; None keeps the model's own.

    Raises:
        ValueError: the model computes in a type for which OpenVINO is not used.
    """
    parts = encoder.parts
    if parts is None or encoder.precision not in _HINTS:
        raise ValueError(f"it computes in {encoder.precision}")
    facts = {
        "precision": encoder.precision,
        "max_length": encoder.max_length,
        "positions": encoder.positions,
        "cuts": encoder.cuts,
        "cuts_left": bulk.left,
        "prompts": {kind: encoder.prompt(kind) for kind in ("query", "text")},
        "pad": int(parts.tokenizer.pad_token_id or 0),
        "pads_left": parts.tokenizer.padding_side == "left",
    }
    graph = _graph(_copied(parts, attention), padded(sample, facts["pad"], left=facts["pads_left"]))
    return graph, encoder_of(facts, graph, bulk.tokenizer)


def encoder_of(facts: Mapping[str, Any], model: Any, tokenizer: Any, cache: Path | None = None) -> OpenVinoEncoder:
    """Return the encoder of a converted model, an `openvino.Model` or the path of its file; see `OpenVinoEngine`."""
    engine = OpenVinoEngine(model, facts["precision"], facts["pad"], left=facts["pads_left"], cache=cache)
    return OpenVinoEncoder(facts, Bulk(tokenizer, left=facts["cuts_left"]), Steps(engine))


def _copied(parts: Parts, attention: str | None) -> Parts:
    """Return a copy in float32, as OpenVINO rounds while it computes, that keeps no keys and values of decoders."""
    copy = replace(parts, module=deepcopy(parts.module).float())
    copy.transformer.config.use_cache = False
    if attention is not None:
        copy.transformer.set_attn_implementation(attention)
    return copy


def _graph(parts: Parts, example: Sequence[NDArray[np.int64]]) -> Any:
    import torch

    # `openvino.convert_model` does the same, and reports to its makers that it was called
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = parts.module

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return parts.forward({"input_ids": input_ids, "attention_mask": attention_mask})

    with torch.inference_mode(), _quiet():
        decoder = TorchScriptPythonDecoder(Graph(), example_input=tuple(map(torch.from_numpy, example)))
        frontend = FrontEndManager().load_by_framework("pytorch")
        return frontend.convert(frontend.load(decoder))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep tracing from warning of branches that it takes for good; comparing vectors finds those that matter."""
    loggers = [logging.getLogger(name) for name in ("transformers", "sentence_transformers")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
