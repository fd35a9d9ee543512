"""Rules of the headers that authenticate a request; the SDK is the judge."""

from __future__ import annotations

import base64
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from encord.http.v2 import request_signer
from hypothesis import given
from hypothesis import strategies as st

from worker.encord.api.signing import BearerToken, RequestSigner
from worker.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CREATED = 1_700_000_000
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


class FrozenDatetime(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> FrozenDatetime:
        """Returns the same moment always."""
        return cls.fromtimestamp(CREATED + 0.9, tz)


@pytest.fixture(autouse=True, scope="module")
def _frozen_sdk_clock() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request_signer, "datetime", FrozenDatetime)
        yield


def openssh(
    key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey,
    encryption: KeySerializationEncryption | None = None,
) -> str:
    """Returns the text of a key file."""
    return key.private_bytes(
        Encoding.PEM, PrivateFormat.OpenSSH, encryption or NoEncryption()
    ).decode()


def of_another_kind(text: str) -> str:
    """Returns a key file whose key is of a kind that cryptography does not know."""
    first, *body, last = text.splitlines()
    packed = base64.b64decode("".join(body)).replace(b"ssh-ed25519", b"ssh-ed99999")
    return "\n".join((first, base64.b64encode(packed).decode(), last))


@given(
    method=st.sampled_from(["GET", "POST", "PATCH", "DELETE"]),
    path=st.sampled_from(["/v2/public/ml-models", "/v2/public/ml-models?pageToken=a%2Fb%3D+c"]),
    body=st.none() | st.binary(min_size=1, max_size=2000),
)
def test_headers_are_those_of_the_sdk(method: str, path: str, body: bytes | None) -> None:
    """Digest, signature input and signature are byte for byte what the SDK sends."""
    prepared = requests.Request(method, f"https://api.encord.com{path}", data=body).prepare()
    signer = RequestSigner(KEY, clock=lambda: CREATED + 0.9)

    signed = request_signer.sign_request(prepared, signer.key_id, KEY)
    ours = signer.headers(method, path, body or b"")

    assert ours == {name: signed.headers[name] for name in ours}
    assert set(ours) == {"Content-Digest", "Signature-Input", "Signature"}


def test_every_attempt_is_signed_anew() -> None:
    """The time of a signature is the time of the attempt."""
    times = iter([1.0, 2.0])
    signer = RequestSigner(KEY, clock=lambda: next(times))
    first, second = (signer.headers("GET", "/", b"") for _ in range(2))
    assert "created=1;" in first["Signature-Input"]
    assert "created=2;" in second["Signature-Input"]
    assert first["Signature"] != second["Signature"]


@pytest.mark.parametrize(
    ("text", "passphrase"),
    [
        (openssh(KEY), None),
        (openssh(KEY), "not needed"),
        (openssh(KEY).strip(), None),
        (f"\n{openssh(KEY)}\n\n", None),
        (openssh(KEY).replace("\n", "\r\n"), None),
        (openssh(KEY, BestAvailableEncryption(b"open sesame")), "open sesame"),
    ],
)
def test_a_key_file_is_read(text: str, passphrase: str | None) -> None:
    """Plain and encrypted keys work, whatever blanks an environment variable adds."""
    signer = RequestSigner.from_openssh(text, passphrase)
    assert signer.key_id == KEY.public_key().public_bytes_raw().hex()


@pytest.mark.parametrize(
    ("text", "passphrase", "says"),
    [
        ("", None, "there is no private key in OpenSSH format"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", None, "there is no private key"),
        (openssh(ec.generate_private_key(ec.SECP256R1())), None, "not an Ed25519 key"),
        (of_another_kind(openssh(KEY)), None, "there is no private key in OpenSSH format"),
        (openssh(KEY, BestAvailableEncryption(b"right")), None, "there is no passphrase for it"),
        (openssh(KEY, BestAvailableEncryption(b"right")), "wr0ng", "the passphrase is wrong"),
    ],
)
def test_a_bad_key_is_named_in_one_line_without_the_key(
    text: str, passphrase: str | None, says: str
) -> None:
    """The error names the setting and shows neither key nor passphrase."""
    with pytest.raises(SettingError) as caught:
        RequestSigner.from_openssh(text, passphrase, setting="ENCORD_SSH_KEY_FILE")
    message = str(caught.value)
    assert message.startswith("ENCORD_SSH_KEY_FILE: ")
    assert says in message
    assert "\n" not in message
    assert "wr0ng" not in message
    assert "BEGIN" not in message


def test_representations_show_no_secret() -> None:
    """Neither a key nor a token can reach a log by way of repr."""
    signer = RequestSigner(KEY)
    assert KEY.private_bytes_raw().hex() not in repr(signer)
    assert signer.key_id in repr(signer)
    token = BearerToken("s3cret")
    assert "s3cret" not in f"{token!r}{token}"


def test_a_bearer_token_is_sent_and_can_be_redacted() -> None:
    """The token stands in one header, and an echo of it can be cut out."""
    token = BearerToken("s3cret")
    assert token.headers("GET", "/", b"") == {"Authorization": "Bearer s3cret"}
    assert token.redact("you sent Bearer s3cret, twice s3cret") == "you sent Bearer …, twice …"


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX-Evil: 1", "ü"])
def test_a_token_that_can_not_stand_in_a_header_is_refused(token: str) -> None:
    """The error names the setting and does not show the token."""
    with pytest.raises(SettingError, match=r"^TRAINMASTER_BEARER_TOKEN: the token is empty or"):
        BearerToken(token)


@pytest.mark.parametrize(
    "write",
    [
        lambda text: text.replace("\n", "\\n"),
        lambda text: '"' + text.replace("\n", "\\n") + '"',
        lambda text: "'" + text.strip() + "'",
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\\r\\n"),
        lambda text: text.strip(),
    ],
)
def test_a_key_is_taken_as_environments_write_it(write: Callable[[str], str]) -> None:
    """Quoted, with literal line breaks, with those of Windows, without the last one."""
    key = Ed25519PrivateKey.generate()
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    ).decode()
    assert RequestSigner.from_openssh(write(text)).key_id == RequestSigner(key).key_id
