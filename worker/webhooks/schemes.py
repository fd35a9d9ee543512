"""Schemes: whether a delivery is from whom it says, and what it is."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

import jiter

from schemas.attributes import is_valid_id
from schemas.json_text import most_values
from schemas.wording import counted
from worker.integrations import standard_webhooks
from worker.integrations.sources import (
    EncordSource,
    GithubSource,
    HmacSource,
    Source,
    StandardWebhooksSource,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from worker.integrations.secrets import Secret

# Until the year 33658: whatever int() takes besides is nothing that a sender writes.
_SECONDS: Final = re.compile(rb"[0-9]{1,12}")
_ENCORD_SIGNATURE: Final = b"x-encord-signature"
_ENCORD_VERSION: Final = 1
# Of those that we have a name for; Encord's page spells one in two ways.
_ENCORD_EVENTS: Final = frozenset({
    "agent_stage_work_available_event",
    "task_submitted_event",
    "task_completed_event",
})
_ENCORD_SPELLINGS: Final = {"task_sumbitted_event": "task_submitted_event"}
# Of 25 MB that were nothing but empty lists, the values took gigabytes.
MAX_BODY_VALUES: Final = 2_000_000
# While a sender rotates its secret it sends two.
_MOST_SIGNATURES: Final = 8
_FORM: Final = b"application/x-www-form-urlencoded"


class RefusedDeliveryError(Exception):
    """A delivery can't be shown to be from its source. The reason is for our log alone."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnsupportedVersionError(Exception):
    """A delivery is genuine, and its envelope has a version that can't be read: answer 501."""

    def __init__(self, version: object) -> None:
        # Others wrote it, at any length.
        known = isinstance(version, int) and 0 <= version < 1_000_000
        shown = f"version {version}" if known else "a version that is no small number"
        super().__init__(f"the envelope has {shown}; read is {_ENCORD_VERSION}")


@dataclass(frozen=True, slots=True)
class Verified:
    """A delivery that is from its source.

    Attributes:
        delivery_id: the same for a repeat of the delivery, and covered by the signature.
        event_type: what the rules' `on` is compared with; None if it names none.
        body: the JSON object; None where it is unreadable.
        problem: why the body is unreadable, else None.
    """

    delivery_id: str
    event_type: str | None
    body: dict[str, Any] | None
    problem: str | None = None


def verify(
    source: Source, headers: Sequence[tuple[bytes, bytes]], body: bytes, now: float
) -> Verified:
    """Returns a delivery whose signature holds.

    Args:
        source: who is said to have sent it.
        headers: as they came, of any case.
        body: the raw bytes.
        now: in seconds since 1970.

    Raises:
        RefusedDeliveryError: the signature does not hold, or the signed time is too far from now.
        UnsupportedVersionError: it is genuine, of a version of Encord's that can't be read.
    """
    found = _Headers(headers)
    match source:
        case EncordSource():
            return _verify_encord(source, found, body, now)
        case StandardWebhooksSource():
            return _verify_standard(source, found, body, now)
        case GithubSource():
            return _verify_github(source, found, body)
        case HmacSource():
            return _verify_hmac(source, found, body, now)
        case _:
            raise RefusedDeliveryError(f"the source {source.name} takes no deliveries over HTTP")


def read_unverified(
    source: Source, headers: Sequence[tuple[bytes, bytes]], body: bytes
) -> Verified:
    """Returns what a delivery is, for one that was verified before, or is only tried out.

    Args:
        source: who sent it.
        headers: as far as they are known.
        body: the raw bytes.
    """
    found = _Headers(headers)
    parsed, problem = _read_json(body)
    match source:
        case GithubSource():
            event_type = _text(found.get("x-github-event"))
            if _is_form(found):
                parsed, problem = _read_form(body)
        case HmacSource():
            event_type = _event_type(source, found, parsed)
        case EncordSource():
            event_type = _encord_type(parsed)
        case _:
            event_type = None if parsed is None else _text(parsed.get("type"))
    uid = parsed.get("uid") if parsed is not None and isinstance(source, EncordSource) else None
    return Verified(_id_or_digest(uid, body), event_type, parsed, problem)


class _Headers:
    """Headers by their names in lower case."""

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._values: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            self._values.setdefault(name.lower(), []).append(value.strip(b" \t"))

    def get(self, name: str) -> bytes | None:
        """Returns the one value of a header; None if it is not there or empty.

        Raises:
            RefusedDeliveryError: there are several, and nobody knows which one others read.
        """
        found = self._values.get(name.encode(), [])
        if len(found) > 1:
            raise RefusedDeliveryError(f"the header {name} is there {len(found)} times")
        return found[0] or None if found else None

    def need(self, name: str) -> bytes:
        """Returns the one value of a header.

        Raises:
            RefusedDeliveryError: it is not there, or more than once.
        """
        found = self.get(name)
        if found is None:
            raise RefusedDeliveryError(f"the header {name} is missing")
        return found

    def beginning(self, prefix: bytes) -> list[str]:
        """Returns the names of headers that begin so, at most five, each cut."""
        found = sorted(name for name in self._values if name.startswith(prefix))
        return [name[:80].decode("latin-1") for name in found[:5]]


