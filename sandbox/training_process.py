"""One training in a process of its own: its folder, its job file, its progress."""

from __future__ import annotations

import asyncio
import logging
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

from sandbox.learning.ground_truth import sample
from sandbox.learning.job import PROGRESS_FILE, TrainingJob, read_progress
from sandbox.state import write_whole
from schemas.enums import ModelArchitecture

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.catalogue import Catalogue
    from sandbox.records import LossLog, Model, Training
    from sandbox.state import StateFolder

_WARM_START = "warm_start.safetensors"
_log = logging.getLogger(__name__)


MOST_PARALLEL = 16
"""Trainings at one time; each has a thread that waits for its end."""


@dataclass(frozen=True, slots=True)
class Trained:
    """How a process ended."""

    succeeded: bool
    duration_seconds: int
    loss_log: LossLog


class TrainingProcess:
    """Prepares and runs `sandbox.learning.training`; ends with this process, however it ends."""

    def __init__(self, state: StateFolder, catalogue: Catalogue) -> None:
        self._state = state
        self._catalogue = catalogue
        self._waiters = ThreadPoolExecutor(MOST_PARALLEL, thread_name_prefix="training")

    async def run(self, training: Training, model: Model) -> Trained:
        """Trains and returns how it went; a cancelled call kills the process."""
        begun = time.monotonic()
        folder = self._state.training_folder(training.uuid)
        job = folder / "job.json"
        write_whole(job, self._job(training, model).model_dump_json().encode())
        # Of a run that a restart cut off.
        (folder / PROGRESS_FILE).unlink(missing_ok=True)
        process = _started(job, folder / "log.txt")
        ended = asyncio.get_running_loop().run_in_executor(self._waiters, process.wait)
        try:
            code = await asyncio.shield(ended)
        finally:
            if process.poll() is None:
                process.kill()
            await ended
            cast("IO[bytes]", process.stdin).close()
        if code != 0:
            _log.warning("training %s failed, see %s", training.uuid, folder / "log.txt")
        return Trained(
            succeeded=code == 0 and self._state.weights_file(training.uuid).exists(),
            duration_seconds=round(time.monotonic() - begun),
            loss_log=self.loss_log(training.uuid),
        )

    def prepare(self, training: Training) -> None:
        """Makes the training's folder and copies the weights that it starts from.

        A copy, so that deleting the earlier training does not harm this one while it waits.
        """
        folder = self._state.training_folder(training.uuid)
        folder.mkdir(parents=True, exist_ok=True)
        if training.pretrained_training_uuid:
            earlier = self._state.weights_file(training.pretrained_training_uuid)
            shutil.copyfile(earlier, folder / _WARM_START)

    def forget(self, training_uuid: str) -> None:
        """Deletes the training's files."""
        shutil.rmtree(self._state.training_folder(training_uuid), ignore_errors=True)

    def loss_log(self, training_uuid: str) -> LossLog:
        """Returns the loss of each epoch so far."""
        return read_progress(self._state.training_folder(training_uuid))

    def _job(self, training: Training, model: Model) -> TrainingJob:
        folder = self._state.training_folder(training.uuid)
        warm_start = folder / _WARM_START
        labels = [self._catalogue.labels[uuid] for uuid in training.label_uuids]
        return TrainingJob(
            architecture=ModelArchitecture(model.architecture),
            features=list(model.features),
            batch_size=training.batch_size,
            epochs=training.epochs,
            samples=[
                sample(
                    label.item.file,
                    label.item.truth,
                    training.features_mapping[label.project.project_uuid],
                )
                for label in labels
            ],
            warm_start=str(warm_start) if warm_start.exists() else None,
            out_dir=str(folder),
            cache_dir=str(self._state.cache),
        )


def _started(job: Path, log_file: Path) -> subprocess.Popen[bytes]:
    """Starts the process of a training.

    Not by asyncio: uvloop forks in a way that runs hooks, and JAX, which predictions load, warns of
    a deadlock in its hook. `subprocess` runs none, and needs no copy of this process.
    """
    with log_file.open("wb") as log:
        return subprocess.Popen(  # noqa: S603 - this Python, a file of ours
            [
                sys.executable,
                "-P",
                "-m",
                "sandbox.child_process",
                "sandbox.learning.training",
                str(job),
            ],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
        )
