"""What really happened: every call counted, and everything that was created.

Counters live in memory and start anew with the process or at `DELETE /sandbox/truth`; what was
created comes from the database, and stays.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING, Literal, TypeAlias

import orjson

from sandbox.records import iso, now_us

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.faults import Operation
    from sandbox.records import Attachment, Model, Training
    from sandbox.store import Store

Outcome: TypeAlias = int | Literal["reset", "truncated"]
"""What the client was sent: a status, or what was done to the connection."""

_WINDOW_SECONDS = 1.0
_KEPT_SECONDS = 3600
"""How far back the rate of the last N seconds can be asked for."""

_FINGERPRINT_LENGTH = 16


class CallLog:
    """Counts calls as they come and as they end."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._answers: dict[str, Outcome] = {}
        self._running = 0
        self.reset()

    def reset(self) -> None:
        """Starts all counters anew."""
        self._since_us = now_us()
        self._calls: defaultdict[Operation, Counter[Outcome]] = defaultdict(Counter)
        self._begun: Counter[Operation] = Counter()
        self._carried_out: Counter[Operation] = Counter()
        self._window: deque[float] = deque()
        self._fullest_window = 0
        self._most_running = self._running
        self._first: float | None = None
        self._last = 0.0
        self._by_second: Counter[int] = Counter()

    def begin(self, operation: Operation) -> None:
        """Counts a call that has arrived."""
        now = self._clock()
        self._begun[operation] += 1
        self._running += 1
        self._most_running = max(self._most_running, self._running)
        self._window.append(now)
        while self._window[0] <= now - _WINDOW_SECONDS:
            self._window.popleft()
        self._fullest_window = max(self._fullest_window, len(self._window))
        self._first = now if self._first is None else self._first
        self._last = now
        self._by_second[int(now)] += 1
        if len(self._by_second) > _KEPT_SECONDS:
            del self._by_second[next(iter(self._by_second))]

    def end(self, operation: Operation, outcome: Outcome, created: str | None) -> None:
        """Counts a call's end; `created` is the uuid of what it made, if it made anything."""
        self._running -= 1
        self._calls[operation][outcome] += 1
        if created:
            self._carried_out[operation] += 1
            self._answers[created] = outcome

    def told(self, *, last_seconds: int, with_created: bool) -> dict[str, object]:
        """Returns everything counted; the rate also over the `last_seconds`."""
        told: dict[str, object] = {
            "since": iso(self._since_us),
            "total": sum(self._begun.values()),
            "calls": {op.value: self._told_calls(op) for op in self._begun},
            "rate": self._told_rate(last_seconds),
            "concurrent": {"now": self._running, "maximum": self._most_running},
        }
        if with_created:
            told["created"] = self._told_created()
        return told

    def _told_calls(self, operation: Operation) -> dict[str, object]:
        told: dict[str, object] = {
            "total": self._begun[operation],
            "by_status": {str(key): count for key, count in self._calls[operation].items()},
        }
        if self._carried_out[operation]:
            told["carried_out"] = self._carried_out[operation]
        return told

    def _told_rate(self, last_seconds: int) -> dict[str, object]:
        total = sum(self._begun.values())
        span = self._last - self._first if self._first is not None else 0.0
        # Whole seconds before the current one, which is not over yet.
        now = int(self._clock())
        recent = sum(self._by_second[second] for second in range(now - last_seconds, now))
        return {
            "maximum_in_one_second": self._fullest_window,
            "mean_per_second": round(total / span, 3) if span else float(total),
            "last_seconds": last_seconds,
            "mean_per_second_in_last_seconds": round(recent / last_seconds, 3),
        }

    def _told_created(self) -> dict[str, object]:
        made = self._store.ever_made()
        return {
            "models": [self._told_model(model, gone) for model, gone in made.models],
            "trainings": [self._told_training(one, gone) for one, gone in made.trainings],
            "attachments": [self._told_attachment(one, gone) for one, gone in made.attachments],
        }

    def _told_model(self, model: Model, deleted_at_us: int | None) -> dict[str, object]:
        return {
            "model_uuid": model.uuid,
            "title": model.title,
            "description": model.description,
            "model": model.architecture,
            "features": model.features,
            "fingerprint": _fingerprint(
                model.title, model.description, model.architecture, model.features
            ),
            **self._told_life(model.uuid, model.created_at_us, deleted_at_us),
        }

    def _told_training(self, training: Training, deleted_at_us: int | None) -> dict[str, object]:
        return {
            "training_uuid": training.uuid,
            "model_uuid": training.model_uuid,
            "batch_size": training.batch_size,
            "epochs": training.epochs,
            "labels_uuids": training.label_uuids,
            "pretrained_training_uuid": training.pretrained_training_uuid,
            "state": training.state,
            "effect": training.effect,
            "fingerprint": _fingerprint(
                training.model_uuid,
                training.batch_size,
                training.epochs,
                training.features_mapping,
                training.label_uuids,
                training.pretrained_training_uuid,
                training.pretrained_weights_type,
            ),
            **self._told_life(training.uuid, training.created_at_us, deleted_at_us),
        }

    def _told_attachment(self, one: Attachment, deleted_at_us: int | None) -> dict[str, object]:
        return {
            "project_model_uuid": one.uuid,
            "project_uuid": one.project_uuid,
            "model_uuid": one.model_uuid,
            "iteration_policy": one.iteration_policy,
            "features_mapping": one.features_mapping,
            "training_uuids": one.training_uuids,
            "fingerprint": _fingerprint(
                one.project_uuid,
                one.model_uuid,
                one.iteration_policy,
                one.features_mapping,
                one.training_uuids,
            ),
            **self._told_life(one.uuid, one.created_at_us, deleted_at_us),
        }

    def _told_life(
        self, uuid: str, created_at_us: int, deleted_at_us: int | None
    ) -> dict[str, object]:
        answer = self._answers.get(uuid)
        return {
            "created_at": iso(created_at_us),
            "deleted_at": iso(deleted_at_us) if deleted_at_us else None,
            # None: the process ended before it answered, or has been started since.
            "answered": str(answer) if answer is not None else None,
        }


def _fingerprint(*asked: object) -> str:
    """Returns what is the same for everything that was asked for in the same words."""
    text = orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:_FINGERPRINT_LENGTH]