def _verify_encord(source: EncordSource, headers: _Headers, body: bytes, now: float) -> Verified:
    signature = headers.get("x-encord-signature")
    if signature is None and (others := headers.beginning(_ENCORD_SIGNATURE + b"-")):
        raise RefusedDeliveryError(
            f"it carries {', '.join(others)} but not x-encord-signature, which this version "
            "reads: upgrade trainmaster to verify the newer header"
        )
    if signature is None:
        raise RefusedDeliveryError("the header x-encord-signature is missing")
    timestamp = headers.need("x-encord-timestamp")
    _check_time(timestamp, source.tolerance_seconds, now)
    signed = timestamp + b"." + body
    _check_any([signature], [_hex(secret, signed, "sha256") for secret in source.secrets])
    parsed, problem = _read_json(body)
    if parsed is None:
        return Verified(_digest(body), None, None, problem)
    event_type = _encord_type(parsed)
    if parsed.get("version") != _ENCORD_VERSION and _is_read(source, event_type):
        raise UnsupportedVersionError(parsed.get("version"))
    return Verified(_id_or_digest(parsed.get("uid"), body), event_type, parsed)


def _encord_type(parsed: Mapping[str, Any] | None) -> str | None:
    event_type = None if parsed is None else _text(parsed.get("event_type"))
    return _ENCORD_SPELLINGS.get(event_type or "", event_type)


def _is_read(source: EncordSource, event_type: str | None) -> bool:
    """Tells whether a rule may read an event; others are acknowledged, whatever their version."""
    return event_type in _ENCORD_EVENTS or any(
        rule.on is None or rule.on.match(event_type or "") for rule in source.rules
    )


def _verify_standard(
    source: StandardWebhooksSource, headers: _Headers, body: bytes, now: float
) -> Verified:
    # Svix signs in the same way, under names of its own.
    family = "webhook" if headers.get("webhook-signature") is not None else "svix"
    if family == "svix" and headers.get("svix-signature") is None:
        raise RefusedDeliveryError("the header webhook-signature is missing")
    given = {name: headers.need(f"{family}-{name}") for name in ("id", "timestamp", "signature")}
    _check_time(given["timestamp"], source.tolerance_seconds, now)
    if not all(each.isascii() for each in given.values()):
        raise RefusedDeliveryError("a header is not ASCII")
    signed = {f"webhook-{name}": value.decode() for name, value in given.items()}
    if not standard_webhooks.verify(
        [each.standard() for each in source.secrets],
        signed,
        body,
        now=now,
        tolerance_seconds=source.tolerance_seconds,
    ):
        raise RefusedDeliveryError("no signature holds: another secret, or another body")
    parsed, problem = _read_json(body)
    event_type = None if parsed is None else _text(parsed.get("type"))
    return Verified(_id_or_digest(signed["webhook-id"], given["id"]), event_type, parsed, problem)


def _verify_github(source: GithubSource, headers: _Headers, body: bytes) -> Verified:
    signature = headers.need("x-hub-signature-256")
    _check_any([signature], [b"sha256=" + _hex(each, body, "sha256") for each in source.secrets])
    event_type = headers.get("x-github-event")
    parsed, problem = _read_form(body) if _is_form(headers) else _read_json(body)
    # X-GitHub-Delivery is not signed: whoever replays a delivery could write another one.
    return Verified(
        _digest(body), None if event_type is None else _text(event_type), parsed, problem
    )


def _is_form(headers: _Headers) -> bool:
    content_type = headers.get("content-type") or b""
    return content_type.partition(b";")[0].strip().lower() == _FORM


def _verify_hmac(source: HmacSource, headers: _Headers, body: bytes, now: float) -> Verified:
    header = headers.need(source.header)
    signatures: list[bytes] = [header]
    values: dict[str, bytes] = {}
    if source.header_format is not None:
        signatures, values = _read_pairs(source, header)
    values["body"] = body
    if source.timestamp_header is not None:
        values["timestamp"] = headers.need(source.timestamp_header)
    if "timestamp" in values:
        _check_time(values["timestamp"], source.tolerance_seconds, now)
    if source.id_header is not None:
        values["id"] = headers.need(source.id_header)
    signed = _fill(source.signed, values)
    prefix = source.prefix.encode()
    write = _hex if source.encoding == "hex" else _base64
    expected = [prefix + write(each, signed, source.algorithm) for each in source.secrets]
    _check_any(signatures, expected)
    parsed, problem = _read_json(body)
    event_type = _event_type(source, headers, parsed)
    if "{id}" in source.signed:
        delivery_id = _id_or_digest(values["id"].decode("latin-1"), values["id"])
    else:
        delivery_id = _digest(signed)
    return Verified(delivery_id, event_type, parsed, problem)


