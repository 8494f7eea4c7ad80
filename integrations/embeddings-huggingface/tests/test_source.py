from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from embed_core import resolve_embed_model
from embed_core.errors import ConfigurationError
from embeddings_huggingface import ClipEmbedding, HuggingFaceEmbedding, SparseEncoderEmbedding
from embeddings_huggingface._digest import digest, file_states
from embeddings_huggingface._source import Source, find, looks_like_a_path

MARKER = '[{"path": "", "type": "a.Transformer"}, {"path": "1_Pooling", "type": "a.Pooling"}]'
NORMALIZED = '[{"path": "", "type": "a.Transformer"}, {"path": "2_Normalize", "type": "a.Normalize"}]'


def put(folder: Path, **files: str) -> Path:
    for name, content in {"modules.json": MARKER, "config.json": "{}", "model.safetensors": "weights", **files}.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def put_in_hub(cache: Path, repository: str, commit: str, **files: str) -> Path:
    """Lay out a repository as the hub's cache does."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    return put(folder / "snapshots" / commit, **files)


@pytest.mark.parametrize("name", ["/a", "./a", "../a", ".", "..", "~/a", "a\\b", "a/b/c"])
def test_some_names_can_only_be_paths(name: str) -> None:
    assert looks_like_a_path(name)


@pytest.mark.parametrize("name", ["BAAI/bge-small-en-v1.5", "all-MiniLM-L6-v2", "org/.hidden"])
def test_other_names_are_the_hubs(name: str) -> None:
    assert not looks_like_a_path(name)


def test_a_folder_is_the_same_by_any_path_and_in_any_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = put(tmp_path / "one" / "model")
    monkeypatch.chdir(tmp_path)
    relative, absolute = HuggingFaceEmbedding(model_name="one/model"), HuggingFaceEmbedding(model_name=folder)
    shutil.copytree(folder, tmp_path / "two")
    elsewhere = HuggingFaceEmbedding(model_name=str(tmp_path / "two"))
    assert relative.model_name == str(folder)
    assert relative.fingerprint == absolute.fingerprint == elsewhere.fingerprint


def test_a_relative_folder_stays_the_same_when_the_process_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "model")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    model = HuggingFaceEmbedding(model_name="model")
    fingerprint = model.fingerprint
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert HuggingFaceEmbedding.from_dict(model.to_dict()).fingerprint == fingerprint


@pytest.mark.parametrize("changed", ["model.safetensors", "config.json", "1_Pooling__config.json", "vocab.txt"])
def test_every_file_that_decides_vectors_is_in_the_fingerprint(tmp_path: Path, changed: str) -> None:
    before = HuggingFaceEmbedding(model_name=put(tmp_path / "one", **{"1_Pooling__config.json": "{}"}))
    after = HuggingFaceEmbedding(
        model_name=put(tmp_path / "two", **{"1_Pooling__config.json": "{}", changed: '{"a": 1}'})
    )
    assert before.fingerprint != after.fingerprint


NAMING = {
    "the index of shards": ("model.safetensors.index.json", '{"weight_map": {"a": "%s", "b": ["no name"]}}'),
    "the settings": ("config.json", '{"transformers_weights": "%s"}'),
    "a list of settings": ("config.json", '{"configuration_files": ["%s"]}'),
    "a list of tokenizers": ("tokenizer_config.json", '{"fast_tokenizer_files": ["%s"]}'),
}


@pytest.mark.parametrize("naming", NAMING)
@pytest.mark.parametrize("marker", ["[]", MARKER, None])
def test_files_in_a_folder_that_a_file_names_are_in_the_fingerprint(
    tmp_path: Path, naming: str, marker: str | None
) -> None:
    file, content = NAMING[naming]
    names = {file: content % "shards/one.safetensors", "shards__one.safetensors": "a"}
    one, two = (put(tmp_path / name, **names) for name in ("one", "two"))
    for folder in (one, two):
        (folder / "modules.json").unlink() if marker is None else (folder / "modules.json").write_text(marker)
    assert HuggingFaceEmbedding(one).fingerprint == HuggingFaceEmbedding(two).fingerprint
    put(two, **names | {"modules.json": marker or "", "shards__one.safetensors": "other"})
    if marker is None:
        (two / "modules.json").unlink()
    assert HuggingFaceEmbedding(one).fingerprint != HuggingFaceEmbedding(two).fingerprint


def test_a_file_that_is_called_almost_like_the_settings_may_hold_anything(tmp_path: Path) -> None:
    folder = put(tmp_path / "model", **{"data_config.json": '[{"name": "a data set of the training"}]'})
    assert HuggingFaceEmbedding(folder).fingerprint


@pytest.mark.parametrize("naming", NAMING)
@pytest.mark.parametrize("path", ["../one.safetensors", "/one.safetensors", "a/../../one.safetensors"])
@pytest.mark.parametrize("trust", [True, False])
def test_files_outside_of_the_model_are_refused(tmp_path: Path, naming: str, path: str, trust: bool) -> None:
    file, content = NAMING[naming]
    folder = put(tmp_path / "model", **{file: content % path})
    with pytest.raises(ConfigurationError, match=f"`{file}` names .* as a file, which lies outside of the model"):
        _ = HuggingFaceEmbedding(folder, trust_remote_code=trust).fingerprint


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("layers/deep/own.py", True),
        ("pkg/k.txt", True),
        ("pkg/notes.md", True),
        (".git/k.txt", False),
        ("pkg/.hidden", False),
        ("pkg/__pycache__/own.pyc", False),
    ],
)
def test_all_that_trusted_code_may_read_is_in_the_fingerprint(tmp_path: Path, file: str, counts: bool) -> None:
    folder = put(tmp_path / "model", **{file: "a"})

    def fingerprint(*, trust: bool) -> str:
        return HuggingFaceEmbedding(folder, trust_remote_code=trust).fingerprint

    trusted, native = fingerprint(trust=True), fingerprint(trust=False)
    model = HuggingFaceEmbedding(folder, trust_remote_code=True)
    assert model.fingerprint == trusted
    put(folder, **{file: "other"})
    assert (fingerprint(trust=True) != trusted) == counts
    assert fingerprint(trust=False) == native
    if counts:
        with pytest.raises(ConfigurationError, match="have changed"):
            model.embed_texts(["a wing"])


def test_a_file_that_a_model_of_the_hub_points_to_in_another_repository_is_in_the_fingerprint(tmp_path: Path) -> None:
    own = '{"auto_map": {"AutoModel": "org/code--modeling.Own", "AutoConfig": "config.Own"}}'
    put_in_hub(tmp_path, "org/model", "a" * 40, **{"config.json": own, "tokenizer_config.json": "{}"})
    snapshots = put_in_hub(tmp_path, "org/code", "c" * 40, **{"modeling.py": "1"}).parent

    def fingerprint(*, trust: bool) -> str:
        return HuggingFaceEmbedding("org/model", cache_folder=tmp_path, trust_remote_code=trust).fingerprint

    trusted, native = fingerprint(trust=True), fingerprint(trust=False)
    assert fingerprint(trust=True) == trusted
    put(snapshots / ("d" * 40), **{"modeling.py": "2"})
    (snapshots.parent / "refs" / "main").write_text("d" * 40)
    assert fingerprint(trust=True) != trusted
    assert fingerprint(trust=False) == native


def test_what_a_transformer_behind_a_router_points_to_is_in_the_fingerprint(tmp_path: Path) -> None:
    base = put(tmp_path / "base")
    code = put(tmp_path / "code", **{"own.py": "1"})
    types = {f"{name}_0_Transformer": "sentence_transformers.models.Transformer" for name in ("query", "document")}
    folder = put(
        tmp_path / "model",
        **{"modules.json": '[{"path": "", "type": "sentence_transformers.models.Router"}]'},
        **{"router_config.json": json.dumps({"types": types})},
        **{"query_0_Transformer__config.json": json.dumps({"auto_map": {"AutoModel": f"{code}--own.Model"}})},
        **{"document_0_Transformer__adapter_config.json": json.dumps({"base_model_name_or_path": str(base)})},
    )

    def fingerprint() -> str:
        return HuggingFaceEmbedding(folder, trust_remote_code=True).fingerprint

    first = fingerprint()
    (code / "own.py").write_text("2")
    second = fingerprint()
    (base / "model.safetensors").write_text("other")
    assert len({first, second, fingerprint()}) == 3


def test_code_that_is_not_cached_is_missed_by_the_name_of_its_repository(tmp_path: Path) -> None:
    folder = put(tmp_path / "model", **{"config.json": '{"auto_map": {"AutoModel": "org/code--modeling.Own"}}'})
    with pytest.raises(ConfigurationError, match="`org/code` is not in the local cache"):
        HuggingFaceEmbedding(folder, trust_remote_code=True, cache_folder=tmp_path).embed_texts(["a"])


@pytest.mark.parametrize("marker", ["adapter_config.json", "modules.json"])
def test_the_model_that_an_adapter_is_for_is_in_the_fingerprint(tmp_path: Path, marker: str) -> None:
    put(tmp_path / "base", **{"model.safetensors": "1"})
    adapter = put(tmp_path / "adapter", **{"adapter_config.json": f'{{"base_model_name_or_path": "{tmp_path}/base"}}'})
    for other in {"modules.json", "config.json"} - {marker}:
        (adapter / other).unlink()
    before = HuggingFaceEmbedding(adapter).fingerprint
    assert HuggingFaceEmbedding(adapter).fingerprint == before
    put(tmp_path / "base", **{"model.safetensors": "other"})
    assert HuggingFaceEmbedding(adapter).fingerprint != before


@pytest.mark.parametrize("base", ["itself", "/nowhere/base", "org/not-cached", 5, ["a"], None])
def test_an_adapter_whose_base_cannot_be_found_still_has_a_fingerprint(tmp_path: Path, base: object) -> None:
    named = str(tmp_path / "model") if base == "itself" else base
    folder = put(tmp_path / "model", **{"adapter_config.json": json.dumps({"base_model_name_or_path": named})})
    assert HuggingFaceEmbedding(folder).fingerprint == HuggingFaceEmbedding(folder).fingerprint


def test_an_adapter_of_the_hub_for_a_model_of_the_hub_has_its_commit_in_the_fingerprint(tmp_path: Path) -> None:
    named = '{"base_model_name_or_path": "org/base"}'
    adapter = put_in_hub(tmp_path, "org/adapter", "a" * 40, **{"adapter_config.json": named})
    absent = tmp_path / "models--org--adapter" / ".no_exist" / ("a" * 40)
    absent.mkdir(parents=True)
    for name in ("modules.json", "config.json"):
        (adapter / name).unlink()
        (absent / name).touch()
    put_in_hub(tmp_path, "org/base", "b" * 40)
    assert find("org/adapter", cache_folder=str(tmp_path)).elsewhere == (f"org/base@{'b' * 40}",)


@pytest.mark.parametrize("changed", ["README.md", ".gitattributes", "checkpoint-500__model.safetensors"])
def test_other_files_are_not(tmp_path: Path, changed: str) -> None:
    before = HuggingFaceEmbedding(model_name=put(tmp_path / "one"))
    after = HuggingFaceEmbedding(model_name=put(tmp_path / "two", **{changed: "other"}))
    assert before.fingerprint == after.fingerprint


def test_a_file_is_read_once_and_again_when_it_changes(tmp_path: Path) -> None:
    folder = put(tmp_path)
    seen = file_states(folder, [])
    first = digest(folder, seen)
    weights = folder / "model.safetensors"
    stat = weights.stat()
    weights.write_text("WEIGHTS")
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert digest(folder, file_states(folder, [])) == first  # same size and time: taken for the same file
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert digest(folder, file_states(folder, [])) != first


def test_settings_that_decide_vectors_change_the_fingerprint_and_others_do_not(tmp_path: Path) -> None:
    folder = put(tmp_path)
    plain = HuggingFaceEmbedding(model_name=folder)
    operational = ({"device": "cpu"}, {"embed_batch_size": 5}, {"num_workers": 3}, {"cache_folder": tmp_path})
    for same in (*operational, {"backend": "torch"}):
        assert HuggingFaceEmbedding(model_name=folder, **same).fingerprint == plain.fingerprint, same
    others = [
        {"dtype": "bfloat16"},
        {"max_length": 10},
        {"normalize": True},
        {"truncate_dim": 3},
        {"query_instruction": ""},
        {"text_instruction": "passage: "},
        {"pooling": "cls"},
        {"pooling": "mean"},
        {"model_kwargs": {"attn_implementation": "eager"}},
        {"trust_remote_code": True},
    ]
    fingerprints = {HuggingFaceEmbedding(model_name=folder, **other).fingerprint for other in others}
    assert len(fingerprints | {plain.fingerprint}) == len(others) + 1


def test_a_setting_that_changes_while_the_model_is_looked_up_is_not_lost(tmp_path: Path) -> None:
    one, two = put(tmp_path / "one"), put(tmp_path / "two", **{"config.json": "{ }"})
    looking, changed = threading.Event(), threading.Event()

    class Slow(HuggingFaceEmbedding):
        def _find(self) -> Source:
            found = super()._find()
            looking.set()
            changed.wait()
            return found

    model = Slow(one)
    thread = threading.Thread(target=model._weights)
    thread.start()
    looking.wait()
    model.model_name = str(two)
    changed.set()
    thread.join()
    assert model.fingerprint == Slow(two).fingerprint != Slow(one).fingerprint
    assert model._weights() is Slow(two)._weights()


def test_a_device_can_be_assigned_when_the_model_has_been_used_and_its_files_stay_the_same(tmp_path: Path) -> None:
    put_in_hub(tmp_path, "org/model", "c" * 40)
    model = HuggingFaceEmbedding("org/model", cache_folder=tmp_path, device="cpu")
    before, fingerprint = model._weights(), model.fingerprint
    model.embed_batch_size = 3
    assert model._weights() is before
    (tmp_path / "models--org--model" / "refs" / "main").write_text("d" * 40)  # somebody has uploaded a new version
    model.device = "meta"
    assert model._weights() is not before
    assert model._source().commit == "c" * 40
    model.close()
    assert model._source().commit == "c" * 40
    assert model.fingerprint == fingerprint


def test_arguments_for_the_loaders_that_are_changed_in_place_are_others(tmp_path: Path) -> None:
    model = HuggingFaceEmbedding(put(tmp_path), device="cpu", model_kwargs={"rope": {"factor": 2}})
    before, fingerprint = model._weights(), model.fingerprint
    assert model._weights() is before
    model.model_kwargs["rope"]["factor"] = 4
    assert model._weights() is not before
    assert model.fingerprint != fingerprint


def test_a_fingerprint_needs_neither_torch_nor_weights(tmp_path: Path) -> None:
    put(tmp_path)
    script = f"""
