"""The pictures that predictions are about, where the gateway can read them.

What is sent to a browser is known by its own first bytes, whatever the file is called: of a format
that can't run anything. It is sent as it lies there; a picture is unpacked only where one frame of
several is asked for, and then no further than its head allows.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar

from schemas.predictions import MAX_FRAMES
from worker.errors import InputError, TrainmasterError
from worker.files.file_access import AllowedFiles, local_path
from worker.files.remote_files import MAX_IMAGE_BYTES
from worker.gateway.files.frames import frame_of
from worker.gateway.message_json import read_message
from worker.gateway.problems import ProblemError
from worker.thread_pools import ThreadPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path
    from typing import Any

T = TypeVar("T")
S = TypeVar("S", str, bytes)

MEDIA_TYPES: Final = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp")
_HEAD_BYTES: Final = 64
_PIECE_BYTES: Final = 262_144
_SHORT: Final = 262_144
_READERS: Final = 8
_READ_SECONDS: Final = 10.0
_DECODE_SECONDS: Final = 20.0
# Who waits for a turn to have a frame unpacked; a page asks for one at a time.
_MOST_ASKED: Final = 8
# The sizes that the header of a bitmap may have, by which it says its version.
_BITMAP_HEADERS: Final = frozenset({12, 40, 52, 56, 64, 108, 124})

_closers: Final = ThreadPool("closing-pictures", 2)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture to be sent.

    Attributes:
        size: in bytes.
        pieces: the bytes; what they come from is closed once they end or nobody wants more.
    """

    media_type: str
    size: int
    pieces: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class _OpenedPicture:
    media_type: str
    size: int
    file: BinaryIO


