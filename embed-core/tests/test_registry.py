"""From a spec to a model, and from a wrong spec to words that help."""

import sys
import types
from pathlib import Path
from urllib.parse import quote

import pytest
from embed_core import BaseEmbedding, MockEmbedding, MockSparseEmbedding, resolve_embed_model
from embed_core._plugins import ADAPTERS, EMBEDDINGS, warn_once
from embed_core._registry import plugin_of
from embed_core.errors import (
    AuthenticationError,
    ConfigurationError,
    IntegrationNotInstalledError,
    UnknownProviderError,
)
from embed_core.kvstore import MemoryKVStore
from embed_core.settings import Settings, change_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SOURCE = """
from typing import Annotated, ClassVar
from embed_core import MockEmbedding, OPERATIONAL, get_from_param_or_env
from pydantic import SecretStr

class Acme(MockEmbedding):
    provider: ClassVar[str | None] = "acme"
    label: str = ""
    normal: bool = True
    dimensions: int | None = None
    ratio: float = 1.0
    trust_remote_code: bool = False
    api_key: Annotated[SecretStr | None, OPERATIONAL] = None

    @classmethod
    def known_models(cls):
        return ("acme-small",)

class Prefixed(Acme):
    provider: ClassVar[str | None] = "prefixed"

    @classmethod
    def from_spec(cls, model, /, **options):
        return cls(model_name=f"prefix/{model or 'own'}", **options)

class Ported(MockEmbedding):  # as integrations are written for LlamaIndex
    provider: ClassVar[str | None] = None
    size: int = 8
    trust_remote_code: bool = False

    def __init__(self, model="own", size=8, api_key=None, trust_remote_code=False):
        super().__init__(model_name=model, size=size, trust_remote_code=trust_remote_code)

class Nameless(MockEmbedding):
    provider: ClassVar[str | None] = "nameless"
    model_name: str

NOT_A_MODEL = "text"

def adapt(foreign):
    return Acme(model_name=f"adapted {type(foreign).__name__}")

def adapt_wrongly(foreign):
    return foreign
"""
ENTRIES = {
    EMBEDDINGS: {
        "acme": "acme_models:Acme",
        "prefixed": "acme_models:Prefixed",
        "ported": "acme_models:Ported",
        "nameless": "acme_models:Nameless",
        "notmodel": "acme_models:NOT_A_MODEL",
        "notclass": "acme_models:adapt",
        "failing": "failing_models:Failing",
    },
    ADAPTERS: {"acme_client": "acme_models:adapt", "acme_wrong": "acme_models:adapt_wrongly"},
}


@pytest.fixture
def acme(install, home):
    """A package with a provider `acme`, a broken one, and adapters."""
    return install("acme-embeddings", ENTRIES, {"acme_models": SOURCE, "failing_models": "import nowhere_to_be_found"})


# What specs mean


def test_a_provider_and_a_model(acme):
    model = resolve_embed_model("acme:large")
    assert type(model).__name__ == "Acme"
    assert model.model_name == "large"


def test_a_provider_without_a_default_model_asks_for_one(acme):
    with pytest.raises(ConfigurationError, match="it has no default model; write `nameless:MODEL`"):
        resolve_embed_model("nameless")


@pytest.mark.parametrize("spec", ["acme", "acme:", " acme "])
def test_a_provider_alone_means_its_own_default_model(acme, spec):
    assert resolve_embed_model(spec).model_name == "mock"


@pytest.mark.parametrize(
    "name",
    [
        "nomic-embed-text:v1.5",
        "C:\\models\\bge small",
        "C:/models/bge",
        "./folder",
        "../a/b",
        "/srv/models/x",
        "BAAI/bge-small-en-v1.5",
        "openai/clip-vit-base-patch32",
        "Modell für Umlaute",
        "arn:aws:bedrock:us-east-1::foundation-model/x",
    ],
)
def test_the_model_is_all_after_the_first_colon(acme, name):
    assert resolve_embed_model(f"acme:{name}").model_name == name
    assert resolve_embed_model(f"acme:{name}?dimensions=3").model_name == name


