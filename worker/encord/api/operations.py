"""The names of the API's operations, as a request's method and path tell them; paths' templates."""

from __future__ import annotations

from typing import Final

OTHER: Final = "other"

_UUID_CHARACTERS: Final = 36
_MODELS: Final = "ml-models"
_PROJECTS: Final = "projects"
# By method, first part, number of parts, and the last part that is no UUID (or `predict`).
_OPERATIONS: Final = {
    ("POST", _MODELS, 1, "ml-models"): "create_model",
    ("GET", _MODELS, 1, "ml-models"): "list_models",
    ("GET", _MODELS, 2, ""): "get_model",
    ("PATCH", _MODELS, 2, ""): "update_model",
    ("DELETE", _MODELS, 2, ""): "delete_model",
    ("POST", _MODELS, 3, "trainings"): "create_training_job",
    ("GET", _MODELS, 5, "training"): "get_training_status",
    ("GET", _MODELS, 5, "training-data"): "get_training_data",
    ("GET", _MODELS, 5, "weights-link"): "get_weights_download_link",
    ("DELETE", _MODELS, 4, ""): "delete_training_iteration",
    ("POST", _PROJECTS, 3, "models-attachments"): "create_model_attachment",
    ("GET", _PROJECTS, 3, "models-attachments"): "list_model_attachments",
    ("PATCH", _PROJECTS, 4, ""): "update_model_attachment",
    ("DELETE", _PROJECTS, 4, ""): "delete_model_attachment",
    ("POST", _PROJECTS, 8, "classification"): "predict_classification",
    ("POST", _PROJECTS, 8, "object-detection"): "predict_object_detection",
    ("POST", _PROJECTS, 8, "instance-segmentation"): "predict_instance_segmentation",
}
OPERATIONS: Final = tuple(_OPERATIONS.values())


def template_of(path: str) -> str:
    """Returns a request's path with `{uuid}` for each one, so that there are few such paths."""
    parts = path.split("/")
    return "/".join("{uuid}" if len(part) == _UUID_CHARACTERS else part for part in parts)


def operation_of(method: str, path: str) -> str:
    """Returns the name of the operation that a request is; `other` where it is none.

    Args:
        method: of HTTP.
        path: below the API's base, like `/ml-models/1f0c…`.
    """
    parts = path[1:].split("/")
    last = parts[-2] if parts[-1] == "predict" and len(parts) > 1 else parts[-1]
    if len(last) == _UUID_CHARACTERS:
        last = ""
    return _OPERATIONS.get((method, parts[0], len(parts), last), OTHER)
