"""Models, trainings and attachments in SQLite; what is deleted is only marked as such.

One connection, used by the event loop alone: a read or a write takes some 50 µs, less than the
way to another thread. WAL with `synchronous=NORMAL`: what was written survives `kill -9` of the
process; a power cut may lose the last moments, but leaves a whole database.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, NamedTuple

import orjson

from sandbox.errors import StateError
from sandbox.records import (
    Attachment,
    Iteration,
    Model,
    Training,
    TrainingEffect,
    TrainingState,
    now_us,
)
from schemas.enums import OrderBy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sandbox.records import LossLog

_VERSION = 1
_SCHEMA = f"""
CREATE TABLE model (
    seq INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, created_at INTEGER NOT NULL,
    title TEXT NOT NULL, description TEXT NOT NULL, architecture TEXT NOT NULL,
    features TEXT NOT NULL, deleted_at INTEGER
);
CREATE INDEX model_by_time ON model (created_at, seq) WHERE deleted_at IS NULL;
CREATE INDEX model_by_title ON model (title, seq) WHERE deleted_at IS NULL;
CREATE TABLE training (
    seq INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, model TEXT NOT NULL,
    created_at INTEGER NOT NULL, batch_size INTEGER NOT NULL, epochs INTEGER NOT NULL,
    features_mapping TEXT NOT NULL, labels TEXT NOT NULL, pretrained_training TEXT,
    pretrained_weights TEXT, effect TEXT NOT NULL, effect_seconds REAL NOT NULL,
    state TEXT NOT NULL, duration INTEGER NOT NULL, loss_log TEXT NOT NULL, deleted_at INTEGER
);
CREATE INDEX training_by_model ON training (model, state, seq) WHERE deleted_at IS NULL;
CREATE TABLE attachment (
    seq INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, project TEXT NOT NULL, model TEXT NOT NULL,
    created_at INTEGER NOT NULL, policy TEXT NOT NULL, features_mapping TEXT NOT NULL,
    trainings TEXT, deleted_at INTEGER
);
CREATE INDEX attachment_by_project ON attachment (project, seq) WHERE deleted_at IS NULL;
PRAGMA user_version = {_VERSION};
"""
_TRAINING = (
    "uuid, model, created_at, batch_size, epochs, features_mapping, labels, pretrained_training,"
    " pretrained_weights, effect, effect_seconds, state, duration, loss_log"
)
_ITERATION = "uuid, created_at, batch_size, epochs, state, duration, loss_log"
_MODEL = "uuid, created_at, title, description, architecture, features"
_ATTACHMENT = "uuid, project, model, created_at, policy, features_mapping, trainings"


class Place(NamedTuple):
    """Where a page ended: the last row's sort key and its number."""

    key: int | str
    seq: int


