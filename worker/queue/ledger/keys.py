"""The names of everything that lies in Redis.

All keys of a namespace begin with `{namespace}:`, braces included, so that they share one hash
slot of a Redis Cluster and one pattern of an ACL::

    {ns}:commands            stream   field `command`; consumer group `intake`
    {ns}:commands:bulk       stream   the same for bulk commands; read while the first one is empty
    {ns}:inbox               list     commands of producers that can only push
    {ns}:inbox:processing    list     on their way from the inbox into the stream
    {ns}:look-ahead          string   the worker that looks behind a backlog of bulk commands
    {ns}:celery              list     Celery's queue of `trainmaster.submit`; and celery:processing
    {ns}:wake                list     Celery's queue of wake-ups; what else it keeps is its own
    {ns}:events              stream   field `event`
    {ns}:followers           hash     who follows the events, and to where: see `event_retention`
    {ns}:replies:<replyto>   stream   field `event`
    {ns}:dead-letters        stream   field `dead_letter`
    {ns}:actions             stream   who did what, see `actions`
    {ns}:command:<row id>    hash     one command, or a member of a group, see `models`
    {ns}:text:<row id>       string   its text, until it has ended
    {ns}:sent:<row id>       string   a copy of some texts, for a while after a success
    {ns}:due:interactive     zset     row id -> time in ms at which someone must look again
    {ns}:due:bulk            zset     the same for the bulk lane
    {ns}:due:suspect         zset     rows that were claimed again and again without an end
    {ns}:deadlines           zset     row id -> deadline in ms, of what has one and has not ended
    {ns}:hold                string   while it exists, nobody claims: the API said so, see `holds`
    {ns}:refused             hash     workers whose key the API refuses, see `holds`
    {ns}:clock               string   the latest time of Redis that anybody saw, see `clock`
    {ns}:rate                string   when the next request may go out
    {ns}:inflight            zset     requests under way, by the time at which they count as lost
    {ns}:paused:<lane>       hash     a lane in which nearly everything failed, see `lanes`
    {ns}:trial               string   what `doctor` writes to see whether writes are taken
    {ns}:repair              string   who compares rows with due sets, or did a while ago
    {ns}:epoch               string   who this ledger is; gone when someone flushed Redis
    {ns}:format              string   the format that a worker must read; absent for 1, see `format`
    {ns}:workers             hash     what each worker process tells of itself, see `workers`
    {ns}:lock:<name>         string   the id that owns something that one command may own
    {ns}:group:<id>          hash     state and counters of a group, see `worker.queue.groups`
    {ns}:group-open:<id>     set      row ids of its members that have rows
    {ns}:group-results:<id>  stream   field `result`: how members ended, until that is fetched
    {ns}:handled:<group>     zset     events that a group of a client's consumers has handled
    {ns}:parked:<group>      stream   events that such a group could not handle

Ids come from producers and may be any printable text, so each family of keys has a space of its
own: an id stands at the end of a key and nothing follows it, and no family's name begins with
another's. The row id of a command is its id. That of a group's member is made of the group's
id, `MEMBER_SEPARATOR` and the member's number; no id of a command holds that character.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from schemas.enums import Priority
from trainmaster_client.names import COMMAND_FIELD, EVENT_FIELD, CommandStream

__all__ = [
    "CELERY_FIELD",
    "COMMAND_FIELD",
    "EVENT_FIELD",
    "GROUP",
    "MEMBER_SEPARATOR",
    "CommandStream",
    "Keys",
    "member_row_id",
    "shown_id",
]

GROUP = "intake"
CELERY_FIELD = b"celery"

# The unit separator of ASCII: refused in the ids of commands, for it is not printable.
MEMBER_SEPARATOR: Final = "\x1f"


def member_row_id(group_id: str, number: int | str) -> str:
    """Returns the row id of a group's member."""
    return f"{group_id}{MEMBER_SEPARATOR}{number}"


