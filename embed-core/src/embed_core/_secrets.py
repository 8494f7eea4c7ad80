"""Secrets: one rule for their names, and one walk that leaves them out of everything that is shown, saved or sent."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any

from pydantic import SecretBytes, SecretStr

from embed_core._walk import parts, rebuilt

MASK = "**********"
"""Stands for a secret, as pydantic has it."""

_CREDENTIAL = re.compile(
    r"(?:(?:api|access|account|auth|client|encryption|master|private|secret|service|shared|signing|subscription)_?keys?"
    r"|passwords?|passwd|passphrase|secrets?|credentials?|auth_?data|connection_?string|authorization|bearer|cookies?"
    r"|(?:^|(?:^|_)(?:access|ad|api|auth|bearer|client|hf|hub|id|iam|jwt|personal|refresh|secret|security|service"
    r"|session)_?)token)$"
)
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")
_DOUBTFUL = re.compile(r"(?:keys?|tokens?|auth|pat|pwd|sig|signature)$")
_LIKE_A_KEY = re.compile(  # at some place twelve letters and digits, or twenty letters; or by its beginning
    r"(?:(?:bearer|basic|token) |(?:sk|pk|hf)[-_])\S{6,}"
    r"|[\w.~+/=:-]*?(?:(?=[a-z]*\d)[a-z0-9]{12}|[a-z0-9]{20})[\w.~+/=:-]*",
    re.IGNORECASE,
)
_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_REST_OF_URL = re.compile(r"://\S+")  # sought for itself: a search for schemes takes the square of a word's length
_USER = re.compile(r"(?<=://)[^/?#\s]*@")
_PARAMETER = re.compile(r"(?<=[?&;#])([\w.-]+)=([^&#\s]+)")
_WORDS_OF_ERRORS = {"message", "msg", "strerror", "filename", "filename2"}  # beside an exception's own attributes
_SHORTEST = 8
_NO_SECRETS = (bool, int, float, complex, type(None))


@lru_cache(maxsize=4096)
def is_credential(name: str, *, own: bool = False) -> bool:
    """Tell whether a setting is a credential by its name: it decides no vector and never leaves the process.

    Args:
        name: as in `aws_session_token` or `X-API-Key`.
        own: whether a bare `token` is taken for one of text, as it is everywhere but in headers.
    """
    words = _WORDS.sub("_", name).lower()
    return _CREDENTIAL.search(words) is not None and not (own and words == "token")


def may_be_credential(name: str) -> bool:
    """Tell whether a setting is a credential, or may be one: `cohere_key`, `pad_token`, `auth`."""
    return is_credential(name) or _DOUBTFUL.search(name.lower()) is not None


def is_secret(name: Any, value: Any, *, header: bool = False) -> bool:
    """Tell whether a value is a secret: by its type, by its name, or by its look where the name leaves doubt."""
    if isinstance(value, SecretStr | SecretBytes) or (isinstance(value, str) and value == MASK):
        return True
    if isinstance(value, _NO_SECRETS) or (isinstance(value, str | bytes) and not value):
        return False
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(one, str) for one in value):
        return is_secret(value[0], value[1], header=header)
    return isinstance(name, str) and (is_credential(name, own=not header) or _is_doubtful(name, value, header=header))


def masked(text: str, known: Collection[str] = ()) -> str:
    """Return a text without known secrets and, where it is an address, without user, password and keys."""
    if _URL.fullmatch(text):
        text = _without_keys(text)
    for secret in sorted(known, key=len, reverse=True):  # one may be a part of another
        text = text.replace(secret, "***")
    return text


def quoted(text: str, known: Collection[str] = ()) -> str:
    """Return a text to be shown without known secrets, and without those in the addresses that it quotes."""
    shown = masked(_REST_OF_URL.sub(lambda found: _without_keys(found[0]), text), known)
    return text if shown == text else shown  # the very text, so that it is seen to hold none


def scrubbed(
    value: Any,
    name: Any = "",
    clean: Callable[[str], str] = masked,
    *,
    mask: str | None = None,
    digests: bool = False,
    secret: Callable[..., bool] = is_secret,
) -> Any:
    """Return a value without the secrets in it, however deep they lie.

    Args:
        value: anything; what holds no secret is returned as it is.
        name: of the setting.
        clean: masks secrets in the texts that are none.
        mask: put in the place of a secret; None leaves it out.
        digests: whether a value of a doubtful name is replaced by a digest, because it may decide vectors.
        secret: tells which of the parts are secrets; for the parts of these `is_secret` does.
    """
    if isinstance(value, str):
        return clean(value)
    inside = None if hasattr(value, "_without_secrets") else parts(value)  # a model sees to its own
    if inside is None:
        return value
    header = _is_headers(name)
    left: dict[Any, Any] = {}
    for key, one in inside.items():
        called = key if isinstance(key, str) else name
        if not secret(called, one, header=header):
            left[key] = scrubbed(one, called, clean, mask=mask, digests=digests)
        elif digests and isinstance(one, str) and not is_credential(called, own=secret is not is_secret):
            left[key] = digest(one)
        elif mask is not None:
            left[key] = one if isinstance(one, SecretStr | SecretBytes) else mask
    same = len(left) == len(inside) and all(one is inside[key] for key, one in left.items())
    return value if same else rebuilt(value, left)


def secrets_in(value: Any, name: Any = "", *, secret: bool) -> Iterator[str]:
    """Yield the texts of the secrets in a value that are long enough to be found in other texts."""
    text = value.get_secret_value() if isinstance(value, SecretStr | SecretBytes) else value
    text = text.decode("latin-1") if isinstance(text, bytes) else text
    if isinstance(text, str):
        found = _secrets_of(text) if secret else _keys_in(text)
        yield from (one for one in found if len(one) >= _SHORTEST and one != MASK)
        return
    header = _is_headers(name)
    for key, one in (parts(value) or {}).items():
        called = key if isinstance(key, str) else name
        yield from secrets_in(one, called, secret=secret or is_secret(called, one, header=header))


def cleanse(error: BaseException, clean: Callable[[str], str]) -> None:
    """Clean the words of an exception, in which servers and clients quote secrets, and of all that comes with it."""
    found = [error]
    for one in found:  # which grows
        members = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        causes = (one.__cause__, one.__context__, *members)
        found += [cause for cause in causes if cause is not None and cause not in found]
    for one in reversed(found):  # members before their group
        for name in ("args", *_WORDS_OF_ERRORS, *one.__dict__):
            with suppress(Exception):  # a property does as it likes, and hides no error of the provider
                part = getattr(one, name, None)
                if isinstance(part, str | bytes | list) or type(part) is tuple:  # another may be read by its names
                    BaseException.__setattr__(one, name, _cleaned(part, clean))  # also where the class forbids it


def looks_like_a_key(text: str) -> bool:
    """Tell whether a text looks like a credential: `lm-studio` and `document_sep1` do not."""
    return _LIKE_A_KEY.fullmatch(text) is not None


def _cleaned(part: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(part, str):
        return clean(part)
    if isinstance(part, list) or type(part) is tuple:
        cleaned = [_cleaned(one, clean) for one in part]
        return cleaned if isinstance(part, list) else tuple(cleaned)
    return part if clean(repr(part)) == repr(part) else clean(repr(part))


def _without_keys(address: str) -> str:
    address = _USER.sub("***@", address)
    return _PARAMETER.sub(lambda found: f"{found[1]}=***" if may_be_credential(found[1]) else found[0], address)


def _keys_in(text: str) -> list[str]:
    """Return the passwords and keys in a text that is an address."""
    if not _URL.fullmatch(text):
        return []
    users = [user.removesuffix("@").rpartition(":")[2] for user in _USER.findall(text)]
    return users + [value for name, value in _PARAMETER.findall(text) if may_be_credential(name)]


def _secrets_of(text: str) -> list[str]:
    """Return a secret, and the key alone where the text is one of `Bearer` and a key: servers quote just that."""
    key = text.rpartition(" ")[2]
    return [text, key] if key != text and looks_like_a_key(key) else [text]


def digest(secret: str) -> str:
    """Return a text that stands for a secret in a space."""
    return "\0" + hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _is_headers(name: Any) -> bool:
    return isinstance(name, str) and name.lower().endswith("headers")


def _is_doubtful(name: str, value: Any, *, header: bool) -> bool:
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if not isinstance(text, str):
        return False
    doubtful = _DOUBTFUL.search(name.lower()) is not None
    return (header or doubtful) and looks_like_a_key(text)
