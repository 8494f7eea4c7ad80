"""Models of sentence-transformers, version 5 or 6."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from embed_core import Kind
from embed_core.errors import ConfigurationError
from numpy.typing import NDArray

from embeddings_huggingface._files import read_json
from embeddings_huggingface._images import batches
from embeddings_huggingface._modules import SETTINGS
from embeddings_huggingface._passes import in_passes
from embeddings_huggingface._runtime import (
    UNBOUNDED,
    Options,
    dtype_options,
    positions,
    precision,
    quiet_loading,
    to_float32,
)
from embeddings_huggingface._source import Source
from embeddings_huggingface._tokens import Tokens, account, plain_ids
from embeddings_huggingface._weights import Encoded, Encoder, Parts

_NAMES = {"query": ("query",), "text": ("document", "passage", "corpus")}
_TASKS = {"query": "query", "text": "document"}
_OF_TOKENS = {"Dense", "Dropout", "LayerNorm", "Normalize", "Pooling"}  # behind a transformer
_REMEDIES = {
    "SparseEncoder": "use `SparseEncoderEmbedding`",
    "SentenceTransformer": "use `HuggingFaceEmbedding`",
}


def load(source: Source, options: Options, *, local: bool) -> SentenceEncoder:
    """Load a model of sentence-transformers, a `SparseEncoder` where the options say so.

    Raises:
        ConfigurationError: it is of another kind, such as a cross-encoder, and gives no vectors of the kind wanted.
    """
    import sentence_transformers

    wanted = "SparseEncoder" if options.sparse else "SentenceTransformer"
    _check_type(source, wanted)
    library = getattr(sentence_transformers, wanted)
    processor = inspect.signature(library.__init__).parameters.get("processor_kwargs")
    with quiet_loading():
        model = library(
            source.name,
            device=options.device,
            revision=source.commit,
            cache_folder=options.cache_folder,
            local_files_only=local,
            trust_remote_code=options.trust_remote_code,
            model_kwargs={**dtype_options(options.dtype), **options.model_kwargs},
            config_kwargs=dict(options.config_kwargs),
            **{"tokenizer_kwargs" if processor is None else "processor_kwargs": dict(options.processor_kwargs)},
        )
    if options.raw:
        _drop_normalize(model)
    if options.dtype not in {None, "auto"}:
        model.to(dtype_options(options.dtype).popitem()[1])  # modules beside the transformer too
    if options.sparse:
        return SparseSentenceEncoder(model)
    model.truncate_dim = _saved(source).get("truncate_dim")  # version 5.0 leaves it aside
    return SentenceEncoder(model)


def _parts(model: Any) -> Parts | None:
    """Return the parts of a model whose modules make a vector of token ids alone, whatever its prompt is."""
    modules = list(model.children())
    own = all(type(module).__module__.startswith("sentence_transformers.") for module in modules)
    names = [type(module).__name__ for module in modules]
    prompted = all(getattr(module, "include_prompt", True) for module in modules)
    if not own or not prompted or names[0] != "Transformer" or not _OF_TOKENS.issuperset(names[1:]):
        return None
    return Parts(model, _tokenizer(model), dimension=model.truncate_dim)


class SentenceEncoder(Encoder):
    """A `SentenceTransformer` in memory."""

    def __init__(self, model: Any) -> None:
        self._model = model.eval()
        length = model.max_seq_length
        self.max_length = int(length) if length is not None and length < UNBOUNDED else None
        self.positions = positions(getattr(model[0], "auto_model", None))
        self.precision = precision(model)
        self.cuts = self.max_length is not None
        modalities = getattr(model, "modalities", None)  # since version 5.4
        self.takes_images = "image" in modalities if modalities else type(model[0]).__name__ == "CLIPModel"
        tokenizer = _tokenizer(model)
        self.tokens = None if tokenizer is None else Tokens(tokenizer, special=callable(tokenizer))
        self.parts = _parts(model)

    def prompt(self, kind: Kind) -> str:
        """Return the saved prompt for queries or for documents, else the saved default one.

        `encode_document` looks at the first of its names only, where sentence-transformers itself puts an empty
        prompt that nobody saved; so E5's own `passage: ` would get lost.
        """
        prompts: Mapping[str, str | None] = self._model.prompts
        names = _NAMES.get(kind, ())
        saved = next((prompts[name] for name in names if prompts.get(name)), None)
        if saved is None and not any(name in prompts for name in names):
            saved = prompts.get(self._model.default_prompt_name)
        return saved or ""

    def encode_texts(
        self, texts: Sequence[str], kind: Kind, prompt: str, max_length: int | None, budget: int
    ) -> Encoded:
        limit = max_length if self.cuts else None
        with _length(self._model, limit):
            features = self._features(list(texts), prompt, _TASKS[kind])
            tokens, truncated = account(features, self.tokens, texts, prompt, limit)
            return Encoded(in_passes(features, budget, partial(self._forward, task=_TASKS[kind])), tokens, truncated)

    def token_ids(self, texts: Sequence[str], kind: Kind, prompt: str) -> list[list[int]]:
        return plain_ids(self._features(list(texts), prompt, _TASKS[kind]))

    def encode_images(self, images: Iterable[Any]) -> Encoded:
        read = getattr(self._model, "preprocess", None) or self._model.tokenize
        return Encoded(np.concatenate([self._forward(features) for features in batches(images, read)]))

    def _features(self, texts: list[str], prompt: str, task: str) -> Any:
        if (preprocess := getattr(self._model, "preprocess", None)) is not None:
            return preprocess(texts, prompt=prompt or None, task=task)
        features = self._model.tokenize([prompt + text for text in texts], task=task)
        if prompt:  # some models leave the prompt out of their pooling
            features["prompt_length"] = self._model._get_prompt_length(prompt, task=task)
        return features

    def _forward(self, features: Any, **options: Any) -> Any:
        import torch

        device = self._model.device
        there = {name: one.to(device) if isinstance(one, torch.Tensor) else one for name, one in features.items()}
        with torch.inference_mode():
            return self._vectors(self._model(there, **options)["sentence_embedding"])

    def _vectors(self, output: Any) -> Any:
        dimension = self._model.truncate_dim  # a wrapped model's own
        return to_float32(output if dimension is None else output[:, :dimension])


class SparseSentenceEncoder(SentenceEncoder):
    """A `SparseEncoder` in memory."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.parts = None

    def _forward(self, features: Any, **options: Any) -> Any:
        most = self._most()
        return super()._forward(features, **options, **({} if most is None else {"max_active_dims": most}))

    def _vectors(self, output: Any) -> list[tuple[NDArray[Any], NDArray[np.float32]]]:
        from sentence_transformers.util import select_max_active_dims

        output = select_max_active_dims(output, self._most())
        rows, columns = output.nonzero(as_tuple=True)  # in the order of rows, and within them of columns
        weights = to_float32(output[rows, columns])
        ends = np.cumsum(np.bincount(rows.cpu().numpy(), minlength=len(output)))[:-1]
        return list(zip(np.split(columns.cpu().numpy(), ends), np.split(weights, ends), strict=True))

    def _most(self) -> int | None:
        own: int | None = self._model.max_active_dims
        return own if self.max_active_dims is None else self.max_active_dims


