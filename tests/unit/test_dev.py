"""Rules of `dev.py`: what it takes, and that Node's queues are left out where they can't be."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

import dev

if TYPE_CHECKING:
    from pathlib import Path

NEWER = "they need Node 20.18.1 or newer, and npm"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a lock; nothing but what a test puts into its `bin` is on PATH."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "package-lock.json").write_text("{}")
    return tmp_path


def put(folder: Path, name: str, *lines: str) -> None:
    """Puts a program on PATH."""
    program = folder / "bin" / name
    program.write_text("\n".join(("#!/bin/sh", *lines)))
    program.chmod(0o755)


@pytest.mark.parametrize("version", ["v20.18.0", "v18.20.4", "what?"])
def test_an_older_node_leaves_the_queues_out(folder: Path, version: str) -> None:
    put(folder, "node", f"echo '{version}'")
    put(folder, "npm", "exit 0")
    assert dev.set_up_node(folder) == NEWER


def test_a_machine_without_node_leaves_the_queues_out_though_they_were_installed(
    folder: Path,
) -> None:
    (folder / "node_modules").mkdir()
    (folder / "node_modules" / "locked").write_text("as it was")
    assert dev.set_up_node(folder) == NEWER
    assert not (folder / "node_modules" / "locked").exists()


def test_what_can_not_be_installed_is_left_out(folder: Path) -> None:
    put(folder, "node", "echo v20.18.1")
    put(folder, "npm", "exit 1")
    assert dev.set_up_node(folder) == "npm ci failed"
    assert not (folder / "node_modules" / "locked").exists()


def test_what_is_installed_is_installed_once_until_the_lock_changes(folder: Path) -> None:
    put(folder, "node", "echo v22.1.0-nightly")
    put(folder, "npm", 'echo "$*" >> calls')
    (folder / "node_modules").mkdir()
    assert dev.set_up_node(folder) == dev.set_up_node(folder) == ""
    (folder / "package-lock.json").write_text("{ }")
    assert dev.set_up_node(folder) == ""
    assert (folder / "calls").read_text() == "ci --silent\n" * 2


def test_uv_is_told_of_the_index_that_pip_is_configured_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = (
        ":env:.index-url='https://ci:s3cret@pypi.example/simple'",
        "download.index-url='https://not-for-installing.example/simple'",
        "global.index-url='https://outweighed.example/simple'",
        "global.find-links='/opt/wheels'",
        "install.proxy='http://proxy.example:3128'",
        ":env:.cert='/etc/ssl/private.pem'",
    )
    put(folder, "pip", "cat <<'END'", *told, "END")
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/bin:/usr/bin")
    for name in ("UV_DEFAULT_INDEX", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALL_PROXY", "http://other.example:8080")
    assert dev.uv_environment(folder / "bin" / "pip") == {
        "UV_DEFAULT_INDEX": "https://ci:s3cret@pypi.example/simple",
        "SSL_CERT_FILE": "/etc/ssl/private.pem",
    }


def test_without_uv_pip_installs_what_the_lock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # No index has it, as none has it for a machine of a rare kind.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    lock = tmp_path / "lock.txt"
    lock.touch()
    venv = tmp_path / "venv"
    dev.set_up_lock(venv, lock, "nothing")
    assert "uv failed, so pip installs it" in capfd.readouterr().err
    assert dev.read(venv / "locked") == dev.fingerprint(lock)


@pytest.mark.parametrize(
    "asked", [("lock", "--help"), ("chart", "-k", "notes"), ("setup", "charts"), ("check", "x")]
)
def test_arguments_that_would_be_passed_over_are_refused_before_anything_runs(
    asked: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*_: object, **__: object) -> None:
        pytest.fail("a program was started")

    monkeypatch.setattr(subprocess, "run", never)
    assert dev.main(list(asked)) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"dev.py: {asked[0]} does not take: {' '.join(asked[1:])}\n")
    assert max(map(len, told.splitlines())) <= 80
