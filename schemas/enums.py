"""Every choice of the contract and of the API, as string enumerations."""

from __future__ import annotations

from enum import StrEnum


class Priority(StrEnum):
    """How urgent a command is; `bulk` waits where `interactive` does not."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


class EventState(StrEnum):
    """What an event says about its command."""

    ACCEPTED = "accepted"
    STARTED = "started"
    PROGRESSED = "progressed"
    RETRYING = "retrying"
    IN_DOUBT = "in_doubt"
    RESOLVED = "resolved"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"


class PredictTask(StrEnum):
    """What a prediction looks for."""

    CLASSIFICATION = "classification"
    OBJECT_DETECTION = "object_detection"
    INSTANCE_SEGMENTATION = "instance_segmentation"


class SourceFormat(StrEnum):
    """What a backfill's source is."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    FOLDER = "folder"


class PartFormat(StrEnum):
    """How a backfill's results are written."""

    JSONL = "jsonl"
    PARQUET = "parquet"


class ModelArchitecture(StrEnum):
    """The network of a model."""

    FASTER_RCNN = "fasterRcnn"
    MASK_RCNN = "maskRcnn"
    RESNET_18 = "resnet18"
    RESNET_34 = "resnet34"
    RESNET_50 = "resnet50"
    RESNET_101 = "resnet101"
    RESNET_152 = "resnet152"
    VGG_16 = "vgg16"
    VGG_19 = "vgg19"


class ModelType(StrEnum):
    """What a model does; follows from its architecture."""

    CLASSIFICATION = "classification"
    OBJECT_DETECTION = "objectDetection"
    SEGMENTATION = "segmentation"


class IterationPolicy(StrEnum):
    """Which trained iterations of a model an attachment offers."""

    MANUAL_SELECTION = "manualSelection"
    USE_ALL = "useAll"
    USE_LATEST = "useLatest"


class PretrainedWeights(StrEnum):
    """Published weights that a training can start from."""

    FASTER_RCNN_R101_C43X = "fasterRcnnR101C43X"
    FASTER_RCNN_R101_DC53X = "fasterRcnnR101Dc53X"
    FASTER_RCNN_R101_FPN3X = "fasterRcnnR101Fpn3X"
    FASTER_RCNN_R50_C41X = "fasterRcnnR50C41X"
    FASTER_RCNN_R50_C43X = "fasterRcnnR50C43X"
    FASTER_RCNN_R50_DC51X = "fasterRcnnR50Dc51X"
    FASTER_RCNN_R50_DC53X = "fasterRcnnR50Dc53X"
    FASTER_RCNN_R50_FPN1X = "fasterRcnnR50Fpn1X"
    FASTER_RCNN_R50_FPN3X = "fasterRcnnR50Fpn3X"
    FASTER_RCNN_X101_32X8D_FPN3X = "fasterRcnnX10132X8DFpn3X"
    MASK_RCNN_R101_FPN3X = "maskRcnnR101Fpn3X"
    MASK_RCNN_R50_C41X = "maskRcnnR50C41X"
    MASK_RCNN_R50_C43X = "maskRcnnR50C43X"
    MASK_RCNN_X101_32X8D_FPN3X = "maskRcnnX10132X8DFpn3X"


class FeatureType(StrEnum):
    """The kind of an ontology's feature."""

    BOUNDING_BOX = "boundingBox"
    CLASSIFICATION_OPTION = "classificationOption"
    POLYGON = "polygon"


class ItemType(StrEnum):
    """The kind of a data item."""

    AUDIO = "audio"
    DICOM_FILE = "dicomFile"
    DICOM_SERIES = "dicomSeries"
    IMAGE = "image"
    IMAGE_GROUP = "imageGroup"
    IMAGE_SEQUENCE = "imageSequence"
    NIFTI = "nifti"
    PDF = "pdf"
    PLAIN_TEXT = "plainText"
    VIDEO = "video"


class OrderBy(StrEnum):
    """What a list of models is sorted by."""

    CREATED_AT = "createdAt"
    TITLE = "title"


class TrainingState(StrEnum):
    """What the API says about a training."""

    DONE = "done"
    ERROR = "error"
    PENDING = "pending"
