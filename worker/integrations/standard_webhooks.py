"""Signatures of Standard Webhooks, version 1: made for what we send, verified on what we get.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "ID_HEADER",
    "SIGNATURE_HEADER",
    "TIMESTAMP_HEADER",
    "SigningKey",
    "sign",
    "signed_headers",
    "verify",
]

ID_HEADER: Final = "webhook-id"
TIMESTAMP_HEADER: Final = "webhook-timestamp"
SIGNATURE_HEADER: Final = "webhook-signature"

_PREFIX = "whsec_"
_VERSION = b"v1,"
_NEW_SECRET_BYTES = 32
# Seconds since 1970. More digits are no time of ours, and none cost anything to read.
_TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)
# All that stands in a header as it was sent. Receivers read the rest in one of several ways, of
# which only one is what was signed; and blanks at the ends are lost.
_PLAIN: Final = "".join(chr(each) for each in range(0x21, 0x7F) if each != ord("%"))
# A sender that rotates its secret sends two. More than a few only cost the one who compares.
_MOST_SIGNATURES = 16


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The key that both sides share; its representation does not show it."""

    key: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> SigningKey:
        """Returns the secret that a text like `whsec_MfKQ9r8…` holds; the prefix may be missing.

        Raises:
            ValueError: it is not in base64, or empty; the message does not repeat it.
        """
        encoded = text.removeprefix(_PREFIX)
        try:
            # Some senders leave the padding out.
            key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        except (ValueError, binascii.Error):
            # `from None`: the text of the other error may hold parts of the secret.
            raise ValueError("must be whsec_ and the key in base64, on one line") from None
        if not key:
            raise ValueError("is empty: must be whsec_ and the key in base64")
        return cls(key)

    @classmethod
    def new(cls) -> SigningKey:
        """Returns a random secret of 256 bits."""
        return cls(secrets.token_bytes(_NEW_SECRET_BYTES))

    def reveal(self) -> str:
        """Returns the text to hand to the other side: `whsec_` and the key in base64."""
        return _PREFIX + base64.b64encode(self.key).decode()


def sign(secret: SigningKey, message_id: str, timestamp: int, body: bytes) -> str:
    """Returns the value of `webhook-signature` for one secret.

    While a secret is rotated, join the signatures of both with a space.

    Args:
        secret: shared with the receiver.
        message_id: the value of `webhook-id`.
        timestamp: the value of `webhook-timestamp`, in seconds since 1970.
        body: exactly as it is sent.
    """
    return _signature(secret, message_id, str(timestamp), body).decode()


def signed_headers(
    shared: Sequence[SigningKey], message_id: str, timestamp: int, body: bytes
) -> dict[str, str]:
    """Returns the three headers of a message, signed with each secret that is valid now.

    The id is percent-encoded as CloudEvents has it in headers; most are the same afterwards.
    """
    message_id = quote(message_id, safe=_PLAIN)
    return {
        ID_HEADER: message_id,
        TIMESTAMP_HEADER: str(timestamp),
        SIGNATURE_HEADER: " ".join(sign(each, message_id, timestamp, body) for each in shared),
    }


def verify(
    shared: Sequence[SigningKey],
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    tolerance_seconds: float = 300,
) -> bool:
    """Returns whether a message is signed with one of the secrets, and of about now.

    Every secret is compared with every signature, in constant time, as bytes. Nothing tells why a
    message is refused: that would only help who forges.

    Args:
        shared: the valid secrets; two while one is rotated.
        headers: by their names in lower case, each once.
        body: as it came, before anything decoded it.
        now: seconds since 1970.
        tolerance_seconds: how far the message's time may be from `now`, before or after.
    """
    message_id = headers.get(ID_HEADER, "")
    timestamp = headers.get(TIMESTAMP_HEADER, "")
    given = headers.get(SIGNATURE_HEADER, "").encode(errors="replace").split()
    if not message_id or not _TIMESTAMP.fullmatch(timestamp) or len(given) > _MOST_SIGNATURES:
        return False
    genuine = False
    for secret in shared:
        expected = _signature(secret, message_id, timestamp, body)
        for signature in given:
            genuine |= hmac.compare_digest(expected, signature)
    return genuine and abs(now - int(timestamp)) <= tolerance_seconds


def _signature(secret: SigningKey, message_id: str, timestamp: str, body: bytes) -> bytes:
    signed = hmac.new(
        secret.key, f"{message_id}.{timestamp}.".encode(errors="replace"), hashlib.sha256
    )
    signed.update(body)
    return _VERSION + base64.b64encode(signed.digest())
