"""`GET /v1/backfills/{id}/picture`: what an item was about, by its record and nothing else."""

from __future__ import annotations

import asyncio
import base64
import io
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import orjson
import pytest
from PIL import Image

from schemas.enums import PartFormat
from tests.integration.backfilling import NAME, make_plan, store_of
from worker.backfill.results.output import Output
from worker.backfill.results.parts import part_writer
from worker.backfill.status import Origin
from worker.gateway.access.tokens import Scope
from worker.gateway.files import results
from worker.queue.ledger.connection import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType

    import httpx

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import MakeToken, ServeGateway
    from worker.queue.ledger.keys import Keys

PART: Final = "parts/part-000000.jsonl"
PARQUET: Final = "parts/part-000000.parquet"


def png(frames: int = 1) -> bytes:
    made = io.BytesIO()
    pictures = [Image.new("RGB", (40, 30), color) for color in ("red", "green")[:frames]]
    more = {"save_all": True, "append_images": pictures[1:]} if frames > 1 else {}
    pictures[0].save(made, "PNG", **more)
    return made.getvalue()


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of the pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    return folder


@pytest.fixture
def parts(tmp_path: Path, redis_url: str, keys: Keys) -> Path:
    """Where the parts of a backfill lie that somebody has begun."""
    plan = make_plan(tmp_path)

    async def begin() -> None:
        redis = connect(redis_url)
        await store_of(redis, keys).open(NAME, plan, Origin.QUEUE, "bf-1")
        await redis.aclose()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(begin())).result()
    folder = tmp_path / "out" / "parts"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def gateway(serve_gateway: ServeGateway, root: Path) -> Iterator[GatewayServer]:
    """A gateway that may read the pictures."""
    with serve_gateway(gateway_data_roots=str(root)) as served:
        yield served


def write(parts: Path, *records: dict[str, Any], name: str = "part-000000.jsonl") -> None:
    (parts / name).write_bytes(b"".join(orjson.dumps(each) + b"\n" for each in records))


def get(http: httpx.Client, item: int, part: str = PART, **query: Any) -> httpx.Response:
    asked = {"part": part, "item": item, **query}
    return http.get(f"/v1/backfills/{NAME}/picture", params=asked)


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_an_items_picture_is_the_one_that_its_record_names(
    gateway: GatewayServer, root: Path, parts: Path
) -> None:
    (root / "a.png").write_bytes(png())
    (root / "clip.png").write_bytes(png(2))
    write(
        parts,
        {"item": 11, "state": "succeeded", "frames": {"0": [{"name": '"item":1'}]}},
        {"item": 1, "state": "succeeded", "data_path": str(root / "a.png"), "frames": {}},
        {"item": 2, "state": "failed", "input": {"data_path": str(root / "clip.png")}},
        {"item": 3, "state": "failed", "input": {"data_base64": b64(png())}},
    )
    for item, content in ((1, png()), (2, png(2)), (3, png())):
        answer = get(gateway.http, item)
        assert (answer.status_code, answer.content) == (200, content), answer.text
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["content-security-policy"].startswith("default-src 'none';")
    frame = get(gateway.http, 2, frame=1)
    assert frame.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(frame.content)).getpixel((0, 0))[1] > 100  # type: ignore[index]
    assert refused(get(gateway.http, 11)) == (404, "no_picture")


