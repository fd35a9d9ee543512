"""Sources of JSON: an object on each line, or all of them in one array."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import jiter

from worker.backfill.errors import ShortSourceError, SourceError
from worker.backfill.locations import shown_place, suffix_of
from worker.backfill.sources.opening import check_text, opened
from worker.backfill.sources.rows import (
    BYTE_ORDER_MARK,
    MAX_ROW_BYTES,
    SHOWN_CHARACTERS,
    SourceRow,
    lines,
    read_row,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader

_LINES_SUFFIXES: Final = frozenset({".jsonl", ".ndjson"})
_CHUNK_BYTES: Final = 64 * 1024
# What may begin or end something, outside of a string and inside of one.
_MARKS: Final = re.compile(rb'["\[\]{},]')
_IN_STRING: Final = re.compile(rb'["\\]')


@dataclass(frozen=True, slots=True)
class JsonLines:
    """A JSON object on each line; blank lines are passed over. The position is a line's number.

    A file that begins with `[` and is not named `.jsonl` is one array of objects instead, and the
    position an element's number.
    """

    location: str
    follows: bool = True

    def rows(self, after: str) -> Iterator[SourceRow]:
        skipped = int(after or 0)
        with opened(self.location, follows=self.follows) as file:
            check_text(self.location, file)
            is_array, whole = holds_array(self.location, cast("BufferedReader", file))
            if is_array:
                texts, place = self._elements(whole), "element"
            else:
                texts, place = lines(whole), "line"
            first = True
            number = 0
            for number, text in enumerate(texts, 1):
                line = text.removeprefix(BYTE_ORDER_MARK).strip()
                if first and place == "line" and line in {b"{", b"["}:
                    raise SourceError(
                        f"{shown_place(self.location)}: is JSON over many lines: write one object "
                        "on each line, or an array of objects into a file named .json"
                    )
                first = first and not line
                if number > skipped and line:
                    yield _row(number, f"{place} {number}", line, len(text))
            if number < skipped:
                raise ShortSourceError(self.location, place, number, skipped)

    def _elements(self, file: BufferedReader) -> Iterator[bytes]:
        try:
            yield from Elements(file)
        except ValueError as exc:
            raise SourceError(
                f"{shown_place(self.location)}: is no whole array of JSON: {exc}"
            ) from exc


def _row(number: int, place: str, text: bytes, size: int) -> SourceRow:
    position = str(number)

    def bad(problem: str) -> SourceRow:
        raw = text[:SHOWN_CHARACTERS].decode("utf-8", "replace")
        return SourceRow(position, place, None, problem, raw)

    def read() -> SourceRow:
        if size > MAX_ROW_BYTES:
            return bad(f"longer than {MAX_ROW_BYTES} bytes")
        try:
            # Python and pandas write NaN where there is no number.
            fields = jiter.from_json(text, catch_duplicate_keys=True, allow_inf_nan=True)
        except ValueError as exc:
            # Each line is a text of its own: which of its lines it is says nothing.
            return bad(f"not JSON: {str(exc).replace(' at line 1 column', ' at column')}")
        if isinstance(fields, list) and place.startswith("line"):
            return bad("no JSON object; an array of items belongs into a file named .json")
        if not isinstance(fields, dict):
            return bad("no JSON object")
        return SourceRow(position, place, fields)

    return read_row(position, place, read)


def holds_array(location: str, file: BufferedReader) -> tuple[bool, BufferedReader]:
    """Returns whether a file that was just opened is one array, and what reads it from there.

    By its name, if that says that it holds lines, else by how it begins: a line that is an array
    of its own, before others, is a bad line.
    """
    if suffix_of(location) in _LINES_SUFFIXES:
        return False, file
    ahead = bytearray()

    def next_line() -> bytes:
        """Returns the next line that is not blank; nothing where none is near."""
        while len(ahead) < _CHUNK_BYTES and (line := file.readline(_CHUNK_BYTES)):
            ahead.extend(line)
            line = line.removeprefix(BYTE_ORDER_MARK)
            if line.strip():
                return line.lstrip()
        return b""

    first = next_line()
    is_array = first.startswith(b"[")
    if is_array and first.endswith(b"\n") and first.rstrip().endswith(b"]"):
        following = next_line()
        is_array = not following or not (_is_whole(first) or following[:1] in {b"{", b"["})
    return is_array, io.BufferedReader(_Resumed(bytes(ahead), file), _CHUNK_BYTES)


def _is_whole(line: bytes) -> bool:
    try:
        jiter.from_json(line, allow_inf_nan=True)
    except ValueError:
        return False
    return True


class _Resumed(io.RawIOBase):
    """A file from its beginning, though some of it was read."""

    def __init__(self, ahead: bytes, file: BufferedReader) -> None:
        self._ahead = ahead
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        size = len(buffer)
        content, self._ahead = self._ahead[:size], self._ahead[size:]
        if not content:
            content = self._file.read1(size)
        buffer[: len(content)] = content
        return len(content)


class Elements:
    """The texts of an array's elements, one after the other, whatever the array's size.

    Only brackets and strings are looked at: what is wrong inside of an element is its own matter.
    Of one that is too long no more is yielded than shows that it is.
    """

    def __init__(self, file: BufferedReader) -> None:
        self._file = file
        self._depth = 0
        self._in_string = False
        self._text = bytearray()
        self._count = 0
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        """Yields them.

        Raises:
            ValueError: the array has no end, or more stands behind it.
        """
        begun = False
        # What is there, for behind it may stand an error.
        while chunk := self._file.read1(_CHUNK_BYTES):
            text = chunk
            if not begun:
                text = text.removeprefix(BYTE_ORDER_MARK).lstrip()[1:]
                begun = bool(text) or b"[" in chunk
            yield from self._scanned(text)
        if not self._closed:
            raise ValueError(f"it ends within element {self._count + 1}")

    def _scanned(self, chunk: bytes) -> Iterator[bytes]:
        start = at = 0
        while not self._closed:
            found = (_IN_STRING if self._in_string else _MARKS).search(chunk, at)
            if found is None:
                self._keep(chunk[start:])
                return
            mark, at = found[0], found.end()
            if mark == b"\\":
                if at == len(chunk):
                    # What is escaped comes with the next chunk.
                    chunk += self._file.read(1)
                at += 1
            elif self._depth == 0 and mark in b",]":
                self._keep(chunk[start : at - 1])
                start = at
                yield from self._ended(last=mark == b"]")
            else:
                self._pass(mark)
        if chunk[start:].strip():
            raise ValueError("more stands behind its end")

    def _pass(self, mark: bytes) -> None:
        """Goes into a string or out of it, or into what is nested or out of that."""
        if mark == b'"':
            self._in_string = not self._in_string
        elif mark in b"[{":
            self._depth += 1
        elif mark in b"]}":
            self._depth = max(0, self._depth - 1)

    def _keep(self, text: bytes) -> None:
        if not self._text:
            text = text.lstrip()
        self._text += text[: max(0, MAX_ROW_BYTES + 1 - len(self._text))]

    def _ended(self, *, last: bool) -> Iterator[bytes]:
        self._closed = last
        text = bytes(self._text)
        self._text.clear()
        if text.strip() or not last:
            self._count += 1
            # An element that is not there is a bad one, not none.
            yield text if text.strip() else b"?"
