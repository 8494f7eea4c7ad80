"""The public integrations that `benchmarks.ported` measures, each as its README constructs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks._vendors import KEY

_URL = "https://host.example"


@dataclass(frozen=True)
class Integration:
    """One package `llama-index-embeddings-…`.

    Attributes:
        package: its name without that prefix.
        version: the version that is measured.
        name: its class.
        arguments: the arguments of its README; `KEY` is the secret.
        fakes: the top-level packages, its SDK or HTTP client, that are imported as fakes.
        environment: the variables in which its user keeps the secrets, beside the argument.
    """

    package: str
    version: str
    name: str
    arguments: Mapping[str, Any]
    fakes: str
    environment: Mapping[str, str] = field(default_factory=dict)


INTEGRATIONS = (
    Integration(
        "azure-inference",
        "0.6.0",
        "AzureAIEmbeddingsModel",
        {"endpoint": _URL, "credential": KEY, "model_name": "cohere-embed-v3-multilingual"},
        "azure",
        {"AZURE_INFERENCE_CREDENTIAL": KEY},
    ),
    Integration(
        "azure-openai",
        "0.6.1",
        "AzureOpenAIEmbedding",
        {
            "model": "text-embedding-3-small",
            "deployment_name": "my-deployment",
            "api_key": KEY,
            "azure_endpoint": _URL,
            "api_version": "2023-07-01-preview",
        },
        "openai httpx",
        {"AZURE_OPENAI_API_KEY": KEY},
    ),
    Integration(
        "baseten",
        "0.3.0",
        "BasetenEmbedding",
        {"model_id": "abcd1234", "api_key": KEY},
        "openai httpx",
        {"BASETEN_API_KEY": KEY},
    ),
    Integration(
        "bedrock",
        "0.9.0",
        "BedrockEmbedding",
        {
            "model_name": "amazon.titan-embed-text-v1",
            "aws_access_key_id": "AKIAEXAMPLE",
            "aws_secret_access_key": KEY,
            "aws_session_token": KEY,
            "region_name": "us-east-1",
        },
        "boto3 botocore aioboto3 deprecated",
        {"AWS_SECRET_ACCESS_KEY": KEY, "AWS_SESSION_TOKEN": KEY},
    ),
    Integration(
        "cloudflare-workersai",
        "0.6.0",
        "CloudflareEmbedding",
        {"account_id": "my-account", "auth_token": KEY, "model": "@cf/baai/bge-large-en-v1.5"},
        "requests aiohttp",
        {"CLOUDFLARE_AUTH_TOKEN": KEY},
    ),
    Integration(
        "cohere",
        "0.9.0",
        "CohereEmbedding",
        {"api_key": KEY, "model_name": "embed-english-v3.0", "input_type": "search_query"},
        "cohere httpx",
        {"COHERE_API_KEY": KEY},
    ),
    Integration(
        "dashscope",
        "0.6.0",
        "DashScopeEmbedding",
        {"model_name": "text-embedding-v2", "text_type": "query", "api_key": KEY},
        "dashscope",
        {"DASHSCOPE_API_KEY": KEY},
    ),
    Integration(
        "databricks",
        "0.6.0",
        "DatabricksEmbedding",
        {"model": "databricks-bge-large-en", "api_key": KEY, "endpoint": _URL},
        "openai httpx",
        {"DATABRICKS_TOKEN": KEY},
    ),
    Integration(
        "deepinfra",
        "0.6.0",
        "DeepInfraEmbeddingModel",
        {
            "model_id": "BAAI/bge-large-en-v1.5",
            "api_token": KEY,
            "normalize": True,
            "text_prefix": "text: ",
            "query_prefix": "query: ",
        },
        "requests aiohttp",
        {"DEEPINFRA_API_TOKEN": KEY},
    ),
    Integration("fastembed", "0.7.0", "FastEmbedEmbedding", {"model_name": "BAAI/bge-base-en-v1.5"}, "fastembed"),
    Integration(
        "gigachat",
        "0.6.0",
        "GigaChatEmbedding",
        {"auth_data": KEY, "scope": "GIGACHAT_API_PERS"},
        "gigachat",
        {"GIGACHAT_AUTH_DATA": KEY},
    ),
    Integration(
        "google-genai",
        "0.6.0",
        "GoogleGenAIEmbedding",
        {"model_name": "text-embedding-004", "api_key": KEY, "embed_batch_size": 50},
        "google requests",
        {"GOOGLE_API_KEY": KEY},
    ),
    Integration(
        "huggingface",
        "0.8.0",
        "HuggingFaceEmbedding",
        {"model_name": "BAAI/bge-small-en-v1.5", "query_instruction": "query: ", "max_length": 512},
        "sentence_transformers huggingface_hub requests torch deprecated",
    ),
    Integration(
        "huggingface-api",
        "0.6.0",
        "HuggingFaceInferenceAPIEmbedding",
        {"model_name": "BAAI/bge-small-en-v1.5", "token": KEY},
        "huggingface_hub torch",
        {"HF_TOKEN": KEY},
    ),
    Integration(
        "ibm",
        "0.7.0",
        "WatsonxEmbeddings",
        {"model_id": "ibm/slate-125m-english-rtrvr", "url": _URL, "apikey": KEY, "project_id": "my-project"},
        "ibm_watsonx_ai",
        {"WATSONX_APIKEY": KEY, "WATSONX_URL": _URL},
    ),
    Integration("instructor", "0.6.0", "InstructorEmbedding", {"text_instruction": "a text"}, "InstructorEmbedding"),
    Integration(
        "jinaai",
        "0.7.0",
        "JinaEmbedding",
        {"api_key": KEY, "model": "jina-embeddings-v3", "task": "retrieval.passage", "dimensions": 4},
        "requests aiohttp",
        {"JINAAI_API_KEY": KEY},
    ),
    Integration(
        "mistralai",
        "0.6.0",
        "MistralAIEmbedding",
        {"model_name": "mistral-embed", "api_key": KEY},
        "mistralai",
        {"MISTRAL_API_KEY": KEY},
    ),
    Integration(
        "mixedbreadai",
        "0.7.0",
        "MixedbreadAIEmbedding",
        {"api_key": KEY, "model_name": "mixedbread-ai/mxbai-embed-large-v1"},
        "mixedbread httpx",
        {"MXBAI_API_KEY": KEY},
    ),
    Integration(
        "netmind",
        "0.4.0",
        "NetmindEmbedding",
        {"model_name": "BAAI/bge-m3", "api_key": KEY},
        "openai",
        {"NETMIND_API_KEY": KEY},
    ),
    Integration(
        "nomic",
        "0.9.0",
        "NomicEmbedding",
        {"api_key": KEY, "dimensionality": 128, "model_name": "nomic-embed-text-v1.5"},
        "nomic torch",
        {"NOMIC_API_KEY": KEY},
    ),
    Integration(
        "nvidia",
        "0.6.0",
        "NVIDIAEmbedding",
        {"model": "nvidia/nv-embedqa-e5-v5", "api_key": KEY, "truncate": "END"},
        "openai httpx",
        {"NVIDIA_API_KEY": KEY},
    ),
    Integration(
        "oci-genai",
        "0.6.0",
        "OCIGenAIEmbeddings",
        {"model_name": "cohere.embed-english-light-v3.0", "service_endpoint": _URL, "compartment_id": "mine"},
        "oci",
    ),
    Integration(
        "ollama",
        "0.10.0",
        "OllamaEmbedding",
        {"model_name": "llama2", "ollama_additional_kwargs": {"mirostat": 0}, "client_kwargs": {"timeout": 5}},
        "ollama",
    ),
    Integration(
        "openai",
        "0.7.0",
        "OpenAIEmbedding",
        {"model": "text-embedding-3-large", "dimensions": 4, "api_key": KEY},
        "openai httpx",
        {"OPENAI_API_KEY": KEY},
    ),
    Integration(
        "text-embeddings-inference",
        "0.6.0",
        "TextEmbeddingsInference",
        {"model_name": "BAAI/bge-large-en-v1.5", "timeout": 60, "embed_batch_size": 10, "auth_token": KEY},
        "httpx",
        {"HF_TOKEN": KEY},
    ),
    Integration(
        "together",
        "0.6.0",
        "TogetherEmbedding",
        {"model_name": "togethercomputer/m2-bert-80M-8k-retrieval", "api_key": KEY},
        "requests httpx",
        {"TOGETHER_API_KEY": KEY},
    ),
    Integration(
        "upstage",
        "0.7.0",
        "UpstageEmbedding",
        {"model": "embedding", "api_key": KEY},
        "openai httpx",
        {"UPSTAGE_API_KEY": KEY},
    ),
    Integration(
        "vertex",
        "0.6.0",
        "VertexTextEmbedding",
        {
            "model_name": "textembedding-gecko@003",
            "project": "my-project",
            "location": "us-central1",
            "client_email": "me@host.example",
            "token_uri": _URL,
            "private_key_id": "mine",
            "private_key": KEY,
        },
        "google vertexai deprecated",
        {"VERTEX_PRIVATE_KEY": KEY},
    ),
    Integration(
        "voyageai",
        "0.7.0",
        "VoyageEmbedding",
        {"voyage_api_key": KEY, "model_name": "voyage-3.5", "output_dimension": 4},
        "voyageai",
        {"VOYAGE_API_KEY": KEY},
    ),
    Integration("xinference", "0.5.0", "XinferenceEmbedding", {"model_uid": "my-model"}, "requests aiohttp"),
    Integration(
        "zhipuai",
        "0.5.0",
        "ZhipuAIEmbedding",
        {"model": "embedding-3", "api_key": KEY, "dimensions": 4},
        "zhipuai",
        {"ZHIPUAI_API_KEY": KEY},
    ),
)
