"""One command of each type, as it may stand on the stream; the documents show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import JsonValue

MODEL_UUID = "2f1c8a52-6f0f-4a57-9a0b-1f0a4d6c9e01"
TRAINING_UUID = "7d9e4b13-0c55-4d0e-8c61-52a3f6b7d802"
PROJECT_UUID = "c4a7e6f0-93d1-4b7f-a1c5-0e8d2b3f4a03"
PROJECT_MODEL_UUID = "91b3d5e7-2468-4ace-b135-7f9e0d1c2b04"
LABEL_UUID = "58f6c1d2-a3b4-4c5d-9e6f-708192a3b405"
DATA_UUID = "e0d1c2b3-a495-4867-8594-a3b2c1d0e006"

_ITERATION: dict[str, JsonValue] = {"model_uuid": MODEL_UUID, "training_uuid": TRAINING_UUID}

COMMAND_EXAMPLES: dict[str, dict[str, JsonValue]] = {
    "create_model": {
        "type": "create_model",
        "id": "model-cars-1",
        "data": {"features": ["car", "person"], "model": "fasterRcnn", "title": "Street"},
    },
    "get_model": {"type": "get_model", "data": {"model_uuid": MODEL_UUID}},
    "list_models": {
        "type": "list_models",
        "data": {"order_by": "title", "order_asc": True, "query": "street"},
    },
    "update_model": {
        "type": "update_model",
        "data": {"model_uuid": MODEL_UUID, "title": "Street, night"},
    },
    "delete_model": {"type": "delete_model", "data": {"model_uuid": MODEL_UUID}},
    "train": {
        "specversion": "1.0",
        "source": "/shop",
        "id": "train-street-7",
        "type": "train",
        "correlationid": "order-4711",
        "replyto": "shop",
        "data": {
            "model_uuid": MODEL_UUID,
            "batch_size": 8,
            "epochs": 20,
            "features_mapping": {PROJECT_UUID: {"aBcD1234": ["car"], "eFgH5678": ["person"]}},
            "labels_uuids": [LABEL_UUID],
            "pretrained_weights_type": "fasterRcnnR50Fpn3X",
        },
    },
    "watch_training": {
        "type": "watch_training",
        "data": {**_ITERATION, "timeout_seconds": 3600},
    },
    "get_training_data": {"type": "get_training_data", "data": _ITERATION},
    "get_weights_download_link": {"type": "get_weights_download_link", "data": _ITERATION},
    "delete_training_iteration": {"type": "delete_training_iteration", "data": _ITERATION},
    "attach": {
        "type": "attach",
        "id": "attach-street-1",
        "data": {
            "project_uuid": PROJECT_UUID,
            "model_uuid": MODEL_UUID,
            "features_mapping": {"car": "aBcD1234", "person": "eFgH5678"},
            "iteration_policy": "useLatest",
        },
    },
    "list_attachments": {"type": "list_attachments", "data": {"project_uuid": PROJECT_UUID}},
    "update_attachment": {
        "type": "update_attachment",
        "data": {
            "project_uuid": PROJECT_UUID,
            "project_model_uuid": PROJECT_MODEL_UUID,
            "features_mapping": {"car": "aBcD1234"},
            "iteration_policy": "manualSelection",
            "training_uuids": [TRAINING_UUID],
        },
    },
    "detach": {
        "type": "detach",
        "data": {"project_uuid": PROJECT_UUID, "project_model_uuid": PROJECT_MODEL_UUID},
    },
    "backfill": {
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
    },
    "cancel": {"type": "cancel", "data": {"command_id": "train-street-7"}},
    "resolve": {
        "type": "resolve",
        "data": {"command_id": "train-street-7", "created": TRAINING_UUID, "by": "on call"},
    },
    "predict": {
        "type": "predict",
        "id": "predict-street-0001",
        "priority": "bulk",
        "deadline": "2027-01-31T12:00:00Z",
        "data": {
            "task": "object_detection",
            "project_uuid": PROJECT_UUID,
            "project_model_uuid": PROJECT_MODEL_UUID,
            "training_uuid": TRAINING_UUID,
            "data_uuid": DATA_UUID,
            "frame_range_from": 0,
            "frame_range_to": 9,
            "conf_thresh": 0.5,
            "allocation_enabled": True,
        },
    },
}
