"""What `doctor` makes of what it has found: how bad it is, and what to do."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from schemas.events import ErrorCode
from trainmaster_client.cluster import Node
from worker.cli.doctor import api, sinks
from worker.cli.doctor.checks import Finding, Level, judge_clock
from worker.cli.doctor.cluster import ClusterFacts, judge_cluster
from worker.errors import (
    ConnectionLostError,
    MisconfiguredError,
    RateLimitedError,
    RequestRefusedError,
    ServerFailedError,
)
from worker.settings import Settings
from worker.sinks.operations import SinkCondition, SinkStatus

if TYPE_CHECKING:
    from pathlib import Path

    from worker.errors import TrainmasterError

NOW = 1_700_000_000.0
SINK = SinkStatus(
    name="ops",
    destination="https://example.com",
    state=SinkCondition.RUNNING,
    behind=0,
    behind_seconds=0.0,
    waiting=0,
    unsent=0,
    delivered=0,
    failed=0,
    missed=0,
    missed_at_ms=None,
    last_delivered_at_ms=0,
    last_error="",
    last_error_at_ms=0,
    reason="",
    leader="host-1",
)


@pytest.mark.parametrize(
    ("told", "level", "message", "advice"),
    [
        ({}, Level.OK, "sends; 0 events behind, 0 tried again", ""),
        ({"behind": None, "waiting": 3}, Level.OK, "sends; 0 events behind, 3 tried again", ""),
        (
            {"behind": 1, "behind_seconds": 3_600.0},
            Level.OK,
            "sends; 1 event behind, 0 tried again",
            "",
        ),
        (
            {"behind": 2, "behind_seconds": 3_601.0},
            Level.WARN,
            "is 1h00m behind; 2 events behind, 0 tried again",
            "raise concurrency",
        ),
        ({"state": SinkCondition.IDLE}, Level.WARN, "nobody runs it; 0", "trainmaster sinks run"),
        (
            {"state": SinkCondition.PAUSED, "reason": "night"},
            Level.WARN,
            "is paused: night; 0",
            "trainmaster sinks resume ops",
        ),
        (
            {"state": SinkCondition.FAILING, "last_error": "answered 500"},
            Level.WARN,
            "the last try failed: answered 500; 0",
            "trainmaster sinks test ops",
        ),
    ],
)
def test_a_sink_is_judged_by_how_it_stands_and_how_far_it_is_behind(
    told: dict[str, Any], level: Level, message: str, advice: str
) -> None:
    found = sinks._judge(replace(SINK, **told))
    assert (found.check, found.level) == ("sinks.ops", level)
    assert found.message.startswith(message)
    assert advice in found.advice
    assert bool(found.advice) is (level is not Level.OK)


def test_events_that_a_sink_missed_are_told_for_a_week_and_those_given_up_for_as_long_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    week_ms = 7 * 86_400_000
    missed = replace(SINK, missed=7, missed_at_ms=int(NOW * 1000) - week_ms)
    assert [each.check for each in sinks._missed(missed)] == ["sinks.ops.missed"]
    assert sinks._missed(replace(missed, missed_at_ms=int(NOW * 1000) - week_ms - 1)) == []
    assert sinks._missed(replace(missed, missed=0)) == []
    assert sinks._unsent(SINK) == []
    (found,) = sinks._unsent(replace(SINK, unsent=1, last_error="answered 500"))
    assert (found.level, found.message) == (Level.WARN, "1 event given up: answered 500")
    assert "trainmaster sinks recover ops" in found.advice


FACTS = ClusterFacts(is_node=True, node=Node("10.0.0.1", 6379), replicas=2, connected=2, required=1)


@pytest.mark.parametrize(
    ("told", "is_followed", "levels", "said"),
    [
        ({}, True, [Level.OK, Level.OK], "2 of 2 replicas follow"),
        ({"connected": 1}, True, [Level.OK, Level.OK], "1 of 2 replicas follow"),
        ({"connected": 3}, True, [Level.OK, Level.OK], "3 of 3 replicas follow"),
        ({"connected": 0}, True, [Level.OK, Level.WARN], "no replica follows"),
        ({"required": 0}, True, [Level.OK, Level.WARN], "min-replicas-to-write is 0"),
        ({"required": None}, True, [Level.OK, Level.OK], "2 of 2 replicas follow"),
        ({}, False, [Level.WARN, Level.OK], "follows no failover"),
        ({"is_moving": True}, True, [Level.WARN, Level.OK], "on its way to another node"),
        ({"node": None}, True, [Level.FAIL], "no node serves slot 7, which prod is in"),
        ({"is_node": False}, True, [], ""),
    ],
)
def test_a_cluster_is_judged_by_who_has_the_slot_and_what_a_failover_may_lose(
    told: dict[str, Any], is_followed: bool, levels: list[Level], said: str
) -> None:
    found = judge_cluster(replace(FACTS, **told), 7, "prod", is_followed=is_followed)
    assert [each.level for each in found] == levels
    assert said in " ".join(each.message for each in found)
    assert all(bool(each.advice) is (each.level is not Level.OK) for each in found)


@pytest.mark.parametrize(
    ("error", "level", "advice"),
    [
        (MisconfiguredError("401"), Level.FAIL, "is the public key registered"),
        (
            RateLimitedError("429", code=ErrorCode.INTERNAL_ERROR, status=429),
            Level.WARN,
            "send fewer requests",
        ),
        (
            ConnectionLostError("lost", code=ErrorCode.INTERNAL_ERROR),
            Level.FAIL,
            "is ENCORD_DOMAIN right",
        ),
        (
            ServerFailedError("500", code=ErrorCode.INTERNAL_ERROR, status=500),
            Level.FAIL,
            "the API is in trouble",
        ),
        (RequestRefusedError("499", status=499), Level.FAIL, "may this account use models?"),
        (
            RequestRefusedError("404", status=404),
            Level.FAIL,
            "does ENCORD_DOMAIN name the API alone",
        ),
    ],
)
def test_what_the_api_answers_is_judged_by_who_is_to_act(
    error: TrainmasterError, level: Level, advice: str
) -> None:
    assert api._level(error) is level
    assert api._advise(error).startswith(advice) or advice in api._advise(error)


@pytest.mark.parametrize(
    ("ahead", "uncertain", "level", "said"),
    [
        (2.5, 0.5, Level.OK, "agrees within 2 s"),
        (-2.5, 0.5, Level.OK, "agrees within 2 s"),
        (3.0, 0.5, Level.WARN, "about 3 s ahead of"),
        (-9.0, 0.5, Level.WARN, "about 9 s behind"),
        (3_600.0, 0.5, Level.FAIL, "about 3600 s ahead of"),
    ],
)
def test_a_clock_is_judged_by_what_it_is_off_for_sure(
    ahead: float, uncertain: float, level: Level, said: str
) -> None:
    found = judge_clock("api.clock", ahead, uncertain, "the API's clock")
    assert (found.check, found.level) == ("api.clock", level)
    assert said in found.message


def test_the_time_of_the_api_is_that_of_the_middle_of_the_request() -> None:
    headers = {"Date": "Tue, 14 Nov 2023 22:13:30 GMT"}  # ten seconds behind NOW
    (found,) = api._check_clock(headers, NOW, NOW + 20.0)
    assert found.level is Level.OK, "the server may have said so at any moment of these"
    (found,) = api._check_clock(headers, NOW, NOW + 1.0)
    assert found.level is Level.WARN
    assert "about 10 s ahead of" in found.message
    for told in ({}, {"Date": "yesterday"}):
        (found,) = api._check_clock(told, NOW, NOW)
        assert (found.level, found.message) == (Level.WARN, "the API does not report its time")


@pytest.mark.parametrize(
    ("setting", "advice"),
    [("bearer_token", "set it to the token alone"), ("encord_ssh_key", "ENCORD_SSH_KEY_FILE must")],
)
def test_what_to_do_about_credentials_is_told_of_those_that_are_wrong(
    setting: str, advice: str
) -> None:
    settings = Settings.model_validate({"redis_url": "redis://h", setting: "no such thing"})
    (found,) = api.check_credentials(settings)
    assert found.level is Level.FAIL
    assert found.advice.startswith(advice)


@pytest.mark.parametrize(
    ("mode", "level"), [(0o600, Level.OK), (0o640, Level.OK), (0o604, Level.WARN)]
)
def test_a_key_that_everyone_can_read_is_told(tmp_path: Path, mode: int, level: Level) -> None:
    file = tmp_path / "key"
    file.write_text("a key", "utf-8")
    file.chmod(mode)
    settings = Settings.model_construct(encord_ssh_key=None, encord_ssh_key_file=file)
    (found,) = api._check_permissions(settings)
    assert found.level is level
    assert f"mode {mode:04o}" in found.message
    assert found.advice == (f"chmod 600 {file}" if level is Level.WARN else "")
    none = Settings.model_construct(encord_ssh_key=None, encord_ssh_key_file=None)
    assert list(api._check_permissions(none)) == list[Finding]()
