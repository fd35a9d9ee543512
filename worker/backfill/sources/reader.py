"""Reads a source ahead of the cursor, in a thread, and keeps it open from step to step."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from schemas.enums import SourceFormat
from worker.backfill.errors import EmptySourceError, SourceError, SourceUnavailableError
from worker.backfill.locations import STDIN, shown_place
from worker.backfill.sources.folders import no_images, tell_kinds
from worker.backfill.sources.formats import open_source
from worker.backfill.sources.items import ItemParser, names_item
from worker.backfill.sources.opening import readable
from worker.backfill.sources.rows import named
from worker.thread_pools import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.backfill.plan import Plan
    from worker.backfill.sources.rows import SourceRow
    from worker.backfill.store import FeedItem

# A server that is busy may not be in a moment.
PROBE_PAUSES_SECONDS = (0.5, 2.0)
# Each is one HSET and more in one script: Redis is held for two milliseconds or so.
BATCH_ITEMS = 200
# Of items with their bytes inside, fewer go into one script.
BATCH_BYTES = 4 * 1024 * 1024


class Batch:
    """Items that were read together, and where the source goes on behind them.

    Attributes:
        begun_at: where the source stood before them.
        passed: what a folder held before the last item that is none, by its kind.
    """

    def __init__(self, number: int, position: str) -> None:
        self.number = number
        self.begun_at = position
        self.position = position
        self.items: list[FeedItem] = []
        self.passed: Counter[str] = Counter()
        self.exhausted = False


class Reader:
    """The items of one backfill, from the cursor on.

    Args:
        backfill_id: of the backfill.
        plan: of the backfill.
        follows: whether a server may send us on to another one.
    """

    def __init__(self, backfill_id: str, plan: Plan, *, follows: bool = True) -> None:
        self._itemizer = ItemParser(backfill_id, plan)
        self._plan = plan
        self._follows = follows
        self._rows: Iterator[SourceRow] = iter(())
        self._passed: Counter[str] = Counter()
        self._number = -1
        self._position = ""

    async def read(
        self, number: int, position: str, most: int, *, most_bad: int | None = None
    ) -> Batch:
        """Returns the next items; the source is opened anew where the cursor has moved.

        Args:
            number: of the first item.
            position: behind which the source goes on.
            most: items in all.
            most_bad: rows that are no items; the batch ends with the last of them.

        Raises:
            SourceError: the source can't be read.
        """
        return await in_thread(self._read, number, position, most, most_bad)

    def _read(self, number: int, position: str, most: int, most_bad: int | None) -> Batch:
        if (number, position) != (self._number, self._position):
            self._passed.clear()
            source = open_source(self._plan.source, follows=self._follows, passed=self._passed)
            self._rows = source.rows(position)
        # Until it has come to its end, nothing is known of where the source stands.
        self._number = -1
        batch = Batch(number, position)
        rows: list[SourceRow] = []
        broken: SourceUnavailableError | None = None
        try:
            with readable(self._plan.source.location):
                self._fill(batch, rows, min(most, BATCH_ITEMS), most_bad)
        except SourceUnavailableError as exc:
            if not batch.items:
                raise
            # What came whole is done first; whoever reads on opens the source anew.
            broken = exc
        if broken is None:
            self._pass(batch)
        if number == 0:
            try:
                self._check_names(rows)
            except SourceError:
                # What did not come may name items: a source that breaks off is not a wrong one.
                if broken is not None:
                    raise broken from None
                raise
            if batch.exhausted and not batch.items:
                raise self._empty(batch)
        if broken is None:
            self._number, self._position = number + len(batch.items), batch.position
        return batch

    def _fill(self, batch: Batch, rows: list[SourceRow], most: int, most_bad: int | None) -> None:
        size = bad = 0
        for row in self._rows:
            rows.append(row)
            item = self._itemizer.item(batch.number + len(batch.items), row)
            batch.items.append(item)
            batch.position = row.position
            if self._passed:
                self._pass(batch)
            size += len(item.text) + len(item.problem)
            bad += bool(item.problem)
            if len(batch.items) >= most or size > BATCH_BYTES:
                return
            if item.problem and bad == most_bad:
                return
        batch.exhausted = True

    def _pass(self, batch: Batch) -> None:
        # What stands behind the last item of a source that breaks off is read again.
        batch.passed += self._passed
        self._passed.clear()

    def _empty(self, batch: Batch) -> SourceError:
        source = self._plan.source
        if source.format is SourceFormat.FOLDER:
            return no_images(source.location, batch.passed)
        held = f"; passed over: {tell_kinds(batch.passed)}" if batch.passed else ""
        return EmptySourceError(f"{shown_place(source.location)}: holds no items{held}")

    def _check_names(self, rows: Sequence[SourceRow]) -> None:
        """Refuses a source whose first rows all say something, but none which item it is."""
        source = self._plan.source
        columns = source.columns
        legible = [row for row in rows if row.fields]
        if not legible or any(names_item(row, columns) for row in legible):
            return
        has = named(legible[0].fields or ())
        wanted = ", ".join(columns.get(name, name) for name in ("data_uuid", "data_path"))
        several = f"none of its first {len(legible)} rows names"
        said = several if len(legible) > 1 else "its first row names neither of"
        raise SourceError(
            f"{shown_place(source.location)}: {said} {wanted}; "
            f"the first one has {has}. Say which it is, like --map data_path=COLUMN"
        )


async def probe(plan: Plan) -> None:
    """Reads the beginning of a source, to tell what is wrong with it before anything is begun.

    Raises:
        SourceError: it can't be read, or names no items.
    """
    if plan.source.location == STDIN:
        return
    for pause_seconds in (*PROBE_PAUSES_SECONDS, None):
        try:
            await Reader("probe", plan).read(0, "", BATCH_ITEMS)
        except SourceUnavailableError:
            if pause_seconds is None:
                raise
            await asyncio.sleep(pause_seconds)
        else:
            return
