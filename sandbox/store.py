"""Models, trainings and attachments in SQLite; what is deleted is only marked as such.

One connection, used by the event loop alone: a read or a write takes some 50 µs, less than the
way to another thread. WAL with `synchronous=NORMAL`: what was written survives `kill -9` of the
process; a power cut may lose the last moments, but leaves a whole database.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from sandbox.errors import StateError
from sandbox.records import (
    Attachment,
    Iteration,
    Model,
    Training,
    TrainingState,
    now_us,
)
from sandbox.rows import (
    ATTACHMENT_COLUMNS,
    ITERATION_COLUMNS,
    MODEL_COLUMNS,
    SCHEMA,
    TRAINING_COLUMNS,
    VERSION,
    to_attachment,
    to_iteration,
    to_model,
    to_text,
    to_training,
)
from schemas.enums import OrderBy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sandbox.records import LossLog


class Place(NamedTuple):
    """Where a page ended: the last row's sort key and its number."""

    key: int | str
    seq: int


class Store:
    """The database of one state folder."""

    def __init__(self, file: Path) -> None:
        self._db = sqlite3.connect(file, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._db.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        elif version != VERSION:
            message = f"{file} has version {version}, this sandbox writes {VERSION}"
            raise StateError(message)

    def close(self) -> None:
        """Closes the database; nothing can be read or written after."""
        self._db.close()

    def add_model(self, model: Model) -> None:
        """Keeps a new model."""
        self._db.execute(
            f"INSERT INTO model ({MODEL_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",
            (
                model.uuid,
                model.created_at_us,
                model.title,
                model.description,
                model.architecture,
                to_text(model.features),
            ),
        )

    def model(self, uuid: str) -> Model | None:
        """Returns a model that is not deleted."""
        found = self._db.execute(
            f"SELECT {MODEL_COLUMNS} FROM model WHERE uuid = ? AND deleted_at IS NULL", (uuid,)
        ).fetchone()
        return to_model(found) if found else None

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
            f"SELECT seq, {MODEL_COLUMNS} FROM model WHERE {where}"
            f" ORDER BY {key} {way}, seq {way} LIMIT ?",
            (*values, limit),
        )
        return [(Place(row[key], row["seq"]), to_model(row)) for row in rows]

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
            for table, column in (
                ("model", "uuid"),
                ("training", "model"),
                ("attachment", "model"),
            ):
                self._db.execute(
                    f"UPDATE {table} SET deleted_at = ? WHERE {column} = ? AND deleted_at IS NULL",
                    (now, uuid),
                )

    def add_training(self, training: Training) -> None:
        """Keeps a new training."""
        self._db.execute(
            f"INSERT INTO training ({TRAINING_COLUMNS}) VALUES ({', '.join('?' * 14)})",
            (
                training.uuid,
                training.model_uuid,
                training.created_at_us,
                training.batch_size,
                training.epochs,
                to_text(training.features_mapping),
                to_text(training.label_uuids),
                training.pretrained_training_uuid,
                training.pretrained_weights_type,
                training.effect,
                training.effect_seconds,
                training.state,
                training.duration_seconds,
                to_text(training.loss_log),
            ),
        )

    def training(self, uuid: str) -> Training | None:
        """Returns a training that is not deleted."""
        found = self._db.execute(
            f"SELECT {TRAINING_COLUMNS} FROM training WHERE uuid = ? AND deleted_at IS NULL",
            (uuid,),
        ).fetchone()
        return to_training(found) if found else None

    def iterations(self, model_uuid: str, states: Sequence[TrainingState]) -> list[Iteration]:
        """Returns a model's trainings in these states, the oldest first."""
        rows = self._db.execute(
            f"SELECT {ITERATION_COLUMNS} FROM training WHERE model = ? AND deleted_at IS NULL"
            f" AND state IN ({', '.join('?' * len(states))}) ORDER BY seq",
            (model_uuid, *states),
        )
        return [to_iteration(row) for row in rows]

    def kept_trainings(self) -> Iterator[Training]:
        """Returns every training that is not deleted, the oldest first."""
        rows = self._db.execute(
            f"SELECT {TRAINING_COLUMNS} FROM training WHERE deleted_at IS NULL ORDER BY seq"
        )
        return (to_training(row) for row in rows)

    def move_training(self, uuid: str, state: TrainingState) -> None:
        """Says where a training that has not ended stands."""
        self._db.execute("UPDATE training SET state = ? WHERE uuid = ?", (state, uuid))

    def end_training(
        self, uuid: str, state: TrainingState, duration_seconds: int, loss_log: LossLog
    ) -> None:
        """Says how a training ended."""
        self._db.execute(
            "UPDATE training SET state = ?, duration = ?, loss_log = ? WHERE uuid = ?",
            (state, duration_seconds, to_text(loss_log), uuid),
        )

    def delete_training(self, uuid: str) -> None:
        """Deletes a training."""
        self._delete("training", uuid)

    def add_attachment(self, attachment: Attachment) -> None:
        """Keeps a new attachment."""
        self._db.execute(
            f"INSERT INTO attachment ({ATTACHMENT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                attachment.uuid,
                attachment.project_uuid,
                attachment.model_uuid,
                attachment.created_at_us,
                attachment.iteration_policy,
                to_text(attachment.features_mapping),
                None if attachment.training_uuids is None else to_text(attachment.training_uuids),
            ),
        )

    def attachment(self, project_uuid: str, uuid: str) -> Attachment | None:
        """Returns an attachment of a project that is not deleted."""
        found = self._db.execute(
            f"SELECT {ATTACHMENT_COLUMNS} FROM attachment"
            " WHERE uuid = ? AND project = ? AND deleted_at IS NULL",
            (uuid, project_uuid),
        ).fetchone()
        return to_attachment(found) if found else None

    def attachments(
        self, project_uuid: str, *, after: Place | None, limit: int
    ) -> list[tuple[Place, Attachment]]:
        """Returns up to `limit` attachments of a project past `after`, the oldest first."""
        rows = self._db.execute(
            f"SELECT seq, {ATTACHMENT_COLUMNS} FROM attachment"
            " WHERE project = ? AND deleted_at IS NULL AND seq > ? ORDER BY seq LIMIT ?",
            (project_uuid, after.seq if after else 0, limit),
        )
        return [(Place(row["created_at"], row["seq"]), to_attachment(row)) for row in rows]

    def change_attachment(self, attachment: Attachment) -> None:
        """Keeps the policy, the features and the trainings of a changed attachment."""
        trainings = (
            None if attachment.training_uuids is None else to_text(attachment.training_uuids)
        )
        self._db.execute(
            "UPDATE attachment SET policy = ?, features_mapping = ?, trainings = ? WHERE uuid = ?",
            (
                attachment.iteration_policy,
                to_text(attachment.features_mapping),
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
                (to_model(row), row["deleted_at"])
                for row in self._db.execute(
                    f"SELECT deleted_at, {MODEL_COLUMNS} FROM model ORDER BY seq"
                )
            ],
            trainings=[
                (to_training(row), row["deleted_at"])
                for row in self._db.execute(
                    f"SELECT deleted_at, {TRAINING_COLUMNS} FROM training ORDER BY seq"
                )
            ],
            attachments=[
                (to_attachment(row), row["deleted_at"])
                for row in self._db.execute(
                    f"SELECT deleted_at, {ATTACHMENT_COLUMNS} FROM attachment ORDER BY seq"
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
