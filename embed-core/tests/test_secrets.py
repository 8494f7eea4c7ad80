"""Secrets stay at home: in no text, dump, schema, pickle, saved form, fingerprint, event or error."""

import copy
import json
import pickle
import pprint
import traceback
from dataclasses import dataclass
from typing import Any

import pytest
from embed_core import MockEmbedding
from embed_core._secrets import is_credential, is_secret
from embed_core.errors import ProviderError
from embed_core.instrumentation import CallbackManager
from pydantic import AliasChoices, BaseModel, Field, PrivateAttr, SecretStr, TypeAdapter, computed_field

KEY = "sk-9fK2mQ7xT4vB1nZ8"


class Inner(BaseModel):
    """A nested model."""

    api_key: str = ""
    hidden: SecretStr | None = None
    prompt: str = "a"
    more: dict[str, Any] = {}


@dataclass
class Plain:
    """A nested dataclass."""

    password: str = ""
    prompt: str = "a"


class Holder(MockEmbedding):
    """Has every place where a secret can lie."""

    api_key: str = ""
    key_for_it: str = Field("", alias="access_token")
    other: str = Field("", validation_alias=AliasChoices("x", "client_secret"))
    typed: SecretStr | None = None
    anything: Any = None
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    inner: Inner = Inner()
    inners: list[Inner] = Field(default_factory=list)
    plain: Plain = Plain()
    base_url: str = "https://here.example"
    api_keys: list[str] = Field(default_factory=list)
    cohere_key: str = ""
    token: str = ""
    note: str = ""

    _kept: Any = PrivateAttr()

    def __init__(self, auth_data: Any = None, options: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._kept = auth_data, options

    @computed_field
    def authorization(self) -> str:
        return f"Bearer {self.api_key}"

    @computed_field
    def url(self) -> str:
        return f"{self.base_url}/{self.api_key}"


def sure(key):
    return {
        "a plain field": {"api_key": key},
        "an alias": {"access_token": key},
        "a choice of aliases": {"client_secret": key},
        "a typed field": {"typed": key},
        "a secret where anything goes": {"anything": SecretStr(key)},
        "a list of secrets": {"anything": [{"a": [SecretStr(key)]}]},
        "a keyword bag": {"model_kwargs": {"token": key, "use_fast": True}},
        "a bag in a bag": {"model_kwargs": {"storage_options": {"aws_session_token": key}}},
        "pairs of headers": {"anything": [("Authorization", f"Bearer {key}")]},
        "a nested model": {"inner": Inner(api_key=KEY)},
        "a typed secret in a nested model": {"inner": Inner(hidden=key)},
        "a bag in a nested model": {"inner": Inner(more={"azure_ad_token": key})},
        "a list of nested models": {"inners": [Inner(api_key=KEY)]},
        "a dataclass": {"plain": Plain(password=key)},
        "a list of keys": {"api_keys": [key]},
        "a password in an address": {"base_url": f"https://me:{key}@here.example/v1"},
        "a key in an address": {"base_url": f"https://here.example/v1?key={key}&a=1"},
        "a signature in an address": {"base_url": f"https://here.example/v1?X-Amz-Signature={key}"},
        "an argument": {"auth_data": key},
        "a bag in an argument": {"options": {"credentials": {"id": key}, "a": 1}},
        "a nested model in an argument": {"options": Inner(api_key=KEY)},
        "a text that holds a key": {"api_key": key, "note": f"sent as {key}"},
    }


def doubtful(key):
    return {
        "a key by its look": {"cohere_key": key},
        "a token by its look": {"token": key},
        "a bag of headers": {"model_kwargs": {"extra_headers": {"X-Mine": key}}},
    }


SURE, ALL = list(sure(KEY)), [*sure(KEY), *doubtful(KEY)]


def holder(name, key=KEY):
    return Holder(**{**sure(key), **doubtful(key)}[name])


@pytest.mark.parametrize("name", ALL)
def test_no_secret_leaves_the_process(name):
    model = holder(name)
    shown = [
        *(repr(model), str(model), pprint.pformat(model)),
        *(model.model_dump_json(), model.model_dump_json(by_alias=True), repr(model.model_dump())),
        *(TypeAdapter(list[Holder]).dump_json([model]).decode(), repr(list(model.__rich_repr__()))),
        *(json.dumps(model.to_dict()), json.dumps(model._space()), str(pickle.dumps(model)), str(model.__reduce__())),
    ]
    assert [text for text in shown if KEY in text] == []


@pytest.mark.parametrize("name", SURE)
def test_no_secret_decides_vectors(name):
    assert holder(name).fingerprint == holder(name, "sk-3nW8rL5cX2yH6dJ0").fingerprint


@pytest.mark.parametrize("name", ALL)
def test_a_copy_in_the_process_keeps_its_secrets(name):
    model = holder(name)
    twin = copy.deepcopy(model)
    assert (twin.__dict__, twin._kept, twin.fingerprint) == (model.__dict__, model._kept, model.fingerprint)


def test_all_else_goes_along():
    model = Holder(
        *("", {"a": 1, "token": KEY}),
        model_kwargs={"token": KEY, "use_auth_token": True, "pad_token": "[PAD]", "max_tokens": 7, "sort_key": "title"},
        inner=Inner(api_key=KEY, prompt="b"),
        plain=Plain(password=KEY, prompt="c"),
        base_url=f"https://here.example/v1?key={KEY}&a=1",
        token="[CLS]",
    )
    for twin in (pickle.loads(pickle.dumps(model)), Holder.from_dict(json.loads(json.dumps(model.to_dict())))):
        kept = {"use_auth_token": True, "pad_token": "[PAD]", "max_tokens": 7, "sort_key": "title"}
        assert twin.model_kwargs == kept
        assert (twin.inner.prompt, twin.plain.prompt, twin.token) == ("b", "c", "[CLS]")
        assert twin.base_url == "https://here.example/v1?key=***&a=1"
        assert twin._kept[1] == {"a": 1}


def test_defaults_show_no_secret():
    class Defaulted(MockEmbedding):
        api_key: str = KEY

    assert KEY not in json.dumps(Defaulted.model_json_schema())
    assert KEY not in repr(Defaulted())


def test_a_typed_secret_stays_one_in_a_dump():
    assert Holder(typed=KEY).model_dump()["typed"].get_secret_value() == KEY


class Telling(Holder):
    """Fails with its own key in the words, as clients do."""

    def _get_text_embeddings(self, texts):
        try:
            raise ConnectionRefusedError(f"cannot reach https://here/v1?key={self.cohere_key}")
        except OSError as error:
            raise RuntimeError(f"401: {self.api_key} is wrong") from error


def test_the_words_of_foreign_exceptions_hold_no_secret():
    told: list[Any] = []
    model = Telling(api_key=KEY, cohere_key="other-7bD4gS9kP1wE6uZ3", callback_manager=CallbackManager([told.append]))
    with pytest.raises(ProviderError, match=r"RuntimeError: 401: \*\*\* is wrong") as caught:
        model.get_text_embedding("a")
    error, words = caught.value, []
    while error is not None:
        words.append(f"{error} {error!r}")
        error = error.__cause__
    assert len(words) == 3
    assert KEY not in str(words) + str(told)
    assert "other-7bD4gS9kP1wE6uZ3" not in str(words) + str(told)


def noted(error, note):
    error.add_note(note)
    return error


class WordingError(Exception):
    """Makes its words when it is asked."""

    def __init__(self, key):
        super().__init__("no key")
        self.keys = (key,)

    def __str__(self):
        return f"{self.keys} is wrong"


class FrozenError(Exception):
    """Cannot be changed, as errors that are attrs or frozen dataclasses."""

    def __setattr__(self, name, value):
        raise TypeError("immutable")


class EarlyError(Exception):
    """Has no words before an answer is read."""

    @property
    def message(self):
        raise RuntimeError("no response yet")


ERRORS = {
    "an immutable one": lambda: FrozenError(f"wrong {KEY}"),
    "one without an answer": lambda: EarlyError(f"wrong {KEY}"),
    "a mapping": lambda: RuntimeError({"k": KEY}),
    "bytes": lambda: RuntimeError(KEY.encode()),
    "a file": lambda: OSError(5, f"cannot send {KEY}", f"/run/{KEY}"),
    "a missing file": lambda: OSError(2, f"no {KEY}", f"/run/{KEY}"),
    "a note": lambda: noted(RuntimeError("it failed"), f"sent with {KEY}"),
    "a group": lambda: ExceptionGroup("all failed", [noted(ValueError(f"one with {KEY}"), KEY), OSError(5, KEY)]),
    "an address within words": lambda: RuntimeError(f"see http://me:{KEY[:7]}@here.example/v1 for it"),
    "an attribute": lambda: WordingError(KEY),
    "words of its own": lambda: json.JSONDecodeError(f"{KEY} is no JSON", "", 0),
}


@pytest.mark.parametrize("make", ERRORS.values(), ids=ERRORS)
def test_no_part_of_a_foreign_exception_holds_a_secret(make):
    class Failing(MockEmbedding):
        api_key: str = ""

        def _get_text_embeddings(self, texts):
            raise make()

    with pytest.raises(ProviderError) as caught:
        Failing(api_key=KEY).get_text_embedding("a")
    assert caught.value.__cause__.__class__ is make().__class__
    assert KEY[:7] not in "".join(traceback.format_exception(caught.value)) + repr(caught.value.__cause__)


PLACES = {
    "a header": {"default_headers": {"X-Custom": KEY}},
    "a header with a scheme": {"default_headers": {"Authorization": f"Bearer {KEY}"}},
    "a list of headers": {"more": {"headers": [("Authorization", f"Bearer {KEY}")]}},
    "bytes": {"more": {"api_key": KEY.encode()}},
    "the password of an address": {"more": {"proxy": f"http://me:{KEY}@proxy.example:3128"}},
    "a parameter of an address": {"more": {"url": f"https://here.example/v1?key={KEY}"}},
    "the fragment of an address": {"more": {"url": f"https://here.example/v1#access_token={KEY}"}},
}


@pytest.mark.parametrize("place", PLACES)
def test_a_server_may_quote_a_secret_from_anywhere(place):
    class Failing(MockEmbedding):
        default_headers: Any = None
        more: Any = None

        def _get_text_embeddings(self, texts):
            raise RuntimeError(f"the key {KEY} is wrong")

    model = Failing(**PLACES[place])
    with pytest.raises(ProviderError, match=r"the key \*\*\* is wrong") as caught:
        model.get_text_embedding("a")
    assert KEY not in "".join(traceback.format_exception(caught.value)) + repr(model) + str(model.to_dict())


@pytest.mark.parametrize("piece", ["x", "a.", "http", "://", "a://b@", "?a", "&key=b"])
def test_a_long_answer_is_searched_for_secrets_in_no_more_time_than_it_is_long(piece):
    class Failing(MockEmbedding):
        def _get_text_embeddings(self, texts):
            raise RuntimeError(piece * 200_000)

    with pytest.raises(ProviderError):
        Failing().get_text_embedding("a")


def test_an_address_within_words_is_shown_without_its_password_and_saved_as_it_is():
    note = "see http://me:pw-of-mine@here.example/v1?api_key=other for it"
    model = Holder(note=note, inner=Inner(more={"a": [note]}))
    for shown in (repr(model), model.model_dump_json()):
        assert shown.count("see http://***@here.example/v1?api_key=*** for it") == 2
    assert pickle.loads(pickle.dumps(model)).note == Holder.from_dict(model.to_dict()).note == note


@pytest.mark.parametrize(
    "name",
    [
        *("api_key", "apiKey", "X-API-Key", "OPENAI_APIKEY", "aws_secret_access_key", "aws_session_token", "token"),
        *("azure_ad_token", "Authorization", "proxy-authorization", "Cookie", "password", "passphrase", "clientSecret"),
        *("credentials", "connection_string", "subscription_key", "accessToken", "hf_token", "private_key"),
    ],
)
def test_names_of_credentials(name):
    assert is_credential(name)


@pytest.mark.parametrize(
    "name", ["pad_token", "tokens", "max_tokens", "sort_key", "query_token", "monkey", "tokenizer", "author", "keyword"]
)
def test_names_of_other_things(name):
    assert not is_credential(name)
    assert not is_secret(name, "[text]")


def test_a_token_may_be_one_of_text():
    assert not is_secret("token", "[CLS]")
    assert is_secret("token", "hf_abcdefghijklmnopqrstuvwx")
    assert is_secret("token", "[CLS]", header=True)
