"""The last release beside this tree in short form; the seed stands in each test's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.scenarios.versions import RELEASE, THIS, versions
from tests.released import NoReleaseError, check_out, last_release, pins

if TYPE_CHECKING:
    from pathlib import Path

THERE_AND_BACK = (
    (RELEASE, RELEASE),
    (THIS, RELEASE),
    (THIS, THIS),
    (RELEASE, THIS),
    (RELEASE,) * 2,
)


@pytest.mark.long
@pytest.mark.parametrize("seed", [171])
def test_the_last_release_and_this_tree_take_over_from_each_other(
    tmp_path: Path, seed: int
) -> None:
    try:
        found = versions(
            tmp_path, seed, last_release(), phases=THERE_AND_BACK, seconds=8, items=600
        )
    except NoReleaseError as exc:
        pytest.skip(str(exc))
    assert found.holds, found.line()
    assert found.details["rolled"] == found.details["handed over"] == 4
    assert found.details["led by"] == {RELEASE: 2, THIS: 1}
    assert found.details["kills"] > 2


def test_a_release_that_git_does_not_have_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoReleaseError, match=r"0{12} is not in this clone: run `git fetch"):
        check_out("0" * 40, tmp_path / "release")


def test_pins_tell_names_and_versions(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(
        "a==1.0 \\\n    --hash=sha256:00\n"
        "b-c==2 ; sys_platform == 'win32' \\\n    --hash=sha256:11\n"
    )
    assert pins(lock) == {"a==1.0", "b-c==2"}
