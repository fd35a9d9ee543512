"""The tutorial, run as it stands, with fewer epochs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.console import TIMEOUT_SECONDS, Console, running_worker
from tests.sandbox_process import running_sandbox

if TYPE_CHECKING:
    from worker.embedded import EmbeddedRedis

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text("utf-8")
PROGRAM = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))


def test_the_tutorial_trains_attaches_and_predicts_and_run_again_trains_no_more(
    redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    program = PROGRAM.replace('"epochs": 10', '"epochs": 1')
    assert program != PROGRAM
    (tmp_path / "first.py").write_text(program)
    with running_sandbox(tmp_path / ".sandbox") as sandbox:
        console = Console(
            redis_server.url,
            # The program says none.
            "trainmaster",
            ENCORD_DOMAIN=sandbox.told["domain"],
            ENCORD_SSH_KEY_FILE=sandbox.told["key_file"],
            TRAINMASTER_RESULT_STORE=str(tmp_path / "results"),
        )
        with running_worker(console, tmp_path / "worker.log"):
            first, again = (_run(console, tmp_path) for _ in range(2))
        assert [line.split()[0] for line in first] == [
            *("model", "train.accepted", "train.started", "train.succeeded", "losses"),
            first[-1].split()[0],
        ]
        assert "heldout" in first[-1]
        assert again == first
        created = sandbox.truth()["created"]
        assert [len(created[kind]) for kind in ("models", "trainings", "attachments")] == [1, 1, 1]


def _run(console: Console, folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "first.py"],
        cwd=folder,
        env={**os.environ, **console.environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
