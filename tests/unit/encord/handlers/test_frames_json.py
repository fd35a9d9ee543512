"""What an event says of frames is what pydantic writes of them, byte for byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import TypeAdapter

from schemas.api import (
    ClassificationFrames,
    ClassificationItem,
    DetectionFrames,
    DetectionItem,
    SegmentationFrames,
    SegmentationItem,
)
from worker.encord.handlers.predict import frames_json

FOUND: dict[str, Any] = {
    "color": "#D33115",
    "confidence": 0.9375,
    "createdAt": "2025-11-25T12:00:00Z",
    "createdBy": "model@example.com",
    "featureId": "Zk3Xw9P0",
    "manualAnnotation": False,
    "name": "Traffic light",
    "objectId": "o7Rb2mQ0",
    "value": "traffic_light",
    "newerThanUs": 1,
}
BOX = {"h": 0.21875, "w": 0.1875, "x": -0.0, "y": 1}
CLASS: dict[str, Any] = {
    "classificationUuid": "B7F4E9D2-5a11-4c6e-8d2b-111111111111",
    "confidence": 0.5,
    "createdAt": "2025-11-25T12:00:00",
    "createdBy": "model@example.com",
    "featureIdChild": "child",
    "featureIdParent": "parent",
    "manualAnnotation": True,
    "name": "day",
    "value": "day",
}


@pytest.mark.parametrize(
    "change",
    [
        *({"createdAt": time} for time in (
            "2025-11-25T12:00:00",
            "2025-11-25 12:00:00.12+02:00",
            "2025-11-25T12:00:00.000001-05:30",
            "2025-11-25",
            "0001-01-01T00:00:00Z",
            1764072000.25,
        )),
        *({"confidence": number} for number in (
            1, 0.1 + 0.2, 1e-7, 1e16, 1e22, 5e-324, 1.7976931348623157e308, float("inf"), "0.5",
        )),
        *({"name": text} for text in ("é", "\u2028\x7f", "\"\\/\n\t\x01", "😀", "")),
    ],
    ids=str,
)  # fmt: skip
def test_objects_are_written_as_pydantic_writes_them(change: dict[str, Any]) -> None:
    found = {**FOUND, **change}
    boxed, outlined = {**found, "boundingBox": BOX}, {**found, "polygon": [{"x": 0.5, "y": 1e-9}]}
    boxes = TypeAdapter(dict[int, list[DetectionItem]])
    detected = DetectionFrames.model_validate_json(reply({"0": [boxed, boxed], "7": []})).result
    assert frames_json(boxes, detected) == boxes.dump_json(detected)
    outlines = TypeAdapter(dict[int, list[SegmentationItem]])
    segmented = SegmentationFrames.model_validate_json(reply({"3": [outlined]})).result
    assert frames_json(outlines, segmented) == outlines.dump_json(segmented)


def test_classes_are_written_as_pydantic_writes_them() -> None:
    classes = TypeAdapter(dict[int, ClassificationItem | None])
    # The last is beyond 64 bits.
    frames = reply({"0": CLASS, "1": None, "-3": CLASS, "99999999999999999999": None})
    found = ClassificationFrames.model_validate_json(frames).result
    written = frames_json(classes, found)
    assert written == classes.dump_json(found)
    assert list(json.loads(written)) == ["0", "1", "-3", "99999999999999999999"]
    assert json.loads(written)["0"]["classification_uuid"] == CLASS["classificationUuid"].lower()
    assert json.loads(written)["0"]["created_at"] == "2025-11-25T12:00:00Z"


def reply(frames: dict[str, Any]) -> str:
    return json.dumps({"result": frames})
