"""Folders from somebody else: nothing in them runs, no pickle is read, and no weight is random."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from embed_core import resolve_embed_model
from embed_core.errors import ConfigurationError
from embeddings_huggingface import HuggingFaceEmbedding, SparseEncoderEmbedding

Change = Callable[..., Path]
ST = "sentence_transformers.models"


@pytest.fixture
def change(tmp_path: Path) -> Change:
    """Copy a model's folder and change some of its JSON files, or weights by a function."""

    def copy(folder: Path, weights: Callable[[dict[str, Any]], dict[str, Any]] | None = None, **files: Any) -> Path:
        there = Path(shutil.copytree(folder, tmp_path / "model"))
        for name, changes in files.items():
            path = there / f"{name.replace('__', '/')}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            former = json.loads(path.read_text()) if path.exists() else {}
            path.write_text(json.dumps(changes(former) if callable(changes) else former | changes))
        if weights is not None:
            from safetensors.torch import load_file, save_file

            save_file(weights(load_file(there / "model.safetensors")), there / "model.safetensors", {"format": "pt"})
        return there

    return copy


def embed(folder: Path, **settings: Any) -> Any:
    return HuggingFaceEmbedding(folder, device="cpu", **settings).embed_texts(["bread"])


class Runs:
    """A pickle of it makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


# Saved configurations


@pytest.mark.parametrize("bag", ["model_kwargs", "processor_kwargs", "config_kwargs"])
@pytest.mark.parametrize("place", ["fields", "arguments"])
def test_arguments_for_the_loaders_in_a_saved_configuration_need_the_users_word(bag: str, place: str) -> None:
    saved = HuggingFaceEmbedding("theirs/model").to_dict()
    (saved if place == "fields" else saved["arguments"])[bag] = {"attn_implementation": "eager"}
    with pytest.raises(
        ConfigurationError, match=f"gives the loaders .* arguments of its own; .* pass `{bag}` yourself"
    ):
        resolve_embed_model(saved)
    agreed = resolve_embed_model(saved, **{bag: {"attn_implementation": "eager"}})
    assert getattr(agreed, bag) == {"attn_implementation": "eager"}
    assert resolve_embed_model(HuggingFaceEmbedding("theirs/model").to_dict()).model_name == "theirs/model"


def test_the_line_that_a_refused_configuration_names_gives_the_same_model(tiny: Path) -> None:
    model = HuggingFaceEmbedding(tiny, model_kwargs={"attn_implementation": "eager"})
    with pytest.raises(ConfigurationError) as caught:
        resolve_embed_model(model.to_dict())
    agreed = resolve_embed_model(str(caught.value).split("`")[-2])
    assert agreed.to_dict() == model.to_dict()
    assert agreed.fingerprint == model.fingerprint
    with pytest.raises(ConfigurationError, match="are no JSON"):
        resolve_embed_model("local:theirs/model?model_kwargs=eager")


@pytest.mark.parametrize("name", ["weights_only", "pickle_module", "allow_all_kernels", "use_kernels"])
@pytest.mark.parametrize("bag", ["model_kwargs", "processor_kwargs", "config_kwargs"])
def test_arguments_that_let_files_run_code_are_refused_by_name(name: str, bag: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` would let files or code from elsewhere run on this machine"):
        HuggingFaceEmbedding("theirs/model", **{bag: {name: False}})


# Pickles


def as_pickle(folder: Path, *, name: str = "pytorch_model.bin") -> Path:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / name)
    (folder / "model.safetensors").unlink()
    return folder


@pytest.mark.parametrize("kind", ["tiny", "tiny_bert"])
def test_weights_in_a_pickle_are_read_only_where_the_user_says_so(
    kind: str, change: Change, request: pytest.FixtureRequest
) -> None:
    original = request.getfixturevalue(kind)
    folder = as_pickle(change(original))
    with pytest.raises(ConfigurationError, match=r"no weights in safetensors files .*'use_safetensors': False"):
        embed(folder)
    assert (embed(folder, model_kwargs={"use_safetensors": False}) == embed(original)).all()


def with_dense(modules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*modules, {"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"}]


DENSE = {"in_features": 32, "out_features": 8, "bias": False}
TANH = "torch.nn.modules.activation.Tanh"


def add_dense(change: Change, tiny: Path, activation: str = TANH) -> Path:
    import torch
    from safetensors.torch import save_file

    folder = change(tiny, modules=with_dense, **{"3_Dense__config": {**DENSE, "activation_function": activation}})
    save_file({"linear.weight": torch.ones(8, 32)}, folder / "3_Dense" / "model.safetensors")
    return folder


def test_a_pickle_of_a_module_beside_the_transformer_is_refused_too(tiny: Path, change: Change) -> None:
    folder = add_dense(change, tiny)
    expected = embed(folder)
    as_pickle(folder / "3_Dense")
    with pytest.raises(ConfigurationError, match=r"weights in a pickle, `3_Dense/pytorch_model.bin`"):
        embed(folder)
    assert (embed(folder, model_kwargs={"use_safetensors": None}) == expected).all()


def test_arguments_in_a_models_own_files_unpickle_nothing(tiny: Path, change: Change, tmp_path: Path) -> None:
    bag = {"weights_only": False, "use_safetensors": False, "allow_all_kernels": True}
    folder = change(tiny, sentence_bert_config={"model_args": bag, "model_kwargs": bag})
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Runs(tmp_path / "ran"), protocol=2))
    for settings in ({}, {"model_kwargs": {"use_safetensors": False}}):
        with pytest.raises(ConfigurationError):
            embed(folder, **settings)
    assert not (tmp_path / "ran").exists()


# Classes that files name


@pytest.mark.parametrize("type_", ["own.Module", "antigravity.Module", "sentence_transformers.SentenceTransformer"])
def test_a_module_that_is_none_of_sentence_transformers_does_not_run(
    tiny: Path, change: Change, tmp_path: Path, type_: str
) -> None:
    folder = change(tiny, modules=lambda modules: [*modules, {"path": "3_Own", "type": type_, "name": "3", "idx": 3}])
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(
        ConfigurationError, match=rf"brings Python code of its own \(`{type_}`\).*trust_remote_code=True"
    ):
        embed(folder)
    assert not (tmp_path / "ran").exists()


def test_a_module_behind_a_router_does_not_run_either(tiny: Path, change: Change) -> None:
    router = [{"idx": 0, "name": "0", "path": "0_Router", "type": "sentence_transformers.models.Router"}]
    folder = change(
        tiny,
        modules=lambda _: router,
        **{"0_Router__router_config": {"types": {"query_0": "own.Module"}, "structure": {}, "parameters": {}}},
    )
    with pytest.raises(ConfigurationError, match=r"code of its own \(`own.Module`\)"):
        embed(folder)


@pytest.mark.parametrize("activation", ["builtins.exec", "torch.hub.load", "own.Tanh", "torch.nn.Module.modules"])
def test_an_activation_that_is_no_layer_of_torch_is_refused(tiny: Path, change: Change, activation: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"code of its own \(`{activation}`\)"):
        embed(add_dense(change, tiny, activation))


@pytest.mark.parametrize("activation", ["torch.nn.modules.linear.Identity", "torch.nn.GELU"])
def test_layers_of_torch_are_taken(tiny: Path, change: Change, activation: str) -> None:
    assert embed(add_dense(change, tiny, activation)).shape == (1, 8)


@pytest.mark.parametrize("path", ["../..", "/etc", "..\\..", "1_Pooling/../../..", "C:\\", "a\0b", "\ud800", "x" * 256])
def test_a_folder_outside_of_the_model_is_never_looked_at(tiny: Path, change: Change, path: str) -> None:
    folder = change(tiny, modules=lambda modules: [*modules, modules[1] | {"path": path, "name": "3"}])
    with pytest.raises(ConfigurationError, match="which lies outside of the model"):
        _ = HuggingFaceEmbedding(folder).fingerprint


@pytest.mark.parametrize("modules", [None, 3, {"a": 1}, [1], [{"path": ""}], [["type"]]])
def test_a_list_of_modules_of_another_shape_is_damaged(tiny: Path, change: Change, modules: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"`modules.json` is damaged"):
        _ = HuggingFaceEmbedding(change(tiny, modules=lambda _: modules)).fingerprint


@pytest.mark.parametrize("content", ["null", "5", "[]", "{", "[" * 100_000, '{"a": ' * 100_000])
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "1_Pooling/config.json"])
def test_a_file_of_settings_of_another_shape_is_named(tiny: Path, change: Change, file: str, content: str) -> None:
    folder = change(tiny)
    (folder / file).write_text(content)
    with pytest.raises(
        ConfigurationError, match=f"`{Path(file).name}` is damaged, in the folder `{(folder / file).parent}`"
    ):
        embed(folder)


@pytest.mark.parametrize("name", ["", "/", "."])
def test_a_router_that_chooses_itself_is_refused(tiny: Path, change: Change, name: str) -> None:
    router = {"path": "", "type": "sentence_transformers.models.Router"}
    folder = change(tiny, modules=lambda _: [router], router_config={"types": {name: router["type"]}})
    with pytest.raises(ConfigurationError, match="as a module's folder"):
        _ = HuggingFaceEmbedding(folder).fingerprint


# Weights that do not fit


def without(part: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda weights: {name: weight for name, weight in weights.items() if part not in name}


def moved(weights: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("encoder.layer.1", "encoder.layers.one"): weight for name, weight in weights.items()}


@pytest.mark.parametrize("kind", ["tiny", "tiny_bert"])
@pytest.mark.parametrize("weights", [without("encoder.layer.1"), without("LayerNorm"), moved])
def test_weights_that_are_not_in_the_files_are_an_error(
    kind: str, weights: Any, change: Change, request: pytest.FixtureRequest
) -> None:
    folder = change(request.getfixturevalue(kind), weights)
    with pytest.raises(ConfigurationError, match=r"are not in its files and would be random: `e.*` and \d+ more;"):
        embed(folder)


@pytest.mark.parametrize("kind", ["tiny", "tiny_bert"])
def test_weights_of_another_shape_are_an_error(kind: str, change: Change, request: pytest.FixtureRequest) -> None:
    folder = change(request.getfixturevalue(kind), config={"intermediate_size": 48})
    with pytest.raises(ConfigurationError, match="have another shape in its files and would be random: "):
        embed(folder)
    with pytest.raises(ConfigurationError, match="have another shape"):
        embed(folder, model_kwargs={"ignore_mismatched_sizes": True})


def test_a_missing_pooler_is_normal(tiny_bert: Path, change: Change) -> None:
    assert (embed(change(tiny_bert, without("pooler."))) == embed(tiny_bert)).all()


def test_a_sparse_model_without_its_head_is_an_error(tiny_splade: Path, change: Change) -> None:
    folder = change(tiny_splade, without("cls.predictions"))
    with pytest.raises(ConfigurationError, match=r"would be random: `cls\.predictions"):
        SparseEncoderEmbedding(folder, device="cpu").get_text_embedding("bread")


@pytest.mark.parametrize("kind", ["tiny", "tiny_bert"])
def test_a_class_that_transformers_happens_to_know_is_not_taken_for_a_models_own(
    kind: str, change: Change, request: pytest.FixtureRequest
) -> None:
    original = request.getfixturevalue(kind)
    folder = change(original, config={"auto_map": {"AutoModel": "own.Model"}})
    with pytest.raises(ConfigurationError, match=r"code of its own \(`own.Model`\).*'auto_map': \{\}"):
        embed(folder)
    assert (embed(folder, config_kwargs={"auto_map": {}}) == embed(original)).all()


def test_a_tokenizer_of_the_models_own_is_not_replaced_either(tiny_bert: Path, change: Change) -> None:
    folder = change(tiny_bert, tokenizer_config={"auto_map": {"AutoTokenizer": [None, "own.Tokenizer"]}})
    with pytest.raises(ConfigurationError, match=r"code of its own \(.*own.Tokenizer"):
        embed(folder)


@pytest.mark.parametrize("kind", ["tiny", "tiny_bert"])
@pytest.mark.parametrize("named", [5, None, {"AutoModel": None}, {"AutoConfig": 5}, "own.Model"])
@pytest.mark.parametrize("file", ["config", "tokenizer_config"])
def test_a_damaged_list_of_a_models_own_classes_is_named(
    kind: str, named: Any, file: str, change: Change, request: pytest.FixtureRequest
) -> None:
    folder = change(request.getfixturevalue(kind), **{file: {"auto_map": named}})
    for trust in (True, False):
        with pytest.raises(ConfigurationError, match=rf"`{file}.json` is damaged: its `auto_map` is "):
            embed(folder, trust_remote_code=trust)


def test_code_for_another_head_is_not_wanted(tiny_bert: Path, change: Change) -> None:
    folder = change(tiny_bert, config={"auto_map": {"AutoModelForCausalLM": "own.Head"}})
    assert (embed(folder) == embed(tiny_bert)).all()


@pytest.mark.parametrize(
    "files",
    [
        {"config": {"_attn_implementation": "org/kernel:run"}},
        {"config": {"text_config": {"attn_implementation": {"": "org/kernel"}}}},
        {"sentence_bert_config": {"model_args": {"attn_implementation": "org/kernel"}}},
    ],
)
def test_a_kernel_that_a_models_files_name_is_code_as_well(tiny: Path, change: Change, files: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"code of its own \(`org/kernel"):
        embed(change(tiny, **files))


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("config", {"auto_map": {"AutoModel": "org/kernel--own.Model"}}),
        ("tokenizer_config", {"auto_map": {"AutoTokenizer": ["org/kernel--own.Tokenizer", None]}}),
        ("config", {"attn_implementation": "org/kernel"}),
        ("sentence_bert_config", {"model_args": {"attn_implementation": "org/kernel"}}),
        ("sentence_xlnet_config", {"model_args": {"attn_implementation": "org/kernel"}}),
    ],
)
def test_code_of_a_transformer_behind_a_router_is_refused_as_well(
    tiny: Path, change: Change, file: str, settings: Any
) -> None:
    folder = change(
        tiny,
        modules=lambda _: [{"path": "r", "type": f"{ST}.Router"}],
        r__router_config={"types": {"a": f"{ST}.Transformer", "b": f"{ST}.Transformer"}},
        **{f"r__b__{file}": settings},
    )
    with pytest.raises(ConfigurationError, match=r"code of its own \(`?.*org/kernel"):
        embed(folder)


def test_settings_in_a_file_of_another_name_are_refused(tiny_bert: Path, change: Change) -> None:
    folder = change(tiny_bert, config={"configuration_files": ["config.4.0.0.json"]})
    (folder / "config.4.0.0.json").write_text((folder / "config.json").read_text())
    with pytest.raises(ConfigurationError, match=r"names other files in its place \(`configuration_files`\)"):
        embed(folder)


def test_other_code_loads_models_as_before(tiny_bert: Path, change: Change) -> None:
    from transformers import AutoModel

    embed(tiny_bert)
    assert AutoModel.from_pretrained(change(tiny_bert, without("encoder.layer.1"))).config.hidden_size == 32
