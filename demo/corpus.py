"""Lay out what the installed packages say of themselves: `python corpus.py FOLDER`.

Every package on PyPI carries its README and its licences. Those of the packages that the demo installs anyway are some
seventy, written by as many authors about very different things.
"""

import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

MOST_BYTES = 8_000  # of a file: what comes later in a README is often the changes of ten years
SUFFIXES = {"text/markdown": ".md", "text/x-rst": ".rst"}


def main(folder: Path) -> None:
    """Write the files; one that is there and the same keeps its time, so that it counts as unchanged."""
    seen = set()
    for package in sorted(distributions(), key=lambda package: package.name.lower()):
        for name, data in [readme(package), *licences(package)]:
            if data.strip() and data[-300:] not in seen:  # many have one licence, but for the name at its top
                seen.add(data[-300:])
                write(folder / package.name / name, data)


def readme(package: Distribution) -> tuple[str, bytes]:
    """Return the name and the content of a package's README."""
    metadata = package.metadata.json
    kind = str(metadata.get("description_content_type", "")).partition(";")[0]
    return f"README{SUFFIXES.get(kind, '.txt')}", str(metadata.get("description", "")).encode()[:MOST_BYTES]


def licences(package: Distribution) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of a package's own licence, not those of what it has taken over."""
    files = [file for file in package.files or () if file.name.upper().startswith(("LICENSE", "LICENCE", "COPYING"))]
    for file in sorted(files, key=lambda file: len(file.parts))[:1]:
        yield file.name, file.read_binary()[:MOST_BYTES]


def write(path: Path, data: bytes) -> None:
    """Write a file unless it holds the data already."""
    if not (path.exists() and path.read_bytes() == data):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
