"""Models from a hub: a real server on this machine, real downloads in a process of their own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

pytestmark = pytest.mark.model  # no real weights, but torch in two processes

FIRST, SECOND = "1" * 40, "2" * 40


@dataclass
class Hub:
    """What a fake Hugging Face hub serves: repositories, their main commits, and refusals by repository."""

    folders: dict[str, Path] = field(default_factory=dict)
    commit: str = FIRST
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        self.hub.requests.append(f"{self.command} {self.path}")
        is_api = parts[:2] == ["api", "models"]
        repository = "/".join(parts[2:4] if is_api else parts[:2])
        if (refusal := self.hub.refusals.get(repository)) is not None:
            return self.answer(refusal[0], b"{}", {"X-Error-Code": refusal[1], "X-Error-Message": "refused"})
        if (folder := self.hub.folders.get(repository)) is None:
            return self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if is_api:
            return self.api(folder, parts[4:])
        return self.file(folder, parts[3], "/".join(parts[4:]))

    def api(self, folder: Path, rest: list[str]) -> None:
        files = [{"type": "file", "path": str(path.relative_to(folder)), "size": path.stat().st_size, "oid": "0" * 40}
                 for path in folder.rglob("*") if path.is_file()]  # fmt: skip
        info = {"id": "org/model", "sha": self.hub.commit, "siblings": [{"rfilename": file["path"]} for file in files]}
        self.answer(200, json.dumps(files if rest[:1] == ["tree"] else info).encode(), {})

    def file(self, folder: Path, revision: str, name: str) -> None:
        headers = {"X-Repo-Commit": self.hub.commit if revision == "main" else revision}
        if revision not in {"main", FIRST, SECOND}:
            return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if not (folder / name).is_file():
            return self.answer(404, b"", headers | {"X-Error-Code": "EntryNotFound"})
        content = (folder / name).read_bytes()
        return self.answer(200, content, headers | {"ETag": f'"{hashlib.sha256(content).hexdigest()}"'})

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server(tiny: Path, tiny_bert: Path) -> Iterator[Hub]:
    served = Hub({"org/model": tiny, "org/plain": tiny_bert})
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": served})) as listening:
        served.url = f"http://127.0.0.1:{listening.server_port}"
        thread = Thread(target=listening.serve_forever)
        thread.start()
        yield served
        listening.shutdown()
        thread.join()


@pytest.fixture
def hub(server: Hub) -> Hub:
    server.commit, server.refusals = FIRST, {}
    server.requests.clear()
    return server


SCRIPT = """
import gc, json, sys
from embeddings_huggingface import HuggingFaceEmbedding

connections = []
sys.addaudithook(lambda event, details: connections.append(details[1]) if event == "socket.connect" else None)

def embed(settings):
    try:
        model = HuggingFaceEmbedding(device="cpu", backend="torch", retry={"max_retries": 0}, **settings)
        told = {"before": model.fingerprint, "vectors": model.embed_texts(["bread", "a wing"]).tolist()}
        return told | {"after": HuggingFaceEmbedding(device="cpu", **settings).fingerprint}
    except Exception as error:
        return {"error": type(error).__name__, "message": str(error), "connections": len(connections)}

for line in sys.stdin:
    print(json.dumps(embed(json.loads(line))), flush=True)
    gc.collect()  # nobody holds the weights any more