def test_nothing_is_read_but_pictures_below_the_roots_that_a_record_names(
    gateway: GatewayServer, root: Path, parts: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside.png").write_bytes(png())
    (root / "page.png").write_bytes(b"<!doctype html>")
    write(
        parts,
        {"item": 1, "data_path": str(tmp_path / "outside.png")},
        {"item": 2, "data_path": str(root / "page.png")},
        {"item": 3, "data_path": "https://example.com/a.png"},
        {"item": 4, "data_uuid": "0b8b8b8a-1111-4222-8333-444455556666"},
    )
    for item in range(6):
        assert refused(get(gateway.http, item)) == (404, "no_picture"), item
    (parts.parent / "summary.json").write_bytes(b'{"item": 1}')
    for part in (
        "parts/part-000009.jsonl",
        "parts/part-000009.parquet",
        "parts/../parts/part-000000.jsonl",
        "part-000000.jsonl",
        "summary.json",
        "",
    ):
        assert refused(get(gateway.http, 1, part)) == (404, "unknown_file"), part
    # What is no record is nobody's.
    (parts / "part-000000.jsonl").write_bytes(b'{"item":1\n["item",1]\n"\\"item\\":1"\n\xff\n')
    assert refused(get(gateway.http, 1)) == (404, "no_picture")


def write_parquet(parts: Path, *pages: list[dict[str, Any]]) -> None:
    """Writes a part as a backfill does, each page as a group of rows."""
    with (
        Output(str(parts.parent)).write("parts", "part-000000.parquet") as file,
        part_writer(file, PartFormat.PARQUET) as writer,
    ):
        for page in pages:
            writer.write([orjson.dumps(each) for each in page])


def test_an_items_picture_is_found_in_a_part_of_parquet_too(
    gateway: GatewayServer, root: Path, parts: Path
) -> None:
    (root / "a.png").write_bytes(png())
    (root / "clip.png").write_bytes(png(2))
    write_parquet(
        parts,
        [
            {"item": 11, "state": "succeeded", "data_uuid": NAME, "frames": {}},
            {"item": 2, "state": "failed", "input": {"data_path": str(root / "clip.png")}},
        ],
        [
            {"item": 7, "state": "failed", "input": {"data_base64": b64(png())}},
            {"item": 1, "state": "succeeded", "data_path": str(root / "a.png"), "frames": {}},
        ],
    )
    for item, content in ((1, png()), (2, png(2)), (7, png())):
        answer = get(gateway.http, item, PARQUET)
        assert (answer.status_code, answer.content) == (200, content), answer.text
    for item in (11, 3, 12):
        assert refused(get(gateway.http, item, PARQUET)) == (404, "no_picture"), item
    write(parts, {"item": 1}, name="part-000000.parquet")
    assert refused(get(gateway.http, 1, PARQUET)) == (502, "results_unreadable")


def test_no_more_of_a_part_of_parquet_is_unpacked_than_a_page_reads(
    gateway: GatewayServer, root: Path, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames are not unpacked at all; other items' pictures only with their group of rows."""
    (root / "a.png").write_bytes(png())
    found = {"item": 2, "data_path": str(root / "a.png")}
    frames = {"state": "succeeded", "frames": "x" * 50_000}
    held = {"item": 4, "state": "failed", "input": {"data_base64": "x" * 50_000}}
    write_parquet(parts, [found | frames], [held], [{**found, "item": 3, "state": "succeeded"}])
    # The gateway runs in this process.
    monkeypatch.setattr(results, "MOST_SEARCHED_BYTES", 20_000)
    for item in (2, 3):
        assert get(gateway.http, item, PARQUET).status_code == 200
    answer = get(gateway.http, 4, PARQUET)
    assert refused(answer) == (404, "no_picture")
    assert "too large" in answer.json()["detail"]
    monkeypatch.setattr(results, "MOST_SEARCHED_BYTES", 1_000)
    assert "too large" in get(gateway.http, 2, PARQUET).json()["detail"], "its footer alone is more"


def test_a_gateway_that_lacks_what_reads_parquet_says_so(
    gateway: GatewayServer, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(parts, [{"item": 1, "state": "succeeded"}])
    # As if it were not installed.
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    answer = get(gateway.http, 1, PARQUET)
    assert refused(answer) == (404, "no_picture")
    assert "install trainmaster[parquet]" in answer.json()["detail"]


def test_no_more_of_a_part_is_looked_through_than_a_page_reads(
    gateway: GatewayServer, root: Path, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a.png").write_bytes(png())
    found = {"item": 2, "data_path": str(root / "a.png")}
    write(parts, {"item": 1, "frames": "x" * 1000}, found)
    assert get(gateway.http, 2).status_code == 200
    # The gateway runs in this process.
    monkeypatch.setattr(results, "MOST_SEARCHED_BYTES", 500)
    answer = get(gateway.http, 2)
    assert refused(answer) == (404, "no_picture")
    assert "too large" in answer.json()["detail"]


def test_one_part_at_a_time_is_looked_through(
    gateway: GatewayServer, root: Path, parts: Path
) -> None:
    """A record may take hundreds of megabytes as JSON, and anybody who reads may ask for it."""
    (root / "a.png").write_bytes(png())
    write(parts, {"item": 1, "data_path": str(root / "a.png"), "frames": [[0.5] * 500_000]})
    with ThreadPoolExecutor(6) as asked:
        answers = [asked.submit(get, gateway.http, 1) for _ in range(6)]
        most = 0
        while not all(each.done() for each in answers):
            most = max(most, searches())
    assert {each.result().status_code for each in answers} == {200}
    assert most == 1


def searches() -> int:
    """Returns how many parts the gateway, which runs in this process, looks through right now."""
    found = 0
    for frame in sys._current_frames().values():
        each: FrameType | None = frame
        while each is not None:
            found += each.f_code is results._found.__code__
            each = each.f_back
    return found


def test_whoever_may_not_see_the_backfill_sees_no_picture_of_it(
    gateway: GatewayServer, root: Path, parts: Path, make_token: MakeToken
) -> None:
    (root / "a.png").write_bytes(png())
    write(parts, {"item": 1, "data_path": str(root / "a.png")})
    for types, status in (([], 200), (["backfill"], 200), (["predict"], 404)):
        with gateway.client(make_token(Scope.READ, types=types)) as http:
            assert get(http, 1).status_code == status
    with gateway.client(make_token(Scope.SUBMIT)) as http:
        assert get(http, 1).status_code == 403
