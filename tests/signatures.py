"""Keys to sign with, and signatures checked as the API does: by request and public key alone."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    from tests.stub_api import Recorded

_INPUT = re.compile(
    r'encord-sig=(\("@method" "@request-target" "content-digest"\)'
    r';created=\d+;keyid="([0-9a-f]{64})";alg="ed25519")'
)


def check_signature(request: Recorded, key: Ed25519PublicKey) -> None:
    """Checks digest and signature of a request.

    Raises:
        InvalidSignature: It was not signed, or not as it came.
    """
    digest = f"sha-256=:{base64.b64encode(hashlib.sha256(request.body).digest()).decode()}:"
    assert request.headers["content-digest"] == digest
    told = _INPUT.fullmatch(request.headers["signature-input"])
    assert told is not None
    assert told[2] == key.public_bytes_raw().hex()
    base = (
        f'"@method": {request.method}\n"@request-target": {request.target}\n'
        f'"content-digest": {digest}\n"@signature-params": {told[1]}'
    )
    signature = request.headers["signature"].removeprefix("encord-sig=:").removesuffix(":")
    key.verify(base64.b64decode(signature), base.encode())


def openssh(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """Returns a private key as the file of a user holds it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
