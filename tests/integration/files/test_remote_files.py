"""Bodies behind URLs, with a real worker: what reaches the API is the whole file, or nothing."""

from __future__ import annotations

import base64
import random
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.security.stubbed import Stubbed, stubbed_worker
from tests.stub_api import reply
from tests.web_server import CUT_WAYS, WAYS, Bodies

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from worker.embedded import EmbeddedRedis

ANY = "00000000-0000-4000-8000-000000000000"
MODEL = orjson.dumps({"model_uuid": ANY, "title": "t" * 500_000})


@pytest.fixture(scope="module")
def bodies() -> Bodies:
    made = Bodies({"model.json": MODEL})
    for number in range(4):
        made.files[f"{number}.jpg"] = random.Random(number).randbytes(1_500_000)
    return made


@pytest.fixture(scope="module")
def server(bodies: Bodies) -> Iterator[str]:
    with bodies.serve() as url:
        yield url


@pytest.fixture(scope="module")
def stubbed(
    server: str, redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stubbed]:
    folder = tmp_path_factory.mktemp("bodies")
    with stubbed_worker(
        redis_server.url, "bodies", folder, TRAINMASTER_SOURCE_URLS=server
    ) as running:
        yield running


def cut(bodies: Bodies, way: str, name: str, times: int) -> str:
    path = f"/{way}/{name}"
    bodies.cuts_left[path] = times
    return path


@pytest.mark.parametrize("way", [*WAYS, *CUT_WAYS])
def test_a_picture_behind_a_url_reaches_the_api_whole(
    stubbed: Stubbed, server: str, bodies: Bodies, tmp_path: Path, way: str
) -> None:
    """Also where the server breaks off twice in the middle before it sends all of it."""
    names = [f"{number}.jpg" for number in range(4)]
    paths = [cut(bodies, way, name, 2) for name in names]
    stubbed.api.default = reply(200, b'{"result": {"0": []}}')
    since = len(stubbed.api.recorded)
    source = tmp_path / "items.jsonl"
    source.write_bytes(
        b"".join(orjson.dumps({"data_path": server + path}) + b"\n" for path in paths)
    )
    told = stubbed.console.run(
        *("backfill", "run", str(source), "--id", f"b-{way}", "--output", str(tmp_path / "out")),
        *("--project", ANY, "--attachment", ANY, "--training", ANY),
        *("--task", "object_detection", "--json"),
    )
    assert told.code == 0, told.out + told.err
    sent = [orjson.loads(each.body) for each in stubbed.api.recorded[since:]]
    wanted = {base64.b64encode(bodies.files[name]).decode() for name in names}
    assert {each["dataBase64"] for each in sent} == wanted
    assert len(sent) == len(names)


@pytest.mark.parametrize("way", [*WAYS, *CUT_WAYS])
def test_data_behind_a_url_are_read_to_their_end(
    stubbed: Stubbed, server: str, bodies: Bodies, way: str
) -> None:
    path = cut(bodies, way, "model.json", 2)
    command: dict[str, Any] = {"type": "update_model", "id": way, "dataref": server + path}
    model = {
        "createdAt": "2026-01-01T00:00:00Z",
        "description": "",
        "features": ["b"],
        "model": "resnet18",
        "modelUuid": ANY,
        "title": "t",
        "type": "classification",
    }
    answer = {"modelGroup": model, "modelIterations": []}
    stubbed.api.default = reply(200, orjson.dumps(answer))
    since = len(stubbed.api.recorded)
    end = stubbed.carry_out([command])[way]
    assert end["type"] == "update_model.succeeded", end
    (sent,) = stubbed.api.recorded[since:]
    assert orjson.loads(sent.body)["title"] == "t" * 500_000


def test_a_command_that_is_no_item_of_a_backfill_has_no_url_read(
    stubbed: Stubbed, server: str, bodies: Bodies
) -> None:
    """Its `data_path` names a file below the data roots, whoever wrote it."""
    bodies.asked.clear()
    since = len(stubbed.api.recorded)
    data = {
        "task": "object_detection",
        **dict.fromkeys(("project_uuid", "project_model_uuid", "training_uuid"), ANY),
        "data_path": f"{server}/length/0.jpg",
    }
    (end,) = stubbed.carry_out([{"type": "predict", "id": "no-item", "data": data}]).values()
    assert end["data"]["error"]["code"] == "invalid_input"
    assert not bodies.asked
    assert stubbed.api.recorded[since:] == []
