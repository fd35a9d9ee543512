"""Every setting of the ledger and of a worker.

A setting's field tells its unit, range, default and meaning; the table in the docs is made of it.
"""

from __future__ import annotations

from typing import Final, Literal, Self

from pydantic import AliasChoices, Field, PrivateAttr, SecretStr, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.setting_values import (
    DAY,
    FilePlace,
    FolderPaths,
    HomePath,
    Namespaces,
    OptionalAddress,
    RedisUrl,
    Urls,
    count,
    seconds,
    state_folder,
)

PREFIX: Final = "TRAINMASTER_"


class LedgerSettings(BaseSettings):
    """Where the ledger is and how long it keeps things: all that the command line needs."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        # `VARIABLE=` is how compose files and shells say that there is none.
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    redis_url: RedisUrl = Field(
        description="Where Redis is: redis://, rediss://, sentinel:// or redis+cluster://."
    )
    namespace: Namespaces = Field(
        "trainmaster",
        description="First part of every key, in braces: one hash slot of a cluster. Several, with "
        "commas between them, are partitions.",
    )
    id_retention_seconds: int = count(
        7 * DAY,
        ge=1,
        le=365 * DAY,
        unit="s",
        description="How long an id is remembered after its command's end.",
    )
    event_retention_seconds: int = count(
        7 * DAY, ge=60, le=365 * DAY, unit="s", description="How long events stay in their streams."
    )
    event_retention_max_seconds: int = count(
        14 * DAY,
        ge=60,
        le=365 * DAY,
        unit="s",
        description="How long they stay at most for a sink or a rule that has not come so far.",
    )
    follower_expiry_seconds: int = count(
        DAY,
        ge=60,
        le=365 * DAY,
        unit="s",
        description="For how long events are kept for a sink or a rule that nobody runs any more.",
    )
    result_store: str = Field(
        default_factory=lambda: str(state_folder() / "results"),
        min_length=1,
        description="Where results too large for an event go: a folder or any fsspec URL; a "
        "gateway that can read it shows them.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="What is logged: this and worse."
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="`auto` is text on a terminal and JSON everywhere else."
    )
    health_file: FilePlace | None = Field(
        None,
        description="A file that is touched every 4 s while a worker or gateway is well, and "
        "deleted otherwise.",
    )

    _partitions: tuple[str, ...] = PrivateAttr(())

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The namespace, or those that are partitions."""
        return tuple(self.namespace.split(","))

    @property
    def partitions(self) -> tuple[str, ...]:
        """The namespaces that the environment names, whichever of them these settings are for."""
        return self._partitions or self.namespaces

    def of(self, namespace: str) -> Self:
        """Returns the same settings for one of the namespaces."""
        made = self.model_copy(update={"namespace": namespace})
        made._partitions = self.namespaces  # noqa: SLF001 - its own class
        return made