def test_options_become_fields_of_the_right_type(acme):
    model = resolve_embed_model("acme:m?dimensions=512&normal=false&ratio=0.5&label=a=b+c%20d%26%3F&embed_batch_size=7")
    assert (model.dimensions, model.normal, model.ratio, model.label) == (512, False, 0.5, "a=b+c d&?")
    assert model.embed_batch_size == 7


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    model=st.text(st.characters(exclude_characters="?", exclude_categories=["Cs"])),
    label=st.text(),
)
def test_any_model_and_any_quoted_value_arrive_as_they_were(acme, model, label):
    made = resolve_embed_model(f"acme:{model}?label={quote(label, safe='')}")
    assert made.model_name == (model.strip() or "mock")
    assert made.label == label


def test_options_of_the_call_win_over_those_of_the_spec(acme):
    store = MemoryKVStore()
    model = resolve_embed_model("acme:m?dimensions=1&label=x", dimensions=2, embeddings_cache=store)
    assert (model.dimensions, model.label) == (2, "x")
    assert model.embeddings_cache is store


def test_a_class_may_read_its_specs_in_its_own_way(acme):
    assert resolve_embed_model("prefixed:m?dimensions=2").model_name == "prefix/m"
    assert resolve_embed_model("prefixed").model_name == "prefix/own"


@pytest.mark.parametrize("spec", ["ported:m?size=5", "ported:m?size=5&trust_remote_code=false"])
def test_the_model_and_the_options_reach_a_constructor_that_calls_it_model(acme, spec):
    model = resolve_embed_model(spec)
    assert (model.model_name, model.size) == ("m", 5)
    assert resolve_embed_model("ported").model_name == "own"


def test_an_option_that_the_constructor_does_not_take_is_told(acme):
    with pytest.raises(ConfigurationError, match=r"`ported:m` cannot be made: .*unexpected keyword argument 'sise'"):
        resolve_embed_model("ported:m?sise=5")


@pytest.mark.parametrize("path", [Path("models/one?two:three"), Path("/models/one"), Path("~/one"), Path("one")])
def test_a_path_is_the_folder_of_a_local_model(install, tmp_path, monkeypatch, path):
    local = {EMBEDDINGS: {"local": "acme_models:Acme"}}
    install("embeddings-huggingface", local, {"acme_models": SOURCE}, version="9.0")
    monkeypatch.setenv("HOME", str(tmp_path))
    model = resolve_embed_model(path, dimensions=3)
    assert model.model_name == str(path.expanduser().absolute())
    assert model.dimensions == 3


def test_a_class_is_constructed_with_the_options():
    model = resolve_embed_model(MockEmbedding, embed_dim=3)
    assert type(model) is MockEmbedding
    assert model.embed_dim == 3
    with pytest.raises(ConfigurationError, match="`MockEmbedding` has no argument `dim`; did you mean `embed_dim`"):
        resolve_embed_model(MockEmbedding, dim=3)
    with pytest.raises(ConfigurationError, match=r"`BaseEmbedding` cannot be made: .*abstract"):
        resolve_embed_model(BaseEmbedding)


def test_none_disables_embeddings_and_says_so_once(caplog):
    warn_once.cache_clear()
    model = resolve_embed_model(None)
    assert type(model) is MockEmbedding
    assert model.embed_dim == 1
    resolve_embed_model(None)
    assert [record.message.partition(":")[0] for record in caplog.records] == ["`None` names no model"]


def test_a_model_comes_back_untouched(acme):
    class Own(MockEmbedding):
        """A class that no package declares."""

    model = Own()
    before = model.to_dict()
    assert resolve_embed_model(model) is model
    assert model.to_dict() == before
    with pytest.raises(ConfigurationError, match="`num_workers`"):
        resolve_embed_model(model, num_workers=2)


