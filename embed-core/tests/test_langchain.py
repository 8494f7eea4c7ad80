"""LangChain's embeddings as models of ours, and the other way round."""

import math
import pickle
from copy import deepcopy
from typing import Any

import pytest
from embed_core import MockEmbedding, resolve_embed_model
from embed_core.bridges.langchain import EmbedCoreEmbeddings, LangChainEmbedding
from embed_core.errors import ConfigurationError, ProviderError
from embed_core.kvstore import MemoryKVStore
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.language_models import FakeListLLM
from pydantic import BaseModel, ConfigDict, Field, SecretStr


class Lengths(Embeddings):
    """A plain class, which shows none of its configuration."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale, self.calls = scale, []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls.append(("documents", list(texts)))
        return [[len(text) * self.scale, 1.0] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        self.calls.append(("query", text))
        return [len(text) * self.scale, -1.0]


class AsyncLengths(Lengths):
    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls.append(("adocuments", list(texts)))
        return [[len(text) * self.scale, 1.0] for text in texts]

    async def aembed_query(self, text: str) -> list[float]:
        self.calls.append(("aquery", text))
        return [len(text) * self.scale, -1.0]


class Configured(BaseModel, Lengths):
    """A pydantic model, as most of LangChain's integrations are."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True, protected_namespaces=())

    model: str = "m"
    scale: float = 1.0
    calls: list[Any] = Field(default_factory=list, exclude=True)
    client: Any = Field(default=None, exclude=True)
    api_key: SecretStr | None = None
    token: str = ""
    settings: Any = None

    @property
    def lc_secrets(self) -> dict[str, str]:
        return {"token": "TOKEN"}


def test_documents_and_queries_go_to_the_methods_made_for_them():
    foreign = Lengths()
    model = resolve_embed_model(foreign)
    assert model.get_text_embedding_batch(["a", "bcd"]) == [[1.0, 1.0], [3.0, 1.0]]
    assert model.get_text_embedding("ab") == [2.0, 1.0]
    assert model.get_query_embedding("ab") == [2.0, -1.0]
    assert foreign.calls == [("documents", ["a", "bcd"]), ("documents", ["ab"]), ("query", "ab")]


async def test_async_methods_are_used_where_the_class_wrote_them():
    foreign = AsyncLengths()
    model = resolve_embed_model(foreign)
    assert await model.aget_text_embedding_batch(["a", "bcd"]) == [[1.0, 1.0], [3.0, 1.0]]
    assert await model.aget_query_embedding("ab") == [2.0, -1.0]
    assert [call for call, _ in foreign.calls] == ["adocuments", "aquery"]


async def test_async_calls_of_a_sync_object_give_the_same_vectors():
    foreign = Lengths()
    model = resolve_embed_model(foreign)
    assert await model.aget_text_embedding_batch(["a", "bcd"]) == model.get_text_embedding_batch(["a", "bcd"])
    assert await model.aget_query_embedding("ab") == model.get_query_embedding("ab")


def test_the_name_is_the_objects_own():
    assert resolve_embed_model(Configured(model="text-embedding-x")).model_name == "text-embedding-x"
    assert resolve_embed_model(Lengths()).model_name == "Lengths"


def test_equal_public_fields_share_a_space_and_different_ones_do_not():
    def fingerprint(**fields: Any) -> str:
        return resolve_embed_model(Configured(**fields)).fingerprint

    assert fingerprint(scale=2.0) == fingerprint(scale=2.0)
    assert fingerprint(scale=2.0) != fingerprint(scale=3.0)
    assert fingerprint(settings={"a": [1, None]}) == fingerprint(settings={"a": [1, None]})
    assert fingerprint(more="x") != fingerprint(more="y")
    assert resolve_embed_model(DeterministicFakeEmbedding(size=4)).fingerprint != fingerprint()


def test_secrets_and_clients_are_no_part_of_the_space():
    plain = resolve_embed_model(Configured())
    for fields in ({"api_key": "sk-1"}, {"token": "sk-2"}, {"client": object()}):
        assert resolve_embed_model(Configured(**fields)).fingerprint == plain.fingerprint


@pytest.mark.parametrize("settings", [object(), {"a": object()}, [{1: "a"}], math.nan, (1,), SecretStr])
def test_an_object_that_holds_more_than_plain_data_shares_with_nobody(settings):
    first, second = (resolve_embed_model(Configured(settings=settings)) for _ in range(2))
    assert first.fingerprint != second.fingerprint


def test_an_object_that_shows_nothing_shares_with_nobody_but_copies_of_its_model():
    store = MemoryKVStore()
    one = resolve_embed_model(Lengths(1.0), embeddings_cache=store)
    two = resolve_embed_model(Lengths(2.0), embeddings_cache=store)
    assert one.get_text_embedding("abc") == [3.0, 1.0]
    assert two.get_text_embedding("abc") == [6.0, 1.0]
    assert deepcopy(one).fingerprint == one.fingerprint
    assert pickle.loads(pickle.dumps(one)).fingerprint == one.fingerprint
    assert len(store) == 2


def test_a_local_class_shares_with_nobody():
    def configured() -> Embeddings:
        class Local(Configured):
            """Another one at every call."""

        return Local()

    assert resolve_embed_model(configured()).fingerprint != resolve_embed_model(configured()).fingerprint


def test_an_objects_failure_is_a_provider_error_with_its_cause():
    class Failing(Lengths):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            raise KeyError("no such model")

    with pytest.raises(ProviderError) as caught:
        resolve_embed_model(Failing()).get_text_embedding("a")
    assert isinstance(caught.value.__cause__, KeyError)


def test_other_objects_of_langchain_are_told():
    with pytest.raises(ConfigurationError, match="`FakeListLLM` of LangChain is no `Embeddings`"):
        resolve_embed_model(FakeListLLM(responses=["x"]))


def test_a_wrapped_object_cannot_be_made_from_a_saved_form():
    saved = resolve_embed_model(Lengths()).to_dict()
    assert "langchain" not in saved
    with pytest.raises(ConfigurationError):
        resolve_embed_model(saved)


async def test_a_model_of_ours_serves_langchain():
    model = MockEmbedding(embed_dim=4)
    embeddings = EmbedCoreEmbeddings(model)
    assert isinstance(embeddings, Embeddings)
    documents = embeddings.embed_documents(["a", "b"])
    assert documents == model.get_text_embedding_batch(["a", "b"]) == await embeddings.aembed_documents(["a", "b"])
    assert embeddings.embed_query("a") == model.get_query_embedding("a") == await embeddings.aembed_query("a")
    assert type(documents[0][0]) is float
    assert embeddings.embed_documents([]) == []


def test_there_and_back_gives_the_same_vectors():
    model = MockEmbedding(embed_dim=4)
    back = resolve_embed_model(EmbedCoreEmbeddings(model))
    assert isinstance(back, LangChainEmbedding)
    assert back.get_text_embedding("a") == model.get_text_embedding("a")
