"""The tables of the database, and what their rows mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from sandbox.records import (
    Attachment,
    Iteration,
    Model,
    Training,
    TrainingEffect,
    TrainingState,
)

if TYPE_CHECKING:
    import sqlite3

VERSION = 1
"""Of the tables; a database of another one is refused."""
SCHEMA = f"""
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
PRAGMA user_version = {VERSION};
"""
TRAINING_COLUMNS = (
    "uuid, model, created_at, batch_size, epochs, features_mapping, labels, pretrained_training,"
    " pretrained_weights, effect, effect_seconds, state, duration, loss_log"
)
ITERATION_COLUMNS = "uuid, created_at, batch_size, epochs, state, duration, loss_log"
MODEL_COLUMNS = "uuid, created_at, title, description, architecture, features"
ATTACHMENT_COLUMNS = "uuid, project, model, created_at, policy, features_mapping, trainings"


def to_text(value: object) -> str:
    """Returns a list or a mapping as it stands in a column."""
    return orjson.dumps(value).decode()


def to_model(row: sqlite3.Row) -> Model:
    """Returns the model that a row holds."""
    return Model(
        uuid=row["uuid"],
        created_at_us=row["created_at"],
        title=row["title"],
        description=row["description"],
        architecture=row["architecture"],
        features=tuple(orjson.loads(row["features"])),
    )


def to_training(row: sqlite3.Row) -> Training:
    """Returns the training that a row holds."""
    return Training(
        uuid=row["uuid"],
        model_uuid=row["model"],
        created_at_us=row["created_at"],
        batch_size=row["batch_size"],
        epochs=row["epochs"],
        features_mapping=orjson.loads(row["features_mapping"]),
        label_uuids=tuple(orjson.loads(row["labels"])),
        pretrained_training_uuid=row["pretrained_training"],
        pretrained_weights_type=row["pretrained_weights"],
        effect=TrainingEffect(row["effect"]),
        effect_seconds=row["effect_seconds"],
        state=TrainingState(row["state"]),
        duration_seconds=row["duration"],
        loss_log=orjson.loads(row["loss_log"]),
    )


def to_iteration(row: sqlite3.Row) -> Iteration:
    """Returns what the API tells of the training that a row holds."""
    return Iteration(
        uuid=row["uuid"],
        created_at_us=row["created_at"],
        batch_size=row["batch_size"],
        epochs=row["epochs"],
        state=TrainingState(row["state"]),
        duration_seconds=row["duration"],
        loss_log=orjson.loads(row["loss_log"]),
    )


def to_attachment(row: sqlite3.Row) -> Attachment:
    """Returns the attachment that a row holds."""
    trainings = row["trainings"]
    return Attachment(
        uuid=row["uuid"],
        project_uuid=row["project"],
        model_uuid=row["model"],
        created_at_us=row["created_at"],
        iteration_policy=row["policy"],
        features_mapping=orjson.loads(row["features_mapping"]),
        training_uuids=None if trainings is None else tuple(orjson.loads(trainings)),
    )
