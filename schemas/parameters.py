"""What the parameters of several commands are made of."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

INT32_MAX = 2**31 - 1

Count = Annotated[int, Field(ge=1, le=INT32_MAX)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Name = Annotated[str, StringConstraints(min_length=1)]

ModelUuid = Annotated[UUID, Field(description="The model.")]
TrainingUuid = Annotated[UUID, Field(description="The training iteration.")]
ProjectUuid = Annotated[UUID, Field(description="The project.")]
ProjectModelUuid = Annotated[UUID, Field(description="The model as it is attached to the project.")]


class CommandData(BaseModel):
    """Parameters of a command; nothing unknown, nothing converted."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
