"""The provider kit: everything that integrations of embedding APIs have in common.

An integration subclasses `APIEmbedding` and states its API: address, key variable, models and limits as class
variables, `_request` for the body of a request, and `_answer` for the vectors in an answer. The kit sends, sync and
async, and sees to timeouts, retries, flow control, limits, long texts, usage and cost; `BatchJobs` adds batch jobs.
Requests go by httpx (extra `http`), unless an integration brings a `Transport` of its own.
"""

from embed_core.provider._api import APIEmbedding
from embed_core.provider._body import ACCEPTED, atake, take
from embed_core.provider._clients import ClientPool, Lease, PerLoop
from embed_core.provider._connected import Server
from embed_core.provider._decoding import decode, positions, token_usage
from embed_core.provider._errors import Endpoint, Refusal, refusal
from embed_core.provider._exchange import NoVectorsError
from embed_core.provider._flow import FlowControl
from embed_core.provider._job_api import Job, JobAPI
from embed_core.provider._jobs import BatchJobs
from embed_core.provider._limits import Capabilities, KnownModel, Limits
from embed_core.provider._parts import unit
from embed_core.provider._settings import Address, Secret, address, revealed, sendable, sends_key
from embed_core.provider._transport import HTTPTransport, Reply, Transport
from embed_core.provider._usage import Usage

__all__ = [
    "ACCEPTED",
    "APIEmbedding",
    "Address",
    "BatchJobs",
    "Capabilities",
    "ClientPool",
    "Endpoint",
    "FlowControl",
    "HTTPTransport",
    "Job",
    "JobAPI",
    "KnownModel",
    "Lease",
    "Limits",
    "NoVectorsError",
    "PerLoop",
    "Refusal",
    "Reply",
    "Secret",
    "Server",
    "Transport",
    "Usage",
    "address",
    "atake",
    "decode",
    "positions",
    "refusal",
    "revealed",
    "sendable",
    "sends_key",
    "take",
    "token_usage",
    "unit",
]