class Settings(LedgerSettings):
    """The settings of a worker."""

    encord_domain: str = Field(
        "https://api.encord.com",
        validation_alias="ENCORD_DOMAIN",
        description="The API; https://api.us.encord.com for the US.",
    )
    encord_ssh_key_file: HomePath | None = Field(
        None,
        validation_alias="ENCORD_SSH_KEY_FILE",
        description="File with the private Ed25519 key in OpenSSH format.",
    )
    encord_ssh_key: SecretStr | None = Field(
        None,
        validation_alias="ENCORD_SSH_KEY",
        description="The key itself, where there is no file.",
    )
    encord_ssh_key_passphrase: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices(
            "ENCORD_SSH_KEY_PASSPHRASE", "ENCORD_SSH_KEY_FILE_PASSPHRASE"
        ),
        description="Passphrase of an encrypted key.",
    )
    bearer_token: SecretStr | None = Field(
        None, description="A bearer token, instead of a key; it takes precedence over one."
    )
    client_certificate_file: HomePath | None = Field(
        None,
        description="Certificate in PEM format for an API, or a gateway before it, that asks for "
        "one; its key may stand in the same file.",
    )
    client_key_file: HomePath | None = Field(
        None, description="The key of that certificate, in PEM format, without a passphrase."
    )

    data_roots: FolderPaths = Field(
        (),
        description="Folders below which commands may have files read, by `data_path`, `dataref` "
        "or as a source, with colons between them.",
    )
    source_urls: Urls = Field(
        (),
        description="URLs below which commands may have files read, by `dataref` or as a source, "
        "with blanks between them.",
    )
    dataref_limit_bytes: int = count(
        33_554_432,
        ge=1024,
        le=1_073_741_824,
        unit="bytes",
        description="Most that a command's `dataref` may hold.",
    )
    inflight_body_bytes: int = count(
        50_331_648,
        ge=1_048_576,
        le=68_719_476_736,
        unit="bytes",
        description="Most that the files of running commands take in memory, and their texts "
        "besides; others wait. One picture takes twice its size, a text four times.",
    )
    download_timeout_seconds: float = seconds(
        60.0,
        ge=0.1,
        le=3600,
        description="For all of a file behind a URL, of an item or a `dataref`.",
    )
    download_idle_timeout_seconds: float = seconds(
        15.0,
        ge=0.1,
        le=3600,
        description="How long such a file's server may be silent, and a connection to it take.",
    )
    reply_limit_bytes: int = count(
        33_554_432,
        ge=65_536,
        le=1_073_741_824,
        unit="bytes",
        description="Most that one answer of the API may hold, unpacked.",
    )
    message_retention_seconds: int = count(
        DAY,
        ge=0,
        le=365 * DAY,
        unit="s",
        description="How long what a prediction on a file, or a training, was sent with is kept "
        "after its success, for the gateway to show it with the result; 0 keeps none.",
    )
    result_limit_bytes: int = count(
        262_144,
        ge=1024,
        le=16_777_216,
        unit="bytes",
        description="A larger result goes to the result store.",
    )

    concurrency: int = count(512, ge=1, le=4096, description="Commands that run at the same time.")
    creation_concurrency: int = count(
        8,
        ge=1,
        le=1024,
        description="Creations under way at the same time; a dead worker leaves no more in doubt.",
    )
    lease_seconds: float = seconds(
        30.0,
        ge=1,
        le=3600,
        description="How long a run is safe from others; a dead worker's commands wait so long.",
    )
    slice_seconds: float = seconds(
        20.0, ge=1, le=600, description="How long one Celery task drains before it hands over."
    )
    sweep_seconds: float = seconds(
        1.0, ge=0.05, le=60, description="How often a worker looks for what has fallen due."
    )
    intake_batch: int = count(
        256, ge=1, le=1000, description="Most entries of the stream in one read."
    )
    intake_batch_bytes: int = count(
        4_194_304,
        ge=65_536,
        le=1_073_741_824,
        unit="bytes",
        description="How much the messages of one read, one move of a list or one script are to "
        "have; one message at least.",
    )
    consumer_idle_seconds: float = seconds(
        30.0,
        ge=1,
        le=3600,
        description="After so long what a silent worker has read is taken over from it.",
    )

    repair_seconds: float = seconds(
        300.0,
        ge=0.1,
        le=DAY,
        description="Pause between two passes that put commands back whose due time was deleted.",
    )

    http: OptionalAddress = Field(
        None,
        description="Host and port, like 127.0.0.1:9090, at which the worker answers /livez, "
        "/readyz and /metrics.",
    )

    max_attempts: int = count(
        10, ge=1, le=1000, description="Attempts of a command, the first included."
    )
    retry_min_seconds: float = seconds(
        1.0, ge=0.01, le=3600, description="The first retry's delay; each further one is doubled."
    )
    retry_max_seconds: float = seconds(
        300.0, ge=0.01, le=DAY, description="The longest delay of a retry."
    )
    max_claims: int = count(
        5, ge=1, le=100, description="Runs without an end after which a command counts as poison."
    )

    backfill_window: int = count(
        2_000, ge=1, le=100_000, description="Most items of a backfill that wait or run."
    )
    backfill_part_items: int = count(
        5_000, ge=1, le=1_000_000, description="Items in one part of a backfill's results."
    )

    poll_min_seconds: float = seconds(
        10.0, ge=0.1, le=3600, description="The shortest time between two looks at a training."
    )
    poll_max_seconds: float = seconds(
        300.0, ge=0.1, le=DAY, description="The longest time between two looks at a training."
    )
    poll_share: float = Field(
        0.05, ge=0, le=1, description="Time between two looks, as a share of the time it has run."
    )
    long_poll_concurrency: int = count(
        16, ge=0, le=1024, description="Trainings that are watched with a request held open."
    )
    long_poll_seconds: float = seconds(
        20.0, ge=0, le=60, description="How long such a request is held open."
    )
    doubt_seconds: float = seconds(
        60.0,
        ge=0,
        le=DAY,
        description="How long the API is asked for a model or attachment whose creation is in "
        "doubt; for a training it is the command's timeout.",
    )

    connect_timeout_seconds: float = seconds(
        5.0, ge=0.1, le=300, description="For a connection to the API, TLS included."
    )
    read_timeout_seconds: float = seconds(
        120.0, ge=0.1, le=3600, description="Between two pieces of an answer."
    )
    write_timeout_seconds: float = seconds(
        60.0, ge=0.1, le=3600, description="For sending a request."
    )
    pool_timeout_seconds: float = seconds(
        10.0, ge=0.1, le=3600, description="For a free connection."
    )

    requests_per_second: float = Field(
        0,
        ge=0,
        le=100_000,
        description="Requests of all workers together; 0 for no limit.",
        json_schema_extra={"unit": "1/s"},
    )
    concurrent_requests: int = count(
        0, ge=0, le=100_000, description="Requests of all workers at the same time; 0 for no limit."
    )
    retry_after_max_seconds: float = seconds(
        300.0,
        ge=1,
        le=DAY,
        description="The longest wait that the API can ask for by `Retry-After`.",
    )
    breaker_failures: int = count(
        10,
        ge=1,
        le=10_000,
        description="Failures in a row that have a worker ask the API how it is.",
    )
    breaker_min_seconds: float = seconds(
        1.0, ge=0.05, le=3600, description="The first pause between two questions in an outage."
    )
    breaker_max_seconds: float = seconds(
        30.0, ge=0.05, le=3600, description="The longest pause between two questions in an outage."
    )
    pause_commands: int = count(
        200, ge=1, le=1_000_000, description="Fewer failed commands never pause a lane."
    )
    pause_seconds: float = seconds(
        10.0, ge=0, le=DAY, description="A shorter time of failures never pauses a lane."
    )
    pause_share: float = Field(
        0.95, gt=0, le=1, description="Share of failed commands that pauses a lane."
    )
    pause_probe_seconds: float = seconds(
        10.0, ge=0.1, le=DAY, description="How often a paused lane lets one command through."
    )

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        for shortest, longest in _RANGES:
            if getattr(self, shortest) > getattr(self, longest):
                names = environment_names()
                raise PydanticCustomError(
                    "range",
                    "{shortest} must be at most {longest}",
                    {"shortest": names[shortest], "longest": names[longest]},
                )
        return self

    @model_validator(mode="after")
    def _check_client_key(self) -> Self:
        if self.client_key_file is not None and self.client_certificate_file is None:
            raise PydanticCustomError(
                "client_key",
                "TRAINMASTER_CLIENT_KEY_FILE is set, but not TRAINMASTER_CLIENT_CERTIFICATE_FILE",
            )
        return self


# The first of each is a lower bound of the second, so that neither is silently another one.
_RANGES: Final = (
    ("retry_min_seconds", "retry_max_seconds"),
    ("poll_min_seconds", "poll_max_seconds"),
    ("breaker_min_seconds", "breaker_max_seconds"),
)


def environment_names(settings_class: type[LedgerSettings] = Settings) -> dict[str, str]:
    """Returns the environment variable of every field."""
    names = {}
    for field, info in settings_class.model_fields.items():
        match info.validation_alias:
            case str(name):
                names[field] = name
            case AliasChoices(choices=[str(name), *_]):
                names[field] = name
            case _:
                names[field] = f"{PREFIX}{field.upper()}"
    return names
