"""Whose certificates are trusted: certifi's authorities, or those that the environment names."""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path
from typing import Final

import httpx

from schemas.events import ErrorCode
from worker.errors import SettingError
from worker.paths import is_folder

# The first that is set counts. OpenSSL has the former two, requests, and so the SDK, the last.
_FILE: Final = "SSL_CERT_FILE"
_FOLDER: Final = "SSL_CERT_DIR"
_EITHER: Final = "REQUESTS_CA_BUNDLE"

# OpenSSL finds a certificate in a folder by the hash of its subject, and by nothing else.
_BY_HASH: Final = re.compile(r"[0-9a-f]{8}\.\d+")


def create_tls_context() -> ssl.SSLContext:
    """Returns a context that verifies the API's certificate.

    Raises:
        SettingError: A variable names a file or a folder that can't be used.
    """
    return environment_tls_context() or httpx.create_ssl_context(trust_env=False)


def environment_tls_context() -> ssl.SSLContext | None:
    """Returns a context that trusts those whom the environment names, if it names any.

    Raises:
        SettingError: A variable names a file or a folder that can't be used.
    """
    for name in (_FILE, _FOLDER, _EITHER):
        place = os.environ.get(name)
        if place:
            if name == _FOLDER or (name == _EITHER and is_folder(place)):
                return _trust_folders(name, place)
            return _trust_file(name, place)
    return None


def _trust_file(name: str, file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=file)
    except ssl.SSLError as exc:
        raise _wrong(name, f"{file} holds no certificates in PEM format") from exc
    except OSError as exc:
        raise _wrong(name, f"{file} can't be read ({exc.strerror})") from exc


def _trust_folders(name: str, folders: str) -> ssl.SSLContext:
    # OpenSSL passes over what is not there, and then trusts nobody.
    for folder in folders.split(os.pathsep):
        try:
            if any(_BY_HASH.fullmatch(entry.name) for entry in Path(folder).iterdir()):
                return ssl.create_default_context(capath=folders)
        except OSError as exc:
            raise _wrong(name, f"{folder} can't be read ({exc.strerror})") from exc
    raise _wrong(name, f"{folders} has no certificate named by its hash; openssl rehash names them")


def _wrong(name: str, message: str) -> SettingError:
    return SettingError(f"{name}: {message}", code=ErrorCode.INVALID_SETTING)
