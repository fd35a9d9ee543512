"""Disks that are full: the gateway says so and lives, and goes on once there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.console import wait_until
from tests.integration.gateway.conftest import GOOD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import ServeGateway

DISK_BYTES = 2_000_000
START = {
    "task": "object_detection",
    "project_uuid": "00000000-0000-4000-8000-000000000001",
    "project_model_uuid": "00000000-0000-4000-8000-000000000002",
    "training_uuid": "00000000-0000-4000-8000-000000000003",
}
CSV = {"content-type": "text/csv"}
MANIFEST = b"data_path\n" + b"/data/one.png\n" * 10


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES},nr_inodes=100", "tmpfs", str(folder)]
    if os.geteuid() or mount is None or umount is None:
        pytest.skip("only root may mount a disk")
    if subprocess.run([mount, *options], check=False).returncode:
        pytest.skip("nobody may mount a disk here")
    try:
        yield folder
    finally:
        subprocess.run([umount, "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Writes a file that leaves no room; returns it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return ballast


def upload(gateway: GatewayServer, content: Any, name: str) -> httpx.Response:
    """Starts a backfill."""
    told = {**START, "id": name}
    return gateway.http.post("/v1/backfills", params=told, content=content, headers=CSV)


def assert_full(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["code"]) == (503, "uploads_unavailable")
    assert "is full" in answer.json()["detail"]


def test_a_manifest_for_which_there_is_no_room_is_refused_and_the_next_one_taken(
    serve_gateway: ServeGateway, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    with serve_gateway(gateway_uploads=str(tmp_path / "uploads")) as gateway:
        refused = upload(gateway, MANIFEST * 100_000, "large")
        assert_full(refused)
        assert upload(gateway, MANIFEST, "small").status_code == 202
        ballast = fill(disk)
        refused = upload(gateway, MANIFEST, "another")
        assert_full(refused)
        ballast.unlink()
        assert upload(gateway, MANIFEST, "another").status_code == 202


def test_uploads_for_which_there_is_no_room_leave_nothing_behind(
    serve_gateway: ServeGateway, disk: Path
) -> None:
    with serve_gateway(gateway_uploads=str(disk / "uploads")) as gateway:
        refused = upload(gateway, MANIFEST * 100_000, "large")
        assert_full(refused)
        assert [path for path in (disk / "uploads").rglob("*") if path.is_file()] == []
        assert upload(gateway, MANIFEST, "small").status_code == 202


def test_lists_say_that_their_disk_is_full_and_commands_are_taken_all_the_while(
    serve_gateway: ServeGateway, disk: Path
) -> None:
    ballast = fill(disk)
    with serve_gateway(gateway_folder=disk / "gateway") as gateway:
        wait_until(lambda: "is full" in gateway.http.get("/readyz").text, "the full disk")
        listed = gateway.http.get("/v1/commands")
        assert (listed.status_code, listed.json()["code"]) == (503, "read_model_unavailable")
        assert "is full" in listed.json()["detail"]
        json = {"content-type": "application/json"}
        assert gateway.http.post("/v1/commands", content=GOOD, headers=json).status_code == 202
        ballast.unlink()
        wait_until(lambda: gateway.http.get("/readyz").status_code == 200, "the lists")
        assert gateway.http.get("/v1/commands").status_code == 200


def test_lists_outlive_a_disk_that_becomes_full(serve_gateway: ServeGateway, disk: Path) -> None:
    json = {"content-type": "application/json"}
    with serve_gateway(gateway_folder=disk / "gateway") as gateway:
        wait_until(lambda: gateway.http.get("/readyz").status_code == 200, "the lists")
        ballast = fill(disk)
        sent = gateway.http.post("/v1/commands", content=GOOD, headers=json)
        assert sent.status_code == 202
        assert gateway.http.get("/v1/commands").status_code in {200, 503}
        assert gateway.http.get("/healthz").status_code == 200
        ballast.unlink()
        wait_until(lambda: gateway.http.get("/readyz").status_code == 200, "the lists")
        assert gateway.http.get("/v1/commands").status_code == 200
