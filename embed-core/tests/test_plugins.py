"""Plugins are found by what packages declare, and none of them can spoil the others."""

import logging
import sys

import pytest
from embed_core import Plugin, installed_providers
from embed_core._plugins import ADAPTERS, EMBEDDINGS, declared
from embed_core.errors import IntegrationNotInstalledError

ACME = {EMBEDDINGS: {"acme": "acme_models:Acme"}}


def names() -> set[str]:
    return {plugin.name for plugin in installed_providers()}


def test_an_installed_provider_is_listed_with_its_package_and_nothing_is_imported(install):
    install("acme-embeddings", ACME, {"acme_models": "raise SystemExit('imported')"}, version="2.1")
    assert Plugin("acme", "acme-embeddings", "2.1", "acme_models:Acme") in installed_providers()
    assert "acme_models" not in sys.modules


def test_providers_are_listed_by_name():
    found = [plugin.name for plugin in installed_providers()]
    assert found == sorted(found)
    assert "mock" in found


def test_other_groups_of_a_package_are_none_of_our_business(install):
    install("acme-embeddings", {"console_scripts": {"acme": "acme:main"}, **ACME, "pytest11": {"other": "acme"}})
    assert {plugin.name for plugin in installed_providers() if plugin.package == "acme-embeddings"} == {"acme"}


@pytest.mark.parametrize(
    "entries",
    [
        f"[{EMBEDDINGS}]\nthis line has no equals sign\n",
        f"[{EMBEDDINGS}]\nbroken = ".encode() + b"\xff\xfe",
        b"\xff\xfe\xfa",
    ],
)
def test_a_package_with_unreadable_entry_points_is_told_and_left_out(install, caplog, entries):
    install("acme-embeddings", ACME)
    install("broken-embeddings", entries)
    with caplog.at_level(logging.WARNING, "embed_core"):
        assert {"acme", "mock"} <= names()
        assert "broken" not in names()
    assert "cannot be read" in caplog.text


def test_a_package_without_metadata_is_left_out(install):
    site = install("acme-embeddings", ACME)
    install("nameless", {EMBEDDINGS: {"nameless": "nameless:It"}})
    (site / "nameless-1.0.dist-info" / "METADATA").unlink()
    assert "acme" in names()
    assert "nameless" not in names()


def test_of_two_packages_that_declare_one_name_the_first_by_name_wins_with_a_warning(install, caplog):
    install("zeta-embeddings", {EMBEDDINGS: {"twice": "zeta:It"}})
    install("Beta_Embeddings", {EMBEDDINGS: {"twice": "beta:It"}})
    with caplog.at_level(logging.WARNING, "embed_core"):
        assert declared(EMBEDDINGS)["twice"].package == "Beta_Embeddings"
        declared(EMBEDDINGS)
    (warning,) = [record.message for record in caplog.records if "twice" in record.message]
    assert "`Beta_Embeddings` and `zeta-embeddings`" in warning


def test_nobody_takes_the_name_of_the_package_it_belongs_to(install):
    install("aaa-embeddings", {EMBEDDINGS: {"mock": "aaa:Mine"}})
    assert declared(EMBEDDINGS)["mock"].package == "embed-core"


def test_of_two_copies_of_a_package_the_first_on_the_path_counts(install, tmp_path):
    install("acme-embeddings", {EMBEDDINGS: {"acme": "acme_old:Acme"}}, version="1.0", place=tmp_path / "second")
    install("acme-embeddings", {EMBEDDINGS: {"acme": "acme_new:Acme"}}, version="2.0", place=tmp_path / "first")
    assert declared(EMBEDDINGS)["acme"] == Plugin("acme", "acme-embeddings", "2.0", "acme_new:Acme")


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        ("", set()),
        ("acme", {"acme"}),
        ("acme-embeddings", {"acme", "acme-large"}),
        ("Acme_Embeddings", {"acme", "acme-large"}),
        ("acme-large", {"acme-large"}),
        (" other , acme-embeddings", {"acme", "acme-large", "other"}),
        ("missing", set()),
    ],
)
def test_embed_plugins_limits_what_is_loaded_to_those_packages_or_names(install, monkeypatch, chosen, found):
    install("acme-embeddings", {EMBEDDINGS: {"acme": "a:A", "acme-large": "a:B"}, ADAPTERS: {"acme": "a:adapt"}})
    install("other-embeddings", {EMBEDDINGS: {"other": "o:O"}})
    monkeypatch.setenv("EMBED_PLUGINS", chosen)
    mine = {"mock", "mock-multimodal"}  # the core's own are no plugins
    assert {name for name in names() if name.startswith(("acme", "other", "mock"))} == found | mine
    assert not (names() & {"local", "openai"})
    assert "langchain_core" in declared(ADAPTERS)


@pytest.mark.parametrize(
    "source", ["import nowhere_to_be_found", "raise ValueError('half\\ndone')", "raise SystemExit(3)", "x = 1"]
)
def test_a_plugin_that_does_not_import_says_which_package_and_keeps_the_cause(install, source):
    install("acme-embeddings", ACME, {"acme_models": source})
    with pytest.raises(
        IntegrationNotInstalledError, match=r"`acme` of `acme-embeddings` 1.0 does not import"
    ) as caught:
        declared(EMBEDDINGS)["acme"].load()
    assert type(caught.value.__cause__) in {ModuleNotFoundError, ValueError, SystemExit, AttributeError}
    assert isinstance(caught.value, ImportError)


@pytest.mark.parametrize("deed", ["import sys; sys.exit(3)", "class Odd(BaseException): pass\nraise Odd('odd')"])
def test_whatever_a_plugin_raises_is_an_error_of_ours(install, deed):
    install("acme-embeddings", ACME, {"acme_models": deed})
    (plugin,) = (plugin for plugin in installed_providers() if plugin.name == "acme")
    with pytest.raises(IntegrationNotInstalledError, match=r"`acme` of `acme-embeddings` 1\.0 does not import"):
        plugin.load()
