"""The length of vectors before weights are loaded: right, or None."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from embeddings_huggingface import HuggingFaceEmbedding

ST = "sentence_transformers.models"


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def with_dense(tiny: Path, tmp_path: Path) -> Path:
    """A dense layer on top of `tiny`, before its last step."""
    import torch
    from safetensors.torch import save_file

    folder = shutil.copytree(tiny, tmp_path / "dense")
    modules = json.loads((folder / "modules.json").read_text())
    modules.insert(2, {"idx": 2, "name": "d", "path": "d", "type": f"{ST}.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "d").mkdir()
    settings = {"in_features": 32, "out_features": 8, "bias": False, "activation_function": "torch.nn.Identity"}
    (folder / "d" / "config.json").write_text(json.dumps(settings))
    save_file({"linear.weight": torch.ones(8, 32)}, folder / "d" / "model.safetensors")
    return folder


@pytest.mark.model
@pytest.mark.parametrize(
    ("name", "settings", "dimension"),
    [
        ("minilm", {}, 384),
        ("minilm", {"pooling": "cls"}, 384),
        ("minilm", {"truncate_dim": 64}, 64),
        ("tiny_bert", {}, 32),
        ("tiny", {"normalize": False}, 32),
        ("with_dense", {}, 8),
        ("tiny_clip", {}, 12),
        ("tiny_clip_sentence", {}, 12),
    ],
)
def test_the_dimension_is_known_before_loading(
    name: str, settings: dict[str, Any], dimension: int, request: pytest.FixtureRequest
) -> None:
    model = HuggingFaceEmbedding(model_name=request.getfixturevalue(name), device="cpu", **settings)
    assert model.dimension == dimension
    assert model.embed_texts(["bread"]).shape == (1, dimension)


def test_nothing_is_imported_for_it(minilm: Path) -> None:
    code = (
        "import sys; from embeddings_huggingface import HuggingFaceEmbedding as Model\n"
        "assert Model(sys.argv[1]).dimension == 384 and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, minilm], check=True)


def test_a_cached_repository_tells_it_and_another_does_not(minilm: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--sentence-transformers--small"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    shutil.copytree(minilm, repository / "snapshots" / ("a" * 40), ignore=shutil.ignore_patterns("*.safetensors"))
    for name, dimension in (("sentence-transformers/small", 384), ("small", 384), ("org/other", None)):
        assert HuggingFaceEmbedding(name, cache_folder=tmp_path).dimension == dimension
    (repository / "snapshots" / ("a" * 40) / "modules.json").unlink()  # nobody knows whether it has one
    assert HuggingFaceEmbedding("small", cache_folder=tmp_path).dimension is None
    assert HuggingFaceEmbedding("small", cache_folder=tmp_path, pooling="mean").dimension == 384


@pytest.mark.model
@pytest.mark.parametrize(("cut", "dimension"), [(16, 16), (64, 32), (None, 32)])
def test_a_saved_cut_counts(tiny: Path, copy_with: Callable[..., Path], cut: int | None, dimension: int) -> None:
    model = HuggingFaceEmbedding(copy_with(tiny, truncate_dim=cut), device="cpu")
    assert model.dimension == dimension
    assert model.embed_texts(["bread"]).shape == (1, dimension)


@pytest.mark.parametrize("cut", [0, -1, True, 1.5, "16", [16]])
def test_an_odd_cut_leaves_it_open(tiny: Path, copy_with: Callable[..., Path], cut: object) -> None:
    assert HuggingFaceEmbedding(copy_with(tiny, truncate_dim=cut)).dimension is None


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: edit(folder / "1_Pooling" / "config.json", pooling_mode_cls_token=True),
        lambda folder: edit(folder / "1_Pooling" / "config.json", word_embedding_dimension=31),
        lambda folder: edit(folder / "config.json", model_type="opt"),
        lambda folder: edit(folder / "config.json", auto_map={"AutoModel": "code.Model"}),
        lambda folder: edit(folder / "config.json", model_type=["bert"]),
        lambda folder: (folder / "config.json").write_text("{"),
        lambda folder: (folder / "config.json").write_text("[" * 100_000),
        lambda folder: (folder / "modules.json").write_text("[" * 100_000),
        lambda folder: (folder / "modules.json").write_text("null"),
        lambda folder: (folder / "modules.json").write_text("{}"),
        lambda folder: (folder / "modules.json").write_text('[{"type": "code.Dense", "path": "1_Pooling"}]'),
        lambda folder: (folder / "modules.json").write_text(f'[{{"type": "{ST}.StaticEmbedding", "path": ""}}]'),
    ],
)
def test_files_that_leave_it_open_give_none(tiny: Path, tmp_path: Path, change: Callable[[Path], object]) -> None:
    folder = shutil.copytree(tiny, tmp_path / "copy")
    change(folder)
    assert HuggingFaceEmbedding(folder).dimension is None
