"""Configuration: checked, copied, pickled, saved."""

import copy
import pickle
from typing import Annotated, Any

import pytest
from embed_core import OPERATIONAL, BaseEmbedding, MockEmbedding, RateLimiter
from embed_core.errors import ConfigurationError
from embed_core.instrumentation import CallbackManager
from embed_core.kvstore import MemoryKVStore
from pydantic import Field, SecretStr, ValidationError


class Keyed(BaseEmbedding):
    """As an integration written for LlamaIndex looks."""

    provider = "keyed"

    embed_batch_size: int = Field(default=100, description="another default", gt=0)
    api_key: SecretStr | None = None
    headers: dict[str, Any] = Field(default_factory=dict)
    timeout: Annotated[float, OPERATIONAL] = 60.0
    dimensions: int | None = None

    def _get_query_embedding(self, query):
        return [1.0]

    def _get_text_embedding(self, text):
        return [2.0]


def test_an_unknown_argument_names_the_nearest_or_all():
    with pytest.raises(ValidationError, match="`MockEmbedding` has no argument `embed_dims`; did you mean `embed_dim`"):
        MockEmbedding(embed_dims=3)
    with pytest.raises(ValidationError, match="there are `callback_manager`, `embed_batch_size`"):
        MockEmbedding(zzzz=3)


@pytest.mark.parametrize(("field", "value"), [("embed_batch_size", 0), ("embed_batch_size", 2049), ("num_workers", 0)])
def test_values_are_checked_at_construction_and_assignment(field, value):
    with pytest.raises(ValidationError):
        MockEmbedding(**{field: value})
    model = MockEmbedding()
    with pytest.raises(ValidationError):
        setattr(model, field, value)
    assert getattr(model, field) != value


def test_an_assignment_takes_effect_on_the_next_call():
    model = MockEmbedding(embed_batch_size=10)
    model.embed_texts(["a", "b"])
    model.embed_batch_size = 1
    model.embed_texts(["a", "b"])
    assert model.call_count == 3
    model.embed_dim = 3
    assert model.embed_texts(["a"]).shape == (1, 3)


def test_secrets_are_in_no_copy_that_leaves_the_process():
    model = Keyed(api_key="sk-secret", headers={"x": SecretStr("sk-secret")})
    for shown in (repr(model), str(model), str(model.to_dict()), str(model._space())):
        assert "sk-secret" not in shown
    assert b"sk-secret" not in pickle.dumps(model)
    assert pickle.loads(pickle.dumps(model)).api_key is None
    assert copy.deepcopy(model).api_key.get_secret_value() == "sk-secret"


def test_collaborators_are_shared_by_copies_and_left_out_of_saved_forms():
    model = MockEmbedding(
        embeddings_cache=MemoryKVStore(), rate_limiter=RateLimiter(), callback_manager=CallbackManager()
    )
    for twin in (copy.copy(model), copy.deepcopy(model), model.model_copy()):
        assert twin.embeddings_cache is model.embeddings_cache
        assert twin.rate_limiter is model.rate_limiter
        assert twin.callback_manager is model.callback_manager
    assert not {"embeddings_cache", "rate_limiter", "callback_manager"} & model.to_dict().keys()


def test_a_saved_configuration_belongs_to_its_provider():
    assert MockEmbedding.from_dict(MockEmbedding(embed_dim=3).to_dict()).embed_dim == 3
    assert MockEmbedding.from_dict(MockEmbedding(embed_dim=3).to_dict(), embed_dim=4).embed_dim == 4
    with pytest.raises(ConfigurationError, match="of provider `keyed`, not `mock`; use `resolve_embed_model"):
        MockEmbedding.from_dict(Keyed().to_dict())


def test_what_changes_vectors_changes_the_fingerprint_and_nothing_else_does():
    model = Keyed(model_name="a")
    same = [
        Keyed(model_name="a", embed_batch_size=7),
        Keyed(model_name="a", num_workers=3, timeout=1, api_key="sk-1"),
        Keyed(model_name="a", embeddings_cache=MemoryKVStore()),
    ]
    different = [
        Keyed(model_name="b"),
        Keyed(model_name="a", dimensions=2),
        Keyed(model_name="a", long_text="mean"),
        MockEmbedding(model_name="a"),
    ]
    assert {twin.fingerprint for twin in same} == {model.fingerprint}
    prints = {other.fingerprint for other in different}
    assert len(prints) == len(different)
    assert model.fingerprint not in prints


def test_the_fingerprint_is_this_one_on_every_machine():
    assert MockEmbedding(embed_dim=8).fingerprint == "da3e358a34eac43a1e2195794e238575"


def test_a_field_that_is_no_plain_data_is_named_with_what_to_do():
    class Odd(Keyed):
        tool: Any = None

    with pytest.raises(ConfigurationError, match=r"mark it `Field\(exclude=True\)`"):
        Odd(tool=object()).to_dict()


def test_the_chain_that_a_copy_builds_is_its_own():
    model = MockEmbedding()
    model.embed_texts(["a"])
    twin = copy.deepcopy(model)
    twin.embed_texts(["b"])
    assert model.call_count == twin.call_count == 1