import sys
from embeddings_huggingface import HuggingFaceEmbedding
assert HuggingFaceEmbedding(model_name={str(tmp_path)!r}).fingerprint
heavy = {{"torch", "transformers", "sentence_transformers", "tokenizers", "PIL"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_model_of_the_hub_is_pinned_to_the_commit_in_the_cache(tmp_path: Path) -> None:
    commit = "c" * 40
    put_in_hub(tmp_path, "org/model", commit)
    model = HuggingFaceEmbedding(model_name="org/model", cache_folder=tmp_path)
    assert model._source().commit == commit
    assert model._space()["model_name"] == f"org/model@{commit}"
    (tmp_path / "models--org--model" / "refs" / "main").write_text("d" * 40)
    assert model._source().commit == commit
    put(tmp_path / "models--org--model" / "snapshots" / ("d" * 40))
    assert HuggingFaceEmbedding(model_name="org/model", cache_folder=tmp_path).fingerprint != model.fingerprint


def test_a_bare_name_is_one_of_sentence_transformers_own_or_a_model_without_organisation(tmp_path: Path) -> None:
    put_in_hub(tmp_path, "sentence-transformers/tiny", "a" * 40)
    put_in_hub(tmp_path, "gpt", "b" * 40)
    assert find("tiny", cache_folder=str(tmp_path)).name == "sentence-transformers/tiny"
    assert find("gpt", cache_folder=str(tmp_path)).name == "gpt"


def test_a_cached_model_that_is_known_to_have_no_modules_is_plain(tmp_path: Path) -> None:
    snapshot = put_in_hub(tmp_path, "org/plain", "e" * 40)
    (snapshot / "modules.json").unlink()
    with pytest.raises(ConfigurationError):  # it may have some: nobody has asked the hub yet
        find("org/plain", cache_folder=str(tmp_path))
    assert not find("org/plain", cache_folder=str(tmp_path), plain=True).is_sentence_transformer
    absent = tmp_path / "models--org--plain" / ".no_exist" / ("e" * 40)
    absent.mkdir(parents=True)
    (absent / "modules.json").touch()
    assert not find("org/plain", cache_folder=str(tmp_path)).is_sentence_transformer


def test_a_sparse_model_on_this_machine_is_not_listed_among_dense_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path))
    put_in_hub(tmp_path, "org/dense", "c0ffee")
    put_in_hub(
        tmp_path, "org/sparse", "c0ffee", **{"config_sentence_transformers.json": '{"model_type": "SparseEncoder"}'}
    )
    assert HuggingFaceEmbedding.known_models()[1:] == ["org/dense"]


