"""`embed index` with a model that charges: what it says beforehand, where it stops, and jobs that outlive it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from embed_core.cli import main
from embed_core.errors import ProviderError
from embed_core.index import Index, Record
from embed_core.testing import faults
from embeddings_openai import OpenAIEmbedding
from embeddings_openai.testing import FakeEmbeddingServer

KEY = "sk-this-key-stays-at-home"
EMBED = Path(sys.executable).with_name("embed")
ROWS = [{"id": str(number), "text": f"Quote number {number:03} has exactly thirty-two"} for number in range(40)]
TOKENS = sum(-(-len(row["text"]) // 4) for row in ROWS)
COMMAND = ("index", "rows.jsonl", "--from", "jsonl", "--into", "idx", "-m", "openai:text-embedding-3-small")


def run(*options: str) -> Result:
    return CliRunner().invoke(main, [*COMMAND, *options])


def held() -> list[str | None]:
    return sorted(hit.text for hit in Index("idx").search("anything", k=99))


def sent(server: FakeEmbeddingServer) -> list[str]:
    return [text for request in server.requests if request.path == "/v1/embeddings" for text in request.inputs]


@pytest.fixture(autouse=True)
def _here(server: FakeEmbeddingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMBED_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    yield
    assert KEY.encode() not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


class TestDryRun:
    def test_inputs_hits_tokens_and_price_are_told_and_nothing_is_sent(self, server: FakeEmbeddingServer) -> None:
        result = run("--dry-run")
        assert result.stdout.splitlines() == [
            "Dry run: 40 to add, 0 to change, 0 to remove; nothing was sent or written",
            f"40 inputs, 0 of them in the cache; about {TOKENS} tokens to send; {TOKENS * 0.02e-6:.6f} US dollars",
        ]
        assert server.requests == []
        assert [path.name for path in Path().iterdir()] == ["rows.jsonl"]

    def test_it_needs_no_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("OPENAI_API_KEY")
        assert run("--dry-run").exit_code == 0

    def test_a_job_is_told_at_its_own_price(self) -> None:
        price = float(run("--dry-run", "--batch-api").stdout.split("; ")[-1].split()[0])
        assert price == pytest.approx(TOKENS * 0.01e-6, abs=1e-6)

    def test_a_model_without_a_known_price_says_so(self) -> None:
        output = CliRunner().invoke(main, [*COMMAND[:-1], "openai:other", "--dry-run"]).stdout
        assert output.endswith("tokens to send; no price is known for `openai:other`\n")


class TestMaxCost:
    def test_it_stops_before_it_is_exceeded_and_what_is_done_is_kept(self, server: FakeEmbeddingServer) -> None:
        spec = "openai:text-embedding-3-small?price_per_million_tokens=1000000&embed_batch_size=4&num_workers=1"
        stopped = CliRunner().invoke(main, [*COMMAND[:-1], spec, "--max-cost", str(TOKENS / 2)])
        assert (stopped.exit_code, stopped.stdout) == (1, "")
        (line,) = stopped.stderr.splitlines()
        assert "would exceed `max_cost`" in line
        assert "what is finished is kept" in line
        first = sent(server)
        assert 16 <= len(first) < 24
        assert CliRunner().invoke(main, [*COMMAND[:-1], spec, "--max-cost", str(TOKENS)]).exit_code == 0
        assert sorted(sent(server)) == sorted(row["text"] for row in ROWS)
        assert held() == sorted(row["text"] for row in ROWS)

    def test_a_model_without_a_known_price_is_refused_before_anything_is_sent(
        self, server: FakeEmbeddingServer
    ) -> None:
        result = CliRunner().invoke(main, [*COMMAND[:-1], "openai:other", "--max-cost", "1"])
        assert (result.exit_code, "needs `price_per_million_tokens`" in result.stderr) == (1, True)
        assert server.requests == []


class TestBatchAPI:
    def test_texts_go_as_jobs_and_come_into_the_index(self, server: FakeEmbeddingServer) -> None:
        result = run("--batch-api", "--progress")
        assert result.stdout == "40 added; `idx` holds 40 chunks of 40 records\n"
        assert "40/40" in result.stderr
        assert (len(server.batches.jobs), sent(server)) == (1, [])
        assert held() == sorted(row["text"] for row in ROWS)
        assert run("--batch-api").stdout.startswith("nothing changed; ")
        assert len(server.batches.jobs) == 1

    @pytest.mark.skipif(os.name == "nt", reason="the signals are POSIX")
    @pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGKILL])
    def test_a_run_that_was_stopped_goes_on_with_its_job(
        self, server: FakeEmbeddingServer, start: Callable[..., subprocess.Popen[str]], signal_: signal.Signals
    ) -> None:
        server.batches.polls = 1_000_000
        noted = Path("idx/jobs.json")
        command = [EMBED, *COMMAND, "--batch-api"]
        process = start(*command, stderr=subprocess.PIPE)
        while not noted.exists() and process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.01)
        process.send_signal(signal_)
        _, errors = process.communicate()
        assert list(json.loads(noted.read_text()).values()) == [["batch_1"]]
        if signal_ == signal.SIGINT:
            assert errors.splitlines()[-1].startswith("Interrupted; finished batches are kept.")
        server.batches.jobs["batch_1"]["polls"] = 0
        with Path("rows.jsonl").open("a") as file:
            file.write('{"id": "new", "text": "One more."}\n')
        server.batches.polls = 0
        assert run("--batch-api").stdout.startswith("41 added; ")
        assert (len(server.batches.jobs), sent(server)) == (2, [])
        assert not noted.exists()

    def test_what_an_expired_job_did_not_do_is_sent_again(self, server: FakeEmbeddingServer) -> None:
        server.batches.outcome = "expired"
        failed = run("--batch-api")
        assert (failed.exit_code, "send the rest again" in failed.stderr) == (1, True)
        server.batches.outcome = "completed"
        assert run("--batch-api").stdout.startswith("40 added; ")

    def test_a_job_that_is_gone_is_told_with_the_file_that_names_it(self, server: FakeEmbeddingServer) -> None:
        server.batches.outcome = "failed"
        assert run("--batch-api").exit_code == 1
        server.batches.jobs.clear()
        result = run("--batch-api")
        assert result.exit_code == 1
        (line,) = result.stderr.splitlines()
        assert "the job `batch_1` or its file is gone" in line
        assert line.endswith("jobs.json` to send again what the jobs of this index have not answered")
        Path("idx/jobs.json").unlink()
        server.batches.outcome = "completed"
        assert run("--batch-api").exit_code == 0

    def test_another_failure_is_told_as_it_is(self, server: FakeEmbeddingServer) -> None:
        server.inject_when(lambda request: request.path.startswith("/v1/files"), faults.error(403, "no"))
        model = OpenAIEmbedding(max_retries=0)
        with model, pytest.raises(ProviderError, match="the key may not do this"):
            Index("idx", model).add_records([Record("a", "words")], "rows", batch_jobs=True)

    def test_a_text_that_a_job_refuses_is_listed_and_the_others_are_indexed(self, server: FakeEmbeddingServer) -> None:
        model = OpenAIEmbedding(long_text="error", embed_batch_size=4)
        long = Record("long", "x" * 8_200 * 5)
        records = [*(Record(row["id"], row["text"]) for row in ROWS[:7]), long]
        with model:
            changes = Index("idx", model, chunk_size=100_000).add_records(records, "rows", batch_jobs=True)
        assert changes.added == 7
        assert [one.reason.partition(":")[0] for one in changes.skipped] == [
            "record `long` is left out from line 1 to 1",
            "record `long` holds nothing that the model takes",
        ]
