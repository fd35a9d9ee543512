"""Where every training stands, who waits for it, and what makes it go on.

A state is asked for far more often than it changes, so it is kept in memory and only a change is
written. Real trainings queue for a process; the others, made by fault rules, are timers.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sandbox.records import Training, TrainingEffect, TrainingState, now_us

if TYPE_CHECKING:
    from sandbox.records import Iteration, LossLog
    from sandbox.store import Store
    from sandbox.training_process import TrainingProcess

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Watched:
    """A training as the status route needs it; `ended` is there while someone waits."""

    model_uuid: str
    state: TrainingState
    ended: asyncio.Event | None = None
    timer: asyncio.TimerHandle | None = None


class Trainings:
    """All trainings that are not deleted."""

    def __init__(self, store: Store, process: TrainingProcess, parallel: int) -> None:
        self._store = store
        self._process = process
        self._parallel = parallel
        self._watched: dict[str, _Watched] = {}
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._runners: list[asyncio.Task[None]] = []
        self._processes: dict[str, asyncio.Task[None]] = {}
        self._closing = False

    def start(self) -> None:
        """Takes up what the last run left: trainings begin anew, timers go on."""
        for training in list(self._store.kept_trainings()):
            self._watch(training)
        self._runners = [asyncio.create_task(self._run_queue()) for _ in range(self._parallel)]

    async def stop(self) -> None:
        """Kills what trains; it begins anew at the next start."""
        self.release()
        tasks = [*self._runners, *self._processes.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def release(self) -> None:
        """Lets everyone who waits go, so that their connections can be closed."""
        self._closing = True
        for watched in self._watched.values():
            if watched.ended:
                watched.ended.set()

    def create(self, training: Training) -> None:
        """Keeps a new training and sets it going."""
        if training.effect.trains:
            self._process.prepare(training)
        self._store.add_training(training)
        self._watch(training)

    def state(self, model_uuid: str, training_uuid: str) -> TrainingState | None:
        """Returns where a training of the model stands, None where there is no such one."""
        watched = self._watched.get(training_uuid)
        return watched.state if watched and watched.model_uuid == model_uuid else None

    async def wait(self, training_uuid: str, timeout_seconds: float) -> None:
        """Returns when the training has ended or the time is up."""
        watched = self._watched[training_uuid]
        if watched.state.ended or timeout_seconds <= 0 or self._closing:
            return
        watched.ended = watched.ended or asyncio.Event()
        try:
            async with asyncio.timeout(timeout_seconds):
                await watched.ended.wait()
        except TimeoutError:
            return

    def forget(self, training_uuid: str) -> None:
        """Drops a deleted training, ends its process and deletes its files."""
        watched = self._watched.pop(training_uuid)
        if watched.timer:
            watched.timer.cancel()
        if watched.ended:
            watched.ended.set()
        if task := self._processes.get(training_uuid):
            task.cancel()
        self._process.forget(training_uuid)

    def of_model(self, model_uuid: str) -> list[str]:
        """Returns the uuids of a model's trainings."""
        return [uuid for uuid, kept in self._watched.items() if kept.model_uuid == model_uuid]

    def so_far(self, iteration: Iteration) -> Iteration:
        """Returns a training that has not ended with its losses and seconds so far."""
        if iteration.state.ended:
            return iteration
        running = iteration.state is TrainingState.RUNNING
        return replace(
            iteration,
            duration_seconds=(now_us() - iteration.created_at_us) // 1_000_000,
            loss_log=self._process.loss_log(iteration.uuid) if running else {},
        )

    def _watch(self, training: Training) -> None:
        watched = _Watched(training.model_uuid, training.state)
        self._watched[training.uuid] = watched
        if training.state.ended:
            return
        match training.effect:
            case TrainingEffect.NORMAL | TrainingEffect.SLOW:
                self._move(training.uuid, TrainingState.QUEUED)
                self._queue.put_nowait(training.uuid)
            case TrainingEffect.SIMULATED:
                watched.timer = self._timer(training, TrainingState.DONE)
            case TrainingEffect.FAILING:
                watched.timer = self._timer(training, TrainingState.ERROR)
            case TrainingEffect.STALLED:
                pass

    def _timer(self, training: Training, state: TrainingState) -> asyncio.TimerHandle:
        end_us = training.created_at_us + round(training.effect_seconds * 1_000_000)
        rest_seconds = max(0.0, (end_us - now_us()) / 1_000_000)
        duration_seconds = round(training.effect_seconds)
        return asyncio.get_running_loop().call_later(
            rest_seconds, self._end, training.uuid, state, duration_seconds, {}
        )

    async def _run_queue(self) -> None:
        while True:
            uuid = await self._queue.get()
            if uuid not in self._watched:
                continue
            # A task of its own, so that a deletion can cancel it and not the runner.
            task = asyncio.create_task(self._run(uuid))
            self._processes[uuid] = task
            try:
                await asyncio.wait([task])
            finally:
                del self._processes[uuid]
            if not task.cancelled() and (exc := task.exception()):
                _log.error("training %s could not be run", uuid, exc_info=exc)
                self._end(uuid, TrainingState.ERROR, 0, {})

    async def _run(self, uuid: str) -> None:
        training = self._store.training(uuid)
        model = self._store.model(training.model_uuid) if training else None
        if training is None or model is None:
            return
        self._move(uuid, TrainingState.RUNNING)
        trained = await self._process.run(training, model)
        await asyncio.sleep(training.effect_seconds)
        duration_seconds = trained.duration_seconds + round(training.effect_seconds)
        state = TrainingState.DONE if trained.succeeded else TrainingState.ERROR
        self._end(uuid, state, duration_seconds, trained.loss_log)

    def _move(self, uuid: str, state: TrainingState) -> None:
        watched = self._watched[uuid]
        if watched.state is not state:
            self._store.move_training(uuid, state)
            watched.state = state

    def _end(
        self, uuid: str, state: TrainingState, duration_seconds: int, loss_log: LossLog
    ) -> None:
        watched = self._watched.get(uuid)
        if watched is None:
            return
        self._store.end_training(uuid, state, duration_seconds, loss_log)
        watched.state = state
        watched.timer = None
        if watched.ended:
            watched.ended.set()
            watched.ended = None
