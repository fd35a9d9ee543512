"""One training in a process of its own: its folder, its job file, its progress."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.learning.job import PROGRESS_FILE, TrainingJob, read_progress
from sandbox.learning.truth import sample
from sandbox.state import write_whole
from schemas.enums import ModelArchitecture

if TYPE_CHECKING:
    from sandbox.catalogue import Catalogue
    from sandbox.records import LossLog, Model, Training
    from sandbox.state import StateFolder

_WARM_START = "warm_start.safetensors"
_log = logging.getLogger(__name__)


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

    async def run(self, training: Training, model: Model) -> Trained:
        """Trains and returns how it went; a cancelled call kills the process."""
        begun = time.monotonic()
        folder = self._state.training_folder(training.uuid)
        job = folder / "job.json"
        write_whole(job, self._job(training, model).model_dump_json().encode())
        # Of a run that a restart cut off.
        (folder / PROGRESS_FILE).unlink(missing_ok=True)
        with (folder / "log.txt").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "sandbox.offspring", "sandbox.learning.training"),
                str(job),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        try:
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
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