def image_type(head: bytes) -> str | None:
    """Returns the media type of a picture by its first bytes; None where it is none to show."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head[:4] == b"RIFF" and head[8:15] == b"WEBPVP8":
        return "image/webp"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BITMAP_HEADERS:
        return "image/bmp"
    return None


class Pictures:
    """Reads pictures for a process of the gateway.

    Args:
        roots: folders below which they may lie, links resolved.
        readers: reads of files at a time; a disk that stops keeps these, and nothing else.
        read_seconds: for one piece of a file.
    """

    def __init__(
        self,
        roots: tuple[Path, ...],
        *,
        readers: int = _READERS,
        read_seconds: float = _READ_SECONDS,
    ) -> None:
        self._files = AllowedFiles(
            roots, "data.data_path", MAX_IMAGE_BYTES, "TRAINMASTER_GATEWAY_DATA_ROOTS"
        )
        self.reading = ThreadPool("pictures", readers)
        # For what tells of an item which picture it had.
        self.searching = ThreadPool("parts", 1)
        self._read_seconds = read_seconds
        # One at a time: each may take a few hundred megabytes. Others wait with empty hands.
        self._decoding = ThreadPool("frames", 1)
        self._turn = asyncio.Semaphore(1)
        self._asked = 0

    async def picture(self, command_type: str | None, text: bytes, frame: int | None) -> Picture:
        """Returns the picture that a prediction is about.

        Args:
            command_type: no other than `predict` has one.
            text: of the command, as it was sent.
            frame: of a picture of several, as a picture of its own; None for all of it.

        Raises:
            ProblemError: there is none that can be shown, or it can't be read at the moment.
        """
        if command_type != "predict":
            raise no_picture(f"Only predictions have a picture; this is {command_type}.")
        return await self.picture_of(await self._of_text(_data_of, text), frame)

    async def picture_of(self, data: Mapping[str, Any], frame: int | None) -> Picture:
        """Returns the picture that the data of a prediction name, or hold; raises as `picture`."""
        if isinstance(found := data.get("data_base64"), str):
            content = await self._of_text(_decoded, found)
            kind = _known(content)
            if frame is not None:
                async with self._frame_turn():
                    kind, content = await self._frame(kind, content, frame)
            return Picture(kind, len(content), _whole(content))
        if not isinstance(path := data.get("data_path"), str):
            raise no_picture("The prediction is about an item of Encord's, which is not read here.")
        if (place := local_path(path)) is None:
            raise no_picture("The picture lies behind a URL, which is not read here.")
        opened = await self._read(self._open, place)
        if frame is None:
            return Picture(opened.media_type, opened.size, self._pieces(opened))
        try:
            async with self._frame_turn():
                content = await self._read(opened.file.read, opened.size)
                kind, content = await self._frame(opened.media_type, content, frame)
        finally:
            _closers.submit(opened.file.close)
        return Picture(kind, len(content), _whole(content))

    @asynccontextmanager
    async def _frame_turn(self) -> AsyncIterator[None]:
        """Lets one at a time hold a whole file, and what it is unpacked to.

        Raises:
            ProblemError: too many wait already, or the turn does not come.
        """
        if self._asked >= _MOST_ASKED:
            raise unavailable("Too many frames are asked for at a time.")
        self._asked += 1
        try:
            try:
                await asyncio.wait_for(self._turn.acquire(), _DECODE_SECONDS)
            except TimeoutError:
                raise unavailable("Other frames are unpacked for too long.") from None
            try:
                yield
            finally:
                self._turn.release()
        finally:
            self._asked -= 1

    def _open(self, path: Path) -> _OpenedPicture:
        file, size = self._files.open(path)
        try:
            media_type = _known(file.read(_HEAD_BYTES))
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return _OpenedPicture(media_type, size, file)

    async def _pieces(self, opened: _OpenedPicture) -> AsyncIterator[bytes]:
        left = opened.size
        try:
            while left:
                piece = await self._read(opened.file.read, min(_PIECE_BYTES, left))
                if not piece:
                    raise unavailable("The file became shorter while it was read.")
                # What grows meanwhile is sent as far as its length was told.
                left -= len(piece)
                yield piece
        finally:
            # A read that is under way may keep the file for a while.
            _closers.submit(opened.file.close)

    async def _of_text(self, read: Callable[[S], T], text: S) -> T:
        """Returns what is read out of a text; a long one keeps no other request waiting."""
        return read(text) if len(text) <= _SHORT else await self._read(read, text)

    async def _read(self, act: Callable[..., T], *args: Any) -> T:
        return await _answered(self.reading, self._read_seconds, act, *args)

    async def _frame(self, media_type: str, content: bytes, frame: int) -> tuple[str, bytes]:
        if frame >= MAX_FRAMES:
            raise no_picture(f"The last frame that is shown is number {MAX_FRAMES - 1}.")
        if media_type in {"image/jpeg", "image/bmp"}:
            if frame:
                raise no_picture("The picture has one frame, number 0.")
            return media_type, content
        return await _answered(self._decoding, _DECODE_SECONDS, frame_of, content, frame)


async def _answered(pool: ThreadPool, seconds: float, act: Callable[..., T], *args: Any) -> T:
    """Returns what a thread returns; its errors become problems."""
    try:
        return await pool.run(seconds, act, *args)
    except InputError as exc:
        raise no_picture(f"{exc.message[:1].upper()}{exc.message[1:]}.") from exc
    except TimeoutError as exc:
        raise unavailable("The disk, or the picture, takes too long.") from exc
    except (TrainmasterError, OSError, MemoryError) as exc:
        told = exc.message if isinstance(exc, TrainmasterError) else type(exc).__name__
        raise unavailable(f"The picture can't be read at the moment: {told}.") from exc


def no_picture(detail: str) -> ProblemError:
    """Returns the problem of a command without a picture that can be shown."""
    return ProblemError(404, "no_picture", detail)


def unavailable(detail: str) -> ProblemError:
    """Returns the problem of a picture that may be readable later."""
    return ProblemError(503, "picture_unavailable", detail, headers={"Retry-After": "2"})


def _data_of(text: bytes) -> Mapping[str, Any]:
    message = read_message(text)
    if message is None:
        raise no_picture("The message can't be read.")
    if isinstance(data := message.get("data"), dict):
        return data
    raise no_picture("The command's data lie elsewhere (`dataref`), which is not followed here.")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise no_picture("data_base64 is not base64.") from None


def _known(content: bytes) -> str:
    found = image_type(content[:_HEAD_BYTES])
    if found is None:
        raise no_picture("The file is no picture that is shown: PNG, JPEG, WebP, GIF or BMP.")
    return found


async def _whole(content: bytes) -> AsyncIterator[bytes]:
    yield content
