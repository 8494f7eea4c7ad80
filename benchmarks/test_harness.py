"""The measuring itself: fair turns, ratios that other load does not change, targets that cannot be met by accident."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks._agreement import agreement, overlap
from benchmarks._harness import Apart, Target, Variant, in_fresh_process, interleave, ratio, show, take_turns
from benchmarks._processor import describe, kind, multiplies_bfloat16, processor
from benchmarks._texts import lengths_told, real_texts


def test_every_variant_runs_once_a_round_and_each_begins_in_turn():
    order = []
    take_turns({name: lambda name=name: order.append(name) or 1.0 for name in "abc"}, rounds=3)
    assert "".join(order) == "abcbcacab"


def test_a_ratio_is_taken_round_by_round():
    busy_in_the_second_round = {"ours": [1.0, 10.0, 1.1], "theirs": [2.0, 20.0, 2.2]}
    assert ratio(busy_in_the_second_round, "ours", "theirs") == pytest.approx(0.5)


def test_time_is_told_for_one_item():
    now = iter(range(1000))
    samples = interleave([Variant("a", lambda: None, items=4)], rounds=3, seconds=0.5, clock=lambda: float(next(now)))
    assert list(samples["a"]) == [0.25, 0.25, 0.25]


@pytest.mark.parametrize(("measured", "met"), [(1.0, True), (1.01, False), (float("nan"), False)])
def test_a_target_is_met_only_by_a_figure_within_its_limit(measured, met):
    assert Target("something", measured, 1.0).met is met


def test_a_fresh_process_is_another_one():
    assert in_fresh_process(os.getpid) != os.getpid()


def test_a_process_apart_makes_its_thing_once():
    process = Apart(list)
    try:
        process.call(list.append, "something")
        assert process.call(len) == 1
    finally:
        process.close()


@pytest.mark.parametrize(("dtype", "error", "agrees"), [("float32", 1e-6, True), ("float32", 1e-4, False)])
def test_vectors_of_float32_agree_to_the_fifth_decimal(dtype, error, agrees):
    assert agreement(VECTORS + np.float32(error), VECTORS, dtype)[0] is agrees


@pytest.mark.parametrize(("error", "agrees"), [(1e-4, True), (0.1, False)])
def test_vectors_of_bfloat16_agree_by_their_direction(error, agrees):
    noise = np.random.default_rng(1).standard_normal(VECTORS.shape).astype(np.float32)
    assert agreement(2 * VECTORS + error * noise, VECTORS, "bfloat16")[0] is agrees


def test_overlap_counts_the_neighbours_that_both_find_and_no_text_as_its_own():
    expected, moved = (np.radians([0, 10, third, 90, 95]) for third in (25, 80))
    expected, moved = (np.stack([np.cos(angles), np.sin(angles)], axis=1) for angles in (expected, moved))
    assert overlap(expected, expected, nearest=1) == 1
    assert overlap(moved, expected, nearest=1) == pytest.approx(4 / 5)


VECTORS = np.random.default_rng(0).standard_normal((50, 16)).astype(np.float32)
INTEL = "vendor_id : GenuineIntel\nflags : avx2 avx512f avx512_bf16 amx_bf16\n\nvendor_id : second core\n"
ZEN_5 = "vendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel name\t: AMD EPYC\nflags\t: avx2 avx512f avx512_bf16\n"


@pytest.mark.parametrize(
    ("described", "expected", "able"),
    [
        (INTEL, "Intel AMX", True),
        (ZEN_5, "AMD Zen 5", True),
        (ZEN_5.replace("26", "25"), "", True),
        (ZEN_5.replace("avx512_bf16", ""), "", False),
        ("", "", False),
    ],
)
def test_promises_are_chosen_by_what_the_processor_can_do(described, expected, able):
    assert (kind(processor(described)), multiplies_bfloat16(processor(described))) == (expected, able)


def test_a_processor_is_told_with_its_fast_types():
    assert describe(processor(ZEN_5)) == "AMD EPYC (family 26 model None; avx2, avx512f, avx512_bf16)"


def test_the_texts_are_distinct_and_have_a_long_tail():
    texts = real_texts(1000)
    characters = np.array([len(text) for text in texts])
    assert len(set(texts)) == 1000
    assert "for" in texts or "if" in texts
    assert np.median(characters) < np.mean(characters) < np.percentile(characters, 90) < characters.max() / 3


def test_lengths_are_told_with_those_at_the_limit():
    told = lengths_told([3] * 19 + [256], 256)
    assert "20 texts, 313 tokens" in told
    assert "19 of a single word piece, 1 at the limit of 256" in told


def test_a_table_shows_the_fastest_first_with_ratios(capsys):
    show("job", "ms", {"slow": [0.002], "quick": [0.001]}, base="slow", scale=1e3, notes={"quick": "ours"})
    head, _, *rows = capsys.readouterr().out.strip().splitlines()
    assert cells(head) == ["job", "ms", "spread", "x slow", "note"]
    assert cells(rows[0]) == ["quick", "1.00", "1.00 to 1.00", "0.50", "ours"]
    assert cells(rows[1]) == ["slow", "2.00", "2.00 to 2.00", "1.00", ""]


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_benchmark_that_is_not_there_is_named_with_those_that_are():
    command = [sys.executable, "-m", "benchmarks", "nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent)
    assert done.returncode == 1
    assert "no benchmark nonsense" in done.stderr
    assert "engine" in done.stderr
