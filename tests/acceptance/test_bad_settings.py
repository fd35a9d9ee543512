"""Every setting with a wrong value: one line that names it, exit 2, and no secret in the line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.console import Console, Said
from tools.settings_reference import setting_rows

if TYPE_CHECKING:
    from pathlib import Path

URL = "redis://:s3cret@127.0.0.1:1/0"
NAMES = [row.name for row in setting_rows()]
# For settings that take any text, what makes it unusable; numbers and choices get a word.
WRONG_TEXTS = {
    "TRAINMASTER_REDIS_URL": "http://:s3cret@127.0.0.1",
    "TRAINMASTER_NAMESPACE": "s3cret namespace",
    "ENCORD_DOMAIN": "ftp://s3cret",
    "ENCORD_SSH_KEY_FILE": "/nowhere/key",
    "ENCORD_SSH_KEY": "-----BEGIN s3cret-----",
    "TRAINMASTER_BEARER_TOKEN": "s3cret with blanks",
    "TRAINMASTER_DATA_ROOTS": "/nowhere/s3cret",
    # Which file can't be read is told.
    "TRAINMASTER_CLIENT_CERTIFICATE_FILE": "/nowhere/client.pem",
    "TRAINMASTER_HEALTH_FILE": "/nowhere/s3cret",
    "TRAINMASTER_RESULT_STORE": "s3cret://bucket/results",
}
# This is wrong only together with another setting.
NEVER_WRONG_ALONE = {"ENCORD_SSH_KEY_PASSPHRASE"}
WRONG = {name: WRONG_TEXTS.get(name, "s3cret") for name in NAMES if name not in NEVER_WRONG_ALONE}


@pytest.fixture(scope="module")
def said() -> dict[str, Said]:
    """What a worker says to each wrong setting, each in a process of its own."""
    found = {}
    for name, wrong in WRONG.items():
        console = Console(URL, "bad-settings", TRAINMASTER_BEARER_TOKEN="t0ken")
        if name.startswith("ENCORD_SSH_KEY"):
            del console.environment["TRAINMASTER_BEARER_TOKEN"]
        found[name] = console.run("worker", environment={name: wrong})
    return found


def test_the_table_of_settings_is_tried_whole() -> None:
    assert set(WRONG) | NEVER_WRONG_ALONE == set(NAMES)
    assert len(WRONG) > 40


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_is_named_in_one_line_with_exit_2(said: dict[str, Said], name: str) -> None:
    told = said[name]
    assert (told.code, told.out) == (2, "")
    (line,) = told.err.splitlines()
    assert line.startswith(f"trainmaster: {name}")
    assert "s3cret" not in line
    assert "t0ken" not in line


@pytest.mark.parametrize(
    ("passphrase", "told"),
    [
        (None, "the key is encrypted and there is no passphrase for it"),
        ("wr0ng-s3cret", "there is no private key in OpenSSH format or the passphrase is wrong"),
    ],
)
def test_a_wrong_passphrase_is_told_without_it(
    tmp_path: Path, passphrase: str | None, told: str
) -> None:
    key = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.BestAvailableEncryption(b"the right one"),
    )
    (tmp_path / "key").write_bytes(key)
    console = Console(URL, "bad-settings", ENCORD_SSH_KEY_FILE=str(tmp_path / "key"))
    more = {} if passphrase is None else {"ENCORD_SSH_KEY_PASSPHRASE": passphrase}
    said = console.run("worker", environment=more)
    assert (said.code, said.out) == (2, "")
    assert said.err == f"trainmaster: ENCORD_SSH_KEY_FILE: {told}\n"


def test_without_credentials_a_worker_says_what_to_set() -> None:
    said = Console(URL, "bad-settings").run("worker")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("trainmaster: no credentials: set ENCORD_SSH_KEY_FILE")
    assert len(said.err.splitlines()) == 1
