"""Rules of the clocks: Redis' for deadlines, the API's for signatures, and when to tell."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import formatdate

import pytest

from worker.clock import NOTABLE_SECONDS, Clock, ClockAlarm
from worker.encord.api.api_clock import LOOK_SECONDS, ApiClock

HOUR = 3600.0
TRUE = 1_800_000_000.0


@dataclass
class Machine:
    """A machine whose own clock a test sets, and whose steady one only runs."""

    wall: float = TRUE
    steady: float = 50.0

    def run(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def clock(machine: Machine) -> Clock:
    return Clock(lambda: machine.wall, lambda: machine.steady)


@pytest.fixture
def api_clock(machine: Machine) -> ApiClock:
    return ApiClock(lambda: machine.wall, lambda: machine.steady)


def date(seconds: float) -> dict[str, str]:
    return {"date": formatdate(seconds, usegmt=True)}


def test_until_redis_was_asked_this_machine_is_believed(clock: Clock, machine: Machine) -> None:
    machine.run(5)
    assert clock.now() == TRUE + 5
    assert clock.ahead_seconds == 0


@pytest.mark.parametrize("wrong", [HOUR, -HOUR, 4.0, -0.5])
def test_what_redis_told_counts_though_this_machine_is_wrong(wrong: float) -> None:
    machine = Machine(wall=TRUE + wrong)
    clock = Clock(lambda: machine.wall, lambda: machine.steady)
    begun = clock.steady()
    machine.run(0.02)
    clock.learn(TRUE + 0.01, begun, clock.steady())
    assert clock.now() == pytest.approx(TRUE + 0.02, abs=0.001)
    assert clock.ahead_seconds == pytest.approx(-wrong, abs=0.001)
    machine.run(60)
    assert clock.now() == pytest.approx(TRUE + 60.02, abs=0.001)


def test_a_machine_whose_clock_is_set_meanwhile_changes_nothing(
    clock: Clock, machine: Machine
) -> None:
    clock.learn(TRUE, 50.0, 50.0)
    machine.run(10)
    machine.wall += HOUR
    assert clock.now() == pytest.approx(TRUE + 10)
    assert clock.ahead_seconds == pytest.approx(-HOUR)


def test_an_answer_that_was_long_under_way_moves_nothing_by_less_than_that(
    clock: Clock, machine: Machine
) -> None:
    clock.learn(TRUE, 50.0, 50.0)
    begun = clock.steady()
    machine.run(4)
    # It was asked at the beginning of those four seconds, and they passed on its way back.
    clock.learn(TRUE, begun, clock.steady())
    assert clock.now() == pytest.approx(TRUE + 4)


def test_a_server_whose_clock_was_set_is_followed(clock: Clock) -> None:
    clock.learn(TRUE, 50.0, 50.0)
    clock.learn(TRUE - HOUR, clock.steady(), clock.steady())
    assert clock.now() == pytest.approx(TRUE - HOUR)


def test_an_alarm_tells_at_once_again_after_a_while_and_when_the_difference_changes(
    machine: Machine,
) -> None:
    alarm = ClockAlarm(lambda: machine.steady, again_seconds=600)
    assert not alarm.is_due("redis", NOTABLE_SECONDS)
    assert alarm.is_due("redis", HOUR)
    assert not alarm.is_due("redis", HOUR + 1)
    assert alarm.is_due("api", -HOUR), "each clock has an alarm of its own"
    machine.run(599)
    assert not alarm.is_due("redis", HOUR)
    machine.run(1)
    assert alarm.is_due("redis", HOUR)
    assert alarm.is_due("redis", -HOUR)
    assert not alarm.is_due("redis", 0)
    assert alarm.is_due("redis", -HOUR), "it was right meanwhile"


def test_signatures_carry_this_machines_time_while_the_api_takes_it(
    api_clock: ApiClock, machine: Machine
) -> None:
    api_clock.see(200, date(TRUE - HOUR))
    assert api_clock.ahead_seconds == pytest.approx(-HOUR, abs=1)
    assert api_clock.now() == machine.wall


@pytest.mark.parametrize("wrong", [HOUR, -HOUR, 60.0])
def test_signatures_follow_the_api_once_it_has_refused_ours(wrong: float) -> None:
    machine = Machine(wall=TRUE + wrong)
    clock = ApiClock(lambda: machine.wall, lambda: machine.steady)
    clock.see(401, date(TRUE))
    assert clock.now() == pytest.approx(TRUE, abs=1)
    machine.run(30)
    assert clock.now() == pytest.approx(TRUE + 30, abs=1)


def test_a_refusal_by_an_api_whose_clock_is_ours_moves_nothing(
    api_clock: ApiClock, machine: Machine
) -> None:
    api_clock.see(401, date(TRUE + 1))
    assert api_clock.now() == machine.wall


def test_a_clock_that_was_set_right_is_followed_again(
    api_clock: ApiClock, machine: Machine
) -> None:
    machine.wall += HOUR
    api_clock.see(401, date(TRUE))
    machine.wall -= HOUR
    assert api_clock.now() < TRUE - HOUR + 2
    api_clock.see(401, date(TRUE))
    assert api_clock.now() == pytest.approx(TRUE, abs=1)


def test_a_date_is_taken_for_half_a_second_later_than_the_second_it_tells() -> None:
    machine = Machine(wall=TRUE + HOUR)
    clock = ApiClock(lambda: machine.wall, lambda: machine.steady)
    clock.see(401, date(TRUE))
    assert clock.now() == pytest.approx(TRUE + 0.5, abs=0.001)


@pytest.mark.parametrize("said", ["", "yesterday", "Thu, 99 Nov 2026 99:00:00 GMT"])
def test_a_reply_without_a_date_that_can_be_read_tells_nothing(
    api_clock: ApiClock, machine: Machine, said: str
) -> None:
    api_clock.see(401, {"date": said} if said else {})
    assert (api_clock.ahead_seconds, api_clock.now()) == (0.0, machine.wall)


def test_replies_are_looked_at_now_and_then_and_refusals_always(
    api_clock: ApiClock, machine: Machine
) -> None:
    api_clock.see(200, date(TRUE))
    machine.run(LOOK_SECONDS - 1)
    api_clock.see(200, date(TRUE + HOUR))
    assert abs(api_clock.ahead_seconds) < 1
    machine.run(1)
    api_clock.see(200, date(TRUE + HOUR))
    assert api_clock.ahead_seconds > HOUR - LOOK_SECONDS - 1
    api_clock.see(401, date(TRUE + 2 * HOUR))
    assert api_clock.ahead_seconds > HOUR + LOOK_SECONDS
