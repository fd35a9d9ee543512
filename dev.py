#!/usr/bin/env python3
"""Sets the project up and runs it: `python3 dev.py demo`, `test`, `check`, `lock`, or any command.

Everything lands in `.venv` beside this file, from hashed locks in `requirements/`. Needs Python
3.11 or newer and its standard library, nothing else.
"""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements" / "dev.txt"
# What is installed from here, each a distribution of its own.
PROJECTS = (ROOT / "client", ROOT, ROOT / "sandbox", ROOT / "demo")
WORKER_LOCK = ROOT / "requirements" / "worker.txt"
SANDBOX_LOCK = ROOT / "requirements" / "sandbox.txt"
BENCH_VENV = ROOT / ".venv-bench"
BENCH_LOCK = ROOT / "requirements" / "bench.txt"
BENCH_OVERRIDES = ROOT / "requirements" / "bench-overrides.txt"
# Helm's engine, Kubernetes' schemas and nothing of ours.
CHART_VENV = ROOT / ".venv-chart"
CHART_LOCK = ROOT / "requirements" / "chart.txt"
# uv alone, which installs the other locks.
SETUP_LOCK = ROOT / "requirements" / "setup.txt"
OLDEST_PYTHON = (3, 11)
# uv reads nothing of how pip is configured; what of it decides whether an index can be reached.
PIP_IN_UV = {"index-url": "UV_DEFAULT_INDEX", "cert": "SSL_CERT_FILE", "proxy": "ALL_PROXY"}
# The queues of Node that the benchmarks compare with.
NODE_QUEUES = ROOT / "benchmarks" / "contenders" / "node"
OLDEST_NODE = (20, 18, 1)
NPM_SECONDS = 300

USAGE = """usage: python3 dev.py COMMAND [ARGUMENT ...]

  demo    run the main job from end to end on this machine, about three minutes
  test    run all tests; arguments go to pytest
  faults  break everything on purpose and count, more than an hour; see --help
  bench   measure beside other queues, about half an hour; see --help
  mutate  change the code and count what tests see, an hour or more; see --help
  chart   lint the Helm chart, render it, and check what comes out
  check   run the linters and the type checker
  format  put the code in its one format
  lock    write the locks anew from pyproject.toml
  sbom    write what the images are made of, with licences, to dist/sbom
  setup   only make .venv, and with `setup chart` what checks the chart

Anything else goes to the console script, for example `python3 dev.py worker`;
`.venv/bin/trainmaster --help` lists its commands.
"""

# They would pass over what they are given, and `lock --help` write the locks anew.
WITHOUT_ARGUMENTS = frozenset({"chart", "check", "format", "lock", "setup"})

# Tests wait more than they compute, so that six files at a time keep two cores busy. A file stays
# together: its tests share servers. In the order of folders those that take minutes come first
# (acceptance, faults, backfills), and the many short ones of tests/unit fill what is left; by
# number of tests it would be the other way round.
IN_PARALLEL = ("--numprocesses", "6", "--dist", "loadfile", "--no-loadscope-reorder")

LINTERS = (
    ("ruff", "check"),
    ("ruff", "format", "--check"),
    ("mypy",),
    ("lint-imports",),
)
UV_COMPILE = (
    "pip",
    "compile",
    "pyproject.toml",
    "--universal",
    "--generate-hashes",
    "--no-header",
    "--no-annotate",
    "--no-emit-index-url",
    # Ours, and installed from their folders.
    "--no-emit-package=trainmaster",
    "--no-emit-package=trainmaster-client",
    "--no-emit-package=trainmaster-demo",
    "--no-emit-package=trainmaster-sandbox",
    # With it `import jsonschema` builds 38 parsers, 3 s each time, to judge IRIs. We have none.
    "--no-emit-package=rfc3987-syntax",
    "--no-emit-package=lark",
    "--quiet",
    "--python-version",
    ".".join(map(str, OLDEST_PYTHON)),
)


