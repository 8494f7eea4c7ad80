"""Against sentence-transformers itself, with the real weights of all-MiniLM-L6-v2."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import logging
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embed_core import BaseEmbedding, Vectors, resolve_embed_model
from embed_core.errors import ConfigurationError, InputTooLongError
from embed_core.instrumentation import CallbackManager, EmbeddingEndEvent
from embed_core.kvstore import MemoryKVStore
from embed_core.testing import EmbeddingConformance
from embeddings_huggingface import HuggingFaceEmbedding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.model

TOLERANCE = 1e-5
"""How far the vectors of one text may be apart in float32 when it is padded to different lengths."""

TEXT = "the wing of an aircraft stalls when the flow separates; bread is baked from flour, water and time ü 日本"
WORDS = TEXT.split()


def texts_of_mixed_length(count: int) -> list[str]:
    random = np.random.default_rng(count)
    return [" ".join(random.choice(WORDS, random.integers(1, 60))) for _ in range(count)]


def assert_equal(ours: Vectors, theirs: Any) -> None:
    theirs = np.asarray(theirs, dtype=np.float32)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= TOLERANCE
    cosines = (ours * theirs).sum(1) / (np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1))
    assert cosines.min() >= 0.99999


@pytest.fixture(scope="module")
def model(minilm: Path) -> HuggingFaceEmbedding:
    return HuggingFaceEmbedding(model_name=minilm, device="cpu")


def test_weights_go_with_the_last_name_for_the_model(minilm: Path) -> None:
    model = HuggingFaceEmbedding(model_name=minilm, device="cpu", max_length=77)  # shared with no other test
    model.embed_texts(["a"])
    alive = weakref.ref(model._weights())
    gc.collect()  # what imports have left behind
    gc.disable()
    try:
        del model
        assert alive() is None
    finally:
        gc.enable()


class TestConformance(EmbeddingConformance):
    tolerance = TOLERANCE

    @pytest.fixture
    def model(self, minilm: Path) -> BaseEmbedding:
        return HuggingFaceEmbedding(model_name=minilm, device="cpu", embed_batch_size=2)


@pytest.mark.parametrize("count", [1, 2, 33, 300])
def test_vectors_are_those_of_sentence_transformers(
    model: HuggingFaceEmbedding, minilm_transformer: Any, count: int
) -> None:
    texts = texts_of_mixed_length(count)
    assert_equal(model.embed_texts(texts), minilm_transformer.encode(texts, show_progress_bar=False))


def test_queries_and_odd_texts_too(model: HuggingFaceEmbedding, minilm_transformer: Any) -> None:
    odd = ["", " ", "\n", "🥊" * 9, "a" * 5000, "word " * 5000, "\x00\x01", "e\u0301", "ﬁ", "日本語のテキスト"]
    assert_equal(model.embed_texts(odd), minilm_transformer.encode_document(odd, show_progress_bar=False))
    assert_equal(model.embed_queries(odd), minilm_transformer.encode_query(odd, show_progress_bar=False))


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=300), min_size=1, max_size=6))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_texts(model: HuggingFaceEmbedding, minilm_transformer: Any, texts: list[str]) -> None:
    assert_equal(model.embed_texts(texts), minilm_transformer.encode(texts, show_progress_bar=False))


def test_a_text_has_one_vector_alone_in_a_batch_streamed_async_and_cached(minilm: Path) -> None:
    texts = texts_of_mixed_length(40)
    model = HuggingFaceEmbedding(model_name=minilm, device="cpu", embed_batch_size=7)
    batch = model.embed_texts(texts)
    assert_equal(np.array([model.get_text_embedding(text) for text in texts], dtype=np.float32), batch)
    assert_equal(np.concatenate(list(model.stream_texts(iter(texts)))), batch)
    assert_equal(asyncio.run(model.aembed_texts(texts)), batch)
    model.embeddings_cache = MemoryKVStore()
    first = model.embed_texts(texts)
    assert_equal(first, batch)
    assert np.array_equal(model.embed_texts(texts[::-1])[::-1], first)
    assert np.array_equal(model.get_text_embedding(texts[3]), first[3])


def test_similar_lengths_go_together_and_every_vector_to_its_text(minilm: Path) -> None:
    model = HuggingFaceEmbedding(model_name=minilm, device="cpu", embed_batch_size=4)
    seen: list[list[int]] = []

    async def watch(request: Any, onward: Any, io: Any) -> Vectors:
        seen.append([len(text) for text in request.inputs])
        vectors: Vectors = await onward(request)
        return vectors

    texts = texts_of_mixed_length(20)
    expected = np.array([model.get_text_embedding(text) for text in texts], dtype=np.float32)
    model = model.with_(middlewares=(watch,))
    assert_equal(model.embed_texts(texts), expected)
    assert [length for batch in seen for length in batch] == sorted(map(len, texts), reverse=True)


def test_sixteen_threads_share_one_model(minilm: Path) -> None:
    model = HuggingFaceEmbedding(model_name=minilm, device="cpu", embed_batch_size=3)
    texts = [texts_of_mixed_length(5 + number) for number in range(16)]
    expected = [model.embed_texts(some) for some in texts]
    found: dict[int, Vectors] = {}
    threads = [
        threading.Thread(target=lambda number=number: found.update({number: model.embed_texts(texts[number])}))
        for number in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, vectors in found.items():
        assert_equal(vectors, expected[number])
    assert len(found) == 16


def test_event_loops_one_after_the_other_and_side_by_side(model: HuggingFaceEmbedding) -> None:
    texts = texts_of_mixed_length(6)
    expected = model.embed_texts(texts)

    async def several() -> list[Vectors]:
        return await asyncio.gather(*(model.aembed_texts(texts) for _ in range(4)))

    found: list[Vectors] = [*asyncio.run(several()), *asyncio.run(several())]
    threads = [threading.Thread(target=lambda: found.extend(asyncio.run(several()))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20
    for vectors in found:
        assert_equal(vectors, expected)


def test_the_event_loop_runs_on_while_the_model_works(minilm: Path) -> None:
    async def ticks() -> int:
        model = HuggingFaceEmbedding(model_name=minilm, device="cpu", embed_batch_size=8)
        task = asyncio.create_task(model.aembed_texts(texts_of_mixed_length(40)))
        count = 0
        while not task.done():
            await asyncio.sleep(0)
            count += 1
        assert len(await task) == 40
        return count

    assert asyncio.run(ticks()) > 20


def test_cancelling_a_task_stops_what_has_not_begun(minilm: Path) -> None:
    async def cancelled() -> None:
        task = asyncio.create_task(model.aembed_texts(texts_of_mixed_length(500)))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    begun = asyncio.Event()
    model = HuggingFaceEmbedding(minilm, device="cpu", callback_manager=CallbackManager([lambda event: begun.set()]))
    asyncio.run(cancelled())
    assert len(model.embed_texts(["a"])) == 1


def test_weights_are_loaded_once_for_equal_settings(minilm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(minilm.parent)
    one = HuggingFaceEmbedding(model_name=minilm, device="cpu", query_instruction="query: ")
    other = HuggingFaceEmbedding(model_name="./model", device="cpu", embed_batch_size=3, truncate_dim=10)
    bfloat = HuggingFaceEmbedding(model_name=minilm, device="cpu", dtype="bfloat16")
    models = (one, copy.deepcopy(one), pickle.loads(pickle.dumps(one)), other)
    encoders = {id(model._weights().run(lambda encoder: encoder)) for model in models}
    assert len(encoders) == 1
    assert bfloat._weights() is not one._weights()


def test_settings_that_do_not_touch_the_weights_keep_them(minilm: Path) -> None:
    model = HuggingFaceEmbedding(model_name=minilm, device="cpu")
    weights = model._weights()
    model.embed_batch_size, model.query_instruction = 3, "query: "
    assert model._weights() is weights
    model.dtype = "bfloat16"
    assert model._weights() is not weights


def test_a_closed_model_loads_again(minilm: Path) -> None:
    model = HuggingFaceEmbedding(model_name=minilm, device="cpu")
    with model:
        before = model.embed_texts(["bread"])
    assert model._held is None
    assert np.array_equal(model.embed_texts(["bread"]), before)


def test_a_pickle_works_in_another_process(model: HuggingFaceEmbedding, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(pickle.dumps(model))
    script = (
        "import pickle, sys, pathlib, numpy; folder = pathlib.Path(sys.argv[1]);"
        "model = pickle.loads((folder / 'model').read_bytes());"
        "numpy.save(folder / 'vectors.npy', model.embed_texts(['bread', 'wings']));"
        "print(model.fingerprint)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == model.fingerprint
    assert done.stderr == ""  # no progress bar, no warning
    assert_equal(np.load(tmp_path / "vectors.npy"), model.embed_texts(["bread", "wings"]))


def test_a_saved_configuration_makes_the_same_model(minilm: Path) -> None:
    model = HuggingFaceEmbedding(
        model_name=minilm, device="cpu", truncate_dim=64, query_instruction="", pooling=None, num_workers=2
    )
    again = resolve_embed_model(model.to_dict())
    assert again.fingerprint == model.fingerprint
    assert again.to_dict() == model.to_dict()
    assert_equal(again.embed_texts(["bread"]), model.embed_texts(["bread"]))


# Prompts


@pytest.mark.parametrize("document", ["document", "passage", "corpus"])
def test_saved_prompts_are_used(
    minilm: Path, minilm_transformer: Any, copy_with: Callable[..., Path], document: str
) -> None:
    folder = copy_with(minilm, prompts={"query": "query: ", document: "passage: "})
    model = HuggingFaceEmbedding(model_name=folder, device="cpu")
    expected = minilm_transformer.encode(["query: bread", "passage: bread"], show_progress_bar=False)
    assert_equal(model.embed_queries(["bread"]), expected[:1])
    assert_equal(model.embed_texts(["bread"]), expected[1:])


def test_a_saved_default_prompt_is_used_where_sentence_transformers_uses_it(
    minilm: Path, copy_with: Callable[..., Path]
) -> None:
    from sentence_transformers import SentenceTransformer

    folder = copy_with(minilm, prompts={"sts": "same? "}, default_prompt_name="sts")
    theirs = SentenceTransformer(str(folder), device="cpu")
    model = HuggingFaceEmbedding(model_name=folder, device="cpu")
    assert_equal(model.embed_queries(["bread"]), theirs.encode_query(["bread"], show_progress_bar=False))
    assert_equal(model.embed_texts(["bread"]), theirs.encode_document(["bread"], show_progress_bar=False))


def test_an_instruction_wins_over_a_saved_prompt_and_so_does_an_empty_one(
    minilm: Path, minilm_transformer: Any, copy_with: Callable[..., Path]
) -> None:
    folder = copy_with(minilm, prompts={"query": "query: ", "document": "passage: "})
    model = HuggingFaceEmbedding(model_name=folder, device="cpu", query_instruction="find: ", text_instruction="")
    expected = minilm_transformer.encode(["find: bread", "bread"], show_progress_bar=False)
    assert_equal(model.embed_queries(["bread"]), expected[:1])
    assert_equal(model.embed_texts(["bread"]), expected[1:])


def test_a_model_that_pools_without_its_prompt_does_so_here(minilm: Path, copy_with: Callable[..., Path]) -> None:
    from sentence_transformers import SentenceTransformer

    folder = copy_with(minilm, prompts={"query": "query: ", "document": ""})
    pooling = {"word_embedding_dimension": 384, "pooling_mode_mean_tokens": True, "include_prompt": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    theirs = SentenceTransformer(str(folder), device="cpu")
    model = HuggingFaceEmbedding(model_name=folder, device="cpu")
    queries = ["bread", "the wing of an aircraft"]
    assert_equal(model.embed_queries(queries), theirs.encode_query(queries, show_progress_bar=False))


# Shape and type of vectors


def test_leading_dimensions_are_kept_and_made_unit_length(model: HuggingFaceEmbedding, minilm: Path) -> None:
    short = HuggingFaceEmbedding(model_name=minilm, device="cpu", truncate_dim=64).embed_texts(["bread", "wing"])
    cut = model.embed_texts(["bread", "wing"])[:, :64]
    assert_equal(short, cut / np.linalg.norm(cut, axis=1, keepdims=True))


def test_raw_vectors_can_be_had_and_their_leading_dimensions(minilm: Path) -> None:
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(modules=list(SentenceTransformer(str(minilm), device="cpu").children())[:2])
    raw = theirs.encode(["bread", "wing"], show_progress_bar=False)
    assert_equal(HuggingFaceEmbedding(model_name=minilm, normalize=False).embed_texts(["bread", "wing"]), raw)
    short = HuggingFaceEmbedding(model_name=minilm, normalize=False, truncate_dim=9)
    assert_equal(short.embed_texts(["bread", "wing"]), raw[:, :9])


def test_more_dimensions_than_there_are_is_an_error(minilm: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"`truncate_dim` is 385, and .* has 384 dimensions"):
        HuggingFaceEmbedding(model_name=minilm, truncate_dim=385).embed_texts(["bread"])


def test_bfloat16_gives_nearly_the_same_float32_vectors(model: HuggingFaceEmbedding, minilm: Path) -> None:
    bfloat = HuggingFaceEmbedding(model_name=minilm, device="cpu", dtype="bfloat16").embed_texts(["bread", "a wing"])
    assert bfloat.dtype == np.float32
    assert (bfloat * model.embed_texts(["bread", "a wing"])).sum(1).min() > 0.999


# Length


def test_a_cut_text_is_counted_and_warned_about_once(minilm: Path, caplog: pytest.LogCaptureFixture) -> None:
    ends: list[EmbeddingEndEvent] = []
    model = HuggingFaceEmbedding(model_name=minilm, device="cpu", trust_remote_code=True)  # weights of its own
    model.callback_manager = CallbackManager(
        [lambda event: isinstance(event, EmbeddingEndEvent) and ends.append(event)]
    )
    with caplog.at_level(logging.WARNING):
        model.embed_texts(["bread", "word " * 254, "word " * 255, "word " * 9000])
        model.embed_texts(["word " * 9000])
    assert [event.truncated for event in ends] == [2, 1]
    assert [event.usage for event in ends] == [{"tokens": 3 + 256 * 3}, {"tokens": 256}]
    assert len(caplog.messages) == 1
    assert "takes 256 tokens, and 2 texts of this batch had more" in caplog.messages[0]


def test_max_length_is_what_is_kept(minilm: Path, minilm_transformer: Any, model: HuggingFaceEmbedding) -> None:
    short = HuggingFaceEmbedding(model_name=minilm, device="cpu", max_length=5)
    assert_equal(short.embed_texts(["one two three four five"]), model.embed_texts(["one two three"]))
    assert_equal(
        HuggingFaceEmbedding(model_name=minilm, device="cpu", max_input_tokens=4).embed_texts(["one two three"]),
        model.embed_texts(["one two"]),
    )
    text = " ".join(texts_of_mixed_length(30))
    assert_equal(model.embed_texts([text]), minilm_transformer.encode([text], show_progress_bar=False))
    longer = HuggingFaceEmbedding(model_name=minilm, device="cpu", max_length=512).embed_texts([text])
    assert np.abs(longer - model.embed_texts([text])).max() > 0.001


def test_a_length_beyond_the_models_positions_is_an_error(minilm: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"`max_length` is 513, and .* has 512 positions"):
        HuggingFaceEmbedding(model_name=minilm, max_length=513).embed_texts(["bread"])


def test_a_text_too_long_can_be_refused_to_the_token(minilm: Path) -> None:
    model = HuggingFaceEmbedding(model_name=minilm, device="cpu", long_text="error")
    assert len(model.embed_texts(["word " * 254])) == 1
    with pytest.raises(InputTooLongError, match=r"254 tokens this model takes: input 1 \(255 tokens\)") as caught:
        model.embed_texts(["bread", "word " * 255])
    assert caught.value.indices == (1,)


def test_prompt_and_special_tokens_leave_less_room(minilm: Path) -> None:
    model = HuggingFaceEmbedding(
        model_name=minilm, device="cpu", long_text="error", max_input_tokens=10, query_instruction="find this: "
    )
    assert (model._input_limit("text"), model._input_limit("query")) == (8, 5)
    model.query_instruction = "word " * 20
    with pytest.raises(ConfigurationError, match="leave no room"):
        model.embed_queries(["bread"])


@pytest.mark.parametrize("settings", [{}, {"query_instruction": "find this: "}, {"max_length": 40}])
@pytest.mark.parametrize("name", ["minilm", "tiny_bert", "tiny", "tiny_clip", "tiny_clip_sentence"])
def test_what_the_files_say_to_fit_does(name: str, settings: Any, request: pytest.FixtureRequest) -> None:
    if "clip" in name and "max_length" in settings:
        settings = {"max_length": 10}
    model = HuggingFaceEmbedding(request.getfixturevalue(name), device="cpu", long_text="error", **settings)
    room = model._sure_room()
    assert room <= min(model._input_limit("query"), model._input_limit("text"))
    assert (room > 0) == ("clip" not in name)  # the others have positions for few tokens only


@pytest.mark.parametrize("policy", ["mean", "error"])
def test_a_short_text_that_is_cached_needs_no_weights(policy: str, minilm: Path, tmp_path: Path) -> None:
    settings: Any = {"device": "cpu", "long_text": policy, "embeddings_cache": str(tmp_path / "cache.sqlite")}
    text = "a question of 27 characters"
    expected = HuggingFaceEmbedding(minilm, **settings).embed_texts([text])
    script = f"""
