"""Plugins: the entry points of installed packages, found without importing any of them."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any, Final

from embed_core.errors import IntegrationNotInstalledError

EMBEDDINGS: Final = "embed_core.embeddings"
"""Entry points `provider = "module:Class"`, the class a `BaseEmbedding`."""

ADAPTERS: Final = "embed_core.adapters"
"""Entry points `root_module = "module:function"`; the function turns a foreign object into a `BaseEmbedding`."""

FIRST_PARTY: Final = {
    "azure": "embeddings-openai",
    "clip": "embeddings-huggingface",
    "fireworks": "embeddings-openai",
    "huggingface": "embeddings-huggingface",
    "langchain_core": "embed-core",
    "llamacpp": "embeddings-openai",
    "lmstudio": "embeddings-openai",
    "local": "embeddings-huggingface",
    "mock": "embed-core",
    "mock-multimodal": "embed-core",
    "nvidia": "embeddings-openai",
    "openai": "embeddings-openai",
    "openai-compatible": "embeddings-openai",
    "openrouter": "embeddings-openai",
    "perplexity": "embeddings-openai",
    "sentence-transformers": "embeddings-huggingface",
    "sentence_transformers": "embeddings-huggingface",
    "tei": "embeddings-openai",
    "together": "embeddings-openai",
    "vllm": "embeddings-openai",
}
"""The package behind each name of ours: it is to be installed where it is missing, and wins where two declare it."""

_CORE: Final = "embed-core"
_LOG = logging.getLogger("embed_core")


@dataclass(frozen=True, slots=True)
class Plugin:
    """One name that an installed package declares.

    Attributes:
        name: the name; for an embedding it is the provider, which stands before the colon of a spec.
        package: the distribution that declares it, as `pip` names it.
        version: that distribution's version.
        target: the place of the class or function, as `module:attribute`.
    """

    name: str
    package: str
    version: str
    target: str

    def load(self) -> Any:
        """Import the class, or for an adapter the function.

        Raises:
            IntegrationNotInstalledError: it does not import; the cause is kept.
        """
        try:
            return metadata.EntryPoint(self.name, self.target, EMBEDDINGS).load()
        except BaseException as error:  # `sys.exit`, a panic in Rust, a test's skip: a broken plugin harms nobody else
            if isinstance(error, KeyboardInterrupt):
                raise
            msg = (
                f"`{self.name}` of `{self.package}` {self.version} does not import "
                f"({type(error).__name__}: {error}); try `pip install --upgrade {self.package}`"
            )
            raise IntegrationNotInstalledError(msg) from error


def installed_providers() -> list[Plugin]:
    """Return the providers that a spec can name, by name; nothing is imported.

    `EMBED_PLUGINS`, a comma-separated list of packages or names, limits them; the core's own are always there.
    """
    return sorted(declared(EMBEDDINGS).values(), key=lambda plugin: plugin.name)


@cache
@cache
def registered_name(cls: type) -> str | None:
    """Return the provider's name under which an installed package declares a class; None where none does.

    Asked for with every event of a class without `provider`, so each class is looked up once.
    """
    for plugin in declared(EMBEDDINGS, everything=True).values():
        module, _, name = plugin.target.partition(":")
        if name == cls.__qualname__ and module.partition(".")[0] == cls.__module__.partition(".")[0]:
            return plugin.name
    return None


def declared(group: str, *, everything: bool = False) -> dict[str, Plugin]:
    """Return the plugins of an entry-point group by name; `everything` ignores `EMBED_PLUGINS`.

    Where two packages declare a name, the package in `FIRST_PARTY` wins, else the first by distribution name.
    """
    found: dict[str, Plugin] = {}
    for plugin in sorted(_plugins(group), key=_rank):
        if not (everything or _is_wanted(plugin)):
            continue
        winner = found.setdefault(plugin.name, plugin)
        if winner.package != plugin.package:
            warn_once(
                f"Both `{winner.package}` and `{plugin.package}` declare `{plugin.name}`; `{winner.package}` is used"
            )
    return found


def _plugins(group: str) -> Iterator[Plugin]:
    for distribution in metadata.distributions():
        try:
            yield from _declared_by(distribution, group)
        except (AttributeError, LookupError, OSError, TypeError, ValueError) as error:
            warn_once(f"The entry points in `{_place(distribution)}` cannot be read ({error!r}); they are left out")


def _declared_by(distribution: metadata.Distribution, group: str) -> Iterator[Plugin]:
    text = distribution.read_text("entry_points.txt")
    if not text or f"[{group}]" not in text:  # parsing the files of all packages takes ten times as long
        return
    package = distribution.metadata["Name"]
    if metadata.distribution(package).read_text("entry_points.txt") != text:
        return  # another copy stands before it on the path, and that one counts
    for entry in distribution.entry_points:
        if entry.group == group:
            yield Plugin(entry.name, package, distribution.version or "?", entry.value)


def _place(distribution: metadata.Distribution) -> str:
    return str(distribution.locate_file(""))


def _rank(plugin: Plugin) -> tuple[bool, str]:
    package = normalized(plugin.package)
    return package != FIRST_PARTY.get(plugin.name), package


def _is_wanted(plugin: Plugin) -> bool:
    package = normalized(plugin.package)
    wanted = os.environ.get("EMBED_PLUGINS")
    if wanted is None or package == _CORE:
        return True
    return bool({plugin.name, package} & {part for one in wanted.split(",") for part in (one.strip(), normalized(one))})


def normalized(package: str) -> str:
    """Return a distribution's name as the packaging specification compares it."""
    return re.sub(r"[-_.]+", "-", package.strip()).lower()


@cache
def warn_once(message: str) -> None:
    """Log a warning once for each process."""
    _LOG.warning(message)
