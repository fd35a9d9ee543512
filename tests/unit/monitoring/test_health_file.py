"""The file of probes without HTTP."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from worker.monitoring.health_file import TOUCH_SECONDS, HealthFile

ROOT = Path(__file__).parents[3]


def image_says(file: Path) -> bool:
    """Tells what the image's own HEALTHCHECK makes of a file."""
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    command = next(line for line in lines if "TRAINMASTER_HEALTH_FILE" in line and "CMD" in line)
    return (
        subprocess.run(
            ["/bin/sh", "-c", command.strip().removeprefix("CMD ")],
            env={**os.environ, "TRAINMASTER_HEALTH_FILE": str(file)},
            check=False,
        ).returncode
        == 0
    )


def test_the_images_check_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "healthy"
    file = HealthFile(path)
    assert not image_says(path)
    file.show(is_well=True)
    assert image_says(path)
    aged = path.stat().st_mtime - 4 * TOUCH_SECONDS
    os.utime(path, (aged, aged))
    assert not image_says(path)
    file.show(is_well=True)
    assert image_says(path)
    file.show(is_well=False)
    assert not image_says(path)
    assert not path.exists()


@pytest.mark.parametrize("is_well", [True, False])
def test_where_it_cant_be_written_that_is_told_once(tmp_path: Path, is_well: bool) -> None:
    (tmp_path / "file").touch()
    file = HealthFile(tmp_path / "file" / "healthy")
    with capture_logs() as lines:
        for _ in range(3):
            file.show(is_well=is_well)
    assert [line["event"] for line in lines] == ["monitoring.file_unwritable"]


def test_where_it_cant_be_written_once_more_that_is_told_once_more(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    file = HealthFile(folder / "healthy")
    told = []
    for is_there in (False, True, True, False, False):
        if is_there != folder.is_dir():
            (folder.mkdir if is_there else partial(shutil.rmtree, folder))()
        with capture_logs() as lines:
            file.show(is_well=True)
        told.append(len(lines))
    assert told == [1, 0, 0, 1, 0]
