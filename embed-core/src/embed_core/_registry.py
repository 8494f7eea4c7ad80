"""From a spec to a model: `resolve_embed_model`."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pydantic import ValidationError

from embed_core._base import BaseEmbedding
from embed_core._copies import variables
from embed_core._mock import MockEmbedding
from embed_core._plugins import ADAPTERS, EMBEDDINGS, FIRST_PARTY, Plugin, declared, warn_once
from embed_core._secrets import may_be_credential, quoted, scrubbed
from embed_core.errors import (
    AuthenticationError,
    ConfigurationError,
    IntegrationNotInstalledError,
    UnknownProviderError,
)
from embed_core.settings import load_settings

_CHOOSE = "choose a model with `-m`, `EMBED_MODEL` or `embed models default SPEC`, as in `local`"


def resolve_embed_model(spec: Any = "default", **options: Any) -> BaseEmbedding:
    """Return the model that `spec` names; no package is imported but the one behind it.

    A class of your own needs no registration: pass the class, or an instance, which comes back as it is.

    Args:
        spec: one of

            - `"provider:model"`, with options as in `"openai:text-embedding-3-small?dimensions=512"` (`%26` stands for
              an `&` within a value); the provider alone means its own default model
            - `"local:FOLDER"` or `"local:NAME"`, a Hugging Face model, for which `"sentence-transformers:NAME"` is
              another way; `"clip:NAME"`, a model of images and texts, by OpenAI's short names too, as in
              `"clip:ViT-B/32"`
            - a `Path`, the folder of a local model
            - an alias
            - `"default"`: `EMBED_MODEL` from the environment, else the user's default, else OpenAI; a `MockEmbedding`
              where `IS_TESTING` is set
            - None: embeddings are disabled, a `MockEmbedding` of one dimension
            - a dictionary from `to_dict()`
            - a class of `BaseEmbedding`, which is constructed with the options
            - a model, a LangChain `Embeddings`, or a `SentenceTransformer`
        options: arguments of the model; they win over those in the spec.

    Raises:
        IntegrationNotInstalledError: the package is missing or does not import.
        UnknownProviderError: no installed package declares the provider.
        ConfigurationError: the spec or an option makes no sense.
        AuthenticationError: `"default"` comes to OpenAI and there is no key.
    """
    if isinstance(spec, str):
        return _from_text(spec, options)
    if spec is None:
        warn_once("`None` names no model: embeddings are disabled, and every vector has one number without meaning")
        return _made("MockEmbedding", partial(MockEmbedding, **{"embed_dim": 1, **options}))
    if isinstance(spec, Mapping):
        return _from_saved(spec, options)
    if isinstance(spec, os.PathLike):
        return _from_spec(_Spec("local", str(Path(spec).expanduser().absolute()), {}), options)
    if isinstance(spec, type) and issubclass(spec, BaseEmbedding):
        return _made(spec.__name__, partial(spec, **options))
    if isinstance(spec, BaseEmbedding):
        if options:
            msg = f"options ({_names(options)}) cannot change a model that is there already; use `model.with_(…)`"
            raise ConfigurationError(msg)
        return spec
    return _adapted(spec, options)


def plugin_of(spec: str, *, alias: str | None = None) -> Plugin:
    """Return the plugin that a spec comes to, by aliases and the default; nothing is imported.

    Args:
        spec: as for `resolve_embed_model`.
        alias: a name that is about to stand for the spec, which therefore must not lead back to it.

    Raises:
        ConfigurationError: the spec makes no sense.
        UnknownProviderError: no installed package declares the provider.
        IntegrationNotInstalledError: the package that is known to declare it is missing.
    """
    provider = _expanded(spec, alias).provider
    return _provider("openai" if provider == "default" else provider)


@dataclass(frozen=True, slots=True)
class _Spec:
    """A spec in its parts; its options stay out of messages, because any of them may be a secret."""

    provider: str
    model: str
    options: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.provider}:{self.model}" if self.model else self.provider


def _parsed(text: str) -> _Spec:
    head, mark, query = text.strip().partition("?")
    provider, _, model = (part.strip() for part in head.partition(":"))
    if not provider:
        msg = f"`{head}` names no provider; write `provider:model`, as in `local:BAAI/bge-small-en-v1.5`"
        raise ConfigurationError(msg)
    if provider[0] in "./\\~" or (len(provider) == 1 and model[:1] in {"/", "\\"}):
        msg = f"`{head}` is a path; write `local:{head}` for the model in that folder"
        raise ConfigurationError(msg)
    options: dict[str, str] = {}
    for pair in query.split("&") if mark else ():
        name, equals, value = pair.partition("=")
        if not (name and equals) or name in options:
            problem = "is given twice" if name in options else "has no value"
            msg = f"option `{name}` of `{head}` {problem}; write `{head}?option=value&other=value`"
            raise ConfigurationError(msg)
        options[name] = unquote(value)
    return _Spec(provider, model, options)


def _expanded(text: str, alias: str | None = None) -> _Spec:
    """Return the spec with a provider in front, after aliases and the default."""
    spec, seen = _parsed(text), [] if alias is None else [alias]
    while not spec.model:
        if spec.provider in seen:
            msg = f"the names {' → '.join(f'`{name}`' for name in (*seen, spec.provider))} run in a circle; change one"
            raise ConfigurationError(msg)
        if (meaning := _meaning(spec.provider)) is None:
            break
        seen.append(spec.provider)
        inner = _parsed(meaning)
        spec = _Spec(inner.provider, inner.model, {**inner.options, **spec.options})
    return spec


def _meaning(name: str) -> str | None:
    if name != "default":
        return load_settings().aliases.get(name)
    return os.environ.get("EMBED_MODEL") or load_settings().default


def _from_text(text: str, options: Mapping[str, Any]) -> BaseEmbedding:
    if text.strip() == "default" and os.environ.get("IS_TESTING", "0").lower() not in {"", "0", "false"}:
        return _made("MockEmbedding", partial(MockEmbedding, **options))
    spec = _expanded(text)
    return _from_spec(_openai_by_default(spec, options) if spec.provider == "default" else spec, options)


def _from_spec(spec: _Spec, options: Mapping[str, Any]) -> BaseEmbedding:
    cls = _class(_provider(spec.provider))
    return _made(str(spec), partial(cls.from_spec, spec.model, **{**spec.options, **options}))


def _openai_by_default(spec: _Spec, options: Mapping[str, Any]) -> _Spec:
    if "openai" not in declared(EMBEDDINGS):
        msg = f"no model is chosen, and OpenAI's package is missing; `pip install embeddings-openai`, or {_CHOOSE}"
        raise IntegrationNotInstalledError(msg)
    if not ({"api_key"} & {*options, *spec.options} or os.environ.get("OPENAI_API_KEY")):
        msg = f"no model is chosen, and there is no key for OpenAI; set `OPENAI_API_KEY`, or {_CHOOSE}"
        raise AuthenticationError(msg)
    return _Spec("openai", spec.model, spec.options)


def _from_saved(saved: Mapping[str, Any], options: Mapping[str, Any]) -> BaseEmbedding:
    values = dict(saved)
    provider = values.pop("provider", None)
    if not isinstance(provider, str):
        msg = f"the saved configuration has no `provider` (there are {_names(saved)}); expected a result of `to_dict()`"
        raise ConfigurationError(msg)
    cls = _class(_provider(provider))
    spec = _Spec(provider, str(values.get("model_name", "")), options)
    arguments = values.get("arguments") or {}
    for saved_values in (values, arguments):  # the constructor gets the arguments too
        _ask_for_consent(spec, saved_values, cls.needs_consent(saved_values))
    foreign = {name: variable for name, variable in variables(arguments).items() if not _belongs_to(variable, cls)}
    deeds = {name: f"takes your environment variable `{variable}` as its key" for name, variable in foreign.items()}
    _ask_for_consent(spec, foreign, deeds)
    return _made(provider, partial(cls.from_dict, values, **options))


def _ask_for_consent(spec: _Spec, saved: Mapping[str, Any], deeds: Mapping[str, str]) -> None:
    for name, deed in deeds.items():
        if name not in spec.options:
            remedy = f"pass `{name}` yourself, as in `{spec.provider}:{spec.model}?{name}={_written(saved[name])}`"
            msg = f"the saved configuration of `{spec.model or spec.provider}` {deed}; if you trust it, {remedy}"
            raise ConfigurationError(msg)


def _written(value: Any) -> str:
    """Return a value as an option of a spec."""
    clean = scrubbed(value, clean=quoted)
    text = json.dumps(clean) if isinstance(clean, Mapping | list) else str(clean)
    return text.replace("%", "%25").replace("&", "%26")


def _belongs_to(variable: str, cls: type[BaseEmbedding]) -> bool:
    """Tell whether an environment variable is named after a class or its provider: `COHERE_API_KEY` for Cohere's."""
    names = (
        cls.provider or "",
        cls.__name__.removesuffix("s").removesuffix("Embedding"),
        cls.__module__.partition(".")[0],
    )
    words = (re.sub(r"[^a-z0-9]|embeddings?", "", name.lower()) for name in names)
    return any(word and word in variable.lower().replace("_", "") for word in words)


