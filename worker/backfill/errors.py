"""What stops a backfill, in words for its owner."""

from __future__ import annotations

from worker.redaction import redact_text


class BackfillError(Exception):
    """A backfill can't begin or go on; the message is for people, so no URL in it is whole."""

    def __init__(self, message: str = "") -> None:
        super().__init__(redact_text(message))


class SourceError(BackfillError):
    """The source can't be read, or not as what it is said to be."""


class SourceUnavailableError(SourceError):
    """The source can't be read at the moment; another try may."""


class EmptySourceError(SourceError):
    """The source holds nothing at all."""


class OutputError(BackfillError):
    """The results can't be written."""


class OddRecordError(BackfillError):
    """A result can't be read or written."""


class IdTakenError(BackfillError):
    """Another backfill has this id."""


class NewerPlanError(BackfillError):
    """The plan asks for what this version does not know: only a newer one may lead it."""


class LeadLostError(BackfillError):
    """Another process leads the backfill now; what this one was about to do was not done."""
