"""How many public LlamaIndex integrations work once their imports are changed: `python -m benchmarks.ported FOLDER`.

The sources are downloaded to FOLDER. Every class runs its own constructor and hooks; its provider's SDK is a fake. Ends
with 1 where fewer than 29 of the 32 construct, embed, and can be copied, pickled and loaded from their saved form.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks import _llama_index
from benchmarks._harness import print_table
from benchmarks._integrations import INTEGRATIONS, Integration
from benchmarks._vendors import KEY, SIZE, TEXT, Finder

_ENOUGH = 29
_TEXTS = [f"{TEXT} {number}" for number in range(3)]
_IMPORTS = (
    (r"\bllama_index\.core\.bridge\.pydantic\b", "pydantic"),
    (r"\bllama_index\.(?:core|llms|utils)\b[\w.]*", "benchmarks._llama_index"),
    (r"\bllama_index\.embeddings\b", "ported"),
)
_BATCH_SIZE = 7


def main(folder: Path) -> int:
    """Port and try every integration, print the table; return how many are too few."""
    download(folder)
    port(folder)
    rows = [[one.package, *tried(one)] for one in INTEGRATIONS]
    print_table(["integration", *_CHECKS, "first error"], rows)
    for column, name in enumerate(_CHECKS, start=1):
        print(f"{name}: {sum(row[column] == 'yes' for row in rows)} of {len(rows)}")
    whole = sum("no" not in row for row in rows)
    print(f"everything: {whole} of {len(rows)}, at least {_ENOUGH}")
    print(f"names that `embed_core` does not have: {', '.join(sorted(_llama_index.missing)) or 'none'}")
    return max(0, _ENOUGH - whole)


def download(folder: Path) -> None:
    """Fetch the packages, without their dependencies, unless the folder holds these versions."""
    wanted = [f"llama-index-embeddings-{one.package}=={one.version}" for one in INTEGRATIONS]
    stamp = folder / "wanted.txt"
    if stamp.is_file() and stamp.read_text().split() == wanted:
        return
    shutil.rmtree(folder, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", str(folder)]
    subprocess.run([*pip, *wanted], check=True)
    stamp.write_text("\n".join(wanted))


def port(folder: Path) -> None:
    """Copy the sources with their imports changed, and make them and the fakes importable."""
    target = folder / "changed"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder / "llama_index" / "embeddings", target / "ported")
    for file in target.rglob("*.py"):
        source = file.read_text("utf-8")
        for former, present in _IMPORTS:
            source = re.sub(former, present, source)
        file.write_text(source, "utf-8")
    sys.path.insert(0, str(target))
    Finder({name for one in INTEGRATIONS for name in one.fakes.split()}).install()


def tried(integration: Integration) -> list[str]:
    """Return "yes" or "no" for each check, and the first error; all are "no" for a class that cannot be constructed."""
    cells, first, model = [], "", None
    for check in _CHECKS.values():
        with mock.patch.dict(os.environ):
            for name in integration.environment:
                os.environ.pop(name, None)
            try:
                model = check(integration, model) or model
                cells.append("yes")
            except Exception as error:  # the errors of foreign classes
                cells.append("no")
                first = first or f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
    return [*cells, first]


def _constructs(integration: Integration, _: None) -> Any:
    module = import_module(f"ported.{integration.package.replace('-', '_')}.base")
    return getattr(module, integration.name)(**integration.arguments)


def _embeds(_: Integration, model: Any) -> None:
    for vector in _embedded(model)[:2]:
        assert len(vector) == SIZE, f"a vector of {len(vector)} numbers"


def _batch(_: Integration, model: Any) -> None:
    singles = [model.get_text_embedding(text) for text in _TEXTS]
    assert model.get_text_embedding_batch(_TEXTS) == singles, "a batch gives other vectors"


def _async(_: Integration, model: Any) -> None:
    async def embedded() -> Any:
        single = await model.aget_text_embedding(_TEXTS[0])
        return await model.aget_query_embedding(_TEXTS[0]), single, await model.aget_text_embedding_batch(_TEXTS)

    query, single, batch = asyncio.run(embedded())
    assert len(query) == SIZE, f"a vector of {len(query)} numbers"
    assert batch[0] == single, "a batch gives other vectors"


def _assigns(_: Integration, model: Any) -> None:
    model.embed_batch_size = _BATCH_SIZE


def _copies(_: Integration, model: Any) -> None:
    for duplicate in (copy.copy, copy.deepcopy):
        _compare(duplicate(model), model)


def _pickles(integration: Integration, model: Any) -> None:
    os.environ.update(integration.environment)
    data = pickle.dumps(model)
    assert KEY.encode() not in data, "the key is in the pickle"
    _compare(pickle.loads(data), model)


def _saved_form(integration: Integration, model: Any) -> None:
    os.environ.update(integration.environment)
    data = json.dumps(model.to_dict())
    assert KEY not in data, "the key is in the saved form"
    _compare(type(model).from_dict(json.loads(data)), model)


def _hides_key(_: Integration, model: Any) -> None:
    assert model is not None
    assert KEY not in repr(model), "the key is in repr"


_CHECKS: Mapping[str, Callable[[Integration, Any], Any]] = {
    "constructs": _constructs,
    "embeds": _embeds,
    "batch": _batch,
    "async": _async,
    "assigns": _assigns,
    "copies": _copies,
    "pickles": _pickles,
    "saved form": _saved_form,
    "hides key": _hides_key,
}


def _compare(duplicate: Any, model: Any) -> None:
    assert duplicate.embed_batch_size == _BATCH_SIZE, "an assigned field is lost"
    assert _embedded(duplicate) == _embedded(model), "it embeds otherwise"
    assert duplicate.fingerprint == model.fingerprint, "its fingerprint is another"


def _embedded(model: Any) -> Any:
    query, single = model.get_query_embedding(_TEXTS[0]), model.get_text_embedding(_TEXTS[0])
    return query, single, model.get_text_embedding_batch(_TEXTS)


if __name__ == "__main__":
    sys.exit(min(main(Path(sys.argv[1]).resolve()), 1))