def _provider(name: str) -> Plugin:
    plugins = declared(EMBEDDINGS)
    if name in plugins:
        return plugins[name]
    installed = f"installed: {_names(plugins) or 'none'}"
    if name in declared(EMBEDDINGS, everything=True):
        msg = f"provider `{name}` is left out by `EMBED_PLUGINS={os.environ.get('EMBED_PLUGINS')}`; add it there"
        raise UnknownProviderError(msg)
    if name in FIRST_PARTY:
        msg = f"provider `{name}` needs a package that is missing; `pip install {FIRST_PARTY[name]}` ({installed})"
        raise IntegrationNotInstalledError(msg)
    near = difflib.get_close_matches(name.lower(), plugins, n=1)
    hint = f"did you mean `{near[0]}`?" if near else "write `provider:model` or an alias"
    if "/" in name:
        hint = f"for a model of the Hugging Face hub write `local:{name}`"
    elif offering := [f"`{plugin}:{name}`" for plugin in plugins if name in _known_models(plugins[plugin])]:
        hint = f"that is a model; write {offering[0]}"
    msg = f"no installed package declares a provider `{name}`; {hint} ({installed})"
    raise UnknownProviderError(msg)


def _known_models(plugin: Plugin) -> Sequence[str]:
    try:
        return _class(plugin).known_models()
    except Exception:  # it only helps to word an error
        return ()


