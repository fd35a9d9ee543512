"""The command `backfill`: what it takes, gives back and looks like."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from schemas.declaration import DeclaredCommand
from schemas.enums import EventState, PartFormat, PredictTask, SourceFormat
from schemas.examples import PROJECT_MODEL_UUID, PROJECT_UUID, TRAINING_UUID
from schemas.parameters import (
    CommandData,
    Count,
    Name,
    ProjectModelUuid,
    ProjectUuid,
    Share,
    TrainingUuid,
)
from schemas.predictions import TASK
from schemas.wording import counted

_OF_ITEMS = "As of `predict`, for items that say nothing else."


ItemField = Literal[
    "data_uuid",
    "data_path",
    "data_base64",
    "frame_range_from",
    "frame_range_to",
    "conf_thresh",
    "iou_thresh",
    "allocation_enabled",
    "rdp_thresh",
]
"""What one item of a backfill may say of itself; the rest is the same for all."""


class BackfillData(CommandData):
    """Parameters of `backfill`."""

    task: PredictTask = Field(description=TASK)
    project_uuid: ProjectUuid
    project_model_uuid: ProjectModelUuid
    training_uuid: TrainingUuid
    source: Name = Field(
        description="Where the items stand: a file or a folder of images below the worker's data "
        "roots, or a URL that begins with one of its source URLs."
    )
    format: SourceFormat | None = Field(
        default=None, description="What the source is, where its name does not tell."
    )
    columns: dict[ItemField, Name] | None = Field(
        default=None,
        description="parameter of an item -> the source's column, where that has another name",
    )
    conf_thresh: Share | None = Field(default=None, description=_OF_ITEMS)
    iou_thresh: Share | None = Field(default=None, description=_OF_ITEMS)
    allocation_enabled: bool | None = Field(default=None, description=_OF_ITEMS)
    rdp_thresh: Annotated[float, Field(ge=0, le=0.01, allow_inf_nan=False)] | None = Field(
        default=None, description=_OF_ITEMS
    )
    max_failures: Count | None = Field(
        default=None, description="So many failed items pause the backfill."
    )
    max_failure_share: Share | None = Field(
        default=None,
        description="A larger share of failed items pauses the backfill, once 100 have ended.",
    )
    part_format: PartFormat = Field(
        default=PartFormat.JSONL, description="How the results are written."
    )
    item_events: bool = Field(
        default=False, description="Whether the end of each item is an event of its own, too."
    )


class FileWarning(BaseModel):
    """What is wrong with one of the last files of a backfill, and whether it is there at all."""

    file: str
    message: str
    written: bool


class BackfillResult(BaseModel):
    """Result of `backfill`: how many items ended how, and the folder or URL of the results."""

    items: int
    succeeded: int
    failed: int
    failures: dict[str, int]
    output: str
    seconds: float
    warnings: list[FileWarning] = []
    passed_over: dict[str, int] | None = Field(
        default=None, description="What a folder held besides items, by its kind."
    )


class Backfill(DeclaredCommand):
    """Predicts on all items of a source; the result counts them and says where theirs lie."""

    type: Literal["backfill"]
    data: BackfillData
    result = BackfillResult
    own_states = frozenset({EventState.PROGRESSED})
    example = {
        "type": "backfill",
        "id": "backfill-street-1",
        "data": {
            "task": "object_detection",
            "project_uuid": PROJECT_UUID,
            "project_model_uuid": PROJECT_MODEL_UUID,
            "training_uuid": TRAINING_UUID,
            "source": "/data/street/manifest.csv",
            "columns": {"data_path": "file"},
            "conf_thresh": 0.5,
            "max_failure_share": 0.1,
        },
    }

    @staticmethod
    def summary(result: dict[str, Any]) -> str:
        """Returns the result in a few words."""
        return f"{result['succeeded']} of {counted(result['items'], 'item')}"
