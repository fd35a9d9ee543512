"""What stops a backfill, in words for its owner."""

from __future__ import annotations

from worker.backfill.locations import shown_place
from worker.redaction import redact_text


class BackfillError(Exception):
    """A backfill can't begin or go on; the message is for people, so no URL in it is whole."""

    def __init__(self, message: str = "") -> None:
        super().__init__(redact_text(message))


class SourceError(BackfillError):
    """The source can't be read, or not as what it is said to be."""


class SourceUnavailableError(SourceError):
    """The source can't be read at the moment; another try may."""


class ShortSourceError(SourceError):
    """The source ends before the row that the backfill goes on behind: it was changed."""

    def __init__(self, location: str, called: str, last: int, reached: int) -> None:
        held = f"ends with {called} {last}" if last else "holds nothing any more"
        super().__init__(
            f"{shown_place(location)}: {held}, but {called} {reached} was read before: it is not "
            "what it was when the backfill began. Bring it back as it was, or cancel the backfill "
            "and begin another"
        )


class EmptySourceError(SourceError):
    """The source holds nothing at all."""


class OutputError(BackfillError):
    """The results can't be written."""


class OddRecordError(BackfillError):
    """A result can't be read or written."""


class IdTakenError(BackfillError):
    """Another backfill has this id."""


class UnreadableBackfillError(BackfillError):
    """What Redis keeps of a backfill can't be read: someone wrote over it."""

    def __init__(self, backfill_id: str, why: str) -> None:
        super().__init__(
            f"backfill {backfill_id} can't be read: {why}. Someone wrote over what Redis keeps of "
            "it; it goes on once that is put right"
        )


class NewerPlanError(BackfillError):
    """The plan asks for what this version does not know: only a newer one may lead it."""


class LeadLostError(BackfillError):
    """Another process leads the backfill now; what this one was about to do was not done."""
