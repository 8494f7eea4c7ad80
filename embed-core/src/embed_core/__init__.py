"""embed-core: the right vector for the right input, always."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embed_core._public import *


def __getattr__(name: str) -> Any:
    """Load the public names on first use, so that `embed --help` loads neither numpy nor pydantic."""
    if name == "__version__":
        from importlib.metadata import version

        return version("embed-core")
    if name == "__all__" or not name.startswith("_"):
        from importlib import import_module

        public = import_module(f"{__name__}._public")
        globals().update({one: getattr(public, one) for one in ("__all__", *public.__all__)})
        if name in globals():
            return globals()[name]
    raise AttributeError(f"module `{__name__}` has no attribute `{name}`")


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})
