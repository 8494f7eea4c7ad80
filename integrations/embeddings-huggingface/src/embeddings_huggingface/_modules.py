"""The modules of a model of sentence-transformers, and the classes that its files name for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Any, TypeAlias

from embed_core.errors import ConfigurationError

Read: TypeAlias = Callable[[str], Any]
"""Returns the JSON content of a model's file, by its path within the model; None where there is no such file."""

MODULES, SETTINGS = "modules.json", "config_sentence_transformers.json"
CODE = ("config.json", "tokenizer_config.json")
LENGTHS = tuple(  # of a transformer; sentence-transformers takes the first that is there
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)

_MODULE = re.compile(r"sentence_transformers\.(\w+\.)*(models|modules)(\.\w+)+")
_LAYER = re.compile(r"torch\.nn\.(modules\.\w+\.)?[A-Z]\w*")
_LOADED = ("AutoConfig", "AutoModel", "AutoModelForMaskedLM", "AutoTokenizer")
_NAMES_A_CLASS = {  # a module's type, with the file and the key that name one more class
    "Dense": ("config.json", "activation_function"),
    "WordEmbeddings": ("wordembedding_config.json", "tokenizer_class"),
}
_LONGEST_PATH = 255  # of a module within its model, in bytes
_ROUTERS = {"Router", "Asym"}
_WITHOUT_TRANSFORMER = {
    *("Router", "Asym", "Pooling", "Normalize", "Dense", "Dropout", "LayerNorm", "WeightedLayerPooling"),
    *("StaticEmbedding", "WordEmbeddings", "WordWeights", "BoW", "CNN", "LSTM"),
    *("SpladePooling", "SparseStaticEmbedding", "SparseAutoEncoder"),
}
_WITH_WEIGHTS = {  # beside those that transformers loads
    *("CNN", "Dense", "LSTM", "LayerNorm", "SparseAutoEncoder", "SparseStaticEmbedding", "StaticEmbedding"),
    *("WeightedLayerPooling", "WordEmbeddings"),
}


@dataclass(frozen=True, slots=True)
class Module:
    """One step from an input to its vector.

    Attributes:
        type: its class, as `package.module.Class`.
        path: the folder of its files within the model; empty for the model's own.
    """

    type: str
    path: str

    @property
    def name(self) -> str:
        """The name of its class."""
        return self.type.rpartition(".")[2]

    def file(self, name: str) -> str:
        """Return the path of one of its files within the model."""
        return f"{self.path}/{name}".lstrip("/")


def modules_of(read: Read) -> list[Module]:
    """Return the modules that `modules.json` lists; none where there is no such file.

    Raises:
        ConfigurationError: the file has another shape, or names a folder that is not within the model.
    """
    try:
        return [_within(Module(str(entry["type"]), str(entry.get("path", "")))) for entry in read(MODULES)]
    except (AttributeError, KeyError, TypeError) as error:
        msg = f"`{MODULES}` is damaged: it must list modules with `type` and `path`; save or download the model again"
        raise ConfigurationError(msg) from error


def with_routes(modules: list[Module], read: Read) -> Iterator[Module]:
    """Yield modules, and after a router those that it chooses from."""
    for module in modules:
        yield module
        if module.name in _ROUTERS:
            settings = mapping(read(module.file("router_config.json"))) or mapping(read(module.file("config.json")))
            routes = mapping(settings.get("types")).items()
            yield from with_routes(
                [_within(Module(str(type_), module.file(name) or ".")) for name, type_ in routes], read
            )


def transformers_of(modules: list[Module], read: Read) -> list[Module]:
    """Return the modules that may hold a transformer; without any modules the model itself is one."""
    every = with_routes(modules or [Module("", "")], read)
    return [module for module in every if module.name not in _WITHOUT_TRANSFORMER]


def check_classes(modules: list[Module], read: Read, name: str) -> None:
    """Refuse files that name a class which is neither a module of sentence-transformers nor a layer of torch.

    Loading imports such a class: code beside the files, or that of any installed package.

    Raises:
        ConfigurationError: a class is foreign.
    """
    for module in with_routes(modules, read):
        if not is_native(module):
            raise foreign_code(name, module.type)
        file, key = _NAMES_A_CLASS.get(module.name, ("", ""))
        named = mapping(read(module.file(file))).get(key) if file else None
        if isinstance(named, str) and not (_MODULE.fullmatch(named) or _LAYER.fullmatch(named)):
            raise foreign_code(name, named)


