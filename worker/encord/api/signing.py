"""The headers that authenticate a request: an Ed25519 signature, or a bearer token."""

from __future__ import annotations

import base64
import hashlib
import time
from typing import TYPE_CHECKING, Protocol, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from nacl.signing import SigningKey

from schemas.events import ErrorCode
from worker.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable


class Credentials(Protocol):
    """What authenticates a request; its representation shows no secret."""

    def headers(self, method: str, target: str, body: bytes) -> dict[str, str]:
        """Returns the headers for one attempt.

        Args:
            method: In capitals.
            target: Path and query exactly as sent, undecoded.
            body: Exactly the bytes sent; empty for none.
        """

    def redact(self, text: str) -> str:
        """Returns `text` without the secret, should someone have echoed it."""


class RequestSigner:
    """Signs requests with an Ed25519 key, as HTTP message signatures.

    Source: `encord.http.v2.request_signer` of the public SDK, which the tests compare with.
    """

    __slots__ = ("_clock", "_params", "_sign", "key_id")

    def __init__(self, key: Ed25519PrivateKey, *, clock: Callable[[], float] = time.time) -> None:
        """Makes a signer.

        Args:
            key: The private key.
            clock: Returns seconds since 1970.
        """
        self.key_id = key.public_key().public_bytes_raw().hex()
        # libsodium signs in two thirds of the time; what OpenSSH's format is, cryptography knows.
        self._sign = SigningKey(key.private_bytes_raw()).sign
        self._clock = clock
        self._params = (
            '("@method" "@request-target" "content-digest");created=',
            f';keyid="{self.key_id}";alg="ed25519"',
        )

    @classmethod
    def from_openssh(
        cls,
        text: str,
        passphrase: str | None = None,
        *,
        setting: str = "ENCORD_SSH_KEY",
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Returns a signer with the private key that `text` holds in OpenSSH format.

        Args:
            text: The content of a private key file.
            passphrase: Of an encrypted key; not needed, and then ignored, for one that is not.
            setting: What the error names as the place of the key.
            clock: Returns seconds since 1970.

        Raises:
            SettingError: It holds no such key, or the passphrase is missing or wrong.
        """
        key = _load_key(_unfold(text).encode() + b"\n", passphrase, setting)
        if not isinstance(key, Ed25519PrivateKey):
            raise _setting_error(setting, "the key is not an Ed25519 key")
        return cls(key, clock=clock)

    def __repr__(self) -> str:
        return f"RequestSigner(key_id={self.key_id!r})"

    def headers(self, method: str, target: str, body: bytes) -> dict[str, str]:
        """Returns the headers that sign one attempt, made now."""
        digest = f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"
        before, after = self._params
        params = f"{before}{int(self._clock())}{after}"
        base = (
            f'"@method": {method}\n"@request-target": {target}\n'
            f'"content-digest": {digest}\n"@signature-params": {params}'
        )
        signature = base64.b64encode(self._sign(base.encode()).signature).decode()
        return {
            "Content-Digest": digest,
            "Signature-Input": f"encord-sig={params}",
            "Signature": f"encord-sig=:{signature}:",
        }

    def redact(self, text: str) -> str:
        """Returns `text` as it is: the private key is in no request."""
        return text


class BearerToken:
    """Sends a bearer token with every request."""

    __slots__ = ("_token",)

    def __init__(self, token: str, *, setting: str = "TRAINMASTER_BEARER_TOKEN") -> None:
        """Takes the token.

        Raises:
            SettingError: It can't stand in a header.
        """
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise _setting_error(setting, "the token is empty or has blanks or odd characters")
        self._token = token

    def __repr__(self) -> str:
        return "BearerToken(…)"

    def headers(self, method: str, target: str, body: bytes) -> dict[str, str]:  # noqa: ARG002 - the token is the same for every request
        """Returns the header that holds the token."""
        return {"Authorization": f"Bearer {self._token}"}

    def redact(self, text: str) -> str:
        """Returns `text` without the token."""
        return text.replace(self._token, "…")


def _unfold(text: str) -> str:
    r"""Returns a key as its file has it: .env files and secrets quote it, and write `\n`."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    return text.replace("\\r", "").replace("\\n", "\n").replace("\r", "").strip()


def _load_key(text: bytes, passphrase: str | None, setting: str) -> object:
    try:
        try:
            return load_ssh_private_key(text, passphrase.encode() if passphrase else None)
        except TypeError:
            if not passphrase:
                raise
            # cryptography refuses a passphrase for a key that needs none; ssh does not.
            return load_ssh_private_key(text, None)
    except TypeError as exc:
        raise _setting_error(
            setting, "the key is encrypted and there is no passphrase for it"
        ) from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        wrong = " or the passphrase is wrong" if passphrase else ""
        raise _setting_error(setting, f"there is no private key in OpenSSH format{wrong}") from exc


def _setting_error(setting: str, message: str) -> SettingError:
    return SettingError(f"{setting}: {message}", code=ErrorCode.INVALID_SETTING)
