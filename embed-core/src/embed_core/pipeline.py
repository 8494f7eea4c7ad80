"""Transformations over documents, where only changed text is embedded again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, TypeAlias, cast

from embed_core._base import BaseEmbedding
from embed_core._engine import runner
from embed_core._history import History, freeze, key_of, state, thaw
from embed_core._io import IO, Asyncio, Blocking, Threaded, drive
from embed_core._ledger import IngestionResult, Ledger
from embed_core.errors import ConfigurationError, EmbedError, InvalidInputError
from embed_core.kvstore import KVStore, MemoryKVStore, visit

Transformation: TypeAlias = Callable[[Sequence[Any]], Iterable[Any]]
"""Makes nodes from nodes; `arun` awaits its `acall`, where it has one."""


@dataclass(frozen=True)
class IngestionPipeline:
    """Runs documents through transformations, such as a splitter and then a model.

    A model sees the nodes of all documents at once, so that its batches are full; any other transformation sees those
    of one document at a time. Vectors are kept by model and content: text that was embedded once is not embedded again,
    wherever it has moved. A transformation with a `fingerprint`, a string that changes with its settings, has its
    results kept by document and content; one without runs every time.

    Attributes:
        transformations: callables from nodes to nodes, in order, with an optional `acall`.
        cache: keeps vectors, results and notes between runs; a `SQLiteKVStore` between processes too. One with a limit
            drops vectors and results, never notes. A model that has an `embeddings_cache` keeps its vectors there.
        name: tells pipelines apart that share a cache.
        num_workers: how many documents are transformed at a time; models have a `num_workers` of their own.

    Example:
        >>> from embed_core import Document, IngestionPipeline, MockEmbedding, TextSplitter
        >>> pipeline = IngestionPipeline([TextSplitter(chunk_size=200), MockEmbedding()])
        >>> nodes = pipeline.run([Document(id_="a", text="The wing stalls."), Document(id_="b", text="Bread.")])
        >>> nodes.commit()  # once they are stored
        >>> [(node.ref_doc_id, node.text, len(node.embedding)) for node in nodes]
        [('a', 'The wing stalls.', 8), ('b', 'Bread.', 8)]
        >>> pipeline.run([Document(id_="a", text="The wing stalls.")]).unchanged
        ['a']
    """

    transformations: Sequence[Transformation]
    cache: KVStore = field(default_factory=MemoryKVStore)
    name: str = "default"
    num_workers: int = 1

    def __post_init__(self) -> None:
        """Check the transformations and the number of workers: with none, documents would stay as they are.

        Raises:
            ConfigurationError: `num_workers` is below 1, `cache` is no store, or the transformations are no list of
                callables.
        """
        many, cache = cast("Any", (self.transformations, self.cache))
        if not isinstance(many, Sequence) or isinstance(many, str):
            msg = f"`transformations` is a `{type(many).__name__}`; it must be a list, as in `[TextSplitter(), model]`"
            raise ConfigurationError(msg)
        if wrong := [index for index, one in enumerate(many) if not callable(one)]:
            found = f"`transformations[{wrong[0]}]` is a `{type(many[wrong[0]]).__name__}`"
            msg = f"{found}; it must be a model, a splitter or another callable, as in `[TextSplitter(), model]`"
            raise ConfigurationError(msg)
        if not hasattr(cache, "get_many"):
            msg = f"`cache` is a `{type(cache).__name__}`; it must be a store, as in `SQLiteKVStore('pipeline.sqlite')`"
            raise ConfigurationError(msg)
        if self.num_workers < 1:
            msg = f"`num_workers` is {self.num_workers}; it must be at least 1"
            raise ConfigurationError(msg)

    def run(
        self,
        documents: Iterable[Any] | None = None,
        *,
        nodes: Iterable[Any] | None = None,
        show_progress: bool = False,
        delete_missing: bool = False,
    ) -> IngestionResult:
        """Return the nodes that documents give, with their vectors; `commit` the result once it is stored.

        Args:
            documents: each with an `id_` of its own. With random ids, which are the default, all documents look new to
                the next process, though their text is not embedded again.
            nodes: the same, for text that is split already.
            show_progress: show a bar that counts nodes as they are embedded.
            delete_missing: documents that earlier runs knew and this one is not given are gone; else they are just
                left alone. For one process at a time.

        Raises:
            InvalidInputError: an input is no node or cannot be compared, two have one id, or a transformation gives
                something else than nodes.
        """
        io = Threaded() if self.num_workers > 1 else Blocking()
        return drive(self._run(io, _inputs(documents, nodes), show_progress, delete_missing))

    async def arun(
        self,
        documents: Iterable[Any] | None = None,
        *,
        nodes: Iterable[Any] | None = None,
        show_progress: bool = False,
        delete_missing: bool = False,
    ) -> IngestionResult:
        """Return the nodes that documents give; see `run`."""
        return await self._run(Asyncio(), _inputs(documents, nodes), show_progress, delete_missing)

    async def _run(
        self, io: IO, inputs: Mapping[str, Any], show_progress: bool, delete_missing: bool
    ) -> IngestionResult:
        await io.call(lambda: [state(node) for node in inputs.values()])  # refuses nodes that cannot be compared
        outputs = {id_: [node] for id_, node in inputs.items()}
        for transformation in self.transformations:
            if isinstance(transformation, BaseEmbedding):
                nodes = list(chain.from_iterable(outputs.values()))
                await _embed(io, transformation, nodes, self.cache, show_progress)
            else:
                one = partial(self._transform, io, transformation, outputs)
                await io.map(one, list(outputs), workers=min(self.num_workers, len(outputs)))
        ledger = Ledger(History(self.cache), self.name)
        return await io.call(lambda: ledger.compare(outputs, delete_missing=delete_missing))

    async def _transform(self, io: IO, transform: Any, outputs: dict[str, list[Any]], id_: str) -> None:
        """Replace a document's nodes by the result of the transformation, now or in an earlier run."""
        nodes, history = outputs[id_], History(self.cache)
        if not isinstance(fingerprint := getattr(transform, "fingerprint", None), str):
            outputs[id_] = await _call(io, transform, nodes, id_)
            return
        given = await io.call(lambda: [[node.id_, state(node)] for node in nodes])
        key = key_of("result", fingerprint, id_)
        kept = (await visit(self.cache, io, lambda: history.read([key]))).get(key)
        if kept is not None and kept["given"] == given:
            outputs[id_] = thaw(kept["nodes"])
            return
        outputs[id_] = await _call(io, transform, nodes, id_)
        if (frozen := freeze(outputs[id_])) is not None:
            await visit(self.cache, io, lambda: history.write({key: {"given": given, "nodes": frozen}}))


