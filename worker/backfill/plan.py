"""What a backfill is to do, as it is kept in Redis from its first moment."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

from schemas.enums import PartFormat, SourceFormat
from schemas.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.backfills import BackfillData

WINDOW: Final = 2_000
PART_ITEMS: Final = 5_000
# A share of few items says little: one of two that failed is no half of a million.
SHARE_AFTER: Final = 100

STDIN: Final = "-"

_DEFAULTS: Final = ("conf_thresh", "iou_thresh", "allocation_enabled", "rdp_thresh")


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """Where the items stand.

    Attributes:
        location: a path, an fsspec URL, or `-` for standard input.
        columns: parameter of an item -> the source's column of another name.
    """

    location: str
    format: SourceFormat
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FailureLimits:
    """How many items may fail before a person has to look.

    Attributes:
        most: so many pause the backfill; None for no limit.
        largest_share: a larger share pauses it, once `SHARE_AFTER` items have ended.
    """

    most: int | None = None
    largest_share: float | None = None

    def reason(self, failed: int, ended: int) -> str:
        """Returns why a backfill with so many failures among its ends pauses, or nothing."""
        if self.most is not None and failed >= self.most:
            return f"{counted(failed, 'item')} failed; the limit is {self.most}"
        share = self.largest_share
        if share is not None and ended >= SHARE_AFTER and failed > share * ended:
            return f"{failed} of {ended} items failed; the limit is {share:.1%}"
        return ""


@dataclass(frozen=True, slots=True)
class Plan:
    """A backfill.

    Attributes:
        common: the data that all its predictions share.
        output: folder or fsspec URL of the results.
        window: most items that wait or run at the same time.
        part_items: items in one part of the results.
        item_events: whether the ends of items are events, too.
        context: attributes that each of its events repeats.
        reply_to: the stream that gets its events too.
    """

    common: Mapping[str, Any]
    source: SourcePlan
    output: str
    part_format: PartFormat = PartFormat.JSONL
    window: int = WINDOW
    part_items: int = PART_ITEMS
    limits: FailureLimits = field(default_factory=FailureLimits)
    item_events: bool = False
    context: Mapping[str, str | int | bool] = field(default_factory=dict)
    reply_to: str | None = None

    def json(self) -> bytes:
        """Returns the plan as it is kept."""
        return orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Returns a plan that was kept."""
        told = orjson.loads(text)
        source = told.pop("source")
        return cls(
            **{
                **told,
                "part_format": PartFormat(told["part_format"]),
                "limits": FailureLimits(**told["limits"]),
            },
            source=SourcePlan(**{**source, "format": SourceFormat(source["format"])}),
        )


def common_data(data: BackfillData) -> dict[str, Any]:
    """Returns what all predictions of a backfill share."""
    told = data.model_dump(mode="json")
    shared = {
        name: told[name] for name in ("task", "project_uuid", "project_model_uuid", "training_uuid")
    }
    return shared | {name: told[name] for name in _DEFAULTS if told[name] is not None}
