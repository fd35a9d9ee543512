"""`data_path` of a real worker: what lies outside the roots never reaches the API."""

from __future__ import annotations

import base64
import os
import socket
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.security.stubbed import Stubbed, stubbed_worker
from tests.stub_api import reply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from worker.embedded import EmbeddedRedis

ANY = "00000000-0000-4000-8000-000000000000"
TRIES = 1000
SECRET = b"what lies outside the roots"
INSIDE = b"what lies inside"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with all that is dangerous in it, and a secret beside it."""
    folder = tmp_path_factory.mktemp("roots")
    root, outside = folder / "root", folder / "outside"
    (root / "inner").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret").write_bytes(SECRET)
    (root / "image").write_bytes(INSIDE)
    (root / "inner" / "secret").write_bytes(INSIDE)
    (root / "link").symlink_to(outside / "secret")
    (root / "folder").symlink_to(outside)
    (root / "chain").symlink_to(root / "link")
    (root / "environ").symlink_to("/proc/self/environ")
    (root / "zero").symlink_to("/dev/zero")
    (root / "stdin").symlink_to("/dev/stdin")
    (root / "loop").symlink_to(root / "loop")
    os.mkfifo(root / "pipe")
    (folder / "root-secrets").write_bytes(SECRET)
    return folder


@pytest.fixture(scope="module")
def stubbed(
    place: Path, redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stubbed]:
    folder = tmp_path_factory.mktemp("worker")
    roots = str(place / "root")
    with (
        stubbed_worker(redis_server.url, "roots", folder, TRAINMASTER_DATA_ROOTS=roots) as running,
        # A short name: that of a socket has 107 characters at most.
        socket.socket(socket.AF_UNIX) as listener,
    ):
        listener.bind(f"/proc/self/cwd/{os.path.relpath(place / 'root' / 'socket')}")
        running.api.default = reply(200, b'{"result": {"0": null}}')
        yield running


def predict(path: object, number: int = 0) -> dict[str, Any]:
    return {
        "type": "predict",
        "id": f"{path} {number}",
        "data": {
            "task": "classification",
            "project_uuid": ANY,
            "project_model_uuid": ANY,
            "training_uuid": ANY,
            "data_path": str(path),
        },
    }


def sent(stubbed: Stubbed, since: int) -> Counter[bytes]:
    """Returns the contents that reached the API."""
    bodies = [orjson.loads(request.body) for request in stubbed.api.recorded[since:]]
    return Counter(base64.b64decode(body["dataBase64"]) for body in bodies)


def test_what_lies_below_a_root_is_sent(stubbed: Stubbed, place: Path) -> None:
    since = len(stubbed.api.recorded)
    image = place / "root" / "image"
    written = [image, image.parent / "inner" / ".." / "image", image.as_uri(), f"file:{image}"]
    ends = stubbed.carry_out(map(predict, written))
    assert {end["type"] for end in ends.values()} == {"predict.succeeded"}
    assert sent(stubbed, since) == {INSIDE: len(written)}


def test_who_names_a_url_or_no_whole_path_is_told_so(stubbed: Stubbed) -> None:
    commands = [predict("https://host.example/a.png"), predict("pictures/a.png")]
    url, path = (
        stubbed.carry_out([each])[each["id"]]["data"]["error"]["message"] for each in commands
    )
    assert url.startswith("names a URL, which only an item of a backfill may")
    assert "lies outside the folders of TRAINMASTER_DATA_ROOTS: a path without /" in path


def test_no_path_out_of_the_roots_and_no_odd_file_is_read(stubbed: Stubbed, place: Path) -> None:
    root = place / "root"
    paths = [
        place / "outside" / "secret",
        root / ".." / "outside" / "secret",
        root / "inner" / ".." / ".." / "outside" / "secret",
        root / "link",
        root / "folder" / "secret",
        root / "chain",
        root / "environ",
        root / "zero",
        root / "stdin",
        root / "loop",
        root / "pipe",
        root / "socket",
        root / "inner",
        root / "nothing",
        f"{root}-secrets",
        "/proc/self/environ",
        "/proc/self/root/etc/hostname",
        f"/proc/self/cwd/{place}",
        "/dev/zero",
        "/dev/urandom",
        "image",
        "~/image",
        "file:///etc/hostname",
        "FILE:/etc/hostname",
        (place / "outside" / "secret").as_uri(),
        f"file:{place}/root/%2e%2e/outside/secret",
        "https://host.example/image",
        "nul\0byte",
    ]
    since = len(stubbed.api.recorded)
    ends = stubbed.carry_out(predict(path) for path in paths if "\0" not in str(path))
    for path, end in ends.items():
        assert end["type"] == "predict.failed", path
        assert end["data"]["error"]["code"] == "invalid_input", path
        assert end["data"]["attempts"] == 1
    assert stubbed.api.recorded[since:] == []
    told = str(stubbed.events()) + stubbed.log.read_text()
    assert SECRET.decode() not in told


def test_a_link_swapped_while_a_thousand_commands_run_gains_nothing(
    stubbed: Stubbed, place: Path
) -> None:
    inner, spare, trap = (place / "root" / name for name in ("inner", "spare", "trap"))
    trap.symlink_to(place / "outside")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            inner.rename(spare)
            trap.rename(inner)
            inner.rename(trap)
            spare.rename(inner)

    since = len(stubbed.api.recorded)
    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        commands = [predict(inner / "secret", number) for number in range(1, TRIES + 1)]
        ends = stubbed.carry_out(commands)
    finally:
        stop.set()
        swapper.join()
    states = Counter(end["type"] for end in ends.values())
    assert sum(states.values()) == TRIES
    assert set(states) == {"predict.succeeded", "predict.failed"}, "the race was never met"
    assert set(sent(stubbed, since)) == {INSIDE}
    assert sent(stubbed, since)[INSIDE] == states["predict.succeeded"]
    print(f"\n{TRIES} tries against a link that is swapped: {dict(states)}")  # noqa: T201 - figures