def check_named_code(transformers: Iterable[Module], read: Read, config_kwargs: Mapping[str, Any]) -> None:
    """Refuse a damaged `auto_map`, at which transformers fails without naming it.

    Raises:
        ConfigurationError: it does not name a class for each of those of transformers.
    """
    files = (module.file(file) for module in transformers for file in CODE)
    for file in () if "auto_map" in config_kwargs else files:
        named = mapping(read(file)).get("auto_map", {})
        classes = [mapping(named)[key] for key in _LOADED if key in mapping(named)]
        if not isinstance(named, Mapping | list) or not all(one and isinstance(one, str | list) for one in classes):
            msg = f"`{file}` is damaged: its `auto_map` is {named!r:.60}; expected classes by those of transformers"
            raise ConfigurationError(f'{msg}, as in {{"AutoModel": "own.Model"}}; save or download the model again')


def is_native(module: Module) -> bool:
    """Tell whether a module is of sentence-transformers itself."""
    return _MODULE.fullmatch(module.type) is not None


def check_native(transformers: Iterable[Module], read: Read, name: str, config_kwargs: Mapping[str, Any]) -> None:
    """Refuse a model with code of its own for which transformers would take a class that it happens to know.

    Raises:
        ConfigurationError: its `auto_map` names code, its attention is a kernel from elsewhere, or its settings lie in
            a file of another name, which may name these.
    """
    for module in transformers:
        if mapping(read(module.file("config.json"))).get("configuration_files"):
            msg = f"the `config.json` of `{name}` names other files in its place (`configuration_files`)"
            raise ConfigurationError(f"{msg}, which nobody has checked; leave it out, or set `trust_remote_code=True`")
        for file in CODE:
            named = {} if "auto_map" in config_kwargs else mapping(mapping(read(module.file(file))).get("auto_map"))
            if code := next((named[key] for key in _LOADED if named.get(key)), None):
                raise foreign_code(name, str(code), "; `config_kwargs={'auto_map': {}}` takes transformers' own class")
        arguments: Iterable[Any] = (read(module.file(file)) for file in LENGTHS) if module.type else ()
        for settings in (read(module.file("config.json")), next(filter(None, arguments), None)):
            if (kernel := next(_kernels(settings), None)) is not None:
                raise foreign_code(name, kernel)


def _kernels(content: Any) -> Iterator[str]:
    """Yield the implementations of attention that are repositories with code, at any depth of a file of settings."""
    for key, value in mapping(content).items():
        texts = [value, *mapping(value).values()] if key.endswith("attn_implementation") else []
        yield from (text for text in texts if isinstance(text, str) and "/" in text)
        yield from _kernels(value)


def number(value: Any) -> int | None:
    """Return a positive number that a file of settings holds; None where there is none, or something else."""
    return value if type(value) is int and value > 0 else None


def mapping(content: Any) -> Mapping[str, Any]:
    """Return the content of a file of settings; an empty mapping where there is none, or something else."""
    return content if isinstance(content, Mapping) else {}


def check_weights(modules: list[Module], read: Read, has: Callable[[str], bool], name: str) -> None:
    """Refuse modules whose weights are a pickle only, which sentence-transformers would read.

    Raises:
        ConfigurationError: a module has a `pytorch_model.bin` and no file of safetensors.
    """
    for module in with_routes(modules, read):
        pickle = module.file("pytorch_model.bin")
        if module.name in _WITH_WEIGHTS and not has(module.file("model.safetensors")) and has(pickle):
            msg = (
                f"`{name}` has weights in a pickle, `{pickle}`; save the model again with safetensors, "
                "or if you trust it, set `model_kwargs={'use_safetensors': False}`"
            )
            raise ConfigurationError(msg)


def foreign_code(name: str, code: str = "", otherwise: str = "") -> ConfigurationError:
    """Return the error for code that comes with a model and that nobody has allowed."""
    which = f" (`{code}`)" if code else ""
    return ConfigurationError(
        f"`{name}` brings Python code of its own{which}, which would run on this machine; read it, "
        f"and set `trust_remote_code=True` if you trust it{otherwise}"
    )


def check_within(file: str, name: str, called: str) -> None:
    """Refuse a path in a file of settings that leads out of the model.

    Raises:
        ConfigurationError: it does, or is no path.
    """
    path = PureWindowsPath(name)  # it understands both kinds of slashes
    inside = not path.anchor and ".." not in path.parts and name.isprintable()
    if not inside or len(name.encode(errors="replace")) > _LONGEST_PATH:
        msg = f"{name!r:.80} as {called}, which lies outside of the model, or is no path; do not use such a model"
        raise ConfigurationError(f"`{file}` names {msg}")


def _within(module: Module) -> Module:
    check_within(MODULES, module.path, "a module's folder")
    return module
