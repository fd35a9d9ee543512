"""A service that reacts to ends of commands: start as many of it as you like.

Each event is handled by one of them. If one dies, another takes over what it had read; what a
handler can't do even when tried again lies in the stream `{trainmaster}:parked:<group>`.
"""

import os
import signal

from trainmaster_client import Client, ConsumerOptions, Event


def handle(event: Event) -> None:
    """Does what is to be done; an error here is a further try, later."""
    if event.state == "succeeded":
        print(event.command_id, "succeeded:", event.result or event.dataref, flush=True)
    else:
        print(event.command_id, event.state, event.error.get("message", ""), flush=True)


options = ConsumerOptions(types=["succeeded", "failed", "cancelled", "rejected"], from_start=True)

with Client(os.environ["TRAINMASTER_REDIS_URL"]) as client:
    consumer = client.consumer("billing", options)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: consumer.stop())
    consumer.run(handle)
