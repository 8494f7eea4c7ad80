"""Private keys and certificates, told by their content: they are never sent to a provider."""

from __future__ import annotations

import re

_MARK = re.compile(
    r"BEGIN [A-Z0-9 ]{0,40}(?:PRIVATE KEY|CERTIFICATE|PKCS|CMS)[A-Z0-9# ]{0,40}-----?"  # PEM, OpenSSH, PGP, SSH2
    r"|PuTTY-User-Key-File-"
    r"|AGE-SECRET-KEY-(?:PQ-)?1"
    r"|LS0tLS1CRUdJTi"  # PEM in base64, as in the files of Kubernetes
)
_CONTENT = re.compile(r"[A-Za-z0-9+/]{40}")
_NEAR = 500  # characters: the head lines of a key lie between its mark and its content
_JWK = re.compile(
    r"""\b[dk]\\?["']?\s{0,9}:\s{0,9}\\?["'][\w-]{20,}"""
)  # the private member of a key in JSON, RFC 7517
_IN_BRACES = re.compile(r"[^{}]+")


def holds_key(text: str) -> bool:
    """Tell whether a text holds a private key or a certificate; a mention of one is none."""
    return any(_CONTENT.search(text, mark.end(), mark.end() + _NEAR) for mark in _MARK.finditer(text)) or (
        "kty" in text and any("kty" in part[0] and _JWK.search(part[0]) for part in _IN_BRACES.finditer(text))
    )
