"""Configuration: checked, copied, pickled, saved."""

import asyncio
import copy
import json
import operator
import pickle
import threading
from collections import OrderedDict, deque
from enum import StrEnum
from typing import Annotated, Any

import pytest
from embed_core import OPERATIONAL, BaseEmbedding, MockEmbedding, RateLimiter, cache_of
from embed_core.errors import ConfigurationError
from embed_core.instrumentation import CallbackManager
from embed_core.kvstore import MemoryKVStore
from pydantic import BaseModel, Field, PrivateAttr, SecretStr, ValidationError, computed_field


class Nested(BaseEmbedding):
    """Sends further parameters with its texts, as many providers take them."""

    provider = "nested"

    parameters: dict[str, Any] = Field(default_factory=dict)
    layers: list[list[int]] = Field(default_factory=list)
    tags: set[str] = Field(default_factory=set)
    stages: tuple[dict[str, Any], ...] = ()
    anything: Any = None
    headers: Annotated[dict[str, SecretStr] | None, OPERATIONAL] = None
    tool: Any = Field(default=None, exclude=True)

    def _get_query_embedding(self, query):
        return self._get_text_embedding(query)

    def _get_text_embedding(self, text):
        return [float(len(text)), float(len(str(self.parameters)))]


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


def test_a_field_that_decides_vectors_is_fixed_once_the_model_has_been_used():
    model = MockEmbedding(embed_dim=2)
    model.embed_dim = 4
    assert model.dimension == 4
    assert model.embed_texts([]).shape == (0, 4)
    model.embed_dim = 3
    assert model.embed_texts(["a"]).shape == (1, 3)
    with pytest.raises(ConfigurationError, match=r"`embed_dim` of `MockEmbedding` .*`model.with_\(embed_dim=…\)`"):
        model.embed_dim = 5
    model.embed_dim = 3  # the same value changes nothing
    model.num_workers, model.embeddings_cache = 2, MemoryKVStore()
    assert model.embed_texts(["a"]).shape == (1, 3)


def test_a_model_like_another_one_is_made_with_the_changes():
    model = MockEmbedding(embed_dim=2, embeddings_cache=MemoryKVStore())
    model.embed_batch_size = 7
    model.get_text_embedding("a")
    for twin in (model.with_(embed_dim=3), model.model_copy(update={"embed_dim": 3})):
        assert (twin.embed_dim, twin.embed_batch_size) == (3, 7)
        assert twin.embeddings_cache is model.embeddings_cache
        assert len(twin.get_text_embedding("a")) == 3
    assert len(model.get_text_embedding("a")) == 2
    with pytest.raises(ValidationError, match="did you mean `embed_dim`"):
        model.with_(embed_dims=3)


def test_secrets_are_in_no_copy_that_leaves_the_process():
    model = Keyed(api_key="sk-secret", headers={"x": SecretStr("sk-secret")})
    for shown in (repr(model), str(model), str(model.to_dict()), str(model._space())):
        assert "sk-secret" not in shown
    assert b"sk-secret" not in pickle.dumps(model)
    assert pickle.loads(pickle.dumps(model)).api_key is None
    assert copy.deepcopy(model).api_key.get_secret_value() == "sk-secret"


class Configured(Nested):
    def __init__(self, client_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)


def test_a_key_deep_in_a_mapping_is_in_no_copy_that_leaves_the_process():
    def made(key):
        headers = {"Authorization": f"Bearer {key}", "x-team": "7"}
        return Configured({"api_key": key, "retries": 3}, parameters={"user": "me", "deep": [{"headers": headers}]})

    model = made("sk-secret")
    for shown in (repr(model), str(model.to_dict()), str(model._space()), str(model.__reduce__())):
        assert "sk-secret" not in shown
    assert b"sk-secret" not in pickle.dumps(model)
    assert made("sk-other").fingerprint == model.fingerprint
    assert copy.copy(model).parameters == model.parameters
    twin = pickle.loads(pickle.dumps(model))
    assert twin.parameters == {"user": "me", "deep": [{"headers": {"x-team": "7"}}]}
    assert twin.fingerprint == Configured.from_dict(model.to_dict()).fingerprint == model.fingerprint


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
    assert MockEmbedding(embed_dim=8).fingerprint == "8ce1069bf9d49b2252732c3a44079289"