def test_only_what_is_chosen_is_imported(acme):
    resolve_embed_model("mock")
    resolve_embed_model(None)
    assert "acme_models" not in sys.modules
    resolve_embed_model("acme")
    assert "acme_models" in sys.modules
    assert "failing_models" not in sys.modules


# Saved configurations


def test_a_saved_configuration_gives_an_equal_model(acme):
    model = resolve_embed_model("acme:m?dimensions=3&embed_batch_size=9&api_key=sk-1")
    again = resolve_embed_model(model.to_dict())
    assert type(again) is type(model)
    assert again.fingerprint == model.fingerprint
    assert again.embed_batch_size == 9
    assert again.api_key is None


def test_options_win_over_a_saved_configuration(acme):
    saved = resolve_embed_model("acme:m?dimensions=3").to_dict()
    assert resolve_embed_model(saved, dimensions=4).dimensions == 4
    assert saved == resolve_embed_model("acme:m?dimensions=3").to_dict()


def test_a_class_without_provider_is_saved_under_the_name_it_is_registered_by(acme):
    model = resolve_embed_model("ported:m?size=5")
    saved = model.to_dict()
    assert saved["provider"] == "ported"
    again = resolve_embed_model(saved)
    assert type(again) is type(model)
    assert (again.model_name, again.size, again.fingerprint) == ("m", 5, model.fingerprint)
    assert type(model).from_dict(saved).size == 5
    assert model._origin().provider == "ported"
    with pytest.raises(ConfigurationError, match="is of provider `mock`, not `ported`"):
        type(model).from_dict({"provider": "mock"})


@pytest.mark.parametrize("provider", ["os", "os.path", "acme_models:Acme", "acme_models", "builtins:eval", ""])
def test_a_saved_configuration_never_names_a_module(acme, provider):
    with pytest.raises(UnknownProviderError):
        resolve_embed_model({"provider": provider})


def test_a_saved_configuration_takes_no_key_of_another_service_unasked(acme, monkeypatch):
    monkeypatch.setenv("PORTED_API_KEY", "key-of-this-service")
    monkeypatch.setenv("OTHER_API_KEY", "key-of-another-service")
    saved = resolve_embed_model("ported:a", api_key="key-of-this-service").to_dict()
    assert saved["arguments"]["api_key"] == {"$env": "PORTED_API_KEY"}
    assert resolve_embed_model(saved)._arguments["api_key"] == "key-of-this-service"
    saved["arguments"]["api_key"] = {"$env": "OTHER_API_KEY"}
    with pytest.raises(ConfigurationError, match="takes your environment variable `OTHER_API_KEY` as its key"):
        resolve_embed_model(saved)
    assert resolve_embed_model(saved, api_key="mine")._arguments["api_key"] == "mine"


@pytest.mark.parametrize("saved", [{}, {"model_name": "m"}, {"provider": None}, {"provider": 3}])
def test_a_saved_configuration_needs_a_provider(acme, saved):
    with pytest.raises(ConfigurationError, match="has no `provider`"):
        resolve_embed_model(saved)


def test_a_saved_configuration_with_a_field_too_many_names_it(acme):
    with pytest.raises(ConfigurationError, match="no argument `dimension`; did you mean `dimensions`"):
        resolve_embed_model({"provider": "acme", "dimension": 3})


def test_a_saved_configuration_cannot_let_foreign_code_run(acme):
    saved = {"provider": "acme", "model_name": "theirs", "trust_remote_code": True}
    with pytest.raises(
        ConfigurationError, match=r"`theirs` lets code .* pass `trust_remote_code` yourself, as in `acme:theirs\?"
    ):
        resolve_embed_model(saved)
    assert resolve_embed_model(saved, trust_remote_code=True).trust_remote_code
    assert not resolve_embed_model(saved | {"trust_remote_code": False}).trust_remote_code


