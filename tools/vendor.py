"""Fetches what the gateway's page has from npm: `python -m tools.vendor [--write | --newest]`.

`requirements/page.json` is the lock: each package with its version, the integrity that npm tells of
it, its licence, and the files that are taken of it with their SHA-256. Without an option the files
that are checked in are compared with it. `--write` fetches what it names, `--newest` the newest
version of each package, and both write the files and the lock.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import sys
import tarfile
import urllib.request
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
LOCK: Final = ROOT / "requirements" / "page.json"
REGISTRY: Final = "https://registry.npmjs.org"
SECONDS: Final = 60
# What a package calls the text of its licence.
LICENSE: Final = "LICENSE"
USAGE: Final = "usage: python -m tools.vendor [--write | --newest]"

Package = dict[str, Any]


def main(arguments: list[str]) -> int:
    """Checks the files or fetches them; returns the exit code."""
    if arguments not in ([], ["--write"], ["--newest"]):
        sys.stderr.write(f"{USAGE}\n")
        return 2
    lock = read_lock()
    if not arguments:
        wrong = differences(lock)
        sys.stderr.writelines(f"{each}\n" for each in wrong)
        return 1 if wrong else 0
    for package in lock["packages"]:
        if arguments == ["--newest"]:
            package["version"] = _newest(package["name"])
            package["integrity"] = None
        _fetch(package)
    for path, text in notices(lock).items():
        (ROOT / path).write_text(text, "utf-8")
    LOCK.write_text(json.dumps(lock, indent=2) + "\n", "utf-8")
    return 0


def read_lock() -> dict[str, Any]:
    """Returns the lock."""
    found: dict[str, Any] = json.loads(LOCK.read_text("utf-8"))
    return found


def differences(lock: dict[str, Any]) -> list[str]:
    """Returns what is not as the lock says, a line each."""
    wrong = []
    for package in lock["packages"]:
        for file in package["files"]:
            path = ROOT / file["to"]
            found = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "missing"
            if found != file["sha256"]:
                wrong.append(f"{file['to']} is not that of {package['name']}: {found}")
    for path, text in notices(lock).items():
        if not (ROOT / path).exists() or (ROOT / path).read_text("utf-8") != text:
            wrong.append(f"{path} does not tell what is locked: run python -m tools.vendor --write")
    return wrong


def notices(lock: dict[str, Any]) -> dict[str, str]:
    """Returns the notice of each folder of vendored files: whose they are, under which licence."""
    lines: dict[str, list[str]] = {}
    for package in lock["packages"]:
        names = [Path(file["to"]).name for file in package["files"] if file["from"] != LICENSE]
        lines.setdefault(package["notice"], []).append(
            f"{package['name']} {package['version']}, {package['license']}: {', '.join(names)}\n"
        )
    head = "What lies here others wrote; beside each stands its licence.\n\n"
    return {path: head + "".join(told) for path, told in lines.items()}


def _fetch(package: Package) -> None:
    """Writes a package's files and notes what they are.

    Raises:
        SystemExit: what came is not what the lock says.
    """
    name, version = package["name"], package["version"]
    about = json.loads(_get(f"{name}/{version}"))
    body = _get(f"{name}/-/{name}-{version}.tgz")
    integrity = f"sha512-{base64.b64encode(hashlib.sha512(body).digest()).decode()}"
    for told in (package["integrity"], about["dist"]["integrity"]):
        if told not in {None, integrity}:
            raise SystemExit(f"{name} {version} is {integrity}, not {told}")
    package["integrity"] = integrity
    package["license"] = about["license"]
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        for file in package["files"]:
            content = _read(archive, file["from"])
            for old, new in file.get("rewrites", {}).items():
                if content.count(old.encode()) != 1:
                    raise SystemExit(f"{name}: {old!r} does not stand once in {file['from']}")
                content = content.replace(old.encode(), new.encode())
            (ROOT / file["to"]).write_bytes(content)
            file["sha256"] = hashlib.sha256(content).hexdigest()


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    found = archive.extractfile(f"package/{name}")
    if found is None:
        raise SystemExit(f"{name} is no file of the package")
    return found.read()


def _newest(name: str) -> str:
    return str(json.loads(_get(f"{name}/latest"))["version"])


def _get(path: str) -> bytes:
    registry = os.environ.get("NPM_CONFIG_REGISTRY", REGISTRY).rstrip("/")
    with urllib.request.urlopen(f"{registry}/{path}", timeout=SECONDS) as answer:  # noqa: S310
        body: bytes = answer.read()
    return body


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
