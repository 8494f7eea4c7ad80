"""A saved configuration, which may be somebody else's, sends the user's key to no address of its own."""

import pytest
from embed_core import resolve_embed_model
from embed_core.errors import ConfigurationError
from embeddings_openai import AzureOpenAIEmbedding, OpenAICompatibleEmbedding, OpenAIEmbedding

THEIRS = "https://theirs.example/v1"


@pytest.mark.parametrize(
    ("saved", "field", "variable"),
    [
        (OpenAIEmbedding(api_base=THEIRS), "api_base", "OPENAI_BASE_URL"),
        (AzureOpenAIEmbedding(azure_endpoint=THEIRS), "azure_endpoint", "AZURE_OPENAI_ENDPOINT"),
        (OpenAICompatibleEmbedding("some-model", api_base=THEIRS), "api_base", "OPENAI_COMPATIBLE_BASE_URL"),
    ],
    ids=["openai", "azure", "openai-compatible"],
)
def test_an_address_needs_consent_by_argument_or_environment(saved, field, variable, monkeypatch):
    monkeypatch.setenv("OPENAI_COMPATIBLE_API_KEY", "sk-this-key-stays-at-home")
    config = saved.to_dict()
    with pytest.raises(ConfigurationError, match=rf"sends your key to `{THEIRS}`; if you trust it, pass `{field}`"):
        resolve_embed_model(config)
    assert getattr(resolve_embed_model(config, **{field: THEIRS}), field) == THEIRS
    monkeypatch.setenv(variable, THEIRS + "/")
    assert resolve_embed_model(config).fingerprint == saved.fingerprint


def test_a_server_without_a_key_needs_none():
    config = OpenAICompatibleEmbedding("some-model", api_base="http://127.0.0.1:11434/v1").to_dict()
    assert resolve_embed_model(config).to_dict() == config


def test_openais_own_address_needs_none():
    assert resolve_embed_model(OpenAIEmbedding(api_base="https://api.openai.com/v1").to_dict())