def _check_type(source: Source, wanted: str) -> None:
    found = _type(source)
    if found != wanted:
        gives = "dense" if wanted == "SentenceTransformer" else "sparse"
        remedy = _REMEDIES.get(found, f"choose a `{wanted}`")
        raise ConfigurationError(f"`{source.name}` is a `{found}` and gives no {gives} vectors; {remedy}")


def _type(source: Source) -> str:
    """Return the class that a model was saved by; sparse models need no files of sentence-transformers."""
    if not source.is_sentence_transformer:
        architectures = read_json(source.marker).get("architectures") or ["model"]
        return "SparseEncoder" if architectures[0].endswith("ForMaskedLM") else str(architectures[0])
    return str(_saved(source).get("model_type", "SentenceTransformer"))


def _saved(source: Source) -> Any:
    return read_json(source.marker.with_name(SETTINGS)) or {}


def _drop_normalize(model: Any) -> None:
    for name, module in list(model.named_children()):
        if type(module).__name__ == "Normalize":
            delattr(model, name)


def _tokenizer(model: Any) -> Any:
    tokenizer = getattr(model[0], "tokenizer", None)
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # where images are taken too, it may be a processor
    return tokenizer if callable(tokenizer) or hasattr(tokenizer, "encode_batch") else None


@contextmanager
def _length(model: Any, max_length: int | None) -> Iterator[None]:
    """Set the length at which the model's tokenizer cuts; it belongs to the model, which others may share."""
    if max_length is None:
        yield
        return
    before = model.max_seq_length
    model.max_seq_length = max_length
    try:
        yield
    finally:
        model.max_seq_length = before
