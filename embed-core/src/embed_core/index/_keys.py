"""Private keys and certificates, told by their content: they are never sent to a provider."""

from __future__ import annotations

import re

_MARK = re.compile(
    r"BEGIN [A-Z0-9 ]{0,40}(?:PRIVATE KEY|CERTIFICATE|PKCS|CMS)[A-Z0-9# ]{0,40}-----?"  # PEM, OpenSSH, PGP, SSH2
    r"|PuTTY-User-Key-File-"
    r"|AGE-SECRET-KEY-(?:PQ-)?1"
    r"|LS0tLS1CRUdJTi"  # PEM in base64, as in the files of Kubernetes
)
_CONTENT = re.compile(r"[A-Za-z0-9+/]{32}")
_NEAR = 500  # characters: the head lines of a key lie between its mark and its content
_WIREGUARD = re.compile(r"(?:PrivateKey|PresharedKey)\s{0,9}=\s{0,9}[A-Za-z0-9+/]{43}=")
_NET = re.compile(r"<D>\s{0,99}[A-Za-z0-9+/]{32}")  # the private member of an RSAKeyValue
_JWK = re.compile(  # the private member of a key in JSON, RFC 7517, or YAML
    r"""\b[dk]\\?["']?\s{0,9}:\s{0,9}(?:\\?["'][\w-]{20}|(?=[\w-]*\d)[\w-]{32})"""
)
_OBJECT = re.compile(r"\{([^{}]*)\}")
_DEPTH = 9


def holds_key(text: str) -> bool:
    """Tell whether a text holds a private key or a certificate; a mention of one is none."""
    if any(_CONTENT.search(text, mark.end(), mark.end() + _NEAR) for mark in _MARK.finditer(text)):
        return True
    if _WIREGUARD.search(text) or ("<RSAKeyValue>" in text and _NET.search(text)):
        return True
    for _ in range(_DEPTH if "kty" in text else 0):  # from the innermost objects outwards
        if any(_is_jwk(found[1]) for found in _OBJECT.finditer(text)):
            return True
        text = _OBJECT.sub(" ", text)
    return _is_jwk(text)


def _is_jwk(members: str) -> bool:
    return "kty" in members and _JWK.search(members) is not None