def test_models_on_this_machine_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path))
    put_in_hub(tmp_path, "org/two--dashes", "a" * 40)
    put_in_hub(tmp_path, "a/first", "b" * 40)
    assert HuggingFaceEmbedding.known_models() == ["BAAI/bge-small-en-v1.5", "a/first", "org/two--dashes"]


def test_a_model_that_is_not_cached_fails_in_words_and_does_not_ask_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    connections: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: connections.append(address))
    model = HuggingFaceEmbedding(model_name="nobody/has-this")
    with pytest.raises(ConfigurationError, match="`nobody/has-this` is not in the local cache") as caught:
        model.embed_texts(["a"])
    assert connections == []
    assert "hf download" in str(caught.value)
    assert not caught.value.retryable
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("name", ["org/model!", "-x", "a--b..c"])
def test_a_name_that_can_be_nobodys_is_refused_in_words(name: str) -> None:
    with pytest.raises(ConfigurationError, match="neither a folder nor a model's name"):
        find(name)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    for act in (
        lambda: HuggingFaceEmbedding(model_name="./nowhere").embed_texts(["a"]),
        lambda: HuggingFaceEmbedding.from_spec("./nowhere"),
        lambda: resolve_embed_model("local:./nowhere"),
    ):
        with pytest.raises(ConfigurationError, match="`nowhere` does not exist"):
            act()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="is a file, not a folder"):
        find(str(tmp_path / "file"))


