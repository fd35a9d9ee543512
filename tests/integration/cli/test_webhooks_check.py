"""`trainmaster webhooks check`: what a file does, or everything that is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.console import Console, run_on_terminal
from tests.pages import snippet

if TYPE_CHECKING:
    import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text("utf-8")
EXAMPLE = snippet(PAGE, "toml", "train-on-submit")
SECRET = {"ENCORD_WEBHOOK_SECRET": "whsec-of-a-test"}


def console() -> Console:
    # It asks no Redis.
    return Console("redis://127.0.0.1:1", "unused")


def test_the_example_of_the_page_prints_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("integrations.toml").write_text(EXAMPLE, "utf-8")
    said = console().run("webhooks", "check", "integrations.toml", environment=SECRET)
    assert (said.code, said.err) == (0, "")
    assert said.out == snippet(PAGE, "text", "no problems")
    named = console().run(
        "webhooks",
        "check",
        "--without-secrets",
        environment={"TRAINMASTER_INTEGRATIONS_FILE": "integrations.toml"},
    )
    assert named.out == said.out


def test_every_problem_fits_a_terminal_of_80_columns(tmp_path: Path) -> None:
    file = tmp_path / "integrations.toml"
    file.write_text(
        EXAMPLE.replace("labels_uuids", "label_uuids").replace("window_seconds", "seconds")
        + "\n[sinks.ops]\nwhen = \"data.error.code = 'x'\"\n",
        "utf-8",
    )
    said = run_on_terminal(console(), "webhooks", "check", str(file))
    assert said.code == 1
    # The first line holds the path, which is what it is.
    assert max(map(len, said.out.splitlines()[1:])) <= 80
    for part in (
        "6 problems",
        "[sources.encord]\n  secrets[0]\n    the variable ENCORD_WEBHOOK_SECRET is not set\n",
        "[sources.encord.rules.train-on-submit]\n  coalesce.window_seconds\n    is required\n",
        "  coalesce.seconds\n    is unknown; did you mean window_seconds?\n",
        "[sinks.ops]\n  when\n    is no JMESPath expression",
    ):
        assert part in said.out, said.out


def test_problems_and_what_a_file_does_are_json_for_programs(tmp_path: Path) -> None:
    file = tmp_path / "integrations.toml"
    file.write_text(EXAMPLE, "utf-8")
    said = console().run("webhooks", "check", str(file), "--json")
    assert said.code == 1
    (found,) = said.lines
    assert found == {
        "file": str(file),
        "valid": False,
        "problems": [
            {
                "table": "[sources.encord]",
                "field": "secrets[0]",
                "message": "the variable ENCORD_WEBHOOK_SECRET is not set",
            }
        ],
    }
    said = console().run("webhooks", "check", str(file), "--json", environment=SECRET)
    (found,) = said.lines
    assert (said.code, found["valid"], found["problems"]) == (0, True, [])
    assert [each["name"] for each in found["sources"]] == ["encord", "follow-up"]
    assert SECRET["ENCORD_WEBHOOK_SECRET"] not in said.out


def test_sinks_with_which_no_gateway_starts_are_problems_too(tmp_path: Path) -> None:
    file = tmp_path / "integrations.toml"
    file.write_text(
        """
[sinks.ops.webhook]
url = "http://127.0.0.1:8080/hook"
secrets = [{ env = "OPS_SECRET" }]
[sinks.elsewhere.webhook]
url = { env = "NOT_HERE" }
secrets = [{ env = "OPS_SECRET" }]
[sinks.copy.redis]
stream = "{unused}:commands"
""",
        "utf-8",
    )
    said = console().run("webhooks", "check", str(file), "--json", "--without-secrets")
    assert said.code == 1
    (found,) = said.lines
    assert [(each["table"], each["field"]) for each in found["problems"]] == [
        ("[sinks.ops.webhook]", "url"),
        ("[sinks.copy.redis]", "stream"),
    ]


def test_a_sink_of_any_of_several_namespaces_is_a_problem(tmp_path: Path) -> None:
    """The same file is read for each of them."""
    file = tmp_path / "integrations.toml"
    file.write_text('[sinks.copy.redis]\nstream = "{second}:commands"\n', "utf-8")
    several = Console("redis://127.0.0.1:1", "first,second")
    said = several.run("webhooks", "check", str(file))
    assert said.code == 1
    assert "{second}:commands would be one of our own keys" in " ".join(said.out.split())


def test_a_check_without_a_file_is_wrong_usage() -> None:
    said = console().run("webhooks", "check")
    assert said.code == 2
    assert "name a FILE, or set TRAINMASTER_INTEGRATIONS_FILE" in said.err