def main(arguments: list[str]) -> int:
    """Runs one command; returns its exit code."""
    if sys.version_info < OLDEST_PYTHON:
        found = ".".join(map(str, sys.version_info[:3]))
        print(f"dev.py: needs Python 3.11 or newer, this is {found}", file=sys.stderr)
        return 2
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(USAGE, end="")
        return 0 if arguments else 2
    command, *rest = arguments
    is_for_chart = (command, rest) == ("setup", ["chart"])
    if command in WITHOUT_ARGUMENTS and rest and not is_for_chart:
        print(
            f"dev.py: {command} does not take: {' '.join(rest)}\n\n{USAGE}", end="", file=sys.stderr
        )
        return 2
    if command == "lock":
        return lock()
    # Or each process of the hundreds that tests start would compile what it imports anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    try:
        if command == "bench":
            set_up(BENCH_VENV, BENCH_LOCK)
            if why := set_up_node():
                print(f"dev.py: BullMQ and Bee-Queue are left out: {why}", file=sys.stderr)
        else:
            set_up()
        if command == "chart" or is_for_chart:
            set_up_lock(CHART_VENV, CHART_LOCK, "350 MB")
    except subprocess.CalledProcessError as exc:
        print(f"dev.py: setting up failed at: {' '.join(map(str, exc.cmd))}", file=sys.stderr)
        return 1
    return carry_out(command, rest)


def carry_out(command: str, rest: list[str]) -> int:
    """Runs a command that needs an environment; returns its exit code."""
    match command:
        case "setup":
            code = 0
        case "bench":
            code = run("python", "-m", "benchmarks", *rest, venv=BENCH_VENV)
        case "test":
            code = run("pytest", *rest) if rest else test_in_parallel()
        case "faults":
            code = run("python", "-m", "tests.faults", *rest)
        case "chart":
            code = run(
                "pytest",
                "tests/acceptance/test_chart.py",
                "tests/acceptance/test_chart_autoscaling.py",
                "tests/acceptance/test_chart_values.py",
                "tests/unit/tools/test_chart.py",
            )
        case "mutate":
            code = run("python", "-m", "tools.mutation", *rest)
        case "sbom":
            code = run("python", "-m", "tools.sbom", *rest)
        case "check":
            code = max(run(*linter) for linter in LINTERS)
        case "format":
            code = max(run("ruff", "check", "--fix"), run("ruff", "format"))
        case _:
            become("trainmaster", command, *rest)
    return code


def set_up(venv: Path = VENV, lock_file: Path = LOCK) -> None:
    """Makes an environment hold exactly what its lock says, and the project.

    It does nothing where the environment does so already.

    Raises:
        subprocess.CalledProcessError: a step failed; it has said why.
    """
    install = set_up_lock(venv, lock_file, "1.6 GB")
    project = venv / "project"
    pyprojects = [folder / "pyproject.toml" for folder in PROJECTS]
    if read(project) != fingerprint(*pyprojects):
        # The build backend comes from the lock too, so nothing unhashed is ever fetched.
        editable = [argument for folder in PROJECTS for argument in ("--editable", folder)]
        offline = ("--no-index", "--no-deps", "--no-build-isolation")
        subprocess.run([*install, *offline, *editable], check=True)
        project.write_text(fingerprint(*pyprojects))


