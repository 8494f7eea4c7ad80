"""A complete integration on the provider kit, with batch jobs, of an API that exists in these tests only."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, BinaryIO, ClassVar

from embed_core import OPERATIONAL, Kind, ProviderResponse
from embed_core.errors import QuotaExceededError
from embed_core.provider import BatchJobs, HTTPTransport, Job, JobAPI, KnownModel, Limits, Server, decode, token_usage
from pydantic import Field

ROLES = {"query": "search_query", "text": "search_document"}


class ExampleEmbedding(BatchJobs):
    """A model of the example API."""

    provider: ClassVar[str | None] = "example"
    address = "https://api.example.com/v1"
    address_variables = ("EXAMPLE_BASE_URL",)
    key_variables = ("EXAMPLE_API_KEY",)
    path = "/embed"
    limits = Limits(inputs=96, tokens=128_000, counts_inputs=True)
    error_codes: ClassVar = {"no_credit": QuotaExceededError}
    models: ClassVar = {
        "example-2": KnownModel(8, price=0.1, max_input_tokens=512, roles=ROLES),
        "example-1": KnownModel(8, retires=date(2026, 1, 31), successor="example-2"),
    }
    cuts_dimensions = True
    accepts_blank = False
    normalizes = True

    model_name: str = "example-2"
    embed_batch_size: Annotated[int, OPERATIONAL] = Field(default=96, ge=1, le=96)

    def _authorization(self, key: str) -> dict[str, str]:
        return {"x-api-key": key}

    def _request(self, kind: Kind, inputs: list[Any]) -> dict[str, Any]:
        return {"model": self.model_name, "texts": inputs, "input_type": self._role(kind)}

    def _answer(self, payload: Any) -> ProviderResponse:
        usage = token_usage(payload.get("meta", {}).get("billed_units"), "input_tokens")
        return ProviderResponse(decode(payload["embeddings"]["base64"]), usage=usage)

    def _job_api(self, server: Server) -> JobAPI:
        assert isinstance(server.transport, HTTPTransport)
        return ExampleJobs(server.transport)


class ExampleJobs(JobAPI):
    """The batch jobs of the example API."""

    def __init__(self, http: HTTPTransport) -> None:
        self._http = http

    def upload(self, file: BinaryIO) -> str:
        return str(self._http.send("POST", "/files", content=file.read()).json()["id"])

    def create(self, file_id: str, digest: str) -> str:
        return str(self._http.send("POST", "/jobs", json={"file": file_id, "key": digest}).json()["id"])

    def retrieve(self, job_id: str) -> Job:
        told = self._http.send("GET", f"/jobs/{job_id}").json()
        return Job(job_id, told["file"], told["answers"], told["state"])

    def content(self, file_id: str) -> bytes:
        return bytes(self._http.send("GET", f"/files/{file_id}").content)

    def texts(self, body: Any) -> list[str]:
        return list(body["texts"])