import sys
from embeddings_huggingface import HuggingFaceEmbedding
vectors = HuggingFaceEmbedding({str(minilm)!r}, **{settings!r}).embed_texts([{text!r}])
assert vectors.tolist() == {expected.tolist()!r}
assert not {{"torch", "transformers", "tokenizers"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_the_mean_of_windows_is_weighted_by_tokens_and_has_unit_length(minilm: Path) -> None:
    whole = HuggingFaceEmbedding(model_name=minilm, device="cpu")
    model = HuggingFaceEmbedding(model_name=minilm, device="cpu", long_text="mean", max_input_tokens=22)
    text = texts_of_mixed_length(1)[0] + " bread " * 30
    windows = model._windows("text", text, 20)
    assert "".join(piece for piece, _ in windows) == text
    assert len(windows) > 2
    parts = whole.embed_texts([piece for piece, _ in windows])
    mean = np.average(parts, axis=0, weights=[tokens for _, tokens in windows])
    found = model.embed_texts(["bread", text])
    assert_equal(found, np.stack([whole.embed_texts(["bread"])[0], mean / np.linalg.norm(mean)]))


# What must not happen


def test_import_loads_nothing_heavy() -> None:
    script = (
        "import sys, embeddings_huggingface;"
        "print([name for name in ('torch', 'transformers', 'sentence_transformers', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_a_model_for_texts_refuses_images_in_words(model: HuggingFaceEmbedding) -> None:
    with pytest.raises(ConfigurationError, match="embeds texts only; for images choose a CLIP model"):
        model.embed_images([np.zeros((4, 4, 3), dtype=np.uint8)])


def test_logging_at_info_draws_no_progress_bar(model: HuggingFaceEmbedding, capfd: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("sentence_transformers")
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        model.embed_texts(texts_of_mixed_length(40))
    finally:
        logger.setLevel(before)
    assert capfd.readouterr().err == ""


def test_ctrl_c_ends_the_process_soon_and_well(minilm: Path, press: str) -> None:
    script = press + (
        "from embeddings_huggingface import HuggingFaceEmbedding\n"
        "model = HuggingFaceEmbedding(sys.argv[1], device='cpu')\n"
        "model.embed_texts(['warm'])\n"
        "press_ctrl_c()\n"
        "try:\n"
        "    model.embed_texts(['the wing of an aircraft ' * 30] * 32000)\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )
    command = [sys.executable, "-c", script, str(minilm)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (130, "")
