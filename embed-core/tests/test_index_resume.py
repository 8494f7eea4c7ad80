"""A run that is interrupted or killed keeps what it has paid for, and the next one goes on from there."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from embed_core._plugins import EMBEDDINGS
from embed_core.index import Index

EMBED = Path(sys.executable).with_name("embed")
BATCH = 8
SLOW = """
import json, os, threading
from typing import ClassVar
from embed_core import MockEmbedding

class SlowEmbedding(MockEmbedding):
    provider: ClassVar[str | None] = "slow"

    def _answer(self, kind, inputs, contents):
        if self.call_count == int(os.environ["CALLS_BEFORE_A_HANG"]):
            threading.Event().wait()
        answer = super()._answer(kind, inputs, contents)
        with open(os.environ["CALLS"], "a") as file:
            file.write(json.dumps(list(inputs)) + "\\n")
        return answer
"""

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the signals are POSIX")


class Runs:
    """Runs of `embed index` over one corpus of files, and what they have asked the provider."""

    def __init__(self, folder, environment, start):
        self._start = start
        self.docs, self.index, self._calls = folder / "docs", folder / "index", folder / "calls"
        self._environment = {**environment, "CALLS": str(self._calls)}
        self._calls.touch()
        self.docs.mkdir()

    def write(self, files, chunks):
        for name, text in texts(files, chunks).items():
            (self.docs / f"{name}.txt").write_text(text)

    def change(self):
        (self.docs / "000.txt").unlink()
        (self.docs / "001.txt").write_text("Words that are new.")

    def sources(self):
        return [self.docs]

    def start(self, hang_after=-1):
        """Start a run; its provider answers so many calls and no more."""
        command = [EMBED, "index", *self.sources(), "--into", self.index, "-m", f"slow:?embed_batch_size={BATCH}"]
        environment = {**self._environment, "CALLS_BEFORE_A_HANG": str(hang_after)}
        command += ["--chunk-size", "70", "--chunk-overlap", "0"]
        return self._start(*command, env=environment, stderr=subprocess.PIPE)

    def stop(self, signal_, *, after, hang_after=-1):
        """Start a run, send a signal when `after` more calls are answered, and return (exit status, errors)."""
        run = self.start(hang_after)
        self.wait_for(len(self.calls()) + after, run)
        run.send_signal(signal_)
        _, errors = run.communicate()
        return run.returncode, errors

    def wait_for(self, calls, run):
        while len(self.calls()) < calls and run.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                run.wait(0.002)

    def finish(self):
        run = self.start()
        output, errors = run.communicate()
        assert run.returncode == 0, errors
        return output

    def calls(self):
        return [json.loads(line) for line in self._calls.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def chunks(self):
        hits = Index(self.index).search("anything", k=10**6)
        return sorted((hit.id or Path(hit.source).stem, hit.first, hit.text) for hit in hits)

    def expected(self):
        return sorted(
            (name, 2 * number + 1, text)
            for name, whole in self.held().items()
            for number, text in enumerate(whole.split("\n\n"))
        )

    def held(self):
        return {path.stem: path.read_text() for path in self.docs.iterdir()}


class RecordRuns(Runs):
    """The same with the rows of one file instead of files."""

    def write(self, files, chunks):
        self._dump(texts(files, chunks))

    def change(self):
        self._dump({**self.held(), "001": "Words that are new."} | {"000": None})

    def sources(self):
        return [self.docs / "rows.jsonl", "--from", "jsonl"]

    def held(self):
        lines = (self.docs / "rows.jsonl").read_text().splitlines()
        return {row["id"]: row["text"] for row in map(json.loads, lines)}

    def _dump(self, rows):
        lines = (json.dumps({"id": name, "text": text}) + "\n" for name, text in rows.items() if text is not None)
        (self.docs / "rows.jsonl").write_text("".join(lines))


def texts(count, chunks):
    """Return texts of some paragraphs each, by their names."""
    return {
        f"{number:03}": "\n\n".join(
            f"Words number {one} of file {number}, quite unlike any other." for one in range(chunks)
        )
        for number in range(count)
    }


@pytest.fixture(params=[Runs, RecordRuns])
def runs(request, tmp_path, home, install, monkeypatch, start):
    site = install(
        "slow-embeddings", {EMBEDDINGS: {"slow": "slow_embeddings:SlowEmbedding"}}, {"slow_embeddings": SLOW}
    )
    monkeypatch.setenv("CALLS_BEFORE_A_HANG", "-1")
    monkeypatch.setenv("CALLS", os.devnull)
    return request.param(tmp_path, {**os.environ, "PYTHONPATH": str(site)}, start)


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGKILL])
def test_no_finished_batch_is_asked_for_again(runs, signal_):
    runs.write(files=5, chunks=32)
    status, errors = runs.stop(signal_, after=8, hang_after=8)
    assert status == (130 if signal_ == signal.SIGINT else -signal.SIGKILL)
    if signal_ == signal.SIGINT:
        assert errors.splitlines()[-1] == "Interrupted; finished batches are kept. Run the same command again to go on"
        assert "Traceback" not in errors
    first = runs.calls()
    assert len(first) == 8
    assert runs.finish().startswith("5 added; ")
    second = runs.calls()[len(first) :]
    finished = {text for call in first[:-1] for text in call}  # the last one may not have reached the cache
    assert finished.isdisjoint(text for call in second for text in call)
    assert sum(map(len, second)) <= 5 * 32 - len(finished)
    assert runs.chunks() == runs.expected()


def test_runs_killed_again_and_again_come_to_the_same_index(runs):
    runs.write(files=60, chunks=60)  # four commits
    for after in (1, 128, 140, 130):
        assert runs.stop(signal.SIGKILL, after=after)[0] == -signal.SIGKILL
    runs.change()
    runs.finish()
    assert runs.chunks() == runs.expected()
    asked = [text for call in runs.calls() for text in call]
    assert len(asked) - len(set(asked)) <= 4 * BATCH  # the batch in flight of each killed run
    assert runs.finish().startswith("nothing changed; ")


def test_a_second_writer_is_told_who_is_the_first(runs):
    runs.write(files=2, chunks=32)
    first = runs.start(hang_after=1)
    runs.wait_for(1, first)
    second = runs.start()
    _, errors = second.communicate()
    assert second.returncode == 1
    assert f"being written by another run (process {first.pid})" in errors
    first.kill()
    first.wait()
    assert runs.finish().startswith("2 added; ")
