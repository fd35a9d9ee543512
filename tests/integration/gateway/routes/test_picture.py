"""`GET /v1/commands/{id}/picture`: pictures that may be seen, and nothing else of any disk."""

from __future__ import annotations

import base64
import io
import os
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import httpx
import orjson
import pytest
from PIL import Image

from tests.integration.intake_acts import good
from tests.integration.ledger_acts import MODEL_UUID
from worker.files.remote_files import MAX_IMAGE_BYTES
from worker.gateway.access.tokens import Scope
from worker.gateway.files.pictures import Pictures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis import Redis as BlockingRedis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import Bury, MakeToken, ServeGateway
    from worker.queue.ledger.keys import Keys

FORMATS: Final = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
}
COLORS: Final = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
SVG: Final = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


class Shown:
    """A gateway that may read pictures below a folder, and predictions on what lies there."""

    def __init__(
        self, gateway: GatewayServer, root: Path, redis: BlockingRedis, keys: Keys
    ) -> None:
        self.gateway = gateway
        self.root = root
        self._redis = redis
        self._keys = keys
        self._count = 0

    def predict(self, **source: Any) -> str:
        """Puts a prediction into the ledger that nobody carries out; returns its id."""
        self._count += 1
        command_id = f"predict-{self._count}"
        self.put(command_id, "predict", {"task": "classification", **source})
        return command_id

    def put(self, command_id: str, command_type: str, data: dict[str, Any]) -> None:
        text = orjson.dumps({"type": command_type, "id": command_id, "data": data})
        fields = ("t", command_type, "s", "accepted", "l", "i", "m", "1000", "n", "0")
        self._redis.hset(self._keys.command(command_id), items=list(fields))
        self._redis.set(self._keys.text(command_id), text)

    def get(self, command_id: str, **query: Any) -> httpx.Response:
        return self.gateway.http.get(f"/v1/commands/{command_id}/picture", params=query)

    def of(self, path: object, **query: Any) -> httpx.Response:
        """Returns the answer to a prediction on a path."""
        return self.get(self.predict(data_path=str(path)), **query)

    def refusal(self, path: object, **query: Any) -> str:
        """Returns why there is no picture."""
        return refused(self.of(path, **query))


def refused(answer: httpx.Response, status: int = 404, code: str = "no_picture") -> str:
    told = answer.json()
    assert (answer.status_code, told["code"]) == (status, code), answer.text
    return str(told["detail"])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of the pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    return folder


@pytest.fixture
def shown(
    serve_gateway: ServeGateway, root: Path, raw_redis: BlockingRedis, keys: Keys
) -> Iterator[Shown]:
    """A gateway that may read them."""
    with serve_gateway(gateway_data_roots=str(root)) as gateway:
        yield Shown(gateway, root, raw_redis, keys)


def picture(kind: str, *, frames: int = 1) -> bytes:
    made = io.BytesIO()
    pictures = [Image.new("RGB", (40, 30), color) for color in COLORS[:frames]]
    more = {"save_all": True, "append_images": pictures[1:]} if frames > 1 else {}
    pictures[0].save(made, kind, **more)
    return made.getvalue()


