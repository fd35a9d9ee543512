"""Parts: the results of a backfill as files, each item in one of them and once.

Which results a part holds is recorded before it is written, and they are forgotten in Redis
after it is there. Whoever dies in between leaves the record, and the next leader writes the same
part again, under the same name.
"""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

import orjson
import structlog

from schemas.enums import PartFormat
from schemas.events import ErrorCode
from schemas.json_text import decode_json, encode_json
from schemas.wording import counted
from worker.backfill.errors import OutputError
from worker.files.remote_files import open_remote
from worker.thread_pools import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from worker.backfill.results.output import Output
    from worker.backfill.status import BackfillStatus
    from worker.backfill.store import BackfillStore, LeadToken

log = structlog.get_logger(__name__)

# The state of a record that can't be read.
ODD: Final = "unreadable"

Record = dict[str, Any]

PARTS: Final = "parts"
# What a failure repeats of its source.
INPUT: Final = "input"
_AS_JSON: Final = ("frames", INPUT, "error")
# Results are read so many at a time, for each may be as large as an event.
_PAGE: Final = 200


class Collector:
    """Writes the parts of one backfill."""

    def __init__(self, store: BackfillStore, output: Output) -> None:
        self._store = store
        self._output = output

    async def collect(self, status: BackfillStatus, token: LeadToken, *, rest: bool) -> int:
        """Writes one part if there is enough for it; returns how many results it holds.

        Args:
            status: of the backfill.
            token: of its leader.
            rest: whether less than a whole part is enough.

        Raises:
            LeadLostError: another leads.
            OutputError: the part can't be written; the next call tries again.
        """
        cut = status.cut
        if not cut:
            full = status.waiting >= status.plan.part_items
            if not status.waiting or not (full or rest):
                return 0
            cut = await self._cut(status)
            await self._store.begin_part(status.id, token, cut)
        await self._write(status, cut)
        await self._store.commit_part(status.id, token, cut)
        return int(cut.rpartition(" ")[2])

    async def _cut(self, status: BackfillStatus) -> str:
        """Returns first and last stream id of the next part, and how many results they are."""
        wanted, found, first, last = status.plan.part_items, 0, "", "-"
        while found < wanted:
            page = await self._store.results(
                status.id,
                "-" if not first else f"({last}",
                "+",
                min(_PAGE, wanted - found),
            )
            if not page:
                break
            first, last = first or page[0][0], page[-1][0]
            found += len(page)
        return f"{first} {last} {found}"

    async def _write(self, status: BackfillStatus, cut: str) -> None:
        first, last, count = cut.split(" ")
        name = f"part-{status.part:06d}.{status.plan.part_format}"
        written = 0
        start = first
        with (
            self._output.write(PARTS, name) as file,
            part_writer(file, status.plan.part_format) as writer,
        ):
            while page := await self._store.results(status.id, start, last, _PAGE):
                await in_thread(_write_page, writer, [text for _, text in page])
                written += len(page)
                start = f"({page[-1][0]}"
            if written != int(count):
                # Someone took results away; a part with less than it is said to hold is a lie.
                wanted = counted(int(count), "result")
                raise OutputError(f"{name}: holds {written} of {wanted}: the others are gone")


def _write_page(writer: PartWriter, texts: Sequence[bytes]) -> None:
    writer.write([_fetched(text) for text in texts])


def _fetched(text: bytes) -> bytes:
    """Returns a record with its frames in it, if those in the result store can be read here."""
    if b'"dataref":' not in text:
        return text
    try:
        record = decode_json(text)
        with open_remote(record["dataref"]) as file:
            record["frames"] = decode_json(file.read())["frames"]
        return encode_json(record)
    except Exception as exc:  # noqa: BLE001 - every kind of store has errors of its own
        # The worker's disk is not ours: the record says where the frames lie.
        log.info("backfill.frames_left", kind=type(exc).__name__)
        return text


class PartWriter(Protocol):
    """Writes the records of one part."""

    def write(self, records: Sequence[bytes]) -> None:
        """Adds records, each the JSON of one item."""
        ...


class _JsonLinesWriter:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, records: Sequence[bytes]) -> None:
        self._file.writelines(record + b"\n" for record in records)


