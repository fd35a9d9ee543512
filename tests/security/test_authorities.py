"""Files of authorities: those that are named are trusted, and what can't be used is told."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.console import Console
from tests.lying_server import LyingServer
from tests.security.tls import Authority, server_context
from trainmaster_client import AddressError, Client
from worker.encord.api.signing import RequestSigner
from worker.encord.api.transport import Transport
from worker.errors import NotSentError, SettingError
from worker.http.authorities import create_tls_context
from worker.http.timeouts import Timeouts

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
REDIS = "rediss://:s3cret@127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def _nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """Files and folders that can't be used, by what is wrong with them."""
    for name in ("empty", "unhashed"):
        (tmp_path / name).mkdir()
    (tmp_path / "unhashed" / "ca.pem").write_text("x")
    (tmp_path / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n")
    (tmp_path / "text.pem").write_text("no certificate")
    (tmp_path / "nothing.pem").touch()
    names = ("missing.pem", "empty", "unhashed", "broken.pem", "text.pem", "nothing.pem")
    return {name: str(tmp_path / name) for name in names}


def named(told: str, variable: str, place: str) -> bool:
    """Tells whether it is one line that names both, and no secret."""
    one_line = len(told.splitlines()) == 1
    return one_line and variable in told and place in told and "s3cret" not in told


@pytest.mark.parametrize(
    ("variable", "place", "why"),
    [
        ("SSL_CERT_FILE", "missing.pem", "No such file"),
        ("SSL_CERT_FILE", "broken.pem", "PEM format"),
        ("SSL_CERT_FILE", "empty", "can't be read"),
        ("SSL_CERT_DIR", "missing.pem", "No such file"),
        ("SSL_CERT_DIR", "unhashed", "openssl rehash"),
        ("REQUESTS_CA_BUNDLE", "missing.pem", "No such file"),
    ],
)
def test_a_worker_that_can_not_read_its_authorities_says_so_and_ends_with_2(
    places: dict[str, str], variable: str, place: str, why: str
) -> None:
    console = Console("redis://:s3cret@127.0.0.1:1/0", "tls", TRAINMASTER_BEARER_TOKEN="t0ken")
    said = console.run("worker", environment={variable: places[place]})
    assert (said.code, said.out) == (2, "")
    assert named(said.err, variable, places[place]), said.err
    assert why in said.err


@pytest.mark.parametrize("variable", NAMES)
@pytest.mark.parametrize(
    "place", ["missing.pem", "empty", "unhashed", "broken.pem", "text.pem", "nothing.pem"]
)
def test_whatever_is_wrong_with_authorities_is_a_bad_setting(
    places: dict[str, str], monkeypatch: pytest.MonkeyPatch, variable: str, place: str
) -> None:
    monkeypatch.setenv(variable, places[place])
    with pytest.raises(SettingError) as caught:
        Transport("https://api.encord.com", RequestSigner(Ed25519PrivateKey.generate()))
    assert named(caught.value.message, variable, places[place])


def test_of_several_kinds_of_names_the_first_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL's own go before the one of requests."""
    right = Authority.create(tmp_path / "right.pem", "Right")
    usable = {
        "SSL_CERT_FILE": str(right.file),
        "SSL_CERT_DIR": str(right.hashed(tmp_path / "folder")),
    }
    for name in reversed(NAMES):
        monkeypatch.setenv(name, str(tmp_path / "missing"))
        with pytest.raises(SettingError, match=f"^{name}: "):
            create_tls_context()
        if name in usable:
            monkeypatch.setenv(name, usable[name])
            create_tls_context()


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
@pytest.mark.parametrize("place", ["missing.pem", "broken.pem", "empty"])
def test_a_file_for_redis_that_can_not_be_used_is_a_bad_setting(
    places: dict[str, str], tmp_path: Path, option: str, place: str
) -> None:
    more = ""
    if option == "ssl_keyfile":
        own = Authority.create(tmp_path / "ca.pem", "own").issue(tmp_path / "own", "me")
        more = f"&ssl_certfile={own[0]}"
    url = f"{REDIS}?{option}={places[place]}{more}"
    with pytest.raises(AddressError) as caught:
        Client(url)
    assert named(str(caught.value), "the URL of Redis", places[place])


@pytest.mark.parametrize("command", ["worker", "list"])
def test_a_missing_file_for_redis_is_told_before_anything_starts(
    places: dict[str, str], command: str
) -> None:
    url = f"{REDIS}?ssl_ca_certs={places['missing.pem']}"
    said = Console(url, "tls", TRAINMASTER_BEARER_TOKEN="t0ken").run(command)
    assert said.code == 2
    assert named(said.err, "TRAINMASTER_REDIS_URL names a file in ssl_ca", places["missing.pem"])


def test_half_of_a_password_that_looks_like_a_file_is_not_shown() -> None:
    with pytest.raises(AddressError) as caught:
        Client("rediss://x:12?ssl_ca_certs=s3cret@host:1/0")
    assert "s3cret" not in str(caught.value)


def test_an_encrypted_key_for_redis_is_told_and_nobody_is_asked_for_its_passphrase(
    tmp_path: Path,
) -> None:
    certificate, key = Authority.create(tmp_path / "ca.pem", "own").issue(tmp_path / "own", "me")
    sealed = tmp_path / "sealed.pem"
    subprocess.run(
        [sys.executable, "-c", _SEAL, str(key), str(sealed)], check=True, capture_output=True
    )
    with pytest.raises(AddressError, match="ssl_certfile that holds no certificate with its key"):
        Client(f"{REDIS}?ssl_certfile={certificate}&ssl_keyfile={sealed}")
    Client(f"{REDIS}?ssl_certfile={certificate}&ssl_keyfile={key}").close()


_SEAL = """
import sys
from pathlib import Path
from cryptography.hazmat.primitives import serialization as s
key = s.load_pem_private_key(Path(sys.argv[1]).read_bytes(), None)
form = (s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"pass"))
Path(sys.argv[2]).write_bytes(key.private_bytes(*form))
"""


@pytest.mark.parametrize("variable", NAMES)
def test_named_authorities_are_trusted_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    right = Authority.create(tmp_path / "right.pem", "Right")
    wrong = Authority.create(tmp_path / "wrong.pem", "Wrong")

    async def ask(url: str) -> int:
        signer = RequestSigner(Ed25519PrivateKey.generate())
        async with Transport(url, signer, timeouts=Timeouts()) as transport:
            return (await transport.send("GET", f"/ml-models/{uuid4()}")).status

    def name(authority: Authority) -> None:
        place = authority.file
        named_place = str(place)
        if variable == "SSL_CERT_DIR":
            # As with OpenSSL, several folders may be named, and not each must hold one.
            empty = tmp_path / "empty"
            empty.mkdir(exist_ok=True)
            named_place = (
                f"{empty}{os.pathsep}{authority.hashed(tmp_path / f'folder-{place.stem}')}"
            )
        monkeypatch.setenv(variable, named_place)

    with LyingServer(tls=server_context(*right.issue(tmp_path / "s", "127.0.0.1"))) as server:
        name(right)
        assert asyncio.run(ask(server.url)) == 200
        name(wrong)
        with pytest.raises(NotSentError, match="certificate verify failed"):
            asyncio.run(ask(server.url))