class Store:
    """The database of one state folder."""

    def __init__(self, file: Path) -> None:
        self._db = sqlite3.connect(file, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._db.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        elif version != _VERSION:
            message = f"{file} has version {version}, this sandbox writes {_VERSION}"
            raise StateError(message)

    def close(self) -> None:
        """Closes the database; nothing can be read or written after."""
        self._db.close()

    def add_model(self, model: Model) -> None:
        """Keeps a new model."""
        self._db.execute(
            f"INSERT INTO model ({_MODEL}) VALUES (?, ?, ?, ?, ?, ?)",
            (
                model.uuid,
                model.created_at_us,
                model.title,
                model.description,
                model.architecture,
                _text(model.features),
            ),
        )

    def model(self, uuid: str) -> Model | None:
        """Returns a model that is not deleted."""
        found = self._db.execute(
            f"SELECT {_MODEL} FROM model WHERE uuid = ? AND deleted_at IS NULL", (uuid,)
        ).fetchone()
        return _model(found) if found else None

    def models(
        self, order_by: OrderBy, *, ascending: bool, query: str, after: Place | None, limit: int
    ) -> list[tuple[Place, Model]]:
        """Returns up to `limit` models past `after` whose title holds `query`, in any case."""
        key = "title" if order_by is OrderBy.TITLE else "created_at"
        where, values = "deleted_at IS NULL", list[int | str]()
        if query:
            where += " AND instr(lower(title), lower(?)) > 0"
            values.append(query)
        if after:
            where += f" AND ({key}, seq) {'>' if ascending else '<'} (?, ?)"
            values += after
        way = "ASC" if ascending else "DESC"
        rows = self._db.execute(
            f"SELECT {key}, seq, {_MODEL} FROM model WHERE {where}"
            f" ORDER BY {key} {way}, seq {way} LIMIT ?",
            (*values, limit),
        )
        return [(Place(row[0], row[1]), _model(row[2:])) for row in rows]

    def rename_model(self, uuid: str, title: str, description: str) -> None:
        """Changes what people call a model."""
        self._db.execute(
            "UPDATE model SET title = ?, description = ? WHERE uuid = ?", (title, description, uuid)
        )

    def delete_model(self, uuid: str) -> None:
        """Deletes a model with its trainings and attachments."""
        now = now_us()
        with self._db:
            self._db.execute("BEGIN")
            for table, column in (("model", "uuid"), ("training", "model"), ("attachment", "model")):
                self._db.execute(
                    f"UPDATE {table} SET deleted_at = ? WHERE {column} = ? AND deleted_at IS NULL",
                    (now, uuid),
                )

    def add_training(self, training: Training) -> None:
        """Keeps a new training."""
        self._db.execute(
            f"INSERT INTO training ({_TRAINING}) VALUES ({', '.join('?' * 14)})",
            (
                training.uuid,
                training.model_uuid,
                training.created_at_us,
                training.batch_size,
                training.epochs,
                _text(training.features_mapping),
                _text(training.label_uuids),
                training.pretrained_training_uuid,
                training.pretrained_weights_type,
                training.effect,
                training.effect_seconds,
                training.state,
                training.duration_seconds,
                _text(training.loss_log),
            ),
        )

    def training(self, uuid: str) -> Training | None:
        """Returns a training that is not deleted."""
        found = self._db.execute(
            f"SELECT {_TRAINING} FROM training WHERE uuid = ? AND deleted_at IS NULL", (uuid,)
        ).fetchone()
        return _training(found) if found else None

    def iterations(self, model_uuid: str, states: Sequence[TrainingState]) -> list[Iteration]:
        """Returns a model's trainings in these states, the oldest first."""
        rows = self._db.execute(
            f"SELECT {_ITERATION} FROM training WHERE model = ? AND deleted_at IS NULL"
            f" AND state IN ({', '.join('?' * len(states))}) ORDER BY seq",
            (model_uuid, *states),
        )
        return [_iteration(row) for row in rows]

    def kept_trainings(self) -> Iterator[Training]:
        """Returns every training that is not deleted, the oldest first."""
        rows = self._db.execute(
            f"SELECT {_TRAINING} FROM training WHERE deleted_at IS NULL ORDER BY seq"
        )
        return (_training(row) for row in rows)

    def start_training(self, uuid: str) -> None:
        """Says that a training is at work now."""
        self._db.execute(
            "UPDATE training SET state = ? WHERE uuid = ?", (TrainingState.RUNNING, uuid)
        )

    def end_training(
        self, uuid: str, state: TrainingState, duration_seconds: int, loss_log: LossLog
    ) -> None:
        """Says how a training ended."""
        self._db.execute(
            "UPDATE training SET state = ?, duration = ?, loss_log = ? WHERE uuid = ?",
            (state, duration_seconds, _text(loss_log), uuid),
        )

    def delete_training(self, uuid: str) -> None:
        """Deletes a training."""
        self._delete("training", uuid)

    def add_attachment(self, attachment: Attachment) -> None:
        """Keeps a new attachment."""
        self._db.execute(
            f"INSERT INTO attachment ({_ATTACHMENT}) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                attachment.uuid,
                attachment.project_uuid,
                attachment.model_uuid,
                attachment.created_at_us,
                attachment.iteration_policy,
                _text(attachment.features_mapping),
                None if attachment.training_uuids is None else _text(attachment.training_uuids),
            ),
        )

    def attachment(self, project_uuid: str, uuid: str) -> Attachment | None:
        """Returns an attachment of a project that is not deleted."""
        found = self._db.execute(
            f"SELECT {_ATTACHMENT} FROM attachment"
            " WHERE uuid = ? AND project = ? AND deleted_at IS NULL",
            (uuid, project_uuid),
        ).fetchone()
        return _attachment(found) if found else None

    def attachments(
        self, project_uuid: str, *, after: Place | None, limit: int
    ) -> list[tuple[Place, Attachment]]:
        """Returns up to `limit` attachments of a project past `after`, the oldest first."""
        rows = self._db.execute(
            f"SELECT created_at, seq, {_ATTACHMENT} FROM attachment"
            " WHERE project = ? AND deleted_at IS NULL AND seq > ? ORDER BY seq LIMIT ?",
            (project_uuid, after.seq if after else 0, limit),
        )
        return [(Place(row[0], row[1]), _attachment(row[2:])) for row in rows]

    def change_attachment(self, attachment: Attachment) -> None:
        """Keeps the policy, the features and the trainings of a changed attachment."""
        trainings = None if attachment.training_uuids is None else _text(attachment.training_uuids)
        self._db.execute(
            "UPDATE attachment SET policy = ?, features_mapping = ?, trainings = ? WHERE uuid = ?",
            (
                attachment.iteration_policy,
                _text(attachment.features_mapping),
                trainings,
                attachment.uuid,
            ),
        )

    def delete_attachment(self, uuid: str) -> None:
        """Deletes an attachment."""
        self._delete("attachment", uuid)

    def ever_made(self) -> EverMade:
        """Returns everything that was ever created, with the time of its deletion or None."""
        return EverMade(
            models=[
                (_model(row[1:]), row[0])
                for row in self._db.execute(f"SELECT deleted_at, {_MODEL} FROM model ORDER BY seq")
            ],
            trainings=[
                (_training(row[1:]), row[0])
                for row in self._db.execute(
                    f"SELECT deleted_at, {_TRAINING} FROM training ORDER BY seq"
                )
            ],
            attachments=[
                (_attachment(row[1:]), row[0])
                for row in self._db.execute(
                    f"SELECT deleted_at, {_ATTACHMENT} FROM attachment ORDER BY seq"
                )
            ],
        )

    def _delete(self, table: str, uuid: str) -> None:
        self._db.execute(f"UPDATE {table} SET deleted_at = ? WHERE uuid = ?", (now_us(), uuid))


class EverMade(NamedTuple):
    """All that was created, deleted or not, each with the time of its deletion or None."""

    models: list[tuple[Model, int | None]]
    trainings: list[tuple[Training, int | None]]
    attachments: list[tuple[Attachment, int | None]]


def _text(value: object) -> str:
    return orjson.dumps(value).decode()


def _model(row: tuple) -> Model:
    return Model(*row[:5], tuple(orjson.loads(row[5])))


def _training(row: tuple) -> Training:
    return Training(
        *row[:5],
        orjson.loads(row[5]),
        tuple(orjson.loads(row[6])),
        *row[7:9],
        TrainingEffect(row[9]),
        row[10],
        TrainingState(row[11]),
        row[12],
        orjson.loads(row[13]),
    )


def _iteration(row: tuple) -> Iteration:
    return Iteration(*row[:4], TrainingState(row[4]), row[5], orjson.loads(row[6]))


def _attachment(row: tuple) -> Attachment:
    trainings = None if row[6] is None else tuple(orjson.loads(row[6]))
    return Attachment(*row[:5], orjson.loads(row[5]), trainings)
