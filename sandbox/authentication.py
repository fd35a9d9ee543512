"""Who may call: an Ed25519 signature over the request, or the bearer token.

Written apart from the client's signing, so that the one checks the other.

Source: RFC 9421 (HTTP Message Signatures) and RFC 9530 (Content-Digest), as the API uses them:
one signature `encord-sig` over `@method`, `@request-target` and `content-digest`, in this order.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from typing import TYPE_CHECKING, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sandbox.errors import NotAuthenticatedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_INPUT = re.compile(
    r'encord-sig=(?P<parameters>\("@method" "@request-target" "content-digest"\)'
    r';created=(?P<created>\d{1,12});keyid="(?P<key_id>[0-9a-f]{64})";alg="ed25519")'
)
_SIGNATURE = re.compile(r"encord-sig=:(?P<signature>[A-Za-z0-9+/]{86}==):")


class Authenticator:
    """Knows one key and one token, and lets their holders pass."""

    def __init__(self, key: Ed25519PublicKey, token: str, age_seconds: float) -> None:
        self._key = key
        self._key_id = key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
        self._token = token.encode()
        self._age_seconds = age_seconds

    def check(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> None:
        """Lets a request pass; `target` is path and query as they were sent.

        Raises:
            NotAuthenticatedError: says what is missing or wrong.
        """
        authorization = headers.get("authorization")
        if authorization is not None:
            self._check_token(authorization)
        else:
            self._check_signature(method, target, headers, body)

    def _check_token(self, authorization: str) -> None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.encode(), self._token):
            _refuse("the bearer token is not known here")

    def _check_signature(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> None:
        given = _INPUT.fullmatch(headers.get("signature-input", ""))
        signature = _SIGNATURE.fullmatch(headers.get("signature", ""))
        if given is None or signature is None:
            _refuse("the request has neither a bearer token nor a whole signature")
        if given["key_id"] != self._key_id:
            _refuse("the key is not known here; is this the right domain for it?")
        if abs(time.time() - int(given["created"])) > self._age_seconds:
            _refuse("the signature's time is too far from now; is a clock wrong?")
        digest = f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"
        if headers.get("content-digest") != digest:
            _refuse("the body is not what Content-Digest says")
        base = "\n".join((
            f'"@method": {method}',
            f'"@request-target": {target}',
            f'"content-digest": {digest}',
            f'"@signature-params": {given["parameters"]}',
        ))
        try:
            self._key.verify(base64.b64decode(signature["signature"]), base.encode())
        except InvalidSignature as exc:
            message = "the signature does not fit the request"
            raise NotAuthenticatedError(message) from exc


def _refuse(message: str) -> NoReturn:
    raise NotAuthenticatedError(message)
