"""`Producer`: the client as it was called before it had a package of its own."""

from __future__ import annotations

from trainmaster_client import Client


class Producer(Client):
    """Sends commands from Python; new programs take `trainmaster_client.Client`.

    Args:
        redis_url: where Redis is, as in the setting of the workers.
        namespace: the namespace of the workers.

    Raises:
        AddressError: the URL names no Redis, or files for TLS that can't be used.
    """

    def __init__(self, redis_url: str, namespace: str = "trainmaster") -> None:
        super().__init__(redis_url, namespace=namespace)
