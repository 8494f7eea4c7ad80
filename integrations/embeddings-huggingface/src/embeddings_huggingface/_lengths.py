"""The length of a text that surely fits, as far as files on this machine tell it."""

from __future__ import annotations

from collections.abc import Iterable

from embed_core.errors import EmbedError

from embeddings_huggingface._modules import LENGTHS, SETTINGS, Module, is_native, mapping, number
from embeddings_huggingface._source import Source

_AROUND = 16  # tokens; no tokenizer in use puts more than four around a text


def sure_room(source: Source, length: int | None, most: int | None, instructions: Iterable[str | None]) -> int:
    """Return how many bytes of UTF-8 surely fit, a token for each; 0 or less where the files do not tell.

    Args:
        source: the model's files.
        length: the most tokens of one input, where the user sets it.
        most: an upper bound of that, if any.
        instructions: texts that may stand in front of an input beside the prompts that were saved.
    """
    try:
        length = length or _length(source)
        asked = source.is_sentence_transformer or source.commit is None
        prompts = mapping(mapping(source.read(SETTINGS) if asked else None).get("prompts"))
    except EmbedError:  # loading tells
        return 0
    before = (len(text.encode()) for text in (*prompts.values(), *instructions) if isinstance(text, str))
    return 0 if length is None else min(length, most or length) - max(before, default=0) - _AROUND


def _length(source: Source) -> int | None:
    """Return a number of tokens that is not above the model's own; None where loading alone tells it."""
    first = next(iter(source.modules), None)
    if first is None:
        return _of_files(source, Module("", ""))
    if not is_native(first) or first.name not in {"Transformer", "MLMTransformer", "CLIPModel"}:
        return None
    if first.name == "CLIPModel":
        return _of_files(source, first)
    saved = mapping(next(filter(None, (source.read(first.file(file)) for file in LENGTHS)), None))
    if "model_max_length" in str(saved):  # among the arguments for the tokenizer, which win
        return None
    return _of_files(source, first) if saved.get("max_seq_length") is None else number(saved["max_seq_length"])


def _of_files(source: Source, module: Module) -> int | None:
    config = mapping(source.read(module.file("config.json")))
    config = mapping(config.get("text_config")) or config
    tokens = number(mapping(source.read(module.file("tokenizer_config.json"))).get("model_max_length"))
    places = number(config.get("max_position_embeddings"))
    if tokens is None or places is None:
        return None
    return min(tokens, places - (number(config.get("pad_token_id")) or 1) - 1)  # RoBERTa counts from behind that index
