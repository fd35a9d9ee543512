"""What became of commands: read from the streams, never from what a worker says of itself."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from schemas.events import is_about_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from redis import Redis

    from tests.faults.fleet import Fleet, Repeater

EVENTS = "{trainmaster}:events"
DEAD_LETTERS = "{trainmaster}:dead-letters"
ENDS = frozenset({"succeeded", "failed", "cancelled"})
UNKNOWN = "outcome_unknown"
_PAGE = 5000
_ODD = 5
# Lost is what does not end though nothing else does either; how long the rest takes tells only how
# busy the machine is.
QUIET_SECONDS = 60.0
LONGEST_SECONDS = 1800.0


@dataclass
class Audit:
    """All events so far, by command; read on with `update`.

    Attributes:
        items: ends of items, whose subjects may be ids of commands.
        seen: how many events there were.
    """

    fleet: Fleet
    events: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    rejected: list[dict[str, Any]] = field(default_factory=list)
    items: list[dict[str, Any]] = field(default_factory=list)
    since: str = "-"
    seen: int = 0
    _ended: set[str] = field(default_factory=set)

    def update(self) -> None:
        """Reads what came since."""
        while True:
            page = entries(self.fleet.client, EVENTS, self.since, count=_PAGE)
            self.seen += len(page)
            for entry_id, fields in page:
                self.since = f"({entry_id.decode()}"
                event = json.loads(fields[b"event"])
                if not is_about_command(event):
                    self.items.extend([event] if state(event) in ENDS else [])
                elif event["type"].endswith(".rejected"):
                    self.rejected.append(event)
                else:
                    self.events[event["subject"]].append(event)
                    if state(event) in ENDS:
                        self._ended.add(event["subject"])
            if len(page) < _PAGE:
                return

    def settle(
        self,
        commands: int,
        *keepers: Repeater,
        rejections: int = 0,
        quiet_seconds: float = QUIET_SECONDS,
        progress: Callable[[], int] | None = None,
    ) -> None:
        """Reads on until everything has ended, or nothing has happened for a while.

        Args:
            commands: how many are to end.
            keepers: are asked all the time.
            rejections: how many messages are to be rejected.
            quiet_seconds: without an event, or whatever tells the progress.
            progress: a number that changes while something happens, where events are few.
        """
        begun = last = time.monotonic()
        before = -1
        while True:
            self.update()
            now = time.monotonic()
            if self.ended() >= commands and len(self.rejected) >= rejections:
                break
            if (found := progress() if progress else self.seen) != before:
                before, last = found, now
            if now - last > quiet_seconds or now - begun > LONGEST_SECONDS:
                break
            for keeper in keepers:
                keeper.tick()
            time.sleep(0.05)
        # What comes twice may come a little later.
        time.sleep(1)
        self.update()

    def ends(self, command_id: str) -> list[dict[str, Any]]:
        """Returns the terminal events of a command."""
        return [event for event in self.events[command_id] if state(event) in ENDS]

    def ended(self) -> int:
        """Returns how many commands have ended."""
        return len(self._ended)

    def dead_letters(self) -> list[dict[str, Any]]:
        """Returns all dead letters."""
        found = entries(self.fleet.client, DEAD_LETTERS)
        return [json.loads(fields[b"dead_letter"]) for _, fields in found]


def entries(
    client: Redis, stream: str, start: str = "-", *, count: int | None = None
) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """Returns entries of a stream, oldest first."""
    found = client.xrange(stream, start, "+", count=count)
    return cast("list[tuple[bytes, dict[bytes, bytes]]]", found)


def state(event: Mapping[str, Any]) -> str:
    """Returns the state that an event tells."""
    return str(event["type"]).partition(".")[2]


def is_right(end: Mapping[str, Any], wanted: str) -> bool:
    """Tells whether a command may end so.

    Args:
        end: its terminal event.
        wanted: a state; `created` for a creation, which succeeds or nobody can tell; `any` where
            two things race, as a cancel with the end.
    """
    if wanted == "created":
        is_unknown = state(end) == "failed" and end["data"]["error"]["code"] == UNKNOWN
        return is_unknown or state(end) == "succeeded"
    return wanted in {"any", state(end)}


@dataclass(frozen=True)
class Report:
    """The outcome of a scenario; bad is whatever is not 0.

    Attributes:
        lost: commands without a terminal event, and bad messages without a rejection.
        doubled: terminal events, rejections or created things more than one for each.
        wrong: ends that should not be so: a failure nobody caused, a result of another command.
    """

    name: str
    faults: int
    commands: int
    lost: int
    doubled: int
    wrong: int
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether the promise held."""
        return not (self.lost or self.doubled or self.wrong)

    def line(self) -> str:
        """Returns the scenario as one row of a table."""
        more = ", ".join(f"{key} {value}" for key, value in self.details.items())
        verdict = "ok" if self.holds else "BROKEN"
        return (
            f"{verdict:6} {self.name:42} {self.faults:7} {self.commands:8} {self.lost:5} "
            f"{self.doubled:7} {self.wrong:5}  {more}"
        )