def set_up_lock(venv: Path, lock_file: Path, size: str) -> list[str | Path]:
    """Makes an environment hold what its lock says, and uv; returns its `pip install`.

    Raises:
        subprocess.CalledProcessError: a step failed; it has said why.
    """
    install: list[str | Path] = [
        venv / "bin" / "pip",
        "-qq",
        "--disable-pip-version-check",
        "install",
    ]
    locked = venv / "locked"
    if read(locked) != fingerprint(lock_file):
        print(f"dev.py: setting up {venv.name}, a minute or two and {size}", file=sys.stderr)
        shutil.rmtree(venv, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        only_locked = ("--require-hashes", "--no-deps", "-r")
        try:
            # pip compiles all modules, which takes longer than all else; few are ever imported.
            subprocess.run([*install, *only_locked, SETUP_LOCK], check=True)
            uv = (venv / "bin" / "uv", "pip", "install", "--quiet")
            environment = os.environ | uv_environment(venv / "bin" / "pip")
            into = ("--python", venv / "bin" / "python")
            subprocess.run([*uv, *into, *only_locked, lock_file], check=True, env=environment)
        except subprocess.CalledProcessError:
            print("dev.py: uv failed, so pip installs it, which takes longer", file=sys.stderr)
            subprocess.run([*install, *only_locked, lock_file], check=True)
        locked.write_text(fingerprint(lock_file))
    return install


def uv_environment(pip: Path) -> dict[str, str]:
    """Returns what uv needs to reach the index that pip is configured for.

    In variables, for an address may hold a password. Those that are set already stay.
    """
    listed = subprocess.run([pip, "config", "list"], capture_output=True, text=True, check=False)
    configured = dict(line.split("=", 1) for line in listed.stdout.splitlines() if "=" in line)
    found = {}
    # What `pip install` reads; each outweighs the one before it.
    for section in ("global", "install", ":env:"):
        for option, variable in PIP_IN_UV.items():
            value = configured.get(f"{section}.{option}")
            if value is not None and variable not in os.environ:
                found[variable] = str(ast.literal_eval(value))
    return found


def set_up_node(folder: Path = NODE_QUEUES) -> str:
    """Makes the queues of Node hold what their lock says; returns why not, empty if they do."""
    package_lock, locked = folder / "package-lock.json", folder / "node_modules" / "locked"
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None or node_version(node) < OLDEST_NODE:
        locked.unlink(missing_ok=True)
        return f"they need Node {'.'.join(map(str, OLDEST_NODE))} or newer, and npm"
    if read(locked) == fingerprint(package_lock):
        return ""
    print("dev.py: setting up the queues of Node, 37 MB", file=sys.stderr)
    locked.unlink(missing_ok=True)
    try:
        subprocess.run([npm, "ci", "--silent"], cwd=folder, check=True, timeout=NPM_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return "npm ci failed"
    locked.write_text(fingerprint(package_lock))
    return ""


def node_version(node: str) -> tuple[int, ...]:
    """Returns the version of a Node, all zeros where it tells none."""
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    number = said.strip().removeprefix("v").partition("-")[0]
    return tuple(map(int, number.split("."))) if number.replace(".", "").isdigit() else (0, 0, 0)


def fingerprint(*files: Path) -> str:
    """Returns what changes when one of `files`, this folder or this Python does."""
    digest = hashlib.sha256(f"{sys.version}\n{ROOT}\n".encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def read(file: Path) -> str:
    """Returns a file's text, empty where there is none."""
    return file.read_text() if file.exists() else ""


def lock() -> int:
    """Writes the locks anew with uv, in an environment of its own; returns the exit code."""
    tools = ROOT / ".venv-lock"
    if not (tools / "bin" / "uv").exists():
        subprocess.run([sys.executable, "-m", "venv", tools], check=True)
        subprocess.run([tools / "bin" / "pip", "--quiet", "install", "uv"], check=True)
    uv = tools / "bin" / "uv"
    shipped = ("--extra", "gateway", "--extra", "tracing")
    extras = ("--extra", "demo", "--extra", "parquet", "--extra", "report", *shipped)
    everything = (*UV_COMPILE, *extras, "--group", "dev", "--output-file", LOCK)
    # The images get the same versions that the tests ran with.
    same = (*UV_COMPILE, "--constraint", LOCK)
    # One image runs workers and gateways.
    worker_only = (*same, *shipped, "--output-file", WORKER_LOCK)
    sandbox_too = (*same, "--extra", "sandbox", "--output-file", SANDBOX_LOCK)
    # What the benchmarks compare with must not change what is compared: all else stays the same.
    peers = (*same, *extras, "--group", "bench", "--override", BENCH_OVERRIDES)
    peers_too = (*peers, "--output-file", BENCH_LOCK)
    # Of our own requirements nothing is wanted there.
    of_the_chart = tuple(each for each in same if each != "pyproject.toml")
    chart_only = (*of_the_chart, "--group", "chart", "--output-file", CHART_LOCK)
    uv_only = (*of_the_chart, "--group", "setup", "--output-file", SETUP_LOCK)
    for compile_lock in (everything, worker_only, sandbox_too, peers_too, chart_only, uv_only):
        code = subprocess.run([uv, *compile_lock], cwd=ROOT, check=False).returncode
        if code:
            return code
    return 0


def test_in_parallel() -> int:
    """Runs all tests in several processes; returns the exit code of pytest."""
    # pytest rewrites the asserts of all tests, which takes half a minute. Once for all processes,
    # or in a fresh checkout each of them would do it. What it says comes again in the run itself.
    if not (ROOT / "tests" / "__pycache__").exists():
        print("dev.py: pytest --collect-only", file=sys.stderr)
        collect = (VENV / "bin" / "pytest", "--collect-only")
        subprocess.run(collect, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
    return run("pytest", *IN_PARALLEL)


def run(name: str, *arguments: str, venv: Path = VENV) -> int:
    """Runs a program of an environment; returns its exit code."""
    print(f"dev.py: {name} {' '.join(arguments)}".rstrip(), file=sys.stderr)
    return subprocess.run([venv / "bin" / name, *arguments], cwd=ROOT, check=False).returncode


def become(name: str, *arguments: str) -> NoReturn:
    """Replaces this process with a program of `.venv`, so that signals reach it."""
    program = str(VENV / "bin" / name)
    os.execv(program, [program, *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