class _ParquetWriter:
    """Columns for what all records have; what has no fixed shape is JSON in a column."""

    def __init__(self, file: IO[bytes]) -> None:
        self._arrow = import_module("pyarrow")
        self._schema = self._arrow.schema([
            ("item", self._arrow.int64()),
            ("state", self._arrow.string()),
            ("data_uuid", self._arrow.string()),
            ("data_path", self._arrow.string()),
            ("frames", self._arrow.string()),
            ("dataref", self._arrow.string()),
            ("place", self._arrow.string()),
            ("input", self._arrow.string()),
            ("error", self._arrow.string()),
            ("attempts", self._arrow.int32()),
            ("seconds", self._arrow.float64()),
        ])
        parquet = import_module("pyarrow.parquet")
        self.table = parquet.ParquetWriter(file, self._schema, compression="zstd")

    def write(self, records: Sequence[bytes]) -> None:
        try:
            rows = [_flat(_read(record)) for record in records]
            table = self._arrow.Table.from_pylist(rows, schema=self._schema)
        except Exception:  # noqa: BLE001 - the one that is the reason is written without its values
            table = self._arrow.concat_tables(self._alone(record) for record in records)
        self.table.write_table(table)

    def _alone(self, record: bytes) -> Any:
        row = _read(record)
        try:
            return self._arrow.Table.from_pylist([_flat(row)], schema=self._schema)
        except Exception as exc:
            log.exception("backfill.record_odd", item=row.get("item"))
            problem = f"its record can't be written as Parquet: {type(exc).__name__}"
            odd = _flat(_odd_record(row, problem))
            return self._arrow.Table.from_pylist([odd], schema=self._schema)


def _flat(record: Record) -> Record:
    packed = {name: encode_json(record[name]).decode() for name in _AS_JSON if name in record}
    return record | packed


def _read(text: bytes, decode: Callable[[bytes], Any] = decode_json) -> Record:
    """Returns a record; of a text that is none, one that says so."""
    try:
        record = decode(text)
    except ValueError:
        record = None
    if isinstance(record, dict) and isinstance(record.get("state"), str):
        return record
    return _odd_record({}, "its record can't be read")


def _odd_record(record: Record, problem: str) -> Record:
    item, state = record.get("item"), record.get("state")
    return {
        "item": item if isinstance(item, int) and abs(item) < 2**63 else None,
        "state": state if isinstance(state, str) else ODD,
        "error": {"code": ErrorCode.INTERNAL_ERROR, "message": problem},
    }


@contextmanager
def part_writer(file: IO[bytes], part_format: PartFormat) -> Iterator[PartWriter]:
    """Opens what writes a part; the file has its end once this is left.

    Raises:
        OutputError: the format needs a package that is not installed.
    """
    if part_format is PartFormat.JSONL:
        yield _JsonLinesWriter(file)
        return
    try:
        writer = _ParquetWriter(file)
    except ModuleNotFoundError as exc:
        raise OutputError(
            "Parquet needs the package pyarrow: install trainmaster[parquet]"
        ) from exc
    with writer.table:
        yield writer


def read_records(output: Output, *, last: int | None = None) -> Iterator[Record]:
    """Yields the records of all parts, in the order in which the items ended.

    Args:
        output: where they are.
        last: only of so many parts, the latest.

    Raises:
        OSError: a part can't be read.
    """
    for name in output.part_names()[-last if last else None :]:
        with output.read(PARTS, name) as file:
            if name.endswith(f".{PartFormat.JSONL}"):
                for line in file:
                    yield _read(line, _quickly)
            else:
                table = import_module("pyarrow.parquet").ParquetFile(file)
                for batch in table.iter_batches(_PAGE):
                    for row in batch.to_pylist():
                        yield _record(row)


def _quickly(text: bytes) -> Any:
    """Returns a record; only what a failure repeats of its source has its integers whole."""
    record = _loaded(text)
    return decode_json(text) if isinstance(record, dict) and INPUT in record else record


def _record(row: Record) -> Record:
    told = {name: value for name, value in row.items() if value is not None}
    for name in _AS_JSON:
        if name in told:
            text = told[name]
            told[name] = decode_json(text.encode()) if name == INPUT else _loaded(text.encode())
    return told


def _loaded(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        # It refuses integers beyond the range of floats, which sources and the API may say.
        return decode_json(text)
