"""What a backfill is to do, as it is kept in Redis from its first moment."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import orjson

from schemas.enums import PartFormat, SourceFormat
from schemas.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.backfills import BackfillData

E = TypeVar("E", bound=StrEnum)

WINDOW: Final = 2_000
PART_ITEMS: Final = 5_000
# A share of few items says little: one of two that failed is no half of a million.
SHARE_AFTER: Final = 100


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
        unread: what else it holds, which only a newer version knows; its leader must know all.
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
    unread: tuple[str, ...] = ()

    def json(self) -> bytes:
        """Returns the plan as it is kept."""
        told = asdict(self)
        del told["unread"]
        return orjson.dumps(told, option=orjson.OPT_SORT_KEYS)

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Returns a plan that was kept, as far as this version can read it."""
        told = _Told("", orjson.loads(text))
        source = _Told("source.", told.values.pop("source"))
        limits = _Told("limits.", told.values.pop("limits"))
        part_format = told.choice("part_format", PartFormat.JSONL)
        source_format = source.choice("format", SourceFormat.JSONL)
        parts = {
            "part_format": part_format,
            "source": SourcePlan(**{**source.known(SourcePlan), "format": source_format}),
            "limits": FailureLimits(**limits.known(FailureLimits)),
        }
        values = {**told.known(cls), **parts}
        unread = (*told.unread, *source.unread, *limits.unread)
        return cls(**values, unread=tuple(sorted(unread)))


@dataclass
class _Told:
    """An object that was kept, and what of it this version can't read.

    Attributes:
        place: what stands before a field's name for people.
    """

    place: str
    values: dict[str, Any]
    unread: list[str] = field(default_factory=list)

    def choice(self, name: str, instead: E) -> E:
        """Returns a value of a kind, another one where this version does not know it."""
        try:
            return type(instead)(self.values[name])
        except ValueError:
            self.unread.append(self.place + name)
            return instead

    def known(self, kind: type[Any]) -> dict[str, Any]:
        """Returns the fields that a class has."""
        names = {each.name for each in fields(kind)} - {"unread"}
        self.unread += [self.place + name for name in self.values if name not in names]
        return {name: value for name, value in self.values.items() if name in names}


def common_data(data: BackfillData) -> dict[str, Any]:
    """Returns what all predictions of a backfill share."""
    told = data.model_dump(mode="json")
    shared = {
        name: told[name] for name in ("task", "project_uuid", "project_model_uuid", "training_uuid")
    }
    return shared | {name: told[name] for name in _DEFAULTS if told[name] is not None}