def test_a_folder_without_a_model_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"holds no model, for it has none of `modules.json`, `config.json`"):
        HuggingFaceEmbedding.from_spec(str(tmp_path))


def test_a_damaged_list_of_modules_is_named(tmp_path: Path) -> None:
    put(tmp_path, **{"modules.json": "[{"})
    with pytest.raises(ConfigurationError, match=r"modules.json` is damaged"):
        find(str(tmp_path))


def test_a_folder_that_changes_under_a_model_is_refused(tmp_path: Path) -> None:
    source = find(str(put(tmp_path)))
    source.check_unchanged()
    (tmp_path / "model.safetensors").write_text("something longer")
    with pytest.raises(ConfigurationError, match="have changed since the model was configured"):
        source.check_unchanged()


def test_whether_a_model_makes_unit_vectors_is_read_from_its_files(tmp_path: Path) -> None:
    assert not find(str(put(tmp_path / "one"))).normalizes
    assert find(str(put(tmp_path / "two", **{"modules.json": NORMALIZED}))).normalizes


def test_specs_name_folders_and_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for spec in ("local:./model", "local:model", f"local:{tmp_path}/model", "huggingface:~/model"):
        assert resolve_embed_model(spec).model_name == str(tmp_path / "model")
    assert resolve_embed_model("local").model_name == "BAAI/bge-small-en-v1.5"
    assert resolve_embed_model("local:intfloat/e5-small-v2").model_name == "intfloat/e5-small-v2"


