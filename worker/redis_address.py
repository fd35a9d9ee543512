"""Where Redis is: the client's address, with what workers need of it besides.

It is read once, for the ledger's clients and for Celery's broker.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote

from redis.credentials import CredentialProvider

from schemas.events import ErrorCode
from trainmaster_client import address
from trainmaster_client.errors import AddressError
from worker.errors import SettingError
from worker.redaction import HIDDEN, redact_text

if TYPE_CHECKING:
    from collections.abc import Mapping

CLUSTER_TRANSPORT: Final = "worker.cluster_transport:Transport"
_SHORTEST_SECRET: Final = 3


class SentinelCredentials(CredentialProvider):
    """User and password of the Sentinels, in a form that nothing writes down."""

    def __init__(self, username: str | None, password: str) -> None:
        self._username = username
        self._password = password

    def __repr__(self) -> str:
        return f"{type(self).__name__}({HIDDEN})"

    def __json__(self) -> str:
        """Returns what kombu writes into JSON in its place."""
        return repr(self)

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Returns what goes into AUTH."""
        return (self._username, self._password) if self._username else (self._password,)


@dataclass(frozen=True, slots=True)
class Broker:
    """How Celery reaches the same Redis: its URL, its transport options, its TLS options.

    Attributes:
        transport: of kombu, where the URL does not name it.
    """

    url: str = field(repr=False)
    options: Mapping[str, Any] = field(repr=False)
    tls: Mapping[str, Any] | None
    transport: str | None = None


class RedisAddress(address.RedisAddress):
    """The client's address; what is wrong with it is a wrong setting."""

    __slots__ = ()

    @classmethod
    def parse(cls, url: str) -> Self:
        """Returns the address that a URL names.

        Raises:
            SettingError: it names none; the message shows nothing of it but what is wrong.
        """
        try:
            return super().parse(url)
        except AddressError as exc:
            raise _setting_error(exc) from None

    def check_files(self) -> None:
        """Reads the files that TLS needs, so that a missing one is told before anything starts.

        Raises:
            SettingError: one of them can't be used.
        """
        try:
            super().check_files()
        except AddressError as exc:
            raise _setting_error(exc) from exc.__cause__

    def broker(self, key: str | None = None) -> Broker:
        """Returns the same for Celery.

        Args:
            key: for a cluster, any of the broker's keys.
        """
        user = quote(self.username or "", safe="")
        secret = quote(self.password or "", safe="")
        credentials = f"{user}:{secret}@" if user or secret else ""
        places = [f"{credentials}{place}/{self.db}" for place in self.places]
        if self.scheme == "sentinel":
            url = ";".join(f"sentinel://{place}" for place in places)
            sentinels: dict[str, Any] = {"socket_timeout": address.SENTINEL_SECONDS}
            if password := self.options.get("sentinel_password"):
                # Celery tells these options to whoever asks a worker for its `stats`.
                username = self.options.get("sentinel_username")
                sentinels["credential_provider"] = SentinelCredentials(username, password)
            options = {"master_name": self.service, "sentinel_kwargs": sentinels}
            return Broker(url, options, None)
        tls = {**self.options, "ssl_cert_reqs": "required"} if self.is_tls else None
        url = f"{'rediss' if self.is_tls else 'redis'}://{places[0]}"
        if self.is_cluster:
            slot = self.slot_owner(key).slot
            nodes = {"cluster_nodes": self.hosts, "cluster_slot": slot}
            return Broker(url, nodes, tls, CLUSTER_TRANSPORT)
        return Broker(url, {}, tls)

    def without_secrets(self, text: str) -> str:
        """Returns a text of others, such as an error's, without this address's passwords."""
        for secret in (self.password, self.options.get("sentinel_password")):
            # One of two letters stands in half of all words; taking it out would show it.
            if secret and len(secret) >= _SHORTEST_SECRET:
                for form in (secret, quote(secret, safe=""), quote(secret)):
                    text = text.replace(form, HIDDEN)
        return redact_text(text)


def _setting_error(error: AddressError) -> SettingError:
    return SettingError(f"TRAINMASTER_REDIS_URL {error.problem}", code=ErrorCode.INVALID_SETTING)
