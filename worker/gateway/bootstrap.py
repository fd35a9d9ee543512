"""Builds everything that a process of the gateway has from its settings."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from worker.backfill.store import BackfillStore
from worker.gateway.access.callers import REMEMBER_SECONDS, Access, is_loopback
from worker.gateway.access.limits import Backlog, RequestRates
from worker.gateway.access.tokens import Tokens
from worker.gateway.events.stream import EventStream
from worker.gateway.files.pictures import Pictures
from worker.gateway.gateway import Gateway
from worker.gateway.metrics import DELIVERIES, GatewaySampler
from worker.gateway.read_model.database import model_folder
from worker.gateway.read_model.model import ReadModel
from worker.gateway.readiness import ReadinessFile
from worker.gateway.services import Following, Services
from worker.gateway.submission.submitter import Submitter
from worker.gateway.tallies import Tallies
from worker.integrations.file import Integrations, load_integrations
from worker.queue.ledger.actions import ActionLog
from worker.queue.ledger.connection import connect
from worker.queue.ledger.keys import Keys
from worker.queue.ledger.queries import LedgerReader
from worker.sinks.service import SinkService
from worker.tracing.switch import GATEWAY, create_delivery_tracer, create_tracing
from worker.webhooks.reactions import EVENTS_SCHEME, Reactor
from worker.webhooks.receiving import WebhookReceiver
from worker.webhooks.windows import WindowCloser

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.gateway.services import Service
    from worker.gateway_settings import GatewaySettings
    from worker.sinks.delivery_trace import DeliveryTracer

# Requests wait for a connection rather than open thousands.
MAX_CONNECTIONS: Final = 256


def read_integrations(settings: GatewaySettings) -> Integrations:
    """Returns what the settings' file says; nothing where there is none.

    Raises:
        SettingError: something in it is wrong; it names every problem, and shows no secret.
    """
    path = settings.integrations_file
    return Integrations({}, {}) if path is None else load_integrations(path)


def create_gateway(settings: GatewaySettings, integrations: Integrations) -> Gateway:
    """Returns the gateway of a process; called on its loop."""
    url = settings.redis_url.get_secret_value()
    keys = Keys(settings.namespace)
    redis = connect(url, keys.prefix, max_connections=MAX_CONNECTIONS)
    # Those who block on streams must not hold up requests.
    followers = connect(url, keys.prefix)
    tokens = Tokens(redis, keys, remember_seconds=REMEMBER_SECONDS)
    read_model = ReadModel(
        followers,
        keys,
        model_folder(settings),
        retention_seconds=settings.id_retention_seconds,
    )
    events = EventStream(followers, keys)
    # Deliveries are all that a gateway makes spans of.
    tracing = create_tracing(GATEWAY) if integrations.sinks else None

    async def close() -> None:
        await events.close()
        read_model.close()
        await followers.aclose()
        await redis.aclose()
        if tracing is not None:
            await tracing.aclose()

    tallies = Tallies(redis, keys)
    backfills = create_backfill_store(settings, redis, keys)
    file = settings.health_file
    watched: dict[str, Service] = {"read model": Following(read_model), "tallies": tallies}
    if file is not None:
        watched["health file"] = ReadinessFile(file, redis, keys, read_model)
    return Gateway(
        settings=settings,
        redis=redis,
        keys=keys,
        integrations=integrations,
        reader=LedgerReader(redis, keys),
        actions=ActionLog(redis, keys),
        submitter=Submitter(redis, keys),
        access=Access(tokens, is_open=is_loopback(settings.gateway_host)),
        rates=RequestRates(redis, keys, settings.gateway_requests_per_second),
        backlog=Backlog(redis, keys, settings.gateway_backlog),
        read_model=read_model,
        events=events,
        webhooks=WebhookReceiver(
            redis,
            keys,
            integrations.sources,
            retention_seconds=settings.delivery_retention_seconds,
            on_answered=partial(tallies.add, DELIVERIES),
        ),
        tallies=tallies,
        backfills=backfills,
        pictures=Pictures(settings.gateway_data_roots),
        sampler=GatewaySampler(redis, keys, tallies, integrations, backfills, read_model),
        services=Services({
            **watched,
            **create_services(
                settings,
                integrations,
                followers,
                keys,
                tracer=create_delivery_tracer(tracing, settings.namespace),
            ),
        }),
        close=close,
    )


def create_backfill_store(settings: GatewaySettings, redis: Redis, keys: Keys) -> BackfillStore:
    """Returns where backfills stand."""
    return BackfillStore(
        redis,
        keys,
        retention_seconds=settings.id_retention_seconds,
        reply_retention_seconds=settings.event_retention_seconds,
    )


def create_services(
    settings: GatewaySettings,
    integrations: Integrations,
    redis: Redis,
    keys: Keys,
    *,
    tracer: DeliveryTracer | None = None,
) -> dict[str, Service]:
    """Returns what runs beside the requests; each process has all, and leases say who leads."""
    sources = integrations.sources
    services: dict[str, Service] = {}
    if integrations.sinks:
        services["sinks"] = SinkService(redis, keys, integrations.sinks, tracer=tracer)
    if settings.integrations_file is not None:
        # Without sources too: windows of one that was removed end as dead letters.
        services["windows"] = WindowCloser(redis, keys, sources)
    for name, source in sources.items():
        if source.scheme == EVENTS_SCHEME:
            services[f"reactions.{name}"] = Reactor(
                redis, keys, source, retention_seconds=settings.delivery_retention_seconds
            )
    return services
