"""The raw results: what was measured, when, on which machine; kept beside the page made of them."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from benchmarks.contenders import node_queues
from benchmarks.testbed import ROOT
from worker.embedded import find_servers

if TYPE_CHECKING:
    from benchmarks.plan import Plan

Records = list[dict[str, Any]]

_PACKAGES: Final = (
    "celery",
    "redis",
    "hiredis",
    "httpx",
    "aiohttp",
    "encord",
    "requests",
    "arq",
    "dramatiq",
    "rq",
    "saq",
    "taskiq",
    "taskiq-redis",
    "uvloop",
)


class Results:
    """One JSON file: a scenario's name -> its last run.

    Args:
        file: read if it is there.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.runs: dict[str, dict[str, Any]] = (
            orjson.loads(file.read_bytes()) if file.exists() else {}
        )

    def put(self, scenario: str, plan: Plan, records: Records) -> None:
        """Keeps a run in place of the scenario's last one."""
        self.runs[scenario] = {
            "measured": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "short": plan.short,
            "machine": machine(plan),
            "records": records,
        }
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_bytes(orjson.dumps(self.runs) + b"\n")

    def records(self, scenario: str) -> Records:
        """Returns what a scenario's last run measured; empty where there was none."""
        found: Records = self.runs.get(scenario, {}).get("records", [])
        return found


def commit() -> str:
    """Returns what was measured: the commit, with a plus where files had been changed since."""
    described = subprocess.run(
        ("git", "describe", "--always", "--dirty=+"),  # noqa: S607 - git is where PATH says
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip()


def machine(plan: Plan) -> dict[str, Any]:
    """Returns what the figures depend on besides the code."""
    server = next(iter(find_servers()), None)
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "worker_core": plan.cores.worker,
        "other_core": plan.cores.rest,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "node": node_queues.version(),
        "redis_server": _version(server) if server else "",
        "packages": dict(filter(None, map(_package, _PACKAGES))) | node_queues.packages(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(server: Path) -> str:
    said = subprocess.run(  # noqa: S603 - the server that the runs used
        (server, "--version"), capture_output=True, text=True, check=True
    ).stdout
    number = next(word for word in said.split() if word.startswith("v="))
    return f"{server.name} {number.removeprefix('v=')}"


def _package(name: str) -> tuple[str, str] | None:
    try:
        return name, metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