async def _embed(io: IO, model: BaseEmbedding, nodes: Sequence[Any], cache: KVStore, show_progress: bool) -> None:
    """Give every node its vector, from the cache where it is there; a failure names nodes."""
    store = cache if model.embeddings_cache is None else None
    try:
        await model._embed_nodes(runner(model) if io.blocking else io, nodes, show_progress=show_progress, cache=store)
    except EmbedError as error:
        for index in error.indices[:3]:
            error.add_note(f"input {index} is the node `{nodes[index].id_}`")
        raise


def _inputs(documents: Iterable[Any] | None, nodes: Iterable[Any] | None) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    for index, node in enumerate(chain(documents or (), nodes or ())):
        if not (hasattr(node, "id_") and hasattr(node, "get_content")):
            msg = f"input {index} is a `{type(node).__name__}`, no node; pass a list of nodes like `Document(text=…)`"
            raise InvalidInputError(msg, indices=[index])
        if node.id_ in inputs:
            msg = f"input {index} has the id `{node.id_}` of another input; give each document an id of its own"
            raise InvalidInputError(msg, indices=[index])
        inputs[node.id_] = node
    return inputs


async def _call(io: IO, transform: Any, nodes: Sequence[Any], id_: str) -> list[Any]:
    acall = getattr(transform, "acall", None)
    result = await io.call(lambda: transform(nodes), acall and (lambda: acall(nodes)))
    made = list(result) if isinstance(result, Iterable) else [result]
    if wrong := [node for node in made if not hasattr(node, "id_")]:
        name = getattr(transform, "__name__", type(transform).__name__)
        msg = f"`{name}` made a `{type(wrong[0]).__name__}` of document `{id_}`; a transformation returns nodes"
        raise InvalidInputError(msg)
    return made
