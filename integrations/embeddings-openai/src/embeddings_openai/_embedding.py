"""OpenAI's own service."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from embed_core import OPERATIONAL
from embed_core.provider import BatchJobs, Endpoint, Server

from embeddings_openai._batch_api import BatchAPI
from embeddings_openai._protocol import OpenAIModel


class OpenAIEmbedding(OpenAIModel, BatchJobs):
    """A model of OpenAI's embeddings API.

    Vectors have unit length. The service is not bit-deterministic: two calls may differ by some 1e-4 in a number. Batch
    jobs cost half the price; their limits are those of https://platform.openai.com/docs/guides/batch, with some room
    below 200 MB.

    Attributes:
        model_name: any name; also accepted as `model`, and as the first argument.
        dimensions: length of the vectors, for models that can shorten them; None for the model's own.
        api_key: by default `OPENAI_API_KEY`; never part of a saved configuration.
        api_base: by default `OPENAI_BASE_URL`, else OpenAI's own address.
        organization: by default `OPENAI_ORG_ID`.
        project: by default `OPENAI_PROJECT_ID`.
    """

    provider: ClassVar[str | None] = "openai"
    address = "https://api.openai.com/v1"
    address_variables = ("OPENAI_BASE_URL", "OPENAI_API_BASE")
    key_variables = ("OPENAI_API_KEY",)

    organization: Annotated[str | None, OPERATIONAL] = None
    project: Annotated[str | None, OPERATIONAL] = None

    def _client_settings(self, where: Endpoint) -> dict[str, Any]:
        return {
            "api_key": where.secret,
            "base_url": where.base_url,
            "organization": self.organization,
            "project": self.project,
        }

    def _job_api(self, server: Server) -> BatchAPI:
        return BatchAPI(server.transport.clients.shared)
