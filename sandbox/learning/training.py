"""Trains one model in its own process: `python -m sandbox.learning.training JOB.json`.

Writes into the job's `out_dir`, each file whole or not at all:

- `progress.json` after every epoch: `{"epoch": 2, "epochs": 20, "loss": {"1": 0.93, "2": 0.71}}`
- `weights.safetensors` at the end

Exits with 0 when the weights are there, with 1 and one line on stderr when they are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from schemas.enums import ModelArchitecture
from sandbox.learning.truth import Sample

if TYPE_CHECKING:
    from pathlib import Path


class TrainingJob(BaseModel):
    """What JOB.json holds; write it with `model_dump_json()`."""

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
    """Where compiled steps are kept for the next training of the same shape."""


def train(job: TrainingJob) -> Path:
    """Trains and returns the path of the weights.

    Raises:
        TrainingJobError: the samples or the warm start can't be used.
        UnreadableMediaError: a sample's file can't be read.
    """
    raise SystemExit(job)
