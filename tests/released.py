"""The last release, to run beside this tree: its code from git, its libraries from its lock."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
# What stands for the last release until there is one before this commit: of 2026-11-27, and about
# eighty commits before 0.1.0.
BEFORE_RELEASES: Final = "41ded86efcb72684825f77d5dcb33d608e1d200a"
# Where a version counts stands behind it, and changes with whatever else is locked.
_PINNED: Final = re.compile(r"^[A-Za-z0-9._-]+==\S+", re.MULTILINE)
_INSTALL_SECONDS: Final = 600


class NoReleaseError(Exception):
    """There is no release to run; the message says why."""


@dataclass(frozen=True)
class Released:
    """A release that can be run.

    Attributes:
        name: its tag, or the commit.
        commit: whose tree it is.
        folder: where that lies.
        python: of an environment that has what its lock says.
        script: what `trainmaster` calls, as `module:function`.
    """

    name: str
    commit: str
    folder: Path
    python: Path
    script: str

    def command(self, *arguments: str) -> list[str]:
        """Returns the command line of its console script."""
        module, _, function = self.script.partition(":")
        program = (
            f"import sys; sys.argv[0] = 'trainmaster'; from {module} import {function}; "
            f"sys.exit({function}())"
        )
        # Neither the folder that it is started in nor PYTHONPATH may bring in this tree.
        return [str(self.python), "-I", "-c", program, *arguments]


def last_release() -> str:
    """Returns the newest tag of a release before this commit, or what stands for one."""
    told = _git("describe", "--tags", "--abbrev=0", "--match", "v[0-9]*", "HEAD^")
    return told or BEFORE_RELEASES


def check_out(ref: str, folder: Path) -> Released:
    """Puts a release into a folder, with an environment of its own.

    Args:
        ref: a tag or a commit.
        folder: does not exist yet.

    Raises:
        NoReleaseError: git does not have it, as in a shallow clone, or its libraries can't be had.
    """
    commit = _git("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    if not commit:
        raise NoReleaseError(f"{ref[:12]} is not in this clone: run `git fetch --unshallow --tags`")
    tree = folder / "tree"
    tree.mkdir(parents=True)
    archive = folder / "tree.tar"
    _git("archive", "--output", str(archive), commit)
    with tarfile.open(archive) as packed:
        packed.extractall(tree, filter="data")
    project = tomllib.loads((tree / "pyproject.toml").read_text("utf-8"))["project"]
    lock = tree / "requirements" / "worker.txt"
    python = _environment(folder / "environment", tree, lock, project["version"])
    return Released(ref[:12], commit, tree, python, project["scripts"]["trainmaster"])


def _environment(folder: Path, tree: Path, lock: Path, version: str) -> Path:
    """Makes an environment whose libraries are those of a lock; returns its Python."""
    paths = [str(tree), str(tree / "client")]
    if pins(lock) <= pins(ROOT / "requirements" / "dev.txt"):
        # This environment has been made of the same versions, and more.
        _make(folder, "--without-pip")
        paths.append(sysconfig.get_path("purelib"))
    else:
        folder = _installed(lock)
    (site,) = folder.glob("lib/python*/site-packages")
    # Lines of such a file are paths; those of the same file in a path that it names are not read,
    # so that nothing of this tree comes along.
    (site / "release.pth").write_text("\n".join(paths) + "\n")
    told = site / f"trainmaster-{version}.dist-info"
    told.mkdir(exist_ok=True)
    (told / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: trainmaster\nVersion: {version}\n"
    )
    return folder / "bin" / "python"


def _installed(lock: Path) -> Path:
    """Returns the environment of a lock, made where it isn't there yet: a minute, and the net."""
    digest = hashlib.sha256(f"{sys.version}\n{lock.read_text()}".encode()).hexdigest()[:12]
    folder = ROOT / ".venv-released" / digest
    whole = folder / "whole"
    if not whole.exists():
        _make(folder, "--clear")
        install: list[str | Path] = [
            folder / "bin" / "pip",
            "-qq",
            "--disable-pip-version-check",
            "install",
        ]
        done = subprocess.run(
            [*install, "--require-hashes", "--no-deps", "-r", lock],
            timeout=_INSTALL_SECONDS,
            check=False,
        )
        if done.returncode:
            raise NoReleaseError("the libraries of its lock can't be installed; pip has said why")
        whole.touch()
    return folder


def pins(lock: Path) -> set[str]:
    """Returns what a lock holds: names and versions."""
    return set(_PINNED.findall(lock.read_text("utf-8")))


def _make(folder: Path, option: str) -> None:
    subprocess.run([sys.executable, "-m", "venv", option, folder], check=True)


def _git(*arguments: str) -> str:
    """Returns what git says, empty where it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *arguments],  # noqa: S607 - whichever this machine has
            cwd=ROOT,
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
