"""The client of trainmaster: sends commands, waits for their ends, consumes events.

`Client` is for programs without an event loop, `AsyncClient` for those with one; their methods have
the same names. Needs Redis and nothing of the worker.
"""

from trainmaster_client.aio import AsyncClient, AsyncConsumer
from trainmaster_client.blocking import Client, Consumer
from trainmaster_client.blocking_partitions import Partitions
from trainmaster_client.commands import CommandId, Message
from trainmaster_client.consuming import ConsumerOptions
from trainmaster_client.endings import Ending, WaitTimeoutError
from trainmaster_client.errors import (
    AddressError,
    ClientError,
    CommandCancelledError,
    CommandError,
    CommandFailedError,
    CommandRejectedError,
    ConsumerLostError,
    InvalidCommandError,
    RedisRefusedError,
    RedisTroubleError,
    RedisUnavailableError,
    ResultElsewhereError,
    UnknownCommandError,
)
from trainmaster_client.events import Event, State
from trainmaster_client.names import partition_of
from trainmaster_client.partitions import AsyncPartitions
from trainmaster_client.reading import Status
from trainmaster_client.waiting import Observer

__all__ = [
    "AddressError",
    "AsyncClient",
    "AsyncConsumer",
    "AsyncPartitions",
    "Client",
    "ClientError",
    "CommandCancelledError",
    "CommandError",
    "CommandFailedError",
    "CommandId",
    "CommandRejectedError",
    "Consumer",
    "ConsumerLostError",
    "ConsumerOptions",
    "Ending",
    "Event",
    "InvalidCommandError",
    "Message",
    "Observer",
    "Partitions",
    "RedisRefusedError",
    "RedisTroubleError",
    "RedisUnavailableError",
    "ResultElsewhereError",
    "State",
    "Status",
    "UnknownCommandError",
    "WaitTimeoutError",
    "partition_of",
]
