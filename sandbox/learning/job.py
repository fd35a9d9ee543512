"""What a training is told and what it tells; light to import, for whoever starts one."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from sandbox.learning.ground_truth import Sample
from schemas.enums import ModelArchitecture

if TYPE_CHECKING:
    from pathlib import Path

PROGRESS_FILE = "progress.json"
WEIGHTS_FILE = "weights.safetensors"


class TrainingJob(BaseModel):
    """What JOB.json holds; write it with `model_dump_json()`.

    Attributes:
        features: the model's features in their order; they define the output layer.
        samples: what to learn from, in the model's terms.
        warm_start: weights of an earlier training of the same model.
        out_dir: where progress and weights go; it is made.
        cache_dir: where compiled steps are kept for the next training of the same shape.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: ModelArchitecture
    features: list[str] = Field(min_length=1)
    batch_size: int = Field(ge=1)
    epochs: int = Field(ge=1)
    samples: list[Sample] = Field(min_length=1)
    warm_start: str | None = None
    out_dir: str
    seed: int = 0
    cache_dir: str | None = None


def read_progress(out_dir: Path) -> dict[str, float]:
    """Returns the mean loss by epoch so far, `{"1": 0.93, …}`; empty before the first ended."""
    try:
        losses: dict[str, float] = json.loads((out_dir / PROGRESS_FILE).read_bytes())
    except FileNotFoundError:
        return {}
    return losses


def write_whole(file: Path, content: bytes) -> None:
    """Writes a file so that no reader ever sees half of it."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.write_bytes(content)
    draft.replace(file)
