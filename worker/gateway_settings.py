"""The settings of the gateway, of webhooks in and of sinks out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from worker.paths import is_folder, is_there
from worker.setting_values import (
    DAY,
    File,
    FolderPaths,
    HomePath,
    count,
    seconds,
    state_folder,
)
from worker.settings import LedgerSettings

MIB = 1_048_576


def _check_uploads(location: str) -> str:
    if "://" in location:
        return location.rstrip("/")
    try:
        folder = Path(location).expanduser().absolute()
    except RuntimeError as exc:
        raise PydanticCustomError("home", "names a home that is not there") from exc
    if is_there(folder) and not is_folder(folder):
        raise PydanticCustomError("folder", "names something that is not a folder")
    return str(folder)


def _check_web(url: str) -> str:
    if not url.startswith(("https://", "http://")):
        raise PydanticCustomError("web", "names no address of the web, like https://…/docs")
    return url.rstrip("/")


class GatewaySettings(LedgerSettings):
    """What a gateway needs: Redis, and no credentials for the API."""

    integrations_file: File | None = Field(
        None, description="The TOML file that names webhooks in and sinks out."
    )
    gateway_host: Annotated[str, StringConstraints(min_length=1)] = Field(
        "127.0.0.1",
        description="Address that the gateway listens on. Without a token it takes loopback only.",
    )
    gateway_port: int = count(
        8080, ge=0, le=65_535, description="Port that the gateway listens on; 0 takes a free one."
    )
    gateway_tls_cert_file: File | None = Field(
        None, description="Certificate chain in PEM: the gateway speaks HTTPS."
    )
    gateway_tls_key_file: File | None = Field(
        None, description="Private key of the certificate, in PEM."
    )
    gateway_folder: HomePath = Field(
        default_factory=lambda: state_folder() / "gateway",
        description="Where the gateway keeps its read model; it can be deleted at any time.",
    )
    gateway_body_bytes: int = count(
        64 * MIB,
        ge=1024,
        le=16 * 1024 * MIB,
        unit="bytes",
        description="Most that a body may have, but for NDJSON: its commands are counted.",
    )
    gateway_batch_items: int = count(
        100_000, ge=1, le=10_000_000, description="Most commands that one request may hold."
    )
    gateway_uploads: Annotated[str, AfterValidator(_check_uploads)] | None = Field(
        None,
        description="Where uploaded manifests are kept for workers: a folder below their data "
        "roots, or a URL below one of their source URLs.",
    )
    gateway_upload_bytes: int = count(
        1024 * MIB,
        ge=1024,
        le=1024 * 1024 * MIB,
        unit="bytes",
        description="Most that an uploaded manifest may have.",
    )
    gateway_data_roots: FolderPaths = Field(
        (),
        description="Folders below which the gateway reads the pictures that predictions name by "
        "`data_path`, with colons between them; whoever may read the command sees them.",
    )
    gateway_docs_url: Annotated[str, AfterValidator(_check_web)] | None = Field(
        None,
        description="Where these docs are published, like https://example.com/docs: the gateway's "
        "page links to their sections from what went wrong.",
    )
    gateway_connections: int = count(
        1_000, ge=1, le=100_000, description="Most requests that a gateway process has at a time."
    )
    gateway_requests_per_second: int = count(
        0, ge=0, le=1_000_000, description="Requests of one token a second; 0 sets no limit."
    )
    gateway_backlog: int = count(
        0,
        ge=0,
        le=100_000_000,
        description="With so many commands unread or open, others are answered 429; 0: never.",
    )
    gateway_body_seconds: float = seconds(
        30.0,
        ge=1,
        le=3600,
        description="Longest pause between two parts of a body; of a webhook all of its time.",
    )
    delivery_retention_seconds: int = count(
        7 * DAY,
        ge=60,
        le=365 * DAY,
        unit="s",
        description="How long a delivery and its outcome are kept, and told from a repeat.",
    )

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if (self.gateway_tls_cert_file is None) != (self.gateway_tls_key_file is None):
            told = (
                "TRAINMASTER_GATEWAY_TLS_CERT_FILE and TRAINMASTER_GATEWAY_TLS_KEY_FILE: "
                "set both or none"
            )
            raise PydanticCustomError("tls", "{told}", {"told": told})
        return self