@pytest.mark.parametrize(
    ("values", "arguments"), [({"trust_remote_code": True}, {}), ({}, {"trust_remote_code": True})]
)
def test_foreign_code_hides_neither_in_fields_nor_in_arguments(acme, values, arguments):
    saved = resolve_embed_model("ported:theirs").to_dict()
    saved = {**saved, **values, "arguments": {**saved["arguments"], **arguments}}
    with pytest.raises(
        ConfigurationError, match=r"`theirs` lets code .* as in `ported:theirs\?trust_remote_code=True`"
    ):
        resolve_embed_model(saved)
    assert resolve_embed_model(saved, trust_remote_code=True).trust_remote_code
    assert not resolve_embed_model(saved, trust_remote_code=False).trust_remote_code


# The default


def test_the_default_is_embed_model_then_the_users_choice_then_openai(acme, monkeypatch):
    with pytest.raises((AuthenticationError, IntegrationNotInstalledError), match="no model is chosen"):
        resolve_embed_model("default")
    change_settings(lambda _: Settings(default="acme:chosen"))
    assert resolve_embed_model("default").model_name == "chosen"
    assert resolve_embed_model().model_name == "chosen"
    monkeypatch.setenv("EMBED_MODEL", "acme:named?dimensions=4")
    assert resolve_embed_model("default").model_name == "named"
    assert resolve_embed_model("default?label=x").label == "x"


@pytest.mark.parametrize("value", ["1", "true", "yes"])
def test_under_test_the_default_is_a_mock_whatever_is_chosen(acme, monkeypatch, value):
    monkeypatch.setenv("IS_TESTING", value)
    monkeypatch.setenv("EMBED_MODEL", "acme")
    assert type(resolve_embed_model("default")) is MockEmbedding
    assert type(resolve_embed_model("acme")).__name__ == "Acme"


@pytest.mark.parametrize("value", ["", "0", "false"])
def test_is_testing_can_be_switched_off(acme, monkeypatch, value):
    monkeypatch.setenv("IS_TESTING", value)
    monkeypatch.setenv("EMBED_MODEL", "acme")
    assert type(resolve_embed_model("default")).__name__ == "Acme"


def test_without_openais_package_the_default_says_what_to_install_or_choose(acme, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(acme)])
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with pytest.raises(IntegrationNotInstalledError, match=r"pip install embeddings-openai.*EMBED_MODEL"):
        resolve_embed_model("default")


FAKE_OPENAI = {EMBEDDINGS: {"openai": "acme_models:Acme"}}


def test_without_a_key_the_default_says_where_to_put_it(install, home):
    install("embeddings-openai", FAKE_OPENAI, {"acme_models": SOURCE})
    with pytest.raises(AuthenticationError, match=r"OPENAI_API_KEY.*embed models default"):
        resolve_embed_model("default")


def test_with_a_key_the_default_is_openai(install, home, monkeypatch):
    install("embeddings-openai", FAKE_OPENAI, {"acme_models": SOURCE})
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert type(resolve_embed_model("default")).__name__ == "Acme"
    assert resolve_embed_model("default?dimensions=5").dimensions == 5


# Aliases


def test_an_alias_stands_for_its_spec_and_takes_more_options(acme):
    change_settings(lambda _: Settings(aliases={"small": "acme:s?dimensions=2&label=x", "tiny": "small?dimensions=1"}))
    assert resolve_embed_model("small").model_name == "s"
    tiny = resolve_embed_model("tiny?normal=no")
    assert (tiny.model_name, tiny.dimensions, tiny.label, tiny.normal) == ("s", 1, "x", False)


def test_an_alias_may_be_the_default_and_the_default_may_have_an_alias(acme):
    change_settings(lambda _: Settings(default="small", aliases={"small": "acme:s", "usual": "default"}))
    assert resolve_embed_model("default").model_name == "s"
    assert resolve_embed_model("usual").model_name == "s"


@pytest.mark.parametrize("spec", ["a", "b", "c", "default"])
def test_aliases_that_run_in_a_circle_are_told(acme, spec):
    change_settings(lambda _: Settings(default="c", aliases={"a": "b", "b": "a", "c": "default"}))
    with pytest.raises(ConfigurationError, match="run in a circle"):
        resolve_embed_model(spec)