def shown_id(row_id: str) -> str:
    """Returns a row id as people see it: an item of `night` is `night/17`."""
    return row_id.replace(MEMBER_SEPARATOR, "/")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one namespace."""

    namespace: str

    @property
    def prefix(self) -> str:
        """What every key of the namespace begins with."""
        return f"{{{self.namespace}}}:"

    @property
    def commands(self) -> str:
        """The stream that producers add to."""
        return f"{self.prefix}commands"

    @property
    def bulk_commands(self) -> str:
        """The stream for commands that interactive ones must never wait behind."""
        return f"{self.prefix}commands:bulk"

    def stream(self, stream: CommandStream) -> str:
        """One of the two streams of commands."""
        return self.bulk_commands if stream is CommandStream.BULK else self.commands

    @property
    def inbox(self) -> str:
        """The list that producers push to."""
        return f"{self.prefix}inbox"

    @property
    def processing(self) -> str:
        """What was taken from the inbox and is not yet in the stream."""
        return f"{self.prefix}inbox:processing"

    @property
    def look_ahead(self) -> str:
        """The worker that looks behind a backlog of bulk commands; it expires within seconds."""
        return f"{self.prefix}look-ahead"

    @property
    def celery_queue(self) -> str:
        """Celery's list of submissions; those with a priority have lists of their own."""
        return f"{self.prefix}celery"

    @property
    def celery_processing(self) -> str:
        """What was taken from Celery's list and is not yet in the stream."""
        return f"{self.prefix}celery:processing"

    @property
    def wake_ups(self) -> str:
        """Celery's list of wake-ups."""
        return f"{self.prefix}wake"

    @property
    def trial(self) -> str:
        """Written by who looks whether writes are taken; it expires within seconds."""
        return f"{self.prefix}trial"

    @property
    def events(self) -> str:
        """The stream of all events."""
        return f"{self.prefix}events"

    @property
    def followers(self) -> str:
        """Who follows the events: the time of its position, and when it was last seen, in ms."""
        return f"{self.prefix}followers"

    @property
    def dead_letters(self) -> str:
        """The stream of all dead letters."""
        return f"{self.prefix}dead-letters"

    @property
    def actions(self) -> str:
        """The stream that tells who did what."""
        return f"{self.prefix}actions"

    @property
    def due_interactive(self) -> str:
        """The due set of the interactive lane."""
        return f"{self.prefix}due:interactive"

    @property
    def due_bulk(self) -> str:
        """The due set of the bulk lane."""
        return f"{self.prefix}due:bulk"

    @property
    def due_suspect(self) -> str:
        """The due set of rows that may kill their worker."""
        return f"{self.prefix}due:suspect"

    @property
    def deadlines(self) -> str:
        """The deadlines of commands that have not ended."""
        return f"{self.prefix}deadlines"

    @property
    def hold(self) -> str:
        """While this key exists, nobody claims."""
        return f"{self.prefix}hold"

    @property
    def refused(self) -> str:
        """Workers whose credentials the API refuses."""
        return f"{self.prefix}refused"

    @property
    def clock(self) -> str:
        """The latest time of Redis that anybody saw."""
        return f"{self.prefix}clock"

    @property
    def rate(self) -> str:
        """When the next request may go out."""
        return f"{self.prefix}rate"

    @property
    def inflight(self) -> str:
        """Requests under way."""
        return f"{self.prefix}inflight"

    @property
    def repair(self) -> str:
        """Who looks for rows that are missing in the due sets, or did a while ago."""
        return f"{self.prefix}repair"

    @property
    def epoch(self) -> str:
        """Who this ledger is."""
        return f"{self.prefix}epoch"

    @property
    def format(self) -> str:
        """The format that a worker has to read; absent for 1."""
        return f"{self.prefix}format"

    @property
    def workers(self) -> str:
        """What each worker process tells of itself."""
        return f"{self.prefix}workers"

    def group(self, group_id: str) -> str:
        """State and counters of a group."""
        return f"{self.prefix}group:{group_id}"

    def group_open(self, group_id: str) -> str:
        """The row ids of a group's members that have rows."""
        return f"{self.prefix}group-open:{group_id}"

    def group_results(self, group_id: str) -> str:
        """How members of a group ended, until that is fetched."""
        return f"{self.prefix}group-results:{group_id}"

    def paused(self, lane: Priority) -> str:
        """The pause of a lane."""
        return f"{self.prefix}paused:{lane}"

    def due(self, lane: Priority) -> str:
        """The due set of a lane."""
        return self.due_bulk if lane is Priority.BULK else self.due_interactive

    def replies(self, reply_to: str | None) -> str:
        """The stream for one `replyto`; empty without one."""
        return f"{self.prefix}replies:{reply_to}" if reply_to else ""

    def command(self, row_id: str) -> str:
        """The row of a command or an item."""
        return f"{self.prefix}command:{row_id}"

    def text(self, row_id: str) -> str:
        """The text of a command or an item that has not ended."""
        return f"{self.prefix}text:{row_id}"

    def sent(self, row_id: str) -> str:
        """The text of a command that has succeeded, where its handler wants it kept."""
        return f"{self.prefix}sent:{row_id}"

    def lock(self, name: str) -> str:
        """The owner of something that must have one owner at most."""
        return f"{self.prefix}lock:{name}"