def report(
    name: str,
    audit: Audit,
    expected: Mapping[str, str],
    *,
    faults: int | None,
    rejections: int = 0,
    lost: int = 0,
    doubled: int = 0,
    wrong: int = 0,
    odd: Sequence[str] = (),
    details: Mapping[str, Any] | None = None,
) -> Report:
    """Returns the report of commands that should have ended in a given state, and of secrets.

    Args:
        name: of the scenario.
        audit: up to date.
        expected: state by command id; `created` and `any` as `is_right` reads them.
        faults: how many were injected; where none was, nothing is shown, which counts as wrong.
            None where the scenario is a load and breaks nothing.
        rejections: how many messages should have been rejected.
        lost: what else was found lost.
        doubled: what else was found doubled.
        wrong: what else was found wrong.
        odd: that, a line each; the first few stand in the table.
        details: figures for the table.
    """
    found = list(odd)
    for command_id, wanted in expected.items():
        ends = audit.ends(command_id)
        lost += not ends
        states = [state(event) for event in audit.events[command_id]]
        again = max(0, len(ends) - 1) + max(0, states.count("accepted") - 1)
        doubled += again
        # Each is accepted first, and nothing is told of it after its end.
        in_order = not states or (states[0] == "accepted" and states[-1] in ENDS)
        bad_ends = [event["data"] for event in ends if not is_right(event, wanted)]
        wrong += (not in_order) + bool(bad_ends)
        if bad_ends or again or not in_order:
            found.append(f"{command_id}: {', '.join(states)} {bad_ends}")
    unknown = {command_id for command_id, events in audit.events.items() if events} - set(expected)
    leaks = audit.fleet.leaks()
    found += [f"nobody sent {command_id}" for command_id in sorted(unknown)]
    found += [f"leaked: {leak}" for leak in leaks]
    rejected = Counter(event["id"] for event in audit.rejected)
    found += [f"rejected {count} times: {each}" for each, count in rejected.items() if count > 1]
    if len(rejected) > rejections:
        found.append(f"{len(rejected)} rejections of {rejections}")
    wrong += faults == 0
    lost += max(0, rejections - len(rejected))
    doubled += sum(count - 1 for count in rejected.values()) + max(0, len(rejected) - rejections)
    return Report(
        name,
        faults or 0,
        len(expected) + rejections,
        lost,
        doubled,
        wrong + len(unknown) + len(leaks),
        {**(details or {}), **({"odd": found[:_ODD]} if found else {})},
    )


def repeated_ids(events: Iterable[Mapping[str, Any]]) -> int:
    """Returns how many events have an id that another one has too."""
    return sum(count - 1 for count in Counter(event["id"] for event in events).values())