def test_embed_model_cannot_be_default(acme, monkeypatch):
    monkeypatch.setenv("EMBED_MODEL", "default")
    with pytest.raises(ConfigurationError, match="run in a circle"):
        resolve_embed_model("default")


def test_damaged_settings_do_not_stop_a_spec_that_needs_none(acme, home):
    home.mkdir()
    (home / "settings.json").write_text("{")
    assert resolve_embed_model("acme:m").model_name == "m"
    with pytest.raises(ConfigurationError, match=r"settings\.json"):
        resolve_embed_model("small")


def test_the_plugin_behind_a_spec_is_found_without_importing_it(acme, monkeypatch):
    change_settings(lambda _: Settings(aliases={"small": "failing:s"}))
    assert plugin_of("small").package == "acme-embeddings"
    assert plugin_of("failing:x?y=z").name == "failing"
    with pytest.raises(ConfigurationError, match="run in a circle"):
        plugin_of("small", alias="small")


# Words for what is wrong


def test_a_model_without_its_provider_is_told_where_it_is(acme):
    with pytest.raises(UnknownProviderError, match="that is a model; write `acme:acme-small`"):
        resolve_embed_model("acme-small")


@pytest.mark.parametrize("spec", ["", "  ", ":model", "?dimensions=3", ":"])
def test_a_spec_without_a_provider_is_refused(acme, spec):
    with pytest.raises(ConfigurationError, match="names no provider"):
        resolve_embed_model(spec)


@pytest.mark.parametrize("spec", ["./folder", "/srv/model", "~/model", "C:\\models\\bge", "D:/models/bge", "..\\x"])
def test_a_path_alone_is_told_how_to_be_local(acme, spec):
    with pytest.raises(ConfigurationError) as caught:
        resolve_embed_model(spec)
    assert f"write `local:{spec}`" in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("acme:m?dimensions", "option `dimensions` of `acme:m` has no value"),
        ("acme:m?", "option `` of `acme:m` has no value"),
        ("acme:m?=3", "option `` of `acme:m` has no value"),
        ("acme:m?dimensions=", "`dimensions` is '': should be a valid integer"),
        ("acme:m?label=a&label=b", "option `label` of `acme:m` is given twice"),
        ("acme:m?dimension=3", "`Acme` has no argument `dimension`; did you mean `dimensions`?"),
        ("acme:m?dimensions=many", "`dimensions` is 'many': should be a valid integer"),
        ("acme:m?embed_batch_size=5000", "`embed_batch_size` is '5000': should be less than or equal to 2048"),
        ("acme:m?model=x", "`Acme` has no argument `model`; did you mean `model_name`?"),
        ("acme:m?cls=x", "`Acme` has no argument `cls`"),
    ],
)
def test_a_wrong_option_is_one_clear_line(acme, spec, hint):
    with pytest.raises(ConfigurationError) as caught:
        resolve_embed_model(spec)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "pydantic" not in str(caught.value)


@pytest.mark.parametrize(
    "spec",
    [
        "acme:m?api_key=sk-secret&dimension=1",
        "acme:m?api_key=sk-secret&dimensions=x",
        "acme:m?embed_batch_size=https://me:sk-secret@here",
    ],
)
def test_a_key_in_a_spec_stays_out_of_every_message(acme, spec):
    with pytest.raises(ConfigurationError) as caught:
        resolve_embed_model(spec)
    error = caught.value
    while error is not None:
        assert "sk-secret" not in str(error)
        error = error.__cause__


def test_an_unknown_provider_lists_what_is_installed(acme):
    with pytest.raises(UnknownProviderError, match=r"`acne`; did you mean `acme`\? \(installed: `acme`, .*`mock`"):
        resolve_embed_model("acne:m")
    with pytest.raises(UnknownProviderError, match="declares a provider `zzz`; write `provider:model` or an alias"):
        resolve_embed_model("zzz")
    with pytest.raises(UnknownProviderError, match=r"write `local:BAAI/bge-small-en-v1.5`"):
        resolve_embed_model("BAAI/bge-small-en-v1.5")
    assert isinstance(UnknownProviderError(), ValueError)


