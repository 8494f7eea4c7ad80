"""The measuring itself: fair turns, ratios that other load does not change, targets that cannot be met by accident."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks._harness import Target, Variant, in_fresh_process, interleave, ratio, show, take_turns


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