def test_a_field_that_is_no_plain_data_is_named_with_what_to_do():
    class Odd(Keyed):
        tool: Any = None

    for tool in (object(), b"\xff", [b"\xff"]):
        with pytest.raises(ConfigurationError, match=r"`tool` of `Odd` .* mark it `Field\(exclude=True\)`"):
            Odd(tool=tool).to_dict()


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_a_number_that_is_not_finite_is_saved(number):
    class Scaled(MockEmbedding):
        scale: float = 1.0
        anything: Any = None

        def __init__(self, kept: Any = None, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self._kept = kept

    class Inner(BaseModel):
        scale: float = 1.0

    model = Scaled(scale=number, anything=[{"a": number}], kept={"a": [number]})
    twin = Scaled.from_dict(json.loads(json.dumps(model.to_dict())))
    assert twin.fingerprint == model.fingerprint
    assert str((twin.scale, twin.anything, twin._kept)) == str((number, [{"a": number}], {"a": [number]}))
    assert str(Scaled(anything=Inner(scale=number)).to_dict()["anything"]) == str({"scale": number})


def test_the_chain_that_a_copy_builds_is_its_own():
    model = MockEmbedding()
    model.embed_texts(["a"])
    twin = copy.deepcopy(model)
    twin.embed_texts(["b"])
    assert model.call_count == twin.call_count == 1


CHANGES = {
    "an item": lambda model: model.parameters.__setitem__("input_type", "query"),
    "no item": lambda model: model.parameters.__delitem__("input_type"),
    "update": lambda model: model.parameters.update(input_type="query"),
    "the operator": lambda model: operator.ior(model.parameters, {"input_type": "query"}),
    "setdefault": lambda model: model.parameters.setdefault("input_type", "query"),
    "pop": lambda model: model.parameters.pop("input_type", None),
    "clear": lambda model: model.parameters.clear(),
    "a nested dict": lambda model: model.parameters["deep"]["er"].update(x=1),
    "a nested list": lambda model: model.parameters["list"][1].append(4),
    "a list": lambda model: model.layers.append([1]),
    "a list in a list": lambda model: model.layers[0].sort(),
    "a set": lambda model: model.tags.add("b"),
    "a dict in a tuple": lambda model: model.stages[0].popitem(),
    "where anything goes": lambda model: model.anything[0].update(a=1),
}


def nested(**settings):
    parameters = {"deep": {"er": {"a": 1}}, "list": [1, [2, 3]]}
    return Nested(parameters=parameters, layers=[[1, 2]], tags={"a"}, stages=({"a": 1},), anything=[{}], **settings)


@pytest.mark.parametrize("change", CHANGES)
def test_a_collection_that_is_changed_in_place_makes_another_space(change):
    made = nested()
    assigned = Nested(parameters={"a": 1})
    for name in type(made).model_fields:
        setattr(assigned, name, getattr(made, name))
    for model in (made, assigned, copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        model.parameters["input_type"] = "text"
        model.embeddings_cache = MemoryKVStore()
        model.embed_texts(["a"])
        before, twin = model.fingerprint, copy.copy(model)
        CHANGES[change](model)
        changed = model.model_dump() != twin.model_dump()
        assert (model.fingerprint != before) == changed
        assert twin.fingerprint == before
        model.embed_texts(["a"])
        assert len(model.embeddings_cache) == 1 + changed


def test_a_change_of_a_default_stays_with_its_model():
    for change in ("an item", "a list", "a set"):
        model, other = Nested(), Nested()
        CHANGES[change](model)
        assert model.fingerprint != Nested().fingerprint == other.fingerprint


def test_a_collection_put_into_another_one_counts_too():
    model = nested()
    model.layers.append([5])
    before = model.fingerprint
    model.layers[-1].append(6)
    assert model.fingerprint != before


def test_a_collection_stays_the_same_object_while_other_fields_are_assigned():
    model = nested()
    tags, deep = model.tags, model.parameters["deep"]
    model.embed_batch_size = 3
    model.embed_texts(["a"])
    assert model.tags is tags
    assert model.parameters["deep"] is deep


class Counting(BaseEmbedding):
    """A test double as people write it."""

    calls: list[str] = Field(default_factory=list)
    counts: dict[str, int] = Field(default_factory=dict)

    def _get_query_embedding(self, query):
        return self._get_text_embedding(query)

    def _get_text_embedding(self, text):
        self.calls.append(text)
        self.counts[text] = self.counts.get(text, 0) + 1
        return [float(len(text)), 1.0]


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("embed", [BaseEmbedding.embed_texts, lambda *a: asyncio.run(BaseEmbedding.aembed_texts(*a))])
def test_a_double_that_appends_to_a_list_in_a_field_simply_works(embed, workers):
    model = Counting(embeddings_cache=MemoryKVStore(), embed_batch_size=1, num_workers=workers)
    before = model.fingerprint
    embed(model, ["a", "bb"])
    embed(model, ["bb", "ccc"])
    assert sorted(model.calls) == ["a", "bb", "ccc"]
    assert model.counts == {"a": 1, "bb": 1, "ccc": 1}
    assert model.fingerprint == before
    model.calls.clear()
    assert embed(model, ["dddd"]).shape == (1, 2)
    assert model.calls == ["dddd"]
    plain = Counting()
    embed(plain, ["a"])
    embed(plain, ["a"])
    assert plain.calls == ["a", "a"]


def test_no_vector_is_found_under_parameters_it_was_not_made_with():
    store = MemoryKVStore()
    theirs = {"deep": {"a": 1}}
    model = Nested(embeddings_cache=store, parameters=theirs)
    plain = model.get_text_embedding("a")
    theirs["deep"]["a"] = 200
    assert model.get_text_embedding("b") == plain
    before = model.fingerprint
    model.parameters["deep"]["a"] = 200
    assert model.fingerprint != before
    changed = model.get_text_embedding("b")
    assert changed != plain
    assert Nested(embeddings_cache=store, parameters={"deep": {"a": 1}}).get_text_embedding("b") == plain
    assert Nested(embeddings_cache=store, parameters={"deep": {"a": 200}}).get_text_embedding("b") == changed


def test_a_collection_in_a_field_is_otherwise_as_it_was_given():
    model = nested()
    given = {"deep": {"er": {"a": 1}}, "list": [1, [2, 3]]}
    assert model.parameters == given
    assert json.dumps(model.parameters) == json.dumps(dict(**model.parameters)) == json.dumps(given)
    assert repr(model.parameters) == repr(given)
    assert isinstance(model.parameters["list"], list)
    assert model.tags == {"a"}
    assert model.model_dump() == nested().model_dump()
    assert Nested.from_dict(json.loads(json.dumps(model.to_dict()))).fingerprint == model.fingerprint
    for twin in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.model_dump() == model.model_dump()
        assert twin.fingerprint == model.fingerprint


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value)), lambda value: json.loads(json.dumps(value))],
)
def test_a_copy_of_a_collection_is_plain_and_may_be_changed_and_assigned(copied):
    model = nested()
    parameters = copied(model.parameters)
    parameters["deep"]["er"]["a"] = 2
    parameters["list"][1].append(4)
    model.parameters = parameters
    assert model.parameters == {"deep": {"er": {"a": 2}}, "list": [1, [2, 3, 4]]}
    model.parameters = model.parameters | {"deep": None}
    assert model.parameters["deep"] is None
    assert copy.deepcopy(model.tags) | {"b"} == {"a", "b"}


