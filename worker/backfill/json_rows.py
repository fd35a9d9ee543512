"""Sources of JSON: an object on each line, or all of them in one array."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final, cast

import jiter

from worker.backfill.errors import SourceError
from worker.backfill.opening import check_text, opened
from worker.backfill.rows import (
    BYTE_ORDER_MARK,
    MAX_ROW_BYTES,
    SHOWN_CHARACTERS,
    SourceRow,
    lines,
    read_row,
)
from worker.redaction import redact_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader

_CHUNK_BYTES: Final = 64 * 1024
# What may begin or end something, outside of a string and inside of one.
_MARKS: Final = re.compile(rb'["\[\]{},]')
_IN_STRING: Final = re.compile(rb'["\\]')


@dataclass(frozen=True, slots=True)
class JsonLines:
    """A JSON object on each line; blank lines are passed over. The position is a line's number.

    A file that begins with `[` is one array of objects instead, and the position an element's
    number.
    """

    location: str
    follows: bool = True

    def rows(self, after: str) -> Iterator[SourceRow]:
        skipped = int(after or 0)
        with opened(self.location, follows=self.follows) as file:
            check_text(self.location, file)
            if is_array(file):
                texts, place = self._elements(file), "element"
            else:
                texts, place = lines(file), "line"
            first = True
            for number, text in enumerate(texts, 1):
                line = text.removeprefix(BYTE_ORDER_MARK).strip()
                if first and place == "line" and line == b"{":
                    raise SourceError(
                        f"{redact_url(self.location)}: is JSON over many lines: write one object "
                        "on each line, or an array of objects"
                    )
                first = first and not line
                if number > skipped and line:
                    yield _row(number, f"{place} {number}", line, len(text))

    def _elements(self, file: IO[bytes]) -> Iterator[bytes]:
        try:
            yield from Elements(cast("BufferedReader", file))
        except ValueError as exc:
            raise SourceError(
                f"{redact_url(self.location)}: is no whole array of JSON: {exc}"
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
        if not isinstance(fields, dict):
            return bad("no JSON object")
        return SourceRow(position, place, fields)

    return read_row(position, place, read)


def is_array(file: Any) -> bool:
    """Tells whether a file that was just opened begins with an array that goes over all of it."""
    head = bytes(file.peek(_CHUNK_BYTES)).removeprefix(BYTE_ORDER_MARK).lstrip()
    if not head.startswith(b"["):
        return False
    line, newline, rest = head.partition(b"\n")
    # A line that is an array of its own, before others, is a bad line.
    return not (newline and line.rstrip().endswith(b"]") and rest.strip()[:1] in {b"{", b"["})


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
