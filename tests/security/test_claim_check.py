"""`dataref` on commands, with a real worker: data by file and by URL, and every bad claim check."""

from __future__ import annotations

import os
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, ClassVar

import orjson
import pytest

from tests.console import wait_until
from tests.security.stubbed import Stubbed, stubbed_worker
from tests.stub_api import reply
from tests.web_server import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from worker.embedded import EmbeddedRedis

ANY = "00000000-0000-4000-8000-000000000000"
LABELS = 60_000
LIMIT_BYTES = 4_000_000
SECRET = "what lies outside the roots"
MODEL = orjson.dumps({"model_uuid": ANY})


class Shelf(BaseHTTPRequestHandler):
    """Serves `files` by path; `moved` elsewhere; fails as often as `failures` says."""

    files: ClassVar[dict[str, bytes]] = {}
    moved: ClassVar[dict[str, str]] = {}
    failures: ClassVar[dict[str, int]] = {}
    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base names it
        pass

    def _answer(self, *, with_body: bool) -> None:
        self.asked.append(self.path)
        body = self.files.get(self.path)
        if self.failures.get(self.path, 0) > 0:
            self.failures[self.path] -= with_body
            self.send_response(503)
        elif self.path in self.moved:
            self.send_response(302)
            self.send_header("location", self.moved[self.path])
        else:
            self.send_response(200 if body is not None else 404)
        self.send_header("content-length", str(len(body or b"")))
        self.end_headers()
        if with_body and body:
            # Who has seen enough hangs up.
            with suppress(ConnectionError):
                self.wfile.write(body)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with good and bad data in it, and a secret beside it."""
    folder = tmp_path_factory.mktemp("claims")
    root, outside = folder / "root", folder / "outside"
    root.mkdir()
    outside.mkdir()
    secret = orjson.dumps({"model_uuid": ANY, "title": SECRET})
    (outside / "secret.json").write_bytes(secret)
    (folder / "root-secrets").write_bytes(secret)
    (root / "model.json").write_bytes(MODEL)
    (root / "link.json").symlink_to(outside / "secret.json")
    (root / "zero").symlink_to("/dev/zero")
    os.mkfifo(root / "pipe")
    bad = {
        "nothing.json": b"",
        "half.json": MODEL[:-3],
        "list.json": b"[1]",
        "twice.json": b'{"model_uuid": "a", "model_uuid": "b"}',
        "latin.json": '{"model_uuid": "é"}'.encode("latin-1"),
        "deep.json": b"[" * 10_000,
        "lists.json": b"[" * 100_000,
        "splice.json": MODEL + b',"priority":"bulk"',
        "field.json": orjson.dumps({"model_id": ANY}),
        "large.json": orjson.dumps({"model_uuid": "x" * LIMIT_BYTES}),
    }
    for name, content in bad.items():
        (root / name).write_bytes(content)
    (root / "locked.json").write_bytes(MODEL)
    (root / "locked.json").chmod(0)
    return folder


@pytest.fixture(scope="module")
def shelf() -> Iterator[str]:
    with serving(Shelf) as url:
        yield url


@pytest.fixture(scope="module")
def stubbed(
    place: Path, shelf: str, redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stubbed]:
    with stubbed_worker(
        redis_server.url,
        "claims",
        tmp_path_factory.mktemp("worker"),
        TRAINMASTER_DATA_ROOTS=str(place / "root"),
        TRAINMASTER_SOURCE_URLS=f"{shelf}/data memory://data",
        TRAINMASTER_DATAREF_LIMIT_BYTES=str(LIMIT_BYTES),
    ) as running:
        yield running


def deleting(dataref: object, command_id: str = "") -> dict[str, Any]:
    """Returns a command whose data lie elsewhere."""
    return {"type": "delete_model", "id": command_id or f"{dataref}", "dataref": str(dataref)}


def training(labels: int) -> dict[str, Any]:
    return {
        "model_uuid": ANY,
        "batch_size": 1,
        "epochs": 1,
        "features_mapping": {ANY: {"a": ["b"]}},
        "labels_uuids": [f"{number:08x}{ANY[8:]}" for number in range(labels)],
        "wait": False,
    }


def test_data_of_megabytes_are_read_from_a_file_and_reach_the_api(
    stubbed: Stubbed, place: Path
) -> None:
    """More than a command may hold, by a path and as the URL that results have."""
    data = training(LABELS)
    (place / "root" / "train.json").write_bytes(orjson.dumps(data))
    model = {
        "modelGroup": {
            "createdAt": "2026-01-01T00:00:00Z",
            "description": "",
            "features": ["b"],
            "model": "resnet18",
            "modelUuid": ANY,
            "title": "t",
            "type": "classification",
        },
        "modelIterations": [],
    }
    stubbed.api.answers.extend([reply(200, orjson.dumps(model)), reply(200, f'"{ANY}"'.encode())])
    command = {"type": "train", "id": "large", "data": None}
    ends = stubbed.carry_out([command | {"dataref": f"file://{place}/root/train.json"}])
    assert ends["large"]["type"] == "train.succeeded"
    assert "dataref" not in ends["large"], "that of an event is its result's"
    (sent,) = [each for each in stubbed.api.recorded if each.target.endswith("/trainings")]
    assert orjson.loads(sent.body)["labelsUuids"] == data["labels_uuids"]


def test_the_same_id_and_dataref_again_do_nothing_more_and_another_is_a_conflict(
    stubbed: Stubbed, place: Path
) -> None:
    stubbed.api.answers.append(reply(204))
    path = place / "root" / "model.json"
    since = len(stubbed.api.recorded)
    stubbed.carry_out([deleting(path, "again")])
    stubbed.carry_out([deleting(path, "again"), deleting(place, "other")])
    assert len(stubbed.api.recorded) == since + 1
    stubbed.carry_out([deleting(place / "root" / "half.json", "again"), deleting(place, "last")])
    types = [event["type"] for event in stubbed.events() if event["subject"] == "again"]
    assert types == ["delete_model.accepted", "delete_model.succeeded", "delete_model.rejected"]


def test_data_that_are_there_go_before_a_dataref(stubbed: Stubbed) -> None:
    stubbed.api.answers.append(reply(204))
    command = {**deleting("/nowhere", "both"), "data": {"model_uuid": ANY}}
    assert stubbed.carry_out([command])["both"]["type"] == "delete_model.succeeded"


@pytest.mark.parametrize(
    ("name", "path", "said"),
    [
        ("nothing.json", "dataref", "is not JSON"),
        ("half.json", "dataref", "is not JSON"),
        ("list.json", "dataref", "is no JSON object"),
        ("twice.json", "dataref", "is not JSON"),
        ("latin.json", "dataref", "is not JSON"),
        ("deep.json", "dataref", "is not JSON"),
        ("lists.json", "dataref", "holds more than 20,000 lists and objects"),
        ("splice.json", "dataref", "is not JSON"),
        ("field.json", "data.model_uuid", "is required"),
        ("large.json", "dataref", f"larger than {LIMIT_BYTES} bytes"),
        ("missing.json", "dataref", "No such file"),
        ("link.json", "dataref", "outside the folders of TRAINMASTER_DATA_ROOTS"),
        ("../outside/secret.json", "dataref", "outside the folders"),
        ("../root-secrets", "dataref", "outside the folders"),
        ("zero", "dataref", "outside the folders"),
        ("pipe", "dataref", "not a plain file"),
        (".", "dataref", "not a plain file"),
    ],
)
def test_a_bad_file_fails_the_command_naming_what_is_wrong(
    stubbed: Stubbed, place: Path, name: str, path: str, said: str
) -> None:
    since = len(stubbed.api.recorded)
    (end,) = stubbed.carry_out([deleting(f"{place}/root/{name}")]).values()
    assert end["type"] == "delete_model.failed"
    error = end["data"]["error"]
    assert (error["code"], end["data"]["attempts"]) == ("invalid_input", 1)
    assert (path, True) in [
        (problem["path"], said in problem["message"]) for problem in error["problems"]
    ]
    assert stubbed.api.recorded[since:] == []
    assert SECRET not in str(stubbed.events()) + stubbed.log.read_text()


@pytest.mark.parametrize(
    "written",
    [
        "{path}",
        "file://{path}",
        "{url}",
        "file://localhost{encoded}",
        "file:{encoded}",
        "FILE://{path}",
    ],
)
@pytest.mark.parametrize("name", ["für alle.json", "100%25.json", "a::b#c?d.json"])
def test_a_file_is_found_by_its_path_and_by_its_url_in_every_spelling(
    stubbed: Stubbed, place: Path, name: str, written: str
) -> None:
    """Libraries encode blanks and letters, like `Path.as_uri`; people and fsspec do not."""
    path = place / "root" / name
    path.write_bytes(MODEL)
    stubbed.api.answers.append(reply(204))
    url = path.as_uri()
    dataref = written.format(path=path, url=url, encoded=url.removeprefix("file://"))
    (end,) = stubbed.carry_out([deleting(dataref)]).values()
    assert end["type"] == "delete_model.succeeded"


def test_an_encoded_path_leads_nowhere_else(stubbed: Stubbed, place: Path) -> None:
    for path in ("root/%2e%2e/outside/secret.json", "root%2F..%2Foutside%2Fsecret.json"):
        (end,) = stubbed.carry_out([deleting(f"file://{place}/{path}")]).values()
        (problem,) = end["data"]["error"]["problems"]
        assert "outside the folders of TRAINMASTER_DATA_ROOTS" in problem["message"]
    assert SECRET not in str(stubbed.events()) + stubbed.log.read_text()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/data/model.json",
        "{shelf}/other/model.json",
        "{shelf}/database/model.json",
        "{shelf}/data/../other/model.json",
        "{shelf}/data/%2e%2e/other/model.json",
        "{shelf}/data/%2E./other/model.json",
        "{shelf}/data/%252e%252e/other/model.json",
        "{shelf}/data\\..\\other",
        "{shelf}/data/..?/model.json",
        "zip://a::{shelf}/data/a.zip",
        "memory://database/x",
        "local:///etc/passwd",
        "simplecache::file:///etc/passwd",
    ],
)
def test_no_url_beside_those_that_were_named_is_asked(
    stubbed: Stubbed, shelf: str, url: str
) -> None:
    Shelf.files["/other/model.json"] = Shelf.files["/database/model.json"] = MODEL
    Shelf.asked.clear()
    (end,) = stubbed.carry_out([deleting(url.format(shelf=shelf))]).values()
    assert end["data"]["error"]["code"] == "invalid_input"
    (problem,) = end["data"]["error"]["problems"]
    assert problem["path"] == "dataref"
    assert "TRAINMASTER_SOURCE_URLS" in problem["message"]
    assert Shelf.asked == []


def test_data_behind_a_url_are_read_and_a_redirect_is_not_followed(
    stubbed: Stubbed, shelf: str
) -> None:
    Shelf.files["/data/model.json"] = MODEL
    Shelf.files["/data/large.json"] = orjson.dumps({"model_uuid": "x" * LIMIT_BYTES})
    Shelf.files["/other/model.json"] = MODEL
    Shelf.moved["/data/moved.json"] = f"{shelf}/other/model.json"
    Shelf.asked.clear()
    stubbed.api.answers.append(reply(204))
    names = ("model", "moved", "large", "missing")
    ends = stubbed.carry_out(deleting(f"{shelf}/data/{name}.json", f"u-{name}") for name in names)
    assert [ends[f"u-{name}"]["type"].partition(".")[2] for name in names] == [
        "succeeded",
        "failed",
        "failed",
        "failed",
    ]
    assert "/other/model.json" not in Shelf.asked
    said = {name: ends[f"u-{name}"]["data"].get("error") for name in names}
    assert "redirects are not followed" in said["moved"]["message"]
    assert f"more than {LIMIT_BYTES} bytes" in said["large"]["message"]
    assert "there is nothing at this URL" in said["missing"]["message"]


def test_a_url_that_fails_for_a_while_is_tried_again_and_nothing_is_lost(
    stubbed: Stubbed, shelf: str
) -> None:
    Shelf.files["/data/shaky.json"] = MODEL
    Shelf.failures["/data/shaky.json"] = 2
    stubbed.api.answers.append(reply(204))
    ends = stubbed.carry_out([deleting(f"{shelf}/data/shaky.json", "shaky")])
    assert ends["shaky"]["type"] == "delete_model.succeeded"
    retries = [
        event["data"]["error"]["code"]
        for event in stubbed.events()
        if event["subject"] == "shaky" and event["type"].endswith("retrying")
    ]
    assert set(retries) == {"data_unavailable"}


def test_a_command_that_was_dead_lettered_for_its_data_can_be_replayed_once_they_are_there(
    stubbed: Stubbed, place: Path
) -> None:
    late = place / "root" / "late.json"
    stubbed.carry_out([deleting(late, "late")])
    late.write_bytes(MODEL)
    stubbed.api.answers.append(reply(204))
    told = stubbed.console.run("dead-letters", "replay", "late", "--json")
    assert told.code == 0, told.err
    wait_until(
        lambda: any(
            event["type"] == "delete_model.succeeded" and event.get("causationid") == "late"
            for event in stubbed.events()
        ),
        "the replayed command has ended",
    )


def test_a_dataref_that_is_none_rejects_the_command(stubbed: Stubbed) -> None:
    bad = [{**deleting("x", f"bad {value!r}"), "dataref": value} for value in ("", 7, ["a"])]
    ends = stubbed.carry_out(bad)
    assert {end["type"] for end in ends.values()} == {"delete_model.rejected"}
    paths = {
        problem["path"] for end in ends.values() for problem in end["data"]["error"]["problems"]
    }
    assert paths == {"dataref"}
