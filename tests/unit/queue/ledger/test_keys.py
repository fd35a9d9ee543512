"""Keys and names made of ids that others choose: no two families ever meet."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.attributes import is_valid_id
from schemas.enums import Priority
from worker.backfill.keys import backfill_key, backfills_key
from worker.backfill.results.output import folder_name
from worker.encord.creation.keys import ambiguous_key, orphan_key
from worker.queue.ledger.keys import MEMBER_SEPARATOR, Keys, member_row_id, shown_id

if TYPE_CHECKING:
    from collections.abc import Callable

KEYS = Keys("ns")
# What a key of one family would have to look like to be one of another.
PARTS = ["n", "N", ":", "/", "-", ".", "open", "results", "group", "command", "text", "0", "1", "é"]
IDS = st.lists(st.sampled_from(PARTS), min_size=1, max_size=6).map("".join)
FAMILIES: dict[str, Callable[[str], str]] = {
    "command": KEYS.command,
    "item": lambda text: KEYS.command(member_row_id(text, 0)),
    "text": KEYS.text,
    "item's text": lambda text: KEYS.text(member_row_id(text, 0)),
    "orphan": partial(orphan_key, KEYS),
    "backfill": partial(backfill_key, KEYS),
    "group": KEYS.group,
    "open": KEYS.group_open,
    "results": KEYS.group_results,
    "lock": KEYS.lock,
    "ambiguous": partial(ambiguous_key, KEYS),
    "replies": KEYS.replies,
}
SHARED = {
    KEYS.commands,
    KEYS.bulk_commands,
    KEYS.inbox,
    KEYS.processing,
    KEYS.celery_queue,
    KEYS.celery_processing,
    KEYS.events,
    KEYS.dead_letters,
    KEYS.actions,
    KEYS.due_interactive,
    KEYS.due_bulk,
    KEYS.due_suspect,
    KEYS.deadlines,
    KEYS.hold,
    KEYS.rate,
    KEYS.inflight,
    KEYS.epoch,
    KEYS.workers,
    backfills_key(KEYS),
    *map(KEYS.paused, Priority),
}


@given(st.tuples(IDS, IDS))
def test_no_two_ids_and_no_two_families_of_keys_share_a_key(ids: tuple[str, str]) -> None:
    made = {
        (name, text): family(text) for name, family in FAMILIES.items() for text in sorted(set(ids))
    }
    assert len(set(made.values())) == len(made)
    assert not SHARED & set(made.values())


def test_no_family_begins_as_another_does() -> None:
    """Else what follows in one could be the beginning of an id in the other."""
    begins = [family("") for name, family in FAMILIES.items() if not name.startswith("item")]
    for one, other in itertools.permutations([begin for begin in begins if begin], 2):
        assert not one.startswith(other)


@given(IDS, st.integers(min_value=0))
def test_no_command_can_have_the_row_id_of_an_item(backfill_id: str, number: int) -> None:
    row_id = member_row_id(backfill_id, number)
    assert not is_valid_id(row_id)
    assert shown_id(row_id) == f"{backfill_id}/{number}"
    assert not is_valid_id(MEMBER_SEPARATOR)


@pytest.mark.parametrize("plain", ["night", "backfill-1", "2026-11-26_a.b", "x" * 100])
def test_an_id_that_is_safe_as_a_name_is_its_folder_s_name(plain: str) -> None:
    assert folder_name(plain) == plain


@pytest.mark.parametrize(
    "others",
    [
        ("n", "N", "n.", ".n", "n ", " n"),
        ("n", "../n", "n/../x", "n\\..\\x", "x"),
        (".", "..", "...", "/", "~"),
        ("é", "e", "e\N{COMBINING ACUTE ACCENT}", "É"),
        ("😀" * 255, "😀" * 254, "x" * 255, "x" * 254),
        ("night", "Night", "NIGHT", folder_name("Night")),
    ],
)
def test_ids_that_differ_have_folders_that_differ_whatever_the_disk_makes_of_names(
    others: tuple[str, ...],
) -> None:
    names = [folder_name(each) for each in others]
    assert len({name.lower().rstrip(". ") for name in names}) == len(names)
    for name in names:
        assert not set("/\\:") & set(name)
        assert name.isascii()
        assert name.strip(".")
        assert len(name) <= 120
