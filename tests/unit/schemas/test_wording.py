"""Numbers in texts: one of a thing is told in the singular."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from schemas.wording import counted
from worker.backfill.plan import FailureLimits
from worker.backfill.sources.folders import tell_kinds

ROOT = Path(__file__).parents[3]
# Where the number is a bound or a size that is never 1, or one of 1 is told apart.
BOUNDS = {
    "MAX_ARRAY_VALUES",
    "MAX_BODY_VALUES",
    "MAX_COMMANDS",
    "MAX_COMMANDS_BYTES",
    "MAX_COMMAND_BYTES",
    "MAX_FILE_BYTES",
    "MAX_HEAD_BYTES",
    "MAX_LISTED",
    "MAX_PAGES",
    "MAX_ROW_BYTES",
    "MAX_SECRET_BYTES",
    "MIN_KEY_BYTES",
    "MIN_SECRET_BYTES",
    "MOST_BODY_BYTES",
    "MOST_FRAMES",
    "MOST_MESSAGE_BYTES",
    "_LONGEST_KEY",
    "_LONGEST_TITLE",
    "bounds.most_bytes",
    "context['min_length']",
    "_MOST_BYTES",
    "limit_bytes",
    "self._limits.success",
    "self._reply_limit_bytes",
    "self._request_limit_bytes",
    "most_bytes",
    "self.most_bytes",
    # Of a hundred at least, of several rows, and of several uses.
    "ended",
    "len(legible)",
    "uses[each.command_id]",
    # Of a header that is there more than once.
    "len(found)",
    # Only told where a picture or a request has several.
    "extent.frames",
    "last - first + 1",
    # A file that is cut, or a picture: of one byte there is none.
    "size",
    "len(source)",
    # Of a list: how much is told of all.
    "data['succeeded']",
}
NOUNS = re.compile(
    r"^ (items|pictures|commands|rows|frames|failures|warnings|entries|events|dead letters|models|"
    r"trainings|attempts|lines|files|keys|workers|places|values|columns|results|predictions|"
    r"boxes|classes|epochs|images|bytes|times|links|labels|parts|pages|processes|reasons)\b"
)


def test_one_is_told_in_the_singular() -> None:
    assert [counted(number, "item") for number in (0, 1, 2)] == ["0 items", "1 item", "2 items"]
    assert counted(1, "process", "processes") == "1 process"
    assert counted(2, "process", "processes") == "2 processes"
    assert counted(12_000, "item", grouped=True) == "12,000 items"


def test_what_a_folder_holds_is_told_in_the_singular_where_it_is_one() -> None:
    one = {"links to folders": 1, "files without a suffix": 1, ".heic": 1}
    assert tell_kinds(one) == "1 .heic, 1 file without a suffix, 1 link to a folder"
    assert tell_kinds({"links to folders": 2}) == "2 links to folders"


def test_a_limit_of_one_failure_is_told_in_the_singular() -> None:
    assert FailureLimits(most=1).reason(1, 1) == "1 item failed; the limit is 1"


@pytest.mark.parametrize("package", ["schemas", "worker", "sandbox", "demo", "tools"])
def test_no_text_puts_a_number_that_may_be_one_before_a_plural(package: str) -> None:
    """`counted` does it; numbers that are never 1 are named above."""
    found = []
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.JoinedStr):
                continue
            for value, text in zip(node.values, node.values[1:], strict=False):
                if (
                    isinstance(value, ast.FormattedValue)
                    and isinstance(text, ast.Constant)
                    and NOUNS.match(str(text.value))
                    and ast.unparse(value.value) not in BOUNDS
                ):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    assert found == []
