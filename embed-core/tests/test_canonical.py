"""Who shares a space: equal settings of one class, on every machine, and nobody else."""

import copy
import os
import pickle
import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
from embed_core import BaseEmbedding, MockEmbedding
from embed_core._canonical import canonical
from embed_core.errors import ConfigurationError
from embed_core.kvstore import MemoryKVStore
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, field_serializer

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("abc…"),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
)


@given(PLAIN)
def test_plain_data_is_its_own_form(value):
    assert canonical(value) == value


@dataclass(frozen=True)
class Lowered:
    """A user's middleware that changes texts."""

    by: str = "lower"
    operational: bool = False

    async def __call__(self, request, onward, io):
        return await onward(request)


class Options(BaseModel):
    prompt: str = "a"
    words: list[str] = []


class Frozen(Options):
    model_config = ConfigDict(frozen=True)


class Anything(MockEmbedding):
    """Has a setting of any kind, in a field and in an argument that it keeps to itself."""

    setting: Any = None

    def __init__(self, kept: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._kept = kept


def other(text):
    return text.upper()


def made_by(prefix):
    def put(text):
        return prefix + text

    return put


DIFFERENT = [
    *(None, "", "a", b"a", "None", 0, 0.5, "0", [], {}, [None], {"a": 1}, {"a": "1"}, {1: "a"}, {"1": "a"}),
    *(float("inf"), float("-inf"), float("nan"), "inf", Decimal("0.5"), 1j, range(2), date(2026, 1, 1)),
    *({"a", "b"}, {"a"}, ["b", "a"], np.ones(3), np.zeros(3), np.ones(3, np.float32), np.ones((3, 1))),
    *(
        re.compile("a"),
        re.compile("a", re.IGNORECASE),
        Options(),
        Options(prompt="b"),
        Frozen(),
        Lowered(),
        Lowered("b"),
    ),
    *(
        other,
        len,
        Path.exists,
        partial(other),
        partial(other, "a"),
        "embed_core:MockEmbedding",
        MockEmbedding,
        BaseEmbedding,
    ),
    *(
        made_by("a"),
        made_by("b"),
        lambda text: text,
        lambda text: text.lower(),
        MockEmbedding(),
        MockEmbedding(embed_dim=3),
    ),
    *(defaultdict(list), defaultdict(set), defaultdict(lambda: 1), defaultdict(lambda: 2)),
    *({"token": "a"}, {"token": "b"}, {"headers": {"x-part": "a"}}, {"headers": {"x-part": "b"}}),
    *(object(), [object()], {"a": object()}),
]


@pytest.mark.parametrize("name", ["setting", "kept"])
def test_different_settings_are_different_spaces(name):
    prints = [Anything(**{name: setting}).fingerprint for setting in DIFFERENT]
    assert [DIFFERENT[at] for at, one in enumerate(prints) if one in prints[:at]] == []


@pytest.mark.parametrize("name", ["setting", "kept"])
@pytest.mark.parametrize(
    "make",
    [
        *(lambda: float("nan"), lambda: {"a", "b"}, lambda: np.ones(3), lambda: re.compile("a"), Options),
        *(lambda: other, lambda: made_by("a"), lambda: partial(other, "a"), MockEmbedding, Lowered),
        lambda: lambda text: text,
    ],
)
def test_equal_settings_are_one_space(name, make):
    assert Anything(**{name: make()}).fingerprint == Anything(**{name: make()}).fingerprint


@pytest.mark.parametrize("name", ["setting", "kept"])
def test_an_object_is_the_same_in_copies_only(name):
    """Such as a client that holds the model."""
    tool = object()
    model = Anything(**{name: tool})
    assert Anything(**{name: tool}).fingerprint != model.fingerprint == copy.deepcopy(model).fingerprint


def test_a_client_may_hold_the_model():
    class Client:
        def __init__(self, scale):
            self.scale = scale

    class Holding(MockEmbedding):
        def __init__(self, client: Any = None, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self._client = client

        def _get_text_embeddings(self, texts):
            return super()._get_text_embeddings([text * self._client.scale for text in texts])

    store = MemoryKVStore()
    one, two = (Holding(Client(scale), embeddings_cache=store) for scale in (1, 2))
    assert one.get_text_embedding("a") != two.get_text_embedding("a")


def test_two_classes_of_one_name_in_two_modules(monkeypatch):
    code = "from embed_core import MockEmbedding\nclass Mine(MockEmbedding):\n    provider = 'mine'\n"
    for name in ("one_of_two", "two_of_two"):
        module = ModuleType(name)
        exec(code, module.__dict__)
        monkeypatch.setitem(sys.modules, name, module)
    one, two = (sys.modules[name].Mine() for name in ("one_of_two", "two_of_two"))
    assert one.fingerprint != two.fingerprint


def test_a_subclass_of_the_same_name_is_another_class():
    assert (
        type("MockEmbedding", (MockEmbedding,), {"__module__": "elsewhere"})().fingerprint
        != MockEmbedding().fingerprint
    )


def made_in_a_function(prefix, *, shout=False):
    class Local(MockEmbedding):
        def _get_text_embeddings(self, texts):
            return super()._get_text_embeddings([prefix + text for text in texts])

    class Shouting(Local):
        def _get_text_embeddings(self, texts):
            return super()._get_text_embeddings([text.upper() for text in texts])

    return Shouting if shout else Local


def test_classes_made_in_functions_are_known_by_their_code():
    store = MemoryKVStore()
    made = [made_in_a_function(*given) for given in (["a"], ["b"])] + [made_in_a_function("a", shout=True)]
    vectors = [cls(embeddings_cache=store).get_text_embedding("text") for cls in made]
    assert len({tuple(vector) for vector in vectors}) == 3
    assert made_in_a_function("a")().fingerprint == made[0]().fingerprint


CELL = """
from embed_core import MockEmbedding
PREFIX = {prefix!r}
def put(text):
    return {put}
class Mine(MockEmbedding):
    _scale: float = {scale}
    def _get_text_embeddings(self, texts):
        return super()._get_text_embeddings([put(text) * int(self._scale) for text in texts])
"""


def cell(prefix="a", put="PREFIX + text", scale=1.0):
    names = {"__name__": "__main__"}
    exec(CELL.format(prefix=prefix, put=put, scale=scale), names)
    return names["Mine"]()


def test_classes_of_scripts_and_notebooks_are_known_by_their_code_and_all_it_uses():
    prints = {
        cell().fingerprint,
        cell("b").fingerprint,
        cell(put="text + PREFIX").fingerprint,
        cell(scale=2.0).fingerprint,
    }
    assert len(prints) == 4
    assert cell().fingerprint in prints


def test_a_name_that_code_uses_may_be_given_another_object():
    names: dict[str, Any] = {"__name__": "__main__", "tool": object()}
    code = "class Mine(MockEmbedding):\n    def _get_text_embeddings(self, texts):\n        return tool.embed(texts)\n"
    exec(f"from embed_core import MockEmbedding\n{code}", names)
    first = names["Mine"]().fingerprint
    assert names["Mine"]().fingerprint == first
    names["tool"] = object()
    assert names["Mine"]().fingerprint != first


SCRIPT = """
import re
from typing import Any
from embed_core import MockEmbedding
SPACES = re.compile(" +")
class Mine(MockEmbedding):
    words: Any = None
    def _get_text_embeddings(self, texts):
        return super()._get_text_embeddings([SPACES.sub(" ", text) for text in texts])
print(Mine(words={"a", "b", "c", "d"}).fingerprint)
"""


def test_a_script_has_one_space_in_every_process():
    told = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1]


def test_middlewares_of_the_user_decide_vectors():
    plain, lowered = MockEmbedding(), MockEmbedding(middlewares=(Lowered(),))
    assert len({plain.fingerprint, lowered.fingerprint, MockEmbedding(middlewares=(Lowered("b"),)).fingerprint}) == 3
    assert MockEmbedding(middlewares=(Lowered(),)).fingerprint == lowered.fingerprint
    lowered.get_text_embedding("a")
    with pytest.raises(ConfigurationError, match="`middlewares` of `MockEmbedding` decides vectors"):
        lowered.middlewares = ()


def test_a_middleware_that_says_so_changes_no_vector():
    watch = Lowered(operational=True)
    model = MockEmbedding(middlewares=(watch,))
    assert model.fingerprint == MockEmbedding().fingerprint
    model.get_text_embedding("a")
    model.middlewares = (watch, watch)


def test_an_argument_that_is_named_like_an_operational_field_and_kept_private_decides_vectors():
    class Batched(MockEmbedding):
        def __init__(self, embed_batch_size: int | None = 10, num_workers: Any = None, **kwargs: Any) -> None:
            super().__init__(num_workers=num_workers, **kwargs)
            self._size = embed_batch_size

    one, two = Batched(1), Batched(2)
    assert one.fingerprint != two.fingerprint == copy.copy(two).fingerprint
    assert Batched(num_workers="2").fingerprint == Batched(num_workers=3).fingerprint == Batched().fingerprint


class KeptToItself(MockEmbedding):
    """Takes an argument that is named like a field and never tells its base."""

    def __init__(self, model_name: str = "a", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._name = model_name

    def _get_text_embeddings(self, texts):
        return super()._get_text_embeddings([self._name + text for text in texts])


@pytest.mark.parametrize("made", [copy.copy, lambda model: pickle.loads(pickle.dumps(model))])
def test_an_argument_that_is_named_like_a_field_and_kept_private_decides_vectors(made):
    one, two = KeptToItself("a"), KeptToItself("b")
    assert one.fingerprint != two.fingerprint == made(two).fingerprint
    assert made(two).get_text_embedding("x") == two.get_text_embedding("x") != one.get_text_embedding("x")


@pytest.mark.parametrize("name", ["setting", "kept"])
@pytest.mark.parametrize(
    ("setting", "change"),
    [
        (Options(), lambda value: setattr(value, "prompt", "b")),
        (Options(), lambda value: value.words.append("b")),
        (Frozen(), lambda value: value.words.append("b")),
        ([Options()], lambda value: setattr(value[0], "prompt", "b")),
        (np.ones(3), lambda value: value.fill(2)),
        (["a"], lambda value: value.append("b")),
        ({"a": {"b": 1}}, lambda value: value["a"].update(b=2)),
    ],
)
def test_a_setting_that_is_changed_in_place_is_another_space(name, setting, change):
    model = Anything(**{name: copy.deepcopy(setting)}, embeddings_cache=MemoryKVStore())
    model.get_text_embedding("a")
    before = model.fingerprint
    change(model.setting if name == "setting" else model._kept)
    model.get_text_embedding("a")
    assert model.fingerprint != before
    assert len(model.embeddings_cache) == 2


def test_a_copy_that_is_made_after_a_change_shares_with_models_of_the_same_settings():
    words = ["a"]
    model = Anything(kept=words)
    words.append("b")
    assert model.fingerprint not in {Anything(kept=["a"]).fingerprint, Anything(kept=["a", "b"]).fingerprint}


class Token(MockEmbedding):
    token: str = ""


def test_a_field_named_token_may_be_no_credential():
    made = [Token(token=token) for token in ("", "[CLS]", "[SEP]", "passage1", "passage2", "a" * 30)]
    assert len({model.fingerprint for model in made}) == 6
    assert pickle.loads(pickle.dumps(made[1])).token == "[CLS]"


class Dumped(MockEmbedding):
    one: str = Field("", serialization_alias="name")
    two: str = Field("", serialization_alias="name")
    three: str = Field("", validation_alias="drei")

    @field_serializer("three")
    def _short(self, value: str) -> str:
        return value[:1]


def test_aliases_and_serializers_hide_nothing_from_a_space():
    made = [Dumped(), Dumped(one="ab"), Dumped(two="ab"), Dumped(drei="ab"), Dumped(drei="ac"), Dumped(three="ad")]
    assert len({model.fingerprint for model in made}) == 6
    assert made[3].with_(drei="ac").fingerprint == made[3].with_(three="ac").fingerprint == made[4].fingerprint


TOOLS = {
    "a lock": "tool = threading.Lock()",
    "a cached function": "tool = functools.lru_cache(lambda text: text)",
    "a context variable": "tool = contextvars.ContextVar('tool')",
    "the environment": "tool = os.environ",
}


@pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
def test_a_script_that_uses_a_tool_has_one_space_in_every_process(tool):
    script = f"import contextvars, functools, os, threading\n{tool}\n{SCRIPT.replace('return', 'tool; return')}"
    told = [
        subprocess.run([sys.executable, "-c", script], env={**os.environ, "RUN": run}, capture_output=True, check=True)
        for run in ("1", "2")
    ]
    assert told[0].stdout == told[1].stdout


def test_a_double_that_notes_its_calls_keeps_its_space():
    calls, count = [], 0

    class Noting(MockEmbedding):
        seen: ClassVar[list[str]] = []

        def _get_text_embeddings(self, texts):
            nonlocal count
            count += 1
            calls.extend(texts)
            self.seen.extend(texts)
            return super()._get_text_embeddings(texts)

    store = MemoryKVStore()
    for _ in range(2):
        Noting(embeddings_cache=store).embed_texts(["a"])
    assert (calls, count, Noting.seen) == (["a"], 1, ["a"])