def huge_png(side: int) -> bytes:
    """A picture of a few bytes that says that it has so many pixels on a side."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 10_000_000)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", body), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_is_sent_as_it_lies_there_whatever_it_is_called(shown: Shown, kind: str) -> None:
    content = picture(kind)
    (shown.root / "folder").mkdir()
    file = shown.root / "folder" / "odd.svg"
    file.write_bytes(content)
    inside = shown.root / "link"
    inside.symlink_to(file)
    in_text = shown.predict(data_base64=base64.b64encode(content).decode())
    for answer in (shown.of(file), shown.of(inside), shown.get(in_text)):
        assert (answer.status_code, answer.content) == (200, content), answer.text
        assert answer.headers["content-type"] == FORMATS[kind]
        assert answer.headers["content-length"] == str(len(content))
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-disposition"] == "inline"
        assert answer.headers["content-security-policy"].startswith("default-src 'none';")
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "content",
    [
        SVG,
        b"<!doctype html><script>alert(1)</script>",
        b"\n\x89PNG\r\n\x1a\n",
        b"BM<html><script>alert(1)</script>",
        b"RIFF\0\0\0\0WAVEfmt ",
        b"RIFF<script>alert(1)</script>WEBPVP8",
        b"\0\0\0\x20ftypisom" + b"\0" * 64,
        b"%PDF-1.7",
        b"II*\0" + b"\0" * 64,
        b"root:x:0:0:root:/root:/bin/bash\n",
        b"\xff\xd8",
        b"",
    ],
)
def test_what_is_no_picture_by_its_content_is_not_sent_whatever_it_is_called(
    shown: Shown, content: bytes
) -> None:
    file = shown.root / "holiday.png"
    file.write_bytes(content)
    in_text = shown.predict(data_base64=base64.b64encode(content).decode())
    for answer in (shown.of(file), shown.get(in_text)):
        assert "no picture that is shown" in refused(answer)


def test_nothing_is_read_but_plain_files_below_the_roots(shown: Shown, tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    outside.write_bytes(picture("PNG"))
    (tmp_path / "pictures-of-others").mkdir()
    (tmp_path / "pictures-of-others" / "a.png").write_bytes(picture("PNG"))
    link, dangling, looped = (shown.root / name for name in ("link", "dangling", "looped"))
    link.symlink_to(outside)
    dangling.symlink_to(tmp_path / "nothing.png")
    looped.symlink_to(looped)
    (shown.root / "up").symlink_to(tmp_path)
    for path in (
        outside,
        f"{shown.root}/../outside.png",
        f"{shown.root}/up/outside.png",
        f"{shown.root}-of-others/a.png",
        link,
        dangling,
        "/etc/passwd",
        "/proc/self/environ",
        "outside.png",
        "~/outside.png",
        f"file://{shown.root}/../outside.png",
        f"file:{tmp_path}/outside.png",
        # Whether there is something outside is not told either.
        tmp_path / "nothing.png",
    ):
        assert "outside the folders of TRAINMASTER_GATEWAY_DATA_ROOTS" in shown.refusal(path), path
    for path, said in (
        (shown.root / "nothing.png", "No such file"),
        (shown.root, "Not a plain file"),
        (looped, ""),
        (f"{shown.root}/a\0.png", "not a usable path"),
        (f"{shown.root}/{'x' * 300}.png", "too long"),
    ):
        assert said in shown.refusal(path), path
    file = shown.root / "a b.png"
    file.write_bytes(picture("PNG"))
    assert shown.of(file.as_uri()).status_code == 200


def test_a_pipe_and_a_device_are_no_files_and_keep_nobody_waiting(shown: Shown) -> None:
    pipe = shown.root / "pipe.png"
    os.mkfifo(pipe)
    assert "Not a plain file" in shown.refusal(pipe)


def test_a_file_that_is_too_large_is_not_begun(shown: Shown) -> None:
    file = shown.root / "vast.png"
    with file.open("wb") as opened:
        opened.write(picture("PNG"))
        opened.truncate(MAX_IMAGE_BYTES + 1)
    assert f"larger than {MAX_IMAGE_BYTES} bytes" in shown.refusal(file)
    os.truncate(file, MAX_IMAGE_BYTES)
    url = f"/v1/commands/{shown.predict(data_path=str(file))}/picture"
    with shown.gateway.http.stream("GET", url) as answer:
        assert answer.headers["content-length"] == str(MAX_IMAGE_BYTES)
        assert sum(map(len, answer.iter_raw())) == MAX_IMAGE_BYTES


def test_a_file_that_shrinks_or_grows_meanwhile_is_never_sent_for_whole(shown: Shown) -> None:
    file = shown.root / "live.png"
    size = 32 * 1024 * 1024
    with file.open("wb") as opened:
        opened.write(picture("PNG"))
        opened.truncate(size)
    url = f"/v1/commands/{shown.predict(data_path=str(file))}/picture"
    with shown.gateway.http.stream("GET", url) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        os.truncate(file, 1024)
        with pytest.raises(httpx.RemoteProtocolError):
            list(pieces)
    assert shown.gateway.http.get("/healthz").status_code == 200


def test_without_roots_no_file_is_read_but_what_a_command_holds_is_shown(
    gateway: GatewayServer, root: Path, raw_redis: BlockingRedis, keys: Keys
) -> None:
    shown = Shown(gateway, root, raw_redis, keys)
    file = root / "a.png"
    file.write_bytes(picture("PNG"))
    assert "TRAINMASTER_GATEWAY_DATA_ROOTS is not set" in shown.refusal(file)
    in_text = shown.predict(data_base64=base64.b64encode(picture("PNG")).decode())
    assert shown.get(in_text).status_code == 200


def test_each_other_command_says_why_it_has_no_picture(
    shown: Shown, raw_redis: BlockingRedis, keys: Keys
) -> None:
    assert "Encord" in refused(shown.get(shown.predict(data_uuid=MODEL_UUID)))
    assert "not base64" in refused(shown.get(shown.predict(data_base64="!")))
    assert "behind a URL" in shown.refusal("https://host.example/a.png")
    shown.put("model", "get_model", {"data_path": str(shown.root)})
    assert "Only predictions" in refused(shown.get("model"))
    shown.put("checked", "predict", {})
    checked = b'{"type":"predict","dataref":"/data/one.json"}'
    raw_redis.set(keys.text("checked"), checked)
    assert "dataref" in refused(shown.get("checked"))
    raw_redis.set(keys.text("checked"), b"{")
    assert "can't be read" in refused(shown.get("checked"))
    refused(shown.get("nobody"), code="unknown_id")
    raw_redis.delete(keys.text("checked"))
    raw_redis.hset(keys.command("checked"), mapping={"s": "cancelled", "e": "2000"})
    refused(shown.get("checked"), code="no_message")


def test_a_token_of_other_types_sees_no_picture(shown: Shown, make_token: MakeToken) -> None:
    (shown.root / "a.png").write_bytes(picture("PNG"))
    url = f"/v1/commands/{shown.predict(data_path=str(shown.root / 'a.png'))}/picture"
    for types, status in ((["predict"], 200), ([], 200), (["train"], 404)):
        with shown.gateway.client(make_token(Scope.READ, types=types)) as http:
            assert http.get(url).status_code == status
    with shown.gateway.client(make_token(Scope.SUBMIT)) as http:
        assert http.get(url).status_code == 403


def test_a_failed_predictions_picture_is_found_by_its_dead_letter(shown: Shown, bury: Bury) -> None:
    (shown.root / "a.png").write_bytes(picture("PNG"))
    data = {"data_path": str(shown.root / "a.png")}
    text = orjson.dumps({"type": "predict", "data": data})
    bury("dead", command_type="predict", text=text)
    assert shown.get("dead").content == picture("PNG")
    bury("odd", command_type="predict", text=good())
    assert "Encord" in refused(shown.get("odd"))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_one_frame_of_several_is_a_picture_of_its_own(shown: Shown, kind: str) -> None:
    file = shown.root / "clip"
    file.write_bytes(picture(kind, frames=3))
    for number, color in enumerate(COLORS):
        answer = shown.of(file, frame=number)
        assert answer.headers["content-type"] == "image/jpeg", answer.text
        frame = Image.open(io.BytesIO(answer.content))
        assert frame.size == (40, 30)
        seen = frame.getpixel((20, 15))
        assert isinstance(seen, tuple)
        assert all(abs(one - other) < 12 for one, other in zip(seen, color, strict=True))
    assert "no frame 3" in shown.refusal(file, frame=3)
    assert "number 999" in shown.refusal(file, frame=1000)
    for wrong in ("-1", "x", "1.5"):
        refused(shown.of(file, frame=wrong), 422, "invalid_parameters")


def test_who_asks_for_many_frames_at_a_time_is_put_off_before_a_file_is_read(shown: Shown) -> None:
    """Each holds the whole file, and what it is unpacked to: many would fill the memory."""
    file = shown.root / "large.gif"
    file.write_bytes(picture("GIF", frames=3) + bytes(16 * 1024 * 1024))
    url = f"/v1/commands/{shown.predict(data_path=str(file))}/picture?frame=2"
    with ThreadPoolExecutor(40) as askers:
        answers = list(askers.map(lambda _: shown.gateway.http.get(url), range(40)))
    shown_ones = [each for each in answers if each.status_code == 200]
    put_off = [each for each in answers if each.status_code != 200]
    assert shown_ones
    assert put_off
    assert {refused(each, 503, "picture_unavailable") for each in put_off} == {
        "Too many frames are asked for at a time."
    }
    assert shown.gateway.http.get(url).status_code == 200, "the turns are given back"


def test_a_still_picture_has_frame_0(shown: Shown) -> None:
    for kind in ("JPEG", "BMP"):
        still = shown.predict(data_base64=base64.b64encode(picture(kind)).decode())
        assert shown.get(still, frame=0).content == picture(kind)
        assert "one frame" in refused(shown.get(still, frame=1))


def test_a_picture_that_would_burst_is_sent_packed_and_never_unpacked(shown: Shown) -> None:
    bomb = huge_png(60_000)
    assert len(bomb) < 100_000
    file = shown.root / "bomb.png"
    file.write_bytes(bomb)
    assert shown.of(file).content == bomb
    assert "too many" in shown.refusal(file, frame=0)
    # A frame beyond what the head of the file tells.
    gif = bytearray(picture("GIF", frames=3))
    second = gif.index(b"\x2c", gif.index(b"\x2c") + 1)
    gif[second + 5 : second + 9] = struct.pack("<HH", 13_000, 13_000)
    file.write_bytes(gif)
    assert "several sizes" in shown.refusal(file, frame=2)
    torn = shown.root / "torn.gif"
    torn.write_bytes(picture("GIF", frames=3)[:40])
    assert "can't be unpacked" in shown.refusal(torn, frame=0)


@contextmanager
def stopped_disk(shown: Shown) -> Iterator[None]:
    """Has the threads that read pictures hang as on a disk that has stopped."""
    goes_on = threading.Event()
    pictures = Pictures((shown.root,), readers=2, read_seconds=0.3)
    shown.gateway.app.state.gateway.pictures = pictures
    hanging = [pictures.reading.submit(goes_on.wait) for _ in range(2)]
    try:
        yield
    finally:
        goes_on.set()
        for each in hanging:
            each.result(timeout=10)


def test_a_disk_that_has_stopped_keeps_pictures_waiting_and_nothing_else(shown: Shown) -> None:
    (shown.root / "a.png").write_bytes(picture("PNG"))
    sent = shown.predict(data_path=str(shown.root / "a.png"))
    with stopped_disk(shown):
        answers = [shown.get(sent) for _ in range(3)]
        assert shown.gateway.http.get("/healthz").status_code == 200
        for answer in answers:
            refused(answer, 503, "picture_unavailable")
            assert answer.headers["retry-after"]
    assert shown.get(sent).content == picture("PNG")


def test_the_picture_of_a_prediction_that_succeeded_is_found_by_the_copy_of_its_text(
    shown: Shown, raw_redis: BlockingRedis, keys: Keys
) -> None:
    (shown.root / "a.png").write_bytes(picture("PNG"))
    sent = shown.predict(data_path=str(shown.root / "a.png"))
    raw_redis.rename(keys.text(sent), keys.sent(sent))
    raw_redis.hset(keys.command(sent), mapping={"s": "succeeded", "e": "2000"})
    assert shown.get(sent).content == picture("PNG")
    raw_redis.delete(keys.sent(sent))
    refused(shown.get(sent), code="no_message")