def test_a_provider_that_embed_plugins_leaves_out_is_told_so(acme, monkeypatch):
    monkeypatch.setenv("EMBED_PLUGINS", "other")
    with pytest.raises(UnknownProviderError, match="`acme` is left out by `EMBED_PLUGINS=other`"):
        resolve_embed_model("acme")


@pytest.mark.parametrize(
    ("spec", "package"),
    [
        ("openai:text-embedding-3-small", "embeddings-openai"),
        ("azure:mine", "embeddings-openai"),
        ("local", "embeddings-huggingface"),
        ("local:./folder", "embeddings-huggingface"),
        ("clip:openai/clip-vit-base-patch32", "embeddings-huggingface"),
        ("sentence-transformers:all-MiniLM-L6-v2", "embeddings-huggingface"),
        (Path("folder"), "embeddings-huggingface"),
    ],
)
def test_a_known_provider_without_its_package_gives_the_pip_line(acme, monkeypatch, spec, package):
    monkeypatch.setattr(sys, "path", [str(acme)])
    with pytest.raises(IntegrationNotInstalledError, match=f"pip install {package}` .*installed: `acme`"):
        resolve_embed_model(spec)


def test_a_provider_that_does_not_import_keeps_the_true_cause(acme):
    with pytest.raises(IntegrationNotInstalledError, match="nowhere_to_be_found") as caught:
        resolve_embed_model("failing:m")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert resolve_embed_model("acme:m").model_name == "m"


@pytest.mark.parametrize("name", ["notmodel", "notclass"])
def test_a_plugin_that_is_no_class_of_ours_is_told(acme, name):
    with pytest.raises(ConfigurationError, match="is no class of `BaseEmbedding`"):
        resolve_embed_model(name)


# Objects of other frameworks


def foreign(module: str, *bases: type) -> object:
    return type("Client", bases, {"__module__": module})()


def test_a_foreign_object_is_wrapped_by_the_adapter_of_its_module(acme):
    model = resolve_embed_model(foreign("acme_client.embeddings"), embed_batch_size=3)
    assert isinstance(model, BaseEmbedding)
    assert (model.model_name, model.embed_batch_size) == ("adapted Client", 3)


def test_a_subclass_of_a_foreign_class_is_wrapped_too(acme):
    base = type(foreign("acme_client.embeddings"))
    assert resolve_embed_model(foreign("somewhere_else", base)).model_name == "adapted Client"


def test_a_wrong_option_for_a_foreign_object_is_told(acme):
    with pytest.raises(ConfigurationError, match="`embed_batch_size` is 0"):
        resolve_embed_model(foreign("acme_client"), embed_batch_size=0)
    with pytest.raises(ConfigurationError, match="embed_batch_sise"):
        resolve_embed_model(foreign("acme_client"), embed_batch_sise=1)


def test_an_adapter_that_gives_no_model_is_told(acme):
    with pytest.raises(ConfigurationError, match="gave a `Client`; expected a `BaseEmbedding`"):
        resolve_embed_model(foreign("acme_wrong"))


def test_a_foreign_object_whose_package_is_missing_gives_the_pip_line(acme, monkeypatch):
    monkeypatch.setenv("EMBED_PLUGINS", "acme")
    with pytest.raises(IntegrationNotInstalledError, match="pip install embeddings-huggingface"):
        resolve_embed_model(foreign("sentence_transformers.SentenceTransformer"))


@pytest.mark.parametrize("spec", [3, b"mock", ["mock"], MockSparseEmbedding, int, object(), types])
def test_anything_else_is_no_model(acme, spec):
    with pytest.raises(ConfigurationError, match="is no model; expected a spec"):
        resolve_embed_model(spec)