"""


@pytest.fixture(scope="module")
def embed(server: Hub) -> Iterator[Callable[..., dict[str, Any]]]:
    """Embed two texts in a process that knows the server as its hub; return fingerprints and vectors, or the error."""
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "SENTENCE_"))}
    environment |= quiet | {"HF_ENDPOINT": server.url}
    command = [sys.executable, "-c", SCRIPT]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def call(name: str, cache: Path, **settings: Any) -> dict[str, Any]:
            process.stdin.write(json.dumps({"model_name": name, "cache_folder": str(cache), **settings}) + "\n")
            process.stdin.flush()
            told: dict[str, Any] = json.loads(process.stdout.readline())
            return told

        yield call


@pytest.mark.parametrize("name", ["org/model", "org/plain"])
def test_a_model_is_downloaded_once_and_then_needs_no_hub(
    hub: Hub, embed: Callable[..., dict[str, Any]], tmp_path: Path, name: str
) -> None:
    first = embed(name, tmp_path)
    assert first["before"] == first["after"]
    assert any("model.safetensors" in request for request in hub.requests)
    hub.commit = SECOND  # somebody uploads something
    hub.requests.clear()
    assert embed(name, tmp_path) == first
    assert hub.requests == []
    assert embed(name, tmp_path / "fresh")["before"] != first["before"]


def test_a_download_that_broke_off_is_finished(hub: Hub, embed: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    whole = embed("org/model", tmp_path / "whole")
    for missing in (
        "config_sentence_transformers.json",
        "1_Pooling/config.json",
        "model.safetensors",
        "tokenizer.json",
    ):
        cache = tmp_path / missing.partition("/")[0]
        shutil.copytree(tmp_path / "whole", cache, symlinks=True)
        (repository,) = cache.glob("models--*")
        for place in ("snapshots", ".no_exist"):
            (repository / place / FIRST / missing).unlink(missing_ok=True)
        hub.requests.clear()
        assert embed("org/model", cache) == whole
        assert any(missing in request for request in hub.requests)


@pytest.fixture(scope="module")
def cached(embed: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds `org/model`, with no note of the files that the repository has not."""
    cache = tmp_path_factory.mktemp("hub")
    assert "vectors" in embed("org/model", cache)
    shutil.rmtree(cache / "models--org--model" / ".no_exist")
    return cache


def without_connection(name: str, cache: Path) -> tuple[dict[str, Any], str]:
    """Embed in a process whose hub does not listen; return what it tells and what it writes to the terminal."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "SENTENCE_"))}
        environment["HF_ENDPOINT"] = f"http://127.0.0.1:{unused.getsockname()[1]}"
        line = json.dumps({"model_name": name, "cache_folder": str(cache)})
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            input=line,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=True,
        )
    told: dict[str, Any] = json.loads(done.stdout)
    return told, done.stderr


@pytest.mark.parametrize("name", ["org/other", "bare"])
def test_without_a_connection_it_is_not_tried_again_and_again(tmp_path: Path, name: str) -> None:
    told, written = without_connection(name, tmp_path)
    assert told["connections"] <= 5
    assert told["error"] == "ConfigurationError"
    assert f"`{name}` is not in the local cache, and the Hugging Face hub is out of reach (" in told["message"]
    assert "refused" in told["message"]
    assert written == ""


def test_without_a_connection_what_is_cached_is_taken_as_it_is(hub: Hub, cached: Path) -> None:
    told, written = without_connection("org/model", cached)
    assert told["before"] == told["after"]
    assert len(told["vectors"]) == 2
    assert "`org/model` is taken as it is in the cache; the hub did not say whether it has" in written
    assert "Retrying" not in written


def test_without_a_connection_weights_that_are_not_cached_are_missing(hub: Hub, cached: Path, tmp_path: Path) -> None:
    shutil.copytree(cached, tmp_path / "cache", symlinks=True)
    next((tmp_path / "cache").rglob("model.safetensors")).unlink()
    told, written = without_connection("org/model", tmp_path / "cache")
    assert told["message"].startswith("`org/model` cannot be loaded")
    assert told["message"].endswith("files are missing from the cache: the Hugging Face hub is out of reach)")
    assert "Retrying" not in written


def test_a_cached_model_that_the_hub_has_no_more_is_still_one(
    hub: Hub, embed: Callable[..., dict[str, Any]], cached: Path
) -> None:
    hub.refusals = {"org/model": (401, "RepoNotFound")}
    assert "vectors" in embed("org/model", cached)


def test_a_missing_or_refused_model_is_told_in_words(
    hub: Hub, embed: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    hub.refusals = {"org/gated": (403, "GatedRepo")}
    for name, settings, kind, message in (
        ("org/none", {}, "ConfigurationError", "there is no model `org/none` on the Hugging Face hub"),
        ("org/gated", {}, "AuthenticationError", "accept its terms"),
        ("org/model", {"revision": "v9"}, "ConfigurationError", "no such revision"),
    ):
        told = embed(name, tmp_path, **settings)
        assert told["error"] == kind
        assert message in told["message"]