def test_options_of_a_spec_become_what_they_should_be(tmp_path: Path) -> None:
    put(tmp_path)
    model = resolve_embed_model(
        f"local:{tmp_path}?normalize=true&truncate_dim=64&dtype=bfloat16&pooling=cls&device=cpu"
    )
    assert isinstance(model, HuggingFaceEmbedding)
    assert (model.normalize, model.truncate_dim, model.dtype, model.pooling) == (True, 64, "bfloat16", "cls")


def test_a_short_name_is_understood_as_its_release_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        models = [resolve_embed_model("local:BAAI/bge-large") for _ in range(3)]
    assert {model.model_name for model in models} == {"BAAI/bge-large-en-v1.5"}
    assert caplog.messages == ["`BAAI/bge-large` is understood as `BAAI/bge-large-en-v1.5`"]
    assert resolve_embed_model("local:BAAI/bge-small").model_name == "BAAI/bge-small-en-v1.5"


@pytest.mark.parametrize(
    ("short", "release"),
    [
        ("ViT-B/32", "openai/clip-vit-base-patch32"),
        ("ViT-B/16", "openai/clip-vit-base-patch16"),
        ("ViT-L/14", "openai/clip-vit-large-patch14"),
        ("ViT-L/14@336px", "openai/clip-vit-large-patch14-336"),
    ],
)
def test_the_short_names_of_openais_models_are_understood(
    short: str, release: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert resolve_embed_model(f"clip:{short}").model_name == ClipEmbedding(short).model_name == release
    assert caplog.messages == [f"`{short}` is understood as `{release}`"]


def test_a_path_and_the_name_of_the_library_lead_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    model = resolve_embed_model(Path("model"), truncate_dim=8)
    assert isinstance(model, HuggingFaceEmbedding)
    assert (model.model_name, model.truncate_dim) == (str(tmp_path / "model"), 8)
    assert resolve_embed_model("sentence-transformers:org/model").model_name == "org/model"
    with pytest.raises(ConfigurationError, match=r"`.*nowhere` does not exist"):
        resolve_embed_model(Path("nowhere"))


@pytest.mark.parametrize("place", ["fields", "arguments"])
def test_a_saved_configuration_lets_no_code_of_the_model_run_unasked(place: str) -> None:
    saved = HuggingFaceEmbedding("theirs/model").to_dict()
    (saved if place == "fields" else saved["arguments"])["trust_remote_code"] = True
    with pytest.raises(ConfigurationError, match="`theirs/model` lets code that comes with the model run"):
        resolve_embed_model(saved)
    agreed = resolve_embed_model(saved, trust_remote_code=True)
    assert isinstance(agreed, HuggingFaceEmbedding)
    assert agreed.trust_remote_code


@pytest.mark.parametrize("cls", [ClipEmbedding, HuggingFaceEmbedding, SparseEncoderEmbedding])
def test_the_fields_have_a_json_schema(cls: type[HuggingFaceEmbedding]) -> None:
    assert {"model_name", "device", "embeddings_cache"} <= cls.model_json_schema()["properties"].keys()


def test_a_local_model_costs_nothing() -> None:
    assert HuggingFaceEmbedding().estimate(["bread"]).price == 0


def test_a_folder_wins_over_a_short_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "BAAI" / "bge-small")
    monkeypatch.chdir(tmp_path)
    assert resolve_embed_model("local:BAAI/bge-small").model_name == str(tmp_path / "BAAI" / "bge-small")


def test_what_torch_calls_things_is_written_as_text(tmp_path: Path) -> None:
    import torch

    model = HuggingFaceEmbedding(
        model_name=tmp_path,
        device=torch.device("cpu"),
        dtype=torch.bfloat16,
        cache_folder=tmp_path,
        model_kwargs={"dtype": torch.float16, "attn_implementation": "eager"},
    )
    saved = model.to_dict()
    assert saved["device"] == "cpu"
    assert saved["dtype"] == "bfloat16"
    assert saved["cache_folder"] == str(tmp_path)
    assert saved["model_kwargs"] == {"dtype": "float16", "attn_implementation": "eager"}
    assert HuggingFaceEmbedding.from_dict(saved).to_dict() == saved


def test_an_unknown_setting_names_the_nearest(copy_with: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="did you mean `truncate_dim`"):
        HuggingFaceEmbedding(truncate_dims=3)
