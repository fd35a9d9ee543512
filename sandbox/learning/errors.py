"""Every error of the learning part, in one tree.

::

    LearningError
    ├── UnreadableMediaError    no picture can be read from these bytes or this file
    ├── FrameRangeError         the asked frames are not all in the item
    ├── ImportFolderError       the user's folder can't be imported; names the file and the field
    ├── TrainingJobError        the job file, its samples or its warm start can't be used
    └── WeightsError            the file holds no weights of ours, or of another model
"""

from __future__ import annotations


class LearningError(Exception):
    """The message is one sentence for the user."""


class UnreadableMediaError(LearningError):
    """No picture can be read from these bytes or this file."""


class FrameRangeError(LearningError):
    """The asked frames are not all in the item."""


class ImportFolderError(LearningError):
    """The user's folder can't be imported; the message names the file and the field."""


class TrainingJobError(LearningError):
    """The job file, its samples or its warm start can't be used."""


class WeightsError(LearningError):
    """The file holds no weights of ours, or of another model."""