class Connected(Nested):
    _told: list[str] = PrivateAttr(default_factory=list)

    def _changed(self, name):
        super()._changed(name)
        self._told.append(name)


def test_a_change_in_place_of_an_operational_field_is_told_to_the_model_and_changes_no_space():
    model = Connected(headers={"x": "y"})
    model.get_text_embedding("a")
    before, model._told[:] = model.fingerprint, []
    model.headers["x"] = SecretStr("z")
    model.get_text_embedding("a")
    assert model._told == [""]
    assert model.fingerprint == before


def test_a_collaborator_stays_what_it_is():
    tool = {"mine": [1]}
    model = nested(tool=tool)
    model.tool["mine"].append(2)
    assert model.tool is tool


class Tone(StrEnum):
    LOUD = "loud"
    LOW = "low"


class Ported(BaseEmbedding):
    """Written as LlamaIndex's integrations are: what its constructor takes lies in private attributes."""

    _instruction: str = PrivateAttr()
    _tone: Tone = PrivateAttr()

    def __init__(
        self,
        instruction: str = "Represent: ",
        tone: Tone = Tone.LOW,
        *,
        judge: Any = None,
        client: Any = None,
        access_token: str = "",
        patience: Annotated[float, OPERATIONAL] = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._instruction, self._tone = instruction, tone

    def _get_text_embedding(self, text):
        return [float(len(self._instruction)), 1.0 if self._tone == "loud" else 0.0]

    def _get_query_embedding(self, query):
        return self._get_text_embedding(query)


class Further(Ported):
    def __init__(self, *, dialect: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)


@pytest.mark.parametrize(
    "other",
    [
        lambda store: Ported("another", embeddings_cache=store),
        lambda store: Ported(instruction="another", embeddings_cache=store),
        lambda store: Ported(tone=Tone.LOUD, embeddings_cache=store),
        lambda store: Further(instruction="another", embeddings_cache=store),
    ],
)
def test_what_a_constructor_takes_beside_fields_is_part_of_the_space(other):
    store = MemoryKVStore()
    one, two = Ported(embeddings_cache=store), other(store)
    expected = one.get_text_embedding("a")
    assert two.get_text_embedding("a") == two._get_text_embedding("a") != expected
    assert one.get_text_embedding("a") == expected
    assert other(store).fingerprint == two.fingerprint != one.fingerprint


MADE = [
    copy.copy,
    copy.deepcopy,
    lambda model: pickle.loads(pickle.dumps(model)),
    lambda model: type(model).from_dict(json.loads(json.dumps(model.to_dict()))),
]


@pytest.mark.parametrize("made", MADE)
def test_copies_are_made_with_what_the_constructor_took(made):
    model = Further(instruction="another", tone=Tone.LOUD, dialect="broad", patience=3.0)
    twin = made(model)
    assert twin.fingerprint == model.fingerprint
    assert twin.get_text_embedding("a") == model.get_text_embedding("a") == [7.0, 1.0]


def test_what_is_marked_or_named_as_a_secret_is_not_part_of_the_space_nor_saved():
    model = Ported(patience=9.0, access_token="secret", embed_batch_size=3)
    assert model.fingerprint == Ported().fingerprint
    assert "secret" not in str(model.to_dict())
    assert b"secret" not in pickle.dumps(model)
    assert copy.copy(model)._arguments["access_token"] == "secret"


def test_what_is_no_plain_data_is_shared_with_copies_only():
    model, judge = Ported(judge=object()), object()
    assert Ported(judge=judge).fingerprint != Ported(judge=judge).fingerprint
    assert copy.deepcopy(model).fingerprint == model.fingerprint
    assert Ported.from_dict(model.to_dict()).fingerprint == Ported().fingerprint != model.fingerprint
    assert Ported(client=object()).fingerprint != Ported().fingerprint
    assert pickle.loads(pickle.dumps(Ported(client=threading.Lock()))).fingerprint == Ported().fingerprint


class Further2(Ported):
    """Passes everything on, as many subclasses do."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


class Instructed:
    def __init__(self, instruction: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._instruction = instruction


class Mixed(Instructed, MockEmbedding):
    _instruction: str = PrivateAttr()


class Probing(Ported):
    """Looks up its dimension while it is constructed."""

    def __init__(self, pad_token: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.get_text_embedding("probe")


@pytest.mark.parametrize(
    ("cls", "name"),
    [(Further2, "instruction"), (Mixed, "instruction"), (Probing, "instruction"), (Probing, "pad_token")],
)
def test_arguments_that_are_passed_on_or_mixed_in_count_too(cls, name):
    one, two = (cls(**{name: value, "embeddings_cache": MemoryKVStore()}) for value in ("a", "bbb"))
    assert one.fingerprint != two.fingerprint
    assert copy.copy(two).fingerprint == two.fingerprint
    two.get_text_embedding("text")
    assert two.embeddings_cache.get_many(cache_of(one, one.embeddings_cache).keys("text", ["text"])) == {}


class Positional(MockEmbedding):
    _prompts: tuple[str, ...] = PrivateAttr()

    def __init__(self, width: int, /, joint: str = "|", *prompts: str, **kwargs: Any) -> None:
        super().__init__(embed_dim=width, **kwargs)
        self._prompts = (joint, *prompts)

    def _get_text_embeddings(self, texts):
        return super()._get_text_embeddings([self._prompts[0].join((*self._prompts, text)) for text in texts])


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("model", [Further2("another", Tone.LOUD), Positional(3), Positional(3, "-", "a", "b")])
def test_arguments_by_position_are_those_of_a_copy_too(model, made):
    twin = made(model)
    assert twin.fingerprint == model.fingerprint
    assert twin.get_text_embedding("a") == model.get_text_embedding("a")
    assert model.fingerprint not in {Further2("one").fingerprint, Positional(3, "-", "b", "a").fingerprint}


def test_a_hint_that_makes_no_sense_is_nobodys_business():
    def init(self, first=(), second=None, **kwargs):
        MockEmbedding.__init__(self, **kwargs)

    init.__annotations__ = {"first": "list of str", "second": "any | None"}
    odd = type("Odd", (MockEmbedding,), {"__init__": init, "__module__": __name__})
    assert odd(second="x").fingerprint != odd().fingerprint


def test_an_argument_called_provider_is_not_the_provider():
    class Routed(MockEmbedding):
        def __init__(self, provider: str = "here", **kwargs: Any) -> None:
            super().__init__(**kwargs)

    assert Routed(provider="there").to_dict()["provider"] == MockEmbedding.provider


def test_a_plain_field_for_a_key_is_not_saved():
    class Keyed(MockEmbedding):
        api_key: str = ""

    model = Keyed(api_key="sk-secret")
    assert "sk-secret" not in str(model.to_dict())
    assert "sk-secret" not in str(model.__reduce__())
    assert model.fingerprint == Keyed().fingerprint


def test_a_constructor_may_change_the_dict_it_is_given_when_copies_are_made_too():
    class Changing(MockEmbedding):
        parameters: dict[str, Any] = Field(default_factory=dict)

        def __init__(self, dimensions: int = 4, **kwargs: Any) -> None:
            kwargs.setdefault("parameters", {})["dimensions"] = dimensions
            super().__init__(**kwargs)

    assert copy.copy(Changing(dimensions=8)).parameters == {"dimensions": 8}


def test_an_equal_value_changes_nothing_and_no_workers_are_one_as_llama_index_has_it():
    model = MockEmbedding(embeddings_cache=MemoryKVStore())
    model.embed_texts(["a"])
    model.embed_dim = model.embed_dim
    assert MockEmbedding(num_workers=None).num_workers == 1


def test_a_class_without_a_constructor_of_its_own_has_the_space_it_always_had():
    assert "_arguments" not in MockEmbedding()._space()
    assert "_identity" not in Ported()._space()


class Pooled(MockEmbedding):
    """Keeps its settings in every way that a constructor can."""

    words: Any = None
    model_name: str = "base"
    query_token: str = "[Q]"

    def __init__(self, model: str = "base", pool: Any = None, **kwargs: Any) -> None:
        super().__init__(model_name=model, **kwargs)
        self._pool, self._model = pool, model

    @property
    def pool(self) -> Any:
        return self._pool

    @pool.setter
    def pool(self, pool: Any) -> None:
        self._pool = pool

    def _get_text_embeddings(self, texts):
        return super()._get_text_embeddings([f"{self._model}{self._pool and self._pool()}{text}" for text in texts])


def test_another_object_for_an_argument_is_another_space():
    model = Pooled(pool=lambda: 1, embeddings_cache=MemoryKVStore())
    twin = model.with_(pool=lambda: 2)
    assert twin.get_text_embedding("a") != model.get_text_embedding("a")


def test_a_field_that_the_constructor_takes_by_another_name_is_changed_by_that_name():
    model = Pooled("one")
    with pytest.raises(ConfigurationError, match=r"`with_\(model=…\)`"):
        model.with_(model_name="two")
    model.get_text_embedding("a")
    with pytest.raises(ConfigurationError, match=r"`model_name` of `Pooled` .*`model.with_\(model=…\)`"):
        model.model_name = "two"
    assert model.with_(model="two").get_text_embedding("a") == Pooled("two").get_text_embedding("a")


def test_a_property_over_an_argument_is_fixed_as_a_field_is():
    model = Pooled()
    model.pool = None
    model.get_text_embedding("a")
    with pytest.raises(ConfigurationError, match="`pool` of `Pooled` decides vectors"):
        model.pool = lambda: 1


def test_a_piece_of_text_called_token_decides_vectors():
    assert Pooled(query_token="a").fingerprint != Pooled(query_token="b").fingerprint
    assert pickle.loads(pickle.dumps(Pooled(query_token="a"))).query_token == "a"


@pytest.mark.parametrize("words", [deque(["a"]), OrderedDict(a=1), RateLimiter])
def test_an_object_that_can_change_without_a_word_is_looked_at_with_each_call(words):
    class Options(BaseModel):
        prompt: str = "a"

    words = Options() if words is RateLimiter else words
    model = Pooled(words=words, embeddings_cache=MemoryKVStore())
    model.get_text_embedding("a")
    before = model.fingerprint
    if isinstance(words, deque):
        model.words.append("b")
    elif isinstance(words, OrderedDict):
        model.words["b"] = 2
    else:
        model.words.prompt = "b"
    assert model.fingerprint != before
    model.get_text_embedding("a")
    assert len(model.embeddings_cache) == 2


def test_a_field_cannot_change_while_a_call_learns_what_it_is():
    learning, go_on = threading.Event(), threading.Event()

    class Slow(Pooled):
        mode: str = "a"

        def _space(self):
            space = super()._space()
            learning.set()
            go_on.wait(60)
            return space

        def _get_text_embeddings(self, texts):
            return MockEmbedding()._get_text_embeddings([self.mode + text for text in texts])

    model = Slow(embeddings_cache=MemoryKVStore())
    call = threading.Thread(target=model.get_text_embedding, args=("x",))
    call.start()
    assert learning.wait(60)
    threading.Timer(0, go_on.set).start()
    with pytest.raises(ConfigurationError, match="`mode` of `Slow` decides vectors"):
        model.mode = "b"
    call.join()
    assert Slow(embeddings_cache=model.embeddings_cache).get_text_embedding("x") == MockEmbedding().get_text_embedding(
        "ax"
    )


def test_a_hook_that_changes_another_model_is_not_its_own_record():
    inner = nested(embeddings_cache=MemoryKVStore())

    class Outer(MockEmbedding):
        def _get_text_embedding(self, text):
            inner.parameters["mode"] = text
            return inner.get_text_embedding("a")

        def _get_text_embeddings(self, texts):
            return [self._get_text_embedding(text) for text in texts]

    before = inner.get_text_embedding("a")
    assert Outer(embed_dim=2).get_text_embedding("a long mode") != before


class Aliased(MockEmbedding):
    dims: int = Field(4, alias="dimensions")

    @computed_field
    def twice(self) -> int:
        return 2 * self.dims


@pytest.mark.parametrize("made", MADE)
def test_aliases_and_computed_fields_pass_through_copies(made):
    model = Aliased(dimensions=7)
    assert made(model).dims == 7
    assert model.with_(dims=8).twice == model.with_(dimensions=8).twice == 16


def test_a_mixin_after_the_base_class_and_a_wrong_argument_are_as_python_has_them():
    class Mixin:
        def __init__(self) -> None:
            raise AssertionError

    class Mixed2(MockEmbedding, Mixin):
        pass

    assert Mixed2(model_name="q").model_name == "q"
    with pytest.raises(TypeError, match=r"Positional.__init__\(\)|missing 1 required positional"):
        Positional()


def test_a_validated_model_checks_its_assignments():
    model = MockEmbedding.model_validate({"embed_dim": 4})
    with pytest.raises(ValidationError):
        model.embed_batch_size = "bad"


def test_an_equal_collection_can_be_assigned_again():
    model = nested()
    model.get_text_embedding("a")
    model.layers = [[1, 2]]
    with pytest.raises(ConfigurationError, match="`layers` of `Nested`"):
        model.layers = [[3]]
