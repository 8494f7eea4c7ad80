"""Addresses, keys and headers: checked before they are used, and before a saved configuration may use them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr

from embed_core._secrets import quoted
from embed_core._types import OPERATIONAL
from embed_core.errors import ConfigurationError


def address(given: str) -> str:
    """Return a server's address without a slash at the end.

    Raises:
        ConfigurationError: it is no URL of HTTP, or holds a password or key, which addresses show to everybody.
    """
    try:
        parts = urlsplit(given)
        has_user, _ = "@" in parts.netloc, parts.port
    except ValueError:
        msg = "an address is no URL: its host or port makes no sense; check `api_base`"
        raise ConfigurationError(msg) from None  # the cause shows a part of it, which may be a password
    if has_user or quoted(given) != given:
        msg = "an address must not hold a user, password or key, since it is shown; use `api_key` or `default_headers`"
        raise ConfigurationError(msg)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ConfigurationError("an address begins with `http://` or `https://` and a host; complete or correct it")
    return given.rstrip("/")


Address = Annotated[str | None, OPERATIONAL, AfterValidator(lambda given: given if given is None else address(given))]
"""A field for an address."""


if TYPE_CHECKING:
    Secret: TypeAlias = SecretStr | str
    """A field for a key or token, which may be given as text."""
    Headers: TypeAlias = Mapping[str, SecretStr | str]
else:
    Secret, Headers = SecretStr, dict[str, SecretStr]


def revealed(secret: Secret) -> str:
    """Return the text of a key or token."""
    return secret if isinstance(secret, str) else secret.get_secret_value()


def sends_key(saved: Mapping[str, Any], field: str, own: Iterable[str | None]) -> dict[str, str]:
    """Return the field of a saved address that would get the user's key, unless it is one of the user's own."""
    given = str(saved.get(field) or "").rstrip("/")
    foreign = given and given not in {one.rstrip("/") for one in own if one}
    return {field: f"sends your key to `{quoted(given)}`"} if foreign else {}


def headers_of(*groups: Mapping[str, Any]) -> dict[str, Any]:
    """Return all headers; a later one replaces an earlier one, whose spelling stays, since servers ignore case."""
    merged: dict[str, Any] = {}
    for name, value in (one for group in groups for one in group.items()):
        known = next((other for other in merged if other.lower() == name.lower()), name)
        merged[known] = value
    return merged


def sendable(value: str, name: str) -> str:
    """Refuse characters that no header can hold here, because the HTTP library would show them."""
    if not (value.isascii() and value.isprintable()):
        msg = f"{name} holds a line break or another character that no header can hold; check where it comes from"
        raise ConfigurationError(msg)
    return value
