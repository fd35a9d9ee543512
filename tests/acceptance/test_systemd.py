"""The systemd units: systemd's own tools take them, and what they name is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.console import SCRIPT, Console
from tests.stub_api import StubApi
from worker.environment import secret_files
from worker.gateway_settings import GatewaySettings
from worker.settings import Settings, environment_names

FOLDER: Final = Path(__file__).parents[2] / "deploy" / "systemd"
UNITS: Final = sorted(FOLDER.glob("*.service"))
ANALYZE: Final = shutil.which("systemd-analyze") or ""
# Of 100; systemd calls what is below 50 "OK", and ours stand at 16.
MOST_EXPOSED: Final = 20
PROGRAM: Final = "/opt/trainmaster/bin/trainmaster"
TOKEN_DROP_IN: Final = FOLDER / "bearer-token.conf"
needs_systemd = pytest.mark.skipif(not ANALYZE, reason="systemd-analyze is not here")


def values(unit: Path, key: str) -> list[str]:
    """Returns what a unit sets by a key, in its order."""
    return re.findall(rf"^{key}=(.*)$", unit.read_text("utf-8"), re.MULTILINE)


def analyze(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ANALYZE, *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def with_token() -> list[tuple[str, str]]:
    """Returns what a worker's unit and the drop-in for a token say, in their order."""
    text = "".join(each.read_text("utf-8") for each in (UNITS[1], TOKEN_DROP_IN))
    return re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)


def test_there_are_a_worker_and_a_gateway() -> None:
    assert [unit.name for unit in UNITS] == [
        "trainmaster-gateway.service",
        "trainmaster-worker@.service",
    ]


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_takes_a_unit_without_a_word(unit: Path, tmp_path: Path) -> None:
    """Verified with the program of this environment in place of the one that is installed."""
    text = unit.read_text("utf-8")
    assert text.count(PROGRAM) == 1
    copy = tmp_path / unit.name.replace("@.", "@1.")
    copy.write_text(text.replace(PROGRAM, str(SCRIPT)))
    told = analyze("verify", "--man=no", copy)
    about_it = [line for line in told.stderr.splitlines() if "trainmaster" in line]
    assert (told.returncode, about_it) == (0, [])
    copy.write_text(copy.read_text("utf-8").replace("TimeoutStopSec=", "TimeoutStopSecs="))
    assert "TimeoutStopSecs" in analyze("verify", "--man=no", copy).stderr, "a mistake is seen"


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_shut_off_from_what_it_does_not_need(unit: Path) -> None:
    told = analyze("security", "--offline=yes", f"--threshold={MOST_EXPOSED}", unit)
    assert told.returncode == 0, told.stdout
    assert analyze("security", "--offline=yes", "--threshold=1", unit).returncode != 0


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_sets_what_are_settings_and_secrets_by_files_alone(unit: Path) -> None:
    is_gateway = "gateway" in unit.name
    settings = GatewaySettings if is_gateway else Settings
    known = {*environment_names(settings).values(), *secret_files(settings)}
    told = dict(each.split("=", 1) for each in values(unit, "Environment"))
    assert told.keys() <= known
    credentials = dict(each.split(":", 1) for each in values(unit, "LoadCredential"))
    files = {value.removeprefix("%d/") for value in told.values() if value.startswith("%d/")}
    assert files == credentials.keys()
    assert all(path.startswith("/etc/trainmaster/") for path in credentials.values())
    assert values(unit, "StateDirectory") == ["trainmaster"]
    folders = [value for value in told.values() if value.startswith("%S")]
    assert folders
    assert all(value.startswith("%S/trainmaster/") for value in folders)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_gives_time_to_stop_and_does_not_repeat_what_no_start_mends(unit: Path) -> None:
    (program,) = values(unit, "ExecStart")
    command = program.removeprefix(PROGRAM).split()
    asked = subprocess.run(
        [SCRIPT, *command, "--help"], capture_output=True, check=False, text=True, timeout=60
    )
    assert asked.returncode == 0
    (seconds,) = values(unit, "TimeoutStopSec")
    assert int(seconds) >= (60 if "gateway" in unit.name else 150)
    # What a wrong setting ends with, found out and not remembered.
    wrong = subprocess.run(
        [SCRIPT, *command],
        env={"PATH": str(Path(sys.executable).parent), "TRAINMASTER_REDIS_URL": "wrong"},
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert values(unit, "RestartPreventExitStatus") == [str(wrong.returncode)]
    assert "TRAINMASTER_REDIS_URL" in wrong.stderr


@needs_systemd
def test_systemd_takes_the_drop_in_for_a_token_without_a_word(tmp_path: Path) -> None:
    unit = tmp_path / "trainmaster-worker@.service"
    unit.write_text(UNITS[1].read_text("utf-8").replace(PROGRAM, str(SCRIPT)))
    folder = tmp_path / f"{unit.name}.d"
    folder.mkdir()
    drop_in = folder / TOKEN_DROP_IN.name
    drop_in.write_text(TOKEN_DROP_IN.read_text("utf-8"))

    def told() -> str:
        path = {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
        return analyze("verify", "--man=no", "trainmaster-worker@1.service", **path).stderr

    assert [line for line in told().splitlines() if "trainmaster" in line] == []
    drop_in.write_text(drop_in.read_text("utf-8").replace("LoadCredential=b", "LoadCredentials=b"))
    assert "LoadCredentials" in told(), "a mistake is seen"


def test_a_worker_with_the_drop_in_has_a_token_from_its_credential_and_no_key(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """As systemd merges: an empty list forgets what stood before, and variables are unset last."""
    credentials: dict[str, str] = {}
    variables: dict[str, str] = {}
    for key, value in with_token():
        if key == "LoadCredential" and not value:
            credentials.clear()
        elif key == "LoadCredential":
            name, path = value.split(":", 1)
            credentials[name] = path
        elif key == "Environment":
            name, content = value.split("=", 1)
            variables[name] = content
    for key, value in with_token():
        if key == "UnsetEnvironment":
            del variables[value]
    assert credentials == {
        "redis-url": "/etc/trainmaster/redis-url",
        "bearer-token": "/etc/trainmaster/bearer-token",
    }
    (tmp_path / "redis-url").write_text(redis_url)
    (tmp_path / "bearer-token").write_text("a-token-of-encord\n")
    told = {
        name: value.replace("%d", str(tmp_path)).replace("%S", str(tmp_path))
        for name, value in variables.items()
        if "%i" not in value
    }
    with StubApi() as api:
        worker = Console("", namespace, **told, ENCORD_DOMAIN=api.url)
        done = worker.run("doctor", without=("TRAINMASTER_REDIS_URL",))
    assert done.code == 0, done
    assert api.recorded, done
    assert {each.headers["authorization"] for each in api.recorded} == {"Bearer a-token-of-encord"}
