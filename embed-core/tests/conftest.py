"""Tests stay apart from the user's own settings, cache and choice of model."""

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

_CHOICES = ("EMBED_MODEL", "EMBED_PLUGINS", "EMBED_RAISE_ERRORS", "IS_TESTING", "OPENAI_API_KEY", "OPENAI_BASE_URL")

Install = Callable[..., Path]

sys.path.append(str(Path(__file__).parent / "example"))  # a package of its own, which tests import


@pytest.fixture(scope="session", autouse=True)
def _apart_from_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBED_HOME", str(tmp_path_factory.mktemp("home")))
        for name in _CHOICES:
            patch.delenv(name, raising=False)
        yield


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the user's own."""
    folder = tmp_path / "home"
    monkeypatch.setenv("EMBED_HOME", str(folder))
    return folder


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a package, as far as Python can tell: modules and a dist-info folder on the path.

    `install(name, entries, sources, version=...)`; `entries` is the text of `entry_points.txt` or a mapping of groups,
    `sources` maps module names to their text. The folder it returns is on `sys.path`, and fit for `PYTHONPATH`.
    """
    site, before = tmp_path / "site-packages", set(sys.modules)

    def put(
        name: str,
        entries: str | bytes | Mapping[str, Mapping[str, str]],
        sources: Mapping[str, str] | None = None,
        *,
        version: str = "1.0",
        place: Path = site,
    ) -> Path:
        info = place / f"{name.replace('-', '_')}-{version}.dist-info"
        shutil.rmtree(info, ignore_errors=True)
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", "utf-8")
        if isinstance(entries, Mapping):
            entries = "".join(
                f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())
                for group, lines in entries.items()
            )
        (info / "entry_points.txt").write_bytes(entries if isinstance(entries, bytes) else entries.encode())
        for module, source in (sources or {}).items():
            (place / f"{module}.py").write_text(source, "utf-8")
        if str(place) not in sys.path:
            monkeypatch.syspath_prepend(place)
        return place

    yield put
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture(scope="session")
def pdf() -> Callable[..., bytes]:
    """Return what makes a PDF with a line of text on each page."""

    def make(*pages: str) -> bytes:
        contents = [f"BT /F 9 Tf 9 50 Td ({text}) Tj ET" for text in pages]
        kids = " ".join(f"{3 + number} 0 R" for number in range(len(pages)))
        first = 3 + len(pages)
        objects = [
            "<</Type/Catalog/Pages 2 0 R>>",
            f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}/MediaBox[0 0 99 99]/Resources<</Font<</F {first} 0 R>>>>>>",
            *(f"<</Type/Page/Parent 2 0 R/Contents {first + 1 + number} 0 R>>" for number in range(len(pages))),
            "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
            *(f"<</Length {len(text)}>> stream\n{text}\nendstream" for text in contents),
        ]
        body, places = "%PDF-1.4\n", ["0000000000 65535 f \n"]
        for number, text in enumerate(objects, 1):
            places.append(f"{len(body):010} 00000 n \n")
            body += f"{number} 0 obj {text} endobj\n"
        end = f"trailer <</Root 1 0 R/Size {len(places)}>>\nstartxref\n{len(body)}\n%%EOF\n"
        return f"{body}xref\n0 {len(places)}\n{''.join(places)}{end}".encode()

    return make
