"""The client in programs of others: its wheel alone, and the examples as they stand."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
import zipfile
from importlib.metadata import requires
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest
from packaging.requirements import Requirement

from tests.console import running_worker, wait_until
from tests.integration.client.told import Told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.console import Served

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "client" / "examples"
NEEDS = ("orjson", "redis")
SECONDS = 180


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client's wheel."""
    folder = tmp_path_factory.mktemp("dist")
    built = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps"]
    offline = ["--no-index", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*built, *offline, ROOT / "client"], check=True, capture_output=True)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def alone(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the client and what it needs, and nothing else of ours."""
    folder = tmp_path_factory.mktemp("alone")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    (site,) = (folder / "env").glob("lib/python*/site-packages")
    for name in NEEDS:
        spec = find_spec(name)
        assert spec is not None
        assert spec.submodule_search_locations is not None
        (place,) = spec.submodule_search_locations
        (site / name).symlink_to(place)
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
    return folder / "env" / "bin" / "python"


def test_the_wheel_holds_the_client_alone_and_needs_two_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        tops = {name.partition("/")[0] for name in packed.namelist()}
        assert "trainmaster_client/py.typed" in packed.namelist()
    assert {top for top in tops if not top.endswith(".dist-info")} == {"trainmaster_client"}
    needed = {Requirement(each).name for each in requires("trainmaster-client") or ()}
    assert needed == set(NEEDS)
    assert wheel.stat().st_size < 100_000


def test_it_works_in_a_program_that_has_schemas_and_a_worker_of_its_own(
    alone: Path, served: Served, tmp_path: Path
) -> None:
    (tmp_path / "schemas.py").write_text("MINE = 1\n")
    (tmp_path / "worker").mkdir()
    (tmp_path / "worker" / "__init__.py").write_text("MINE = 2\n")
    (tmp_path / "program.py").write_text(
        "import sys, schemas, worker\n"
        "from trainmaster_client import Client\n"
        "client = Client(sys.argv[1], namespace=sys.argv[2])\n"
        "print(sorted(client.run('list_models', {})), schemas.MINE, worker.MINE)\n"
    )
    url = served.console.environment["TRAINMASTER_REDIS_URL"]
    done = subprocess.run(
        [alone, tmp_path / "program.py", url, served.console.namespace],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['models'] 1 2\n"


@pytest.fixture(scope="module")
def defaults(system: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a worker with the default namespace, as the examples expect it."""
    console = type(system.console)(
        system.console.environment["TRAINMASTER_REDIS_URL"],
        "trainmaster",
        **{
            name: system.console.environment[name]
            for name in ("ENCORD_DOMAIN", "ENCORD_SSH_KEY_FILE")
        },
        TRAINMASTER_RESULT_STORE=str(tmp_path_factory.mktemp("store")),
    )
    with running_worker(console, tmp_path_factory.mktemp("log") / "worker.log"):
        yield console.environment


def test_the_script_and_the_consumer_run_as_they_stand(
    alone: Path, defaults: dict[str, str]
) -> None:
    environment = {**defaults, "PYTHONPATH": ""}
    script = subprocess.run(
        [alone, EXAMPLES / "script.py"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env=environment,
    )
    assert script.returncode == 0, script.stderr
    first, *ends = script.stdout.splitlines()
    assert first.endswith(" models")
    # They run at one time: which of them ends first is anybody's guess.
    assert sorted(ends) == [f"report-{number} succeeded" for number in range(3)]
    consumer = subprocess.Popen(
        [alone, EXAMPLES / "consumer.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    assert consumer.stdout is not None
    seen = ""
    while "report-2 succeeded" not in seen:
        line = consumer.stdout.readline()
        assert line, seen
        seen += line
    consumer.send_signal(signal.SIGTERM)
    assert consumer.wait(SECONDS) == 0, consumer.stdout.read()
    consumer.stdout.close()


def test_the_fastapi_service_submits_waits_and_tells(
    defaults: dict[str, str], tmp_path: Path
) -> None:
    socket = tmp_path / "socket"
    server = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--uds", str(socket)],
        cwd=EXAMPLES,
        env=defaults,
    )
    try:
        wait_until(lambda: server.poll() is not None or socket.exists(), "the service")
        transport = httpx.HTTPTransport(uds=str(socket))
        with httpx.Client(transport=transport, base_url="http://it", timeout=SECONDS) as http:
            assert "models" in http.get("/models").json()
            taken = http.post("/trainings", json={"model_uuid": "none"})
            assert taken.status_code == 202
            assert uuid.UUID(taken.json()["id"])
            assert http.get(f"/commands/{uuid.uuid4()}").status_code == 404
    finally:
        server.terminate()
        server.wait(SECONDS)


DJANGO = """
import django
from django.conf import settings
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    TRAINMASTER_REDIS_URL=__import__("os").environ["TRAINMASTER_REDIS_URL"],
)
django.setup()
from django.db import connection, transaction
import django_models
with connection.schema_editor() as editor:
    editor.create_model(django_models.Dataset)
try:
    with transaction.atomic():
        django_models.create_dataset("rolled back")
        raise ValueError
except ValueError:
    pass
django_models.create_dataset("kept")
"""


def test_with_django_only_what_is_committed_is_submitted(
    redis_url: str, defaults: dict[str, str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DJANGO],
        cwd=EXAMPLES,
        env=defaults,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = Told(redis_url, "trainmaster")
    try:
        wait_until(lambda: bool(_titles(told)), "the command's end")
        assert _titles(told) == ["kept"]
    finally:
        told.close()


def _titles(told: Told) -> list[Any]:
    entries: Any = told.redis.xrange(told.names.events())
    events = [orjson.loads(fields[b"event"]) for _, fields in entries]
    return [
        event["data"]["result"]["model_group"]["title"]
        for event in events
        if event["type"] == "create_model.succeeded" and event["subject"].startswith("dataset-")
    ]
