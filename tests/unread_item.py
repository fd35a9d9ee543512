"""A command that every worker can carry out: it fails at once, and without a call of the API."""

from __future__ import annotations

from typing import Final

NOBODY: Final = "00000000-0000-4000-8000-000000000000"
# Nobody may read such a file.
DATA: Final = {
    "task": "classification",
    "data_path": "/nowhere",
    "project_uuid": NOBODY,
    "project_model_uuid": NOBODY,
    "training_uuid": NOBODY,
}
