"""Integrations that were written for LlamaIndex: doubles with the traits of public packages, one trait each."""

import copy
import json
import pickle
from typing import Any, ClassVar

import embed_core
import pytest
from embed_core import BaseEmbedding
from pydantic import Field, PrivateAttr

KEY = "sk-nobody-may-see-this"


class Client:
    """The client of an SDK: it refuses arguments that it does not know, and cannot be copied or pickled."""

    def __init__(self, *, key: str | None = None, model: str = "", task: str = "", threads: int | None = None) -> None:
        self.key, self.told = key, f"{model} {task}"

    def embed(self, text: str) -> list[float]:
        return [float(len(text)), float(len(self.told))]

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("cannot pickle '_thread.lock' object")


class Ported(BaseEmbedding):
    """The hooks that all the doubles share."""

    _client: Any = PrivateAttr()

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._client.embed(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._client.embed(text)


class WithoutKwargs(Ported):
    """DeepInfra, Instructor, Nomic, OCI, Text Embeddings Inference and Vertex."""

    def __init__(self, model_id: str, task: str = "", embed_batch_size: int = 10) -> None:
        super().__init__(embed_batch_size=embed_batch_size)
        self._client = Client(model=model_id, task=task)


class CallsItModel(Ported):
    """Databricks, Heroku and Isaacus; Baseten calls it `model_id` and GigaChat `name`."""

    model: str

    def __init__(self, model: str = "small", **kwargs: Any) -> None:
        super().__init__(model=model, model_name=model, **kwargs)
        self._client = Client(model=model)


class UndeclaredAttributes(Ported):
    """Jina and Netmind."""

    def __init__(self, task: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._task = task
        self._client = self._async_client = Client(task=task)


class PassesKwargsOn(Ported):
    """FastEmbed and Hugging Face: options beside those of the class are the SDK's."""

    def __init__(self, model_name: str = "small", **kwargs: Any) -> None:
        super().__init__(model_name=model_name)
        self._client = Client(model=model_name, **kwargs)


class ArgumentsThatAreNoFields(Ported):
    """Bedrock, SageMaker and Vertex: LlamaIndex ignores arguments without a field."""

    def __init__(self, project: str, credentials: Any = None, output_parser: Any = None, **kwargs: Any) -> None:
        super().__init__(project=project, credentials=credentials, output_parser=output_parser, **kwargs)
        self._client = Client(task=project)


class ConstructorAssigns(Ported):
    """Azure OpenAI sets a `str` to None, NVIDIA and Cloudflare set fields after `super().__init__`."""

    base_url: str = "https://somewhere.example"
    model: str | None = None

    def __init__(self, model: str | None = None, **kwargs: Any) -> None:
        super().__init__(model=model, **kwargs)
        self.model = model or "the provider's default"
        self.base_url = None
        self._client = Client(model=self.model)


class RefreshesItsKey(Ported):
    """Azure OpenAI: every request may renew a token that has run out."""

    api_key: str = ""

    def _get_text_embedding(self, text: str) -> list[float]:
        self.api_key = f"{KEY} renewed"
        return Client(key=self.api_key).embed(text)


class NeedsItsKey(Ported):
    """Cohere and ZhipuAI: the key is an argument, and the class never looks for it in the environment."""

    api_key: str

    def __init__(self, api_key: str, **kwargs: Any) -> None:
        super().__init__(api_key=api_key, **kwargs)
        self._client = Client(key=api_key)


class ClassNameIsNoClassMethod(Ported):
    """Upstage."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._client = Client()

    def class_name(cls) -> str:
        return "ClassNameIsNoClassMethod"


class HasSecrets(Ported):
    """Azure AI Inference, Bedrock, GigaChat and Vertex: secrets in plain fields, and in arguments beside them."""

    api_key: str = Field(default="", description="the key")
    aws_session_token: str | None = None

    def __init__(
        self, credential: str = "", auth_data: str = "", azure_ad_token: str = "", private_key: str = "", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._client = Client(key=credential or auth_data or azure_ad_token or private_key)


def pickled(model: Any) -> Any:
    return pickle.loads(pickle.dumps(model))


def saved(model: Any) -> Any:
    return type(model).from_dict(json.loads(json.dumps(model.to_dict())))


MAKES_ANOTHER = pytest.mark.parametrize("another", [copy.copy, copy.deepcopy, pickled, saved])


@MAKES_ANOTHER
@pytest.mark.parametrize(
    "model",
    [
        WithoutKwargs("large", task="retrieval"),
        WithoutKwargs("large", "retrieval", 20),
        CallsItModel("large"),
        UndeclaredAttributes(task="retrieval"),
        PassesKwargsOn("large", threads=2, task="retrieval"),
        ClassNameIsNoClassMethod(),
    ],
    ids=lambda model: type(model).__name__,
)
def test_another_one_embeds_the_same_and_shares_the_cache(model, another):
    made = another(model)
    assert made.embed_texts(["one", "three"]).tolist() == model.embed_texts(["one", "three"]).tolist()
    assert made.fingerprint == model.fingerprint
    assert made.embed_batch_size == model.embed_batch_size


@MAKES_ANOTHER
def test_a_field_that_was_assigned_afterwards_goes_along(another):
    model = WithoutKwargs("large")
    model.embed_batch_size = 7
    assert another(model).embed_batch_size == 7


@MAKES_ANOTHER
def test_a_constructor_may_take_arguments_that_are_no_fields(another):
    model = ArgumentsThatAreNoFields("mine")
    assert another(model).get_text_embedding("one") == model.get_text_embedding("one") == [3.0, 5.0]


def test_an_argument_that_no_constructor_names_is_still_an_error():
    with pytest.raises(ValueError, match="has no argument `projekt`"):
        ArgumentsThatAreNoFields(projekt="mine", project="mine")


@MAKES_ANOTHER
def test_a_constructor_may_assign_what_a_field_does_not_take(another):
    model = another(ConstructorAssigns())
    assert (model.base_url, model.model) == (None, "the provider's default")
    assert model.get_text_embedding("one") == ConstructorAssigns().get_text_embedding("one")


def test_undeclared_attributes_hinder_no_later_assignment():
    model = UndeclaredAttributes(task="retrieval")
    model.embed_batch_size = 7
    model._task = "classification"
    assert (model.embed_batch_size, model._task) == (7, "classification")


def test_a_hook_may_renew_the_key_of_a_model_in_use():
    model = RefreshesItsKey(api_key=KEY)
    before = model.fingerprint
    assert model.get_text_embedding_batch(["one", "three"]) == [[3.0, 1.0], [5.0, 1.0]]
    assert model.api_key == f"{KEY} renewed"
    assert model.fingerprint == before


@MAKES_ANOTHER
def test_a_key_is_found_again_where_the_environment_has_it(another, monkeypatch):
    monkeypatch.setenv("THE_USERS_OWN_KEY", KEY)
    model = another(NeedsItsKey(api_key=KEY))
    assert model.api_key == model._client.key == KEY


def test_a_saved_form_of_a_stranger_reads_no_variable_into_other_arguments(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    reference = {"$env": "AWS_SECRET_ACCESS_KEY"}
    model = WithoutKwargs.from_dict({"provider": "WithoutKwargs", "arguments": {"model_id": reference}})
    assert KEY not in model._client.told


class TestSecrets:
    NAMES: ClassVar = ["api_key", "aws_session_token", "credential", "auth_data", "azure_ad_token", "private_key"]

    @pytest.mark.parametrize("name", NAMES)
    def test_are_in_no_text_and_no_pickle(self, name):
        model = HasSecrets(**{name: KEY})
        assert KEY not in repr(model)
        assert KEY not in str(model)
        assert KEY not in json.dumps(model.to_dict())
        assert KEY.encode() not in pickle.dumps(model)

    @pytest.mark.parametrize("name", NAMES)
    def test_decide_no_vector(self, name):
        assert HasSecrets(**{name: KEY}).fingerprint == HasSecrets().fingerprint

    @pytest.mark.parametrize("name", NAMES)
    def test_stay_with_copies_inside_the_process(self, name):
        made = copy.deepcopy(HasSecrets(**{name: KEY}))
        assert KEY in (made._client.key, made.api_key, made.aws_session_token)


@pytest.mark.parametrize("name", ["DEFAULT_EMBED_BATCH_SIZE", "ImageType"])
def test_names_that_integrations_import_are_there(name):
    assert name in embed_core.__all__