def _class(plugin: Plugin) -> type[BaseEmbedding]:
    loaded = plugin.load()
    if not (isinstance(loaded, type) and issubclass(loaded, BaseEmbedding)):
        msg = f"`{plugin.target}` of `{plugin.package}`, declared as `{plugin.name}`, is no class of `BaseEmbedding`"
        raise ConfigurationError(msg)
    return loaded


def _adapted(foreign: Any, options: Mapping[str, Any]) -> BaseEmbedding:
    roots = dict.fromkeys(base.__module__.partition(".")[0] for base in type(foreign).__mro__)
    kind, adapters = f"{type(foreign).__module__}.{type(foreign).__qualname__}", declared(ADAPTERS)
    for root in roots:
        if root in adapters:
            return _made(kind, partial(_adapt, adapters[root], foreign, options))
        if root in FIRST_PARTY:
            raise IntegrationNotInstalledError(f"to use a `{kind}`, `pip install {FIRST_PARTY[root]}`")
    msg = (
        f"a `{kind}` is no model; expected a spec such as `local:NAME`, a folder as a `Path`, a class of "
        "`BaseEmbedding`, a model, a dictionary from `to_dict()` or None"
    )
    raise ConfigurationError(msg)


def _adapt(plugin: Plugin, foreign: Any, options: Mapping[str, Any]) -> BaseEmbedding:
    model = plugin.load()(foreign)
    if not isinstance(model, BaseEmbedding):
        msg = f"`{plugin.target}` of `{plugin.package}` gave a `{type(model).__name__}`; expected a `BaseEmbedding`"
        raise ConfigurationError(msg)
    return model.with_(**options) if options else model


def _made(name: str, make: Callable[[], BaseEmbedding]) -> BaseEmbedding:
    """Make a model; a refusal of pydantic, or of a constructor's signature, becomes one line."""
    try:
        return make()
    except ValidationError as error:
        problems = "; ".join(_problem(name, detail) for detail in error.errors(include_url=False)[:3])
        msg = f"`{name}` cannot be made: {problems}"
        raise ConfigurationError(msg) from error
    except TypeError as error:
        msg = f"`{name}` cannot be made: {error}"
        raise ConfigurationError(msg) from error


def _problem(name: str, detail: Mapping[str, Any]) -> str:
    if detail["type"] == "missing" and detail["loc"] == ("model_name",):
        return f"it has no default model; write `{name}:MODEL`"
    field, value = ".".join(map(str, detail["loc"])), detail["input"]
    message: str = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if not field:
        return message
    show = isinstance(value, str | int | float) and not may_be_credential(field) and "://" not in str(value)
    return f"`{field}`{f' is {value!r}' if show else ''}: {message}"


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))
