"""The three predictions."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING

from sandbox.attachments import find_attachment
from sandbox.errors import BadRequestError, InvalidRequestError, NotFoundError
from sandbox.inference import Asked
from sandbox.models import check_trained, require_model
from sandbox.serialization import Reply, model_type, ok
from sandbox.validation import check_feature, check_prediction, parse_body, parse_uuid
from schemas import api
from schemas.enums import IterationPolicy, ModelType

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.catalogue import Catalogue
    from sandbox.endpoint import Call
    from sandbox.inference import Inference
    from sandbox.records import Attachment, Training
    from sandbox.store import Store
    from sandbox.validation import PredictRequest

_DEFAULT_RDP = 0.005


class PredictionOperations:
    """Predictions on an item of the project, or on what the request brings."""

    def __init__(self, store: Store, catalogue: Catalogue, inference: Inference) -> None:
        self._store = store
        self._catalogue = catalogue
        self._inference = inference

    async def classify(self, call: Call) -> Reply:
        """predict_classification."""
        body = parse_body(api.PredictClassificationRequest, call.body)
        asked = self._asked(call, body, ModelType.CLASSIFICATION)
        return ok(await self._inference.classify(asked, conf=body.conf_thresh))

    async def detect(self, call: Call) -> Reply:
        """predict_object_detection."""
        body = parse_body(api.PredictObjectDetectionRequest, call.body)
        asked = self._asked(call, body, ModelType.OBJECT_DETECTION)
        return ok(
            await self._inference.detect(
                asked, conf=body.conf_thresh, iou=body.iou_thresh, tracked=body.allocation_enabled
            )
        )

    async def segment(self, call: Call) -> Reply:
        """predict_instance_segmentation."""
        body = parse_body(api.PredictInstanceSegmentationRequest, call.body)
        asked = self._asked(call, body, ModelType.SEGMENTATION)
        return ok(
            await self._inference.segment(
                asked,
                conf=body.conf_thresh,
                iou=body.iou_thresh,
                rdp=_DEFAULT_RDP if body.rdp_thresh is None else body.rdp_thresh,
                tracked=body.allocation_enabled,
            )
        )

    def _asked(self, call: Call, body: PredictRequest, task: ModelType) -> Asked:
        check_prediction(body)
        attachment = find_attachment(self._store, self._catalogue, call)
        model = require_model(self._store, attachment.model_uuid)
        if model_type(model) is not task:
            message = f"a model of type {model_type(model)} can't be asked for {task}"
            raise BadRequestError(message)
        training = self._training(call, attachment)
        source, source_id = self._source(body, attachment.project_uuid)
        return Asked(
            training_uuid=training.uuid,
            features={
                name: check_feature(attachment.project_uuid, feature_hash, model, self._catalogue)
                for name, feature_hash in attachment.features_mapping.items()
            },
            project_uuid=attachment.project_uuid,
            source=source,
            source_id=source_id,
            first=body.frame_range_from,
            last=body.frame_range_to,
        )

    def _training(self, call: Call, attachment: Attachment) -> Training:
        uuid = parse_uuid("trainingUuid", call.path["training"])
        training = self._store.training(uuid)
        if training is None or training.model_uuid != attachment.model_uuid:
            message = f"the attached model has no training {uuid}"
            raise NotFoundError(message)
        manual = attachment.iteration_policy == IterationPolicy.MANUAL_SELECTION
        if manual and uuid not in (attachment.training_uuids or ()):
            message = f"training {uuid} is not one of those selected by the attachment"
            raise NotFoundError(message)
        check_trained(training)
        return training

    def _source(self, body: PredictRequest, project_uuid: str) -> tuple[Path | bytes, str]:
        if body.data_base64 is not None:
            data = _decoded(body.data_base64)
            return data, hashlib.sha256(data).hexdigest()
        item = self._catalogue.project_item(project_uuid, str(body.data_uuid))
        if item is None:
            message = f"dataUuid: the project has no item {body.data_uuid}"
            raise BadRequestError(message)
        return item.file, item.data_uuid


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as exc:
        message = "not base64"
        raise InvalidRequestError.of("body", "dataBase64", message, "value_error") from exc
