"""All commands: one class per type, declared in the module of its resource; together one union.

Parse raw bytes with `schemas.parsing.parse_command`, which also turns pydantic's findings into
problems that people can read.
"""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from schemas.attachments import AttachmentCommand
from schemas.backfills import Backfill
from schemas.control import ControlCommand
from schemas.declaration import DeclaredCommand
from schemas.models import ModelCommand
from schemas.predictions import Predict
from schemas.trainings import TrainingCommand

Command = Annotated[
    ModelCommand | TrainingCommand | AttachmentCommand | Backfill | ControlCommand | Predict,
    Field(discriminator="type"),
]

COMMAND_CLASSES: dict[str, type[DeclaredCommand]] = {
    each.command_type: each for each in get_args(get_args(Command)[0])
}
"""By type, in the order of the documents. What is known of a command stands in its class."""
