"""The state folder: where everything lies, the secrets in it, and who may use it.

::

    sandbox.json   what clients need: domain, key, projects; there once the port answers
    key            private Ed25519 key in OpenSSH format, the one that may sign
    token          bearer token, the other way in
    links.key      secret that signs the weights links
    lock           held by the one process that serves this folder
    catalogue.json projects and labels          data/   their generated files
    sandbox.db     models, trainings, attachments (SQLite)
    trainings/     one folder per training: job, progress, log, weights
"""

from __future__ import annotations

import fcntl
import os
import secrets
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)

from sandbox.errors import StateError
from sandbox.learning.job import WEIGHTS_FILE

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_OWNER_ONLY = 0o600


class StateFolder:
    """One state folder, locked for this process until it ends."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.sandbox_json = self.root / "sandbox.json"
        self.key_file = self.root / "key"
        self.catalogue_json = self.root / "catalogue.json"
        self.data = self.root / "data"
        self.database = self.root / "sandbox.db"
        self.trainings = self.root / "trainings"
        self.cache = self.root / "cache"
        self._lock: int | None = None

    def open(self) -> None:
        """Creates the folder where it is missing and takes its lock.

        Raises:
            StateError: another sandbox serves it, or it can't be written.
        """
        try:
            self.trainings.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, _OWNER_ONLY)
        except OSError as exc:
            message = f"can't use the state folder {self.root}: {exc.strerror}"
            raise StateError(message) from exc
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            message = (
                f"another sandbox serves the state folder {self.root}; name another by --state"
            )
            raise StateError(message) from exc
        # A file from the last run would tell clients of a port that does not answer yet.
        self.sandbox_json.unlink(missing_ok=True)

    def training_folder(self, training_uuid: str) -> Path:
        """Returns where a training's files lie."""
        return self.trainings / training_uuid

    def weights_file(self, training_uuid: str) -> Path:
        """Returns where a training's weights lie once it is done."""
        return self.training_folder(training_uuid) / WEIGHTS_FILE

    def public_key(self) -> Ed25519PublicKey:
        """Returns the public half of the key that may sign; makes the key at first."""
        if not self.key_file.exists():
            made = Ed25519PrivateKey.generate()
            text = made.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
            write_whole(self.key_file, text, mode=_OWNER_ONLY)
        key = load_ssh_private_key(self.key_file.read_bytes(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            message = f"{self.key_file} is not an Ed25519 key"
            raise StateError(message)
        return key.public_key()

    def token(self) -> str:
        """Returns the bearer token; makes it at first."""
        return self._secret("token").decode().strip()

    def link_key(self) -> bytes:
        """Returns the secret that signs weights links; makes it at first."""
        return self._secret("links.key")

    def _secret(self, name: str) -> bytes:
        file = self.root / name
        if not file.exists():
            write_whole(file, secrets.token_urlsafe(32).encode(), mode=_OWNER_ONLY)
        return file.read_bytes()


def write_whole(file: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Writes a file so that a reader sees all of it or the one before."""
    half = file.with_name(f".{file.name}.{os.getpid()}")
    half.unlink(missing_ok=True)
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    half.replace(file)
