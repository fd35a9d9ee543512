"""One result that can't be read, fetched or written fails alone, and its part is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from schemas.enums import PartFormat
from schemas.json_text import decode_json
from tests.integration.backfilling import NAME, Backfilling, begin
from worker.backfill.leader import Leader
from worker.backfill.results.output import Output
from worker.backfill.status import BackfillState, BackfillStatus
from worker.queue.ledger.models import RowState, RunResult

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

FORMATS = [PartFormat.JSONL, PartFormat.PARQUET]
GOOD = 6
LONG = 2**70 + 1
# More than any float can be.
LONGEST = 10**400 + 1
FAR = b'{"item":0,"state":"succeeded","frames":{},"attempts":99999999999,"seconds":0.1}'
ODD = {
    "no JSON": b"what",
    "no object": b"[1,2]",
    "a text that is not UTF-8": b'{"item":0,"state":"\xff"}',
    "nothing": b"",
    "no state": b'{"item":0}',
    "a state of another type": b'{"item":0,"state":{"a":1}}',
    "not finite": b'{"item":0,"state":"succeeded","frames":{},"attempts":1,"seconds":NaN}',
    "a number too long for its column": FAR,
    "a text that is a number": b'{"item":0,"state":"failed","place":7,"attempts":1,"seconds":0}',
    "attempts that are a text": b'{"item":0,"state":"succeeded","attempts":"x","seconds":0.1}',
}


@pytest.mark.parametrize("part_format", FORMATS)
@pytest.mark.parametrize("odd", list(ODD.values()), ids=list(ODD))
async def test_a_record_that_is_none_is_counted_and_keeps_no_other_from_its_part(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path, odd: bytes, part_format: PartFormat
) -> None:
    night = await begin(redis, keys, ledger, tmp_path, part_format=part_format, part_items=4)
    standing = await _end_all(night, odd)
    assert standing.state is BackfillState.SUCCEEDED
    records = night.records()
    assert len(records) == GOOD + 1
    good = [record for record in records if record.get("data_uuid")]
    assert sorted(record["item"] for record in good) == list(range(1, GOOD + 1))
    assert all(record["frames"] == {"0": []} for record in good)
    summary = orjson.loads((tmp_path / "out" / "summary.json").read_bytes())
    assert summary["succeeded"] >= GOOD


@pytest.mark.parametrize("part_format", FORMATS)
@pytest.mark.parametrize("long", [LONG, LONGEST], ids=["long", "longest"])
async def test_integers_of_any_length_stay_whole_in_parts(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path, part_format: PartFormat, long: int
) -> None:
    night = await begin(redis, keys, ledger, tmp_path, part_format=part_format)
    frames = b'{"0":[{"name":"a","value":%d}]}' % long
    text = b'{"item":0,"state":"succeeded","frames":%s,"attempts":1,"seconds":0.1}' % frames
    await _end_all(night, text)
    assert _frames(night.plan.output, part_format) == [{"name": "a", "value": long}]


@pytest.mark.parametrize("part_format", FORMATS)
@pytest.mark.parametrize("name", ["data_uuid", "row_number"])
@pytest.mark.parametrize("long", [LONG, LONGEST], ids=["long", "longest"])
async def test_a_failure_repeats_what_its_source_said_with_integers_whole(
    redis: Redis,
    keys: Keys,
    ledger: Ledger,
    tmp_path: Path,
    name: str,
    part_format: PartFormat,
    long: int,
) -> None:
    night = await begin(redis, keys, ledger, tmp_path, part_format=part_format)
    text = b'{"item":0,"state":"failed","input":{"%s":%d},"error":%s,"attempts":0,"seconds":0}'
    error = b'{"code":"invalid_item","message":"data_uuid must be a UUID"}'
    standing = await _end_all(night, text % (name.encode(), long, error))
    assert standing.unwritten == []
    assert "warnings" not in (standing.result or {})
    (row,) = (tmp_path / "out" / "failures.jsonl").read_bytes().splitlines()
    assert decode_json(row)[name] == long
    (reason,) = orjson.loads((tmp_path / "out" / "summary.json").read_bytes())["messages"]
    assert str(long)[:20] in reason["first"]["named"]


@pytest.mark.parametrize("part_format", FORMATS)
@pytest.mark.parametrize("kept", [b"[]", b"null", b"{}", b"what", b'{"frames":NaN}', None])
async def test_a_result_in_the_store_that_is_none_leaves_the_word_where_it_lies(
    redis: Redis,
    keys: Keys,
    ledger: Ledger,
    tmp_path: Path,
    kept: bytes | None,
    part_format: PartFormat,
) -> None:
    night = await begin(redis, keys, ledger, tmp_path, part_format=part_format)
    file = tmp_path / "large.json"
    if kept is not None:
        file.write_bytes(kept)
    record = {"item": 0, "state": "succeeded", "attempts": 1, "seconds": 0.1, "dataref": str(file)}
    standing = await _end_all(night, orjson.dumps(record))
    assert standing.state is BackfillState.SUCCEEDED
    (left,) = [each for each in night.records() if each["item"] == 0]
    assert left["dataref"] == str(file)
    assert "frames" not in left


@pytest.mark.parametrize(
    "frames",
    [
        b'{"what":[{"name":"a","feature_id":"a","confidence":0.9}]}',
        b'{"0":[{"confidence":0.9,"bounding_box":{"x":0,"y":0,"w":1,"h":1}}]}',
        b'{"0":[{"name":"a","feature_id":"a","confidence":0.9,"polygon":[1]}]}',
    ],
    ids=["a frame without a number", "no name", "a point that is none"],
)
async def test_predictions_that_nobody_can_read_keep_no_other_out_of_the_last_files(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path, frames: bytes
) -> None:
    night = await begin(redis, keys, ledger, tmp_path)
    record = b'{"item":0,"state":"succeeded","frames":%s,"attempts":1,"seconds":0.1}' % frames
    standing = await _end_all(night, record)
    assert standing.unwritten == []
    assert standing.result is not None
    told = {each["file"]: each["message"] for each in standing.result["warnings"]}
    assert told["coco-results.json"].startswith("1 item left out; the first: item 0")
    assert told["summary.json"].startswith("1 item not counted; the first: item 0")
    listed = orjson.loads((tmp_path / "out" / "coco-images.json").read_bytes())
    assert {each["item"] for each in listed["images"]} == set(range(1, GOOD + 1))


def _frames(output: str, part_format: PartFormat) -> Any:
    out = Output(output)
    (name,) = out.part_names()
    with out.read("parts", name) as file:
        if part_format is PartFormat.JSONL:
            found = [decode_json(line) for line in file]
            return next(each for each in found if each["item"] == 0)["frames"]["0"]
        parquet = pytest.importorskip("pyarrow.parquet")
        rows = parquet.ParquetFile(file).read().to_pylist()
    texts = [row["frames"] for row in rows if row["item"] == 0]
    return decode_json(texts[0].encode())["0"]


async def _end_all(night: Backfilling, first: bytes) -> BackfillStatus:
    """Ends seven items, the first one with a record that a test gives."""
    token, standing = await night.feed(GOOD + 1)
    for lease in await night.claim():
        if lease.member == 0:
            finish = RunResult(lease, RowState.SUCCEEDED, 1, member_result=first)
            assert await night.ledger.finish([finish]) == [True]
        else:
            await night.settle(lease)
    assert await night.store.feed(standing, token, [], "end", exhausted=True)
    await night.let_lease_end()
    ended = await Leader(night.store, NAME, announces=True).work(seconds=30)
    assert isinstance(ended, BackfillStatus)
    return ended
