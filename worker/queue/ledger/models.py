"""A row of the ledger: what is stored of a command, and the lease that a worker takes on it.

The hash of a row has fields of one letter, so that Redis keeps it in its compact encoding::

    t type         f fingerprint     s state        l lane (i, b)
    n token        a attempts        c claims without progress
    m accepted ms  q entry's origin  e ended ms     v stream id of the terminal event
    p progress     x last errors     (JSON each, only while needed)
    b backfill     (of an item of one)
    d deadline ms  o not before ms  (where it has one)
    r resolution   (what a person said of a doubt, JSON)
    h phase        w error that it waits for the end of
    z what goes on though it is cancelled (JSON)
    g ms at which a part of the row was found to be gone
    k who claimed it as it was accepted
    u format       (absent for 1, see `worker.queue.ledger.format`)

An item of a backfill is a row that is gone with its end: what it came to stands in the
backfill's results, and the backfill's cursor keeps it from being accepted again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NewType

import structlog

from schemas.enums import Priority
from schemas.json_text import decode_json
from worker.queue.ledger.keys import MEMBER_SEPARATOR, shown_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.claim_check import ClaimCheck
    from schemas.commands import Command
    from worker.queue.telemetry import RunEnd

log = structlog.get_logger(__name__)

# A first claim that never ended is what every kill leaves behind; a second one is suspect.
SUSPECT_CLAIMS: Final = 2

CommandId = NewType("CommandId", str)
Token = NewType("Token", int)

Progress = dict[str, Any]
"""What a handler remembers between its runs; JSON values."""


def read_progress(text: bytes | None) -> Progress:
    """Returns what a row's field holds; nothing where someone wrote over it."""
    try:
        found = decode_json(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


class RowState(StrEnum):
    """Where a command stands."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    RETRYING = "retrying"
    POLLING = "polling"
    IN_DOUBT = "in_doubt"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to the command."""
        return self in {RowState.SUCCEEDED, RowState.FAILED, RowState.CANCELLED}


class Phase(StrEnum):
    """How far a command's change to the world outside has come: what the queue knows of it.

    Attributes:
        IDLE: nothing was begun that must not be done twice.
        INTENDED: it may be under way right now.
        IN_DOUBT: it may have happened; nobody knows.
        RESOLVED: a person said that it happened; what it made is being adopted.
        WITHDRAWN: a person said that it did not happen; it is about to be begun once more.
        APPLIED: it has happened.
    """

    IDLE = "idle"
    INTENDED = "intended"
    IN_DOUBT = "in_doubt"
    RESOLVED = "resolved"
    WITHDRAWN = "withdrawn"
    APPLIED = "applied"

    @property
    def is_uncertain(self) -> bool:
        """Whether something may exist that nobody has found yet."""
        return self in {Phase.INTENDED, Phase.IN_DOUBT, Phase.RESOLVED}

    @property
    def is_known(self) -> bool:
        """Whether what was made has a name, found out or told by a person."""
        return self in {Phase.RESOLVED, Phase.APPLIED}


LANE_CODES = {Priority.INTERACTIVE: "i", Priority.BULK: "b"}
LANES = {code.encode(): lane for lane, code in LANE_CODES.items()}
_STATES = {state.encode(): state for state in RowState}
_PHASES = {b"": Phase.IDLE} | {phase.encode(): phase for phase in Phase}


def read_phase(value: bytes | None) -> Phase | None:
    """Returns what a row's field holds; None where this version knows no such phase."""
    return _PHASES.get(value or b"")


@dataclass(frozen=True, slots=True)
class NewCommand:
    """A valid command on its way into the ledger.

    Attributes:
        entry_id: in its stream.
        id_is_made: whether nobody chose the id, so that it gives way to one that somebody chose.
        command: as it was read, for whoever runs it at once.
    """

    entry_id: bytes
    command_id: str
    command_type: str
    fingerprint: bytes
    lane: Priority
    not_before_ms: int
    text: bytes
    event: bytes
    replies: str
    deadline_ms: int | None = None
    id_is_made: bool = False
    command: Command | ClaimCheck | None = None

    @property
    def may_run_at_once(self) -> bool:
        """Whether it is one of those that the script `accept` claims where nothing is due."""
        return self.lane is Priority.INTERACTIVE and not self.not_before_ms


class AcceptStatus(StrEnum):
    """What became of a new command.

    Attributes:
        TAKEN: the id that was made for it stands for another command; it needs another one.
    """

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    TAKEN = "taken"


@dataclass(frozen=True, slots=True)
class Rejection:
    """An entry that is no command, with the event and the dead letter that say why.

    Attributes:
        code: of the error that these tell.
    """

    entry_id: bytes
    event: bytes
    dead_letter: bytes
    replies: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class Lease:
    """A claimed row. Nobody else may run it until `Ledger.finish`, or until the lease ends.

    Attributes:
        row_id: names the row in the ledger, see `worker.queue.ledger.keys`.
        entry_id: the origin of the entry that the command came in.
        group: whose member it is; empty for a command of its own.
        probe: whether its lane is paused, and it was let through to see if that can end.
        broken: what of its row can't be read; such a command must not be carried out.
        command: as it was read from the text, where that is known already.
        late_seconds: by how much a look at what it waits for begins later than it was due; None
            where it waits for nothing outside.
    """

    row_id: str
    token: Token
    lane: Priority
    state: RowState
    attempts: int
    claims: int
    accepted_at_ms: int
    entry_id: str
    progress: Progress | None
    errors: list[dict[str, Any]]
    text: bytes
    group: str = ""
    phase: Phase = Phase.IDLE
    probe: bool = False
    broken: str = ""
    command: Command | ClaimCheck | None = None
    late_seconds: float | None = None

    @property
    def command_id(self) -> str:
        """The command's id; of an item, what people see, which a command may be called too."""
        return shown_id(self.row_id) if self.group else self.row_id

    @property
    def member(self) -> int:
        """The number of a member in its group."""
        return int(self.row_id.rpartition(MEMBER_SEPARATOR)[2])

    @property
    def suspect(self) -> bool:
        """Whether earlier claims never ended, so that it may kill its worker."""
        return self.claims > SUSPECT_CLAIMS


def read_leases(rows: Iterable[list[Any]]) -> list[Lease]:
    """Returns the leases that a script handed out; none that can't be read keeps the others."""
    leases = []
    for fields in rows:
        try:
            leases.append(read_lease(fields))
        except (ValueError, TypeError, LookupError):
            # Its lease ends by itself, and it counts as a claim that never ended.
            log.exception("ledger.row_unreadable", id=repr(fields[0]))
    return leases


def read_lease(fields: list[Any]) -> Lease:
    """Returns the lease that a script handed out.

    Raises:
        ValueError: it can't be read.
    """
    (row_id, token, lane, state, attempts, claims, accepted_at, entry_id, progress, errors) = (
        fields[:10]
    )
    known, phase, broken = RowState.RUNNING, Phase.IDLE, ""
    recorded: Progress | None = None
    try:
        known, phase = _STATES[state], _PHASES[fields[12]]
        recorded = _json_of(progress, dict) if progress else None
    except (KeyError, ValueError):
        # A newer worker may know more of them; what it recorded is not to be guessed at.
        broken = "its state, its phase or its progress in the ledger can't be read"
    try:
        history = _json_of(errors, list) if errors else []
    except ValueError:
        history = []
    return Lease(
        row_id=row_id.decode(),
        token=Token(token),
        lane=LANES.get(lane, Priority.INTERACTIVE),
        state=known,
        attempts=int(attempts),
        claims=int(claims),
        accepted_at_ms=int(accepted_at),
        entry_id=entry_id.decode(),
        progress=recorded,
        errors=history,
        text=fields[10],
        group=fields[11].decode(),
        phase=phase,
        broken=broken,
        late_seconds=_late_seconds(fields[13:]),
    )


def _late_seconds(told: list[Any]) -> float | None:
    """Returns what a claim tells of a row that polls; other scripts hand out none."""
    return told[0] / 1000 if told and isinstance(told[0], int) else None


def _json_of(text: bytes, kind: type[Any]) -> Any:
    found = decode_json(text)
    if not isinstance(found, kind):
        raise ValueError(f"is no {kind.__name__}")  # noqa: TRY004 - what is stored is no argument
    return found


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim got.

    Attributes:
        held_seconds: for how long nobody may claim; 0 where nobody is held back.
        paused: lanes of which no more than a probe is handed out.
        skipped: rows that were due and are not to run, so that others may be due behind them; those
            of a newer version are among them.
        cut: whether rows were left behind because the texts had enough bytes.
    """

    leases: list[Lease]
    held_seconds: float
    paused: frozenset[Priority]
    skipped: int = 0
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a batch, of which some may have been claimed at once.

    Attributes:
        statuses: of each command, in order.
        leases: of those that were claimed.
        regained: of those that an earlier call had claimed whose reply was lost. Whoever made that
            call may have had the reply after all, and run them.
    """

    statuses: list[AcceptStatus]
    leases: list[Lease]
    regained: list[Lease]


@dataclass(frozen=True, slots=True)
class RunResult:
    """The end of one run: `state.ended` settles the row, any other state reschedules it.

    Attributes:
        delay_seconds: when to look again, for a row that has not ended.
        claims: claims to count from; 0 once the run made progress or ended by itself.
        drop_lock: key of a lock that the command holds and needs no longer.
        late: whether it ends for its deadline, which tells nothing of its lane's health.
        member_result: what a member of a group came to, for the group's results.
        phase: set together with the progress; None leaves it as it is.
        failure: code of the error that ended the command, or for whose end it waits.
        keeps_text: whether a copy of the text outlives the end, as long as the ledger keeps such.
        end: what is told of the run once this is recorded; None where nobody listens.
        ended_at: when the run ended, in seconds of a clock that never goes back.
    """

    lease: Lease
    state: RowState
    attempts: int
    event: bytes = b""
    replies: str = ""
    dead_letter: bytes = b""
    delay_seconds: float = 0.0
    claims: int = 0
    progress: Progress | None = None
    phase: Phase | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)
    drop_lock: str = ""
    late: bool = False
    member_result: bytes = b""
    failure: str = ""
    keeps_text: bool = False
    end: RunEnd | None = field(default=None, compare=False)
    ended_at: float = field(default_factory=time.monotonic, compare=False)
