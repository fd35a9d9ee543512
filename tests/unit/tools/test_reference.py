"""Rules of the documentation's tables: they are made from the code, whole and fresh."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from schemas.commands import COMMAND_CLASSES
from schemas.enums import EventState
from schemas.events import EVENT_DATA, ErrorCode
from tools.reference import (
    PAGES,
    REGIONS,
    STALE,
    UnknownRegionError,
    attributes_table,
    commands_table,
    console_help,
    errors_table,
    events_table,
    main,
    parameters_table,
    region_names,
    renew,
    settings_table,
)
from worker.cli.main import COMMANDS, PLUGIN_HELP
from worker.settings import environment_names

DOCS = Path(__file__).parents[3] / "docs"


def first_cells(table: str) -> list[str]:
    """The first cell of every row below the head, without its backticks."""
    return [line.split(" | ")[0].strip("| `") for line in table.splitlines()[2:]]


@pytest.mark.parametrize("name", PAGES)
def test_every_page_says_what_the_code_says_now(name: str) -> None:
    page = (DOCS / name).read_text("utf-8")
    assert renew(page) == page, "run: .venv/bin/python -m tools.reference --write"


def test_every_table_stands_in_some_page() -> None:
    names = [name for page in PAGES for name in region_names((DOCS / page).read_text("utf-8"))]
    assert sorted(names) == sorted(REGIONS)


def test_no_other_page_has_a_region_that_nobody_renews() -> None:
    others = [page for page in DOCS.glob("*.md") if page.name not in PAGES]
    assert others
    assert [page.name for page in others if "<!-- from the code" in page.read_text("utf-8")] == []


def test_the_tables_leave_nothing_out() -> None:
    assert first_cells(settings_table()) == list(environment_names().values())
    assert first_cells(errors_table()) == list(ErrorCode)
    assert first_cells(commands_table()) == list(COMMAND_CLASSES)
    assert first_cells(events_table()) == list(EventState) == list(EVENT_DATA)
    assert {"id", "replyto", "deadline"} < set(first_cells(attributes_table()))
    help_text = console_help()
    assert all(f"## trainmaster {name}\n" in help_text for name in (*COMMANDS, *PLUGIN_HELP))


def test_rows_have_as_many_cells_as_the_head() -> None:
    for name, render in REGIONS.items():
        lines = render().splitlines()
        if name not in {"console", "examples"}:
            cells = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
            assert len(cells) == 1, name


def test_every_parameter_of_every_command_stands_in_its_row() -> None:
    rows = dict(zip(COMMAND_CLASSES, commands_table().splitlines()[2:], strict=True))
    for command_type, command_class in COMMAND_CLASSES.items():
        if command_type != "predict":
            annotation = command_class.model_fields["data"].annotation
            for parameter in getattr(annotation, "model_fields"):  # noqa: B009 - Any to mypy
                assert f"`{parameter}" in rows[command_type]


def test_a_default_is_shown_and_what_may_be_left_out_is_marked() -> None:
    table = commands_table()
    assert "`wait = true`" in table
    assert "`timeout_seconds = 604800`" in table
    assert "`pretrained_training_uuid?`" in table


def test_a_parameter_that_only_some_tasks_have_names_them() -> None:
    (row,) = (line for line in commands_table().splitlines() if line.startswith("| `predict`"))
    assert "with `instance_segmentation`: `rdp_thresh = 0.005`" in row
    assert "with `object_detection` or `instance_segmentation`: `iou_thresh = 0.3`" in row


def test_a_parameter_of_several_commands_is_explained_once() -> None:
    (row,) = (
        line for line in parameters_table().splitlines() if line.startswith("| `timeout_seconds`")
    )
    assert "`train`, `watch_training`" in row


def test_text_around_a_region_stays_and_the_region_is_replaced() -> None:
    page = "before\n<!-- from the code: errors -->\nwhat was so\n<!-- end: errors -->\nafter\n"
    renewed = renew(page)
    assert renewed.startswith("before\n<!-- from the code: errors -->\n\n| Code |")
    assert renewed.endswith("|\n\n<!-- end: errors -->\nafter\n")
    assert "what was so" not in renewed
    assert renew(renewed) == renewed


def test_a_region_that_nothing_renders_is_an_error() -> None:
    with pytest.raises(UnknownRegionError, match="prices"):
        renew("<!-- from the code: prices -->\n<!-- end: prices -->\n")


def test_stale_pages_are_named_and_only_written_when_asked(tmp_path: Path) -> None:
    for name in PAGES:
        (tmp_path / name).write_text((DOCS / name).read_text("utf-8"), "utf-8")
    stale = tmp_path / "settings.md"
    fresh = stale.read_text("utf-8")
    stale.write_text(fresh.replace("`trainmaster`", "`elsewhere`", 1), "utf-8")
    changed = stale.read_text("utf-8")
    assert changed != fresh
    options = ["--docs", str(tmp_path)]

    looked = CliRunner().invoke(main, options)
    assert (looked.exit_code, looked.output) == (STALE, f"{stale}: stale\n")
    assert stale.read_text("utf-8") == changed

    wrote = CliRunner().invoke(main, [*options, "--write"])
    assert (wrote.exit_code, wrote.output) == (0, f"{stale}: written\n")
    assert stale.read_text("utf-8") == fresh
    assert CliRunner().invoke(main, options).exit_code == 0