def _read_pairs(source: HmacSource, header: bytes) -> tuple[list[bytes], dict[str, bytes]]:
    """Returns the signatures in a header, and what else `header_format` says that it holds.

    Pairs of other names are passed over: senders add signatures of new versions.

    Raises:
        RefusedDeliveryError: a pair is missing, or there more than once where one can be meant.
    """
    pairs = source.pairs
    found: dict[str, list[bytes]] = {held: [] for held in pairs.values()}
    for each in header.split(source.separator.encode()):
        name, _, value = each.strip(b" \t").partition(b"=")
        held = pairs.get(name.decode("latin-1"))
        if held is not None and value:
            found[held].append(value)
    signatures = found.pop("signature")
    if not 0 < len(signatures) <= _MOST_SIGNATURES:
        number = counted(len(signatures), "signature")
        raise RefusedDeliveryError(f"the header {source.header} has {number}")
    for held, values in found.items():
        if len(values) != 1:
            number = counted(len(values), "value")
            raise RefusedDeliveryError(f"the header {source.header} has {number} for the {held}")
    return signatures, {held: values[0] for held, values in found.items()}


def _fill(template: str, values: dict[str, bytes]) -> bytes:
    parts = re.split(r"\{(body|timestamp|id)\}", template)
    return b"".join(values[part] if at % 2 else part.encode() for at, part in enumerate(parts))


def _event_type(source: HmacSource, headers: _Headers, parsed: dict[str, Any] | None) -> str | None:
    if source.on_header is not None:
        return _text(headers.get(source.on_header))
    if source.on_field is None:
        return None
    found: Any = parsed
    for step in source.on_field.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return _text(found)


def _check_time(timestamp: bytes, tolerance_seconds: float, now: float) -> None:
    if not _SECONDS.fullmatch(timestamp):
        raise RefusedDeliveryError("the time is not in whole seconds since 1970")
    age = now - int(timestamp)
    if abs(age) > tolerance_seconds:
        told = f"{abs(age):.0f} s {'ago' if age > 0 else 'ahead'}"
        raise RefusedDeliveryError(f"it was signed {told}, {tolerance_seconds:g} s are tolerated")


def _check_any(given: Sequence[bytes], expected: Sequence[bytes]) -> None:
    # No early end: how long it takes tells nothing of which one holds.
    holding = sum(hmac.compare_digest(each, other) for each in expected for other in given)
    if not holding:
        raise RefusedDeliveryError("the signature does not hold: another secret, or another body")


def _hex(secret: Secret, signed: bytes, algorithm: str) -> bytes:
    return hmac.new(secret.value, signed, algorithm).hexdigest().encode()


def _base64(secret: Secret, signed: bytes, algorithm: str) -> bytes:
    return base64.b64encode(hmac.new(secret.value, signed, algorithm).digest())


def _digest(signed: bytes) -> str:
    return f"sha256-{hashlib.sha256(signed).hexdigest()}"


def _id_or_digest(value: object, signed: bytes) -> str:
    """Returns what names a delivery, if it can be an id; else what tells it from others."""
    return value if isinstance(value, str) and is_valid_id(value) else _digest(signed)


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return value if isinstance(value, str) and value else None


def _read_json(body: bytes | str) -> tuple[dict[str, Any] | None, str | None]:
    raw = body.encode() if isinstance(body, str) else body
    if most_values(raw) > MAX_BODY_VALUES:
        return None, f"the body may have more than {MAX_BODY_VALUES:,} values"
    try:
        found = jiter.from_json(raw, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as exc:
        return None, f"the body is not JSON: {str(exc)[:200]}"
    if not isinstance(found, dict):
        return None, "the body is no JSON object"
    return found, None


def _read_form(body: bytes) -> tuple[dict[str, Any] | None, str | None]:
    """Reads what GitHub sends unless its content type was set to JSON: a form with one field."""
    try:
        fields = dict(parse_qsl(body.decode(), max_num_fields=10, errors="strict"))
    except ValueError:
        return None, "the body is no form"
    if "payload" not in fields:
        return None, "the form has no field payload; set the webhook's content type to JSON"
    return _read_json(fields["payload"])
