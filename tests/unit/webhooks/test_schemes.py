"""Schemes: what the senders' own libraries sign is taken, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import standardwebhooks
import svix
from encord_agents.core import webhooks as judge
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.integrations.rules import Rule
from worker.integrations.secrets import Secret, Surroundings
from worker.integrations.sources import (
    EncordSource,
    EventsSource,
    GithubSource,
    HmacSource,
    Source,
    StandardWebhooksSource,
)
from worker.integrations.standard_webhooks import SigningKey
from worker.webhooks.records import shown_body
from worker.webhooks.schemes import (
    RefusedDeliveryError,
    UnsupportedVersionError,
    Verified,
    read_unverified,
    verify,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

SECRET = "whsec-test"
OLD_SECRET = "whsec-test-of-last-year"
NOW = 1_700_000_000
STANDARD = SigningKey.parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
PROJECT = "11111111-1111-4111-8111-111111111111"

Headers = list[tuple[bytes, bytes]]


def made(source_class: Any, *secrets: bytes, **fields: Any) -> Any:
    """A source as the file would give it, without a file for its secrets."""
    known = tuple(Secret(each, "a test") for each in secrets)
    return source_class.model_construct(name="test", rules=[], secrets=known, **fields)


ENCORD = made(EncordSource, SECRET.encode(), OLD_SECRET.encode(), tolerance_seconds=300.0)
GITHUB = made(GithubSource, b"It's a Secret to Everybody")
STANDARD_SOURCE = made(StandardWebhooksSource, STANDARD.key, tolerance_seconds=300.0)


def hexadecimal(secret: str, signed: bytes, algorithm: str = "sha256") -> bytes:
    return hmac.new(secret.encode(), signed, algorithm).hexdigest().encode()


def encord_headers(body: bytes, timestamp: bytes = b"%d" % NOW, secret: str = SECRET) -> Headers:
    return [
        (b"X-Encord-Timestamp", timestamp),
        (b"X-Encord-Signature", hexadecimal(secret, timestamp + b"." + body)),
    ]


def envelope(**fields: Any) -> bytes:
    return json.dumps({
        "uid": "0b1e9a4e-6a58-4d6c-9b1c-1c4f4f6a7a10",
        "version": 1,
        "source": "encord",
        "event_type": "agent_stage_work_available_event",
        "event_created_timestamp": "2026-01-01T00:00:00Z",
        "payload": {
            "project_hash": PROJECT,
            "stage_uuid": PROJECT,
            "pending_count": 3,
            "reason": "batch_size_reached",
        },
        **fields,
    }).encode()


def refusal(
    source: Source, headers: Sequence[tuple[bytes, bytes]], body: bytes, now: float = NOW
) -> str:
    """Why a delivery is refused, as our log has it."""
    with pytest.raises(RefusedDeliveryError) as refused:
        verify(source, headers, body, now)
    return refused.value.reason


# Encord.


def test_the_vector_of_the_documentation_has_its_signature() -> None:
    signature = b"fed7a1a6c799a6367d73724d76bc70c16678908a32a879cd1ded6565ac05cece"
    headers = [(b"x-encord-signature", signature), (b"x-encord-timestamp", b"1700000000")]
    found = verify(ENCORD, headers, b'{"a":1}', NOW)
    assert (found.event_type, found.body) == (None, {"a": 1})


@dataclass(frozen=True)
class Case:
    """A request, genuine or changed, whose time is so far from now."""

    headers: Headers
    body: bytes
    shift: int
    notes: tuple[str, ...] = field(default=())


BODIES = st.one_of(
    st.builds(
        envelope,
        version=st.sampled_from([1, 2, 0, "1", None, True, 1.0]),
        event_type=st.sampled_from([
            "agent_stage_work_available_event",
            "task_submitted_event",
            "task_sumbitted_event",
            "one of tomorrow",
            7,
        ]),
    ),
    st.binary(max_size=60),
    st.sampled_from([b"", b"{}", b"[]", b"null", b'{"uid":1}', '{"ü":"鯨"}'.encode()]),
)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    body = draw(BODIES)
    # Never near the edge, where the time that both read would decide.
    shift = draw(st.sampled_from([0, 0, 0, 0, -290, 290, -310, 310, -86_400, 10**9]))
    timestamp = b"%d" % (int(time.time()) + shift)
    secret = draw(st.sampled_from([SECRET, SECRET, SECRET, OLD_SECRET, "another secret", "x"]))
    signature = hexadecimal(secret, timestamp + b"." + body)
    change = draw(st.sampled_from(["none", "none", "none", "bit", "case", "cut", "time", "more"]))
    if change == "bit" and body:
        at = draw(st.integers(0, len(body) * 8 - 1))
        changed = bytearray(body)
        changed[at // 8] ^= 1 << at % 8
        body = bytes(changed)
    elif change == "case":
        signature = signature.upper()
    elif change == "cut":
        signature = signature[: draw(st.integers(0, 63))]
    elif change == "time":
        timestamp = b"%d" % (int(timestamp) + draw(st.sampled_from([-1, 1, 60])))
    elif change == "more":
        body += b" "
    name = draw(st.sampled_from([b"X-Encord-Signature", b"x-encord-signature"]))
    headers = [(b"X-ENCORD-TIMESTAMP", timestamp), (name, signature)]
    left_out = draw(st.sampled_from([None, None, None, None, None, 0, 1]))
    if left_out is not None:
        del headers[left_out]
    if draw(st.booleans()):
        headers.insert(0, (b"X-Encord-Signature-V2", b"ed25519=AAAA"))
    return Case(headers, body, shift, (secret, change))


@settings(max_examples=600)
@given(cases())
def test_encords_own_library_agrees_on_every_delivery(case: Case) -> None:
    told = {name.decode(): value.decode() for name, value in case.headers}
    genuine = True
    for secret in (SECRET, OLD_SECRET):
        try:
            judge.verify_and_parse_notification(case.body, told, secret=secret)
        except judge.WebhookVerificationError:
            genuine = False
            continue
        except judge.UnsupportedNotificationVersion:
            with pytest.raises(UnsupportedVersionError):
                verify(ENCORD, case.headers, case.body, time.time())
            return
        except (judge.UnexpectedEventType, ValueError, AttributeError):
            # Another event, or a body that it can't read: its signature holds.
            pass
        genuine = True
        break
    try:
        found = verify(ENCORD, case.headers, case.body, time.time())
    except RefusedDeliveryError:
        assert not genuine
    except UnsupportedVersionError:
        assert genuine
        assert json.loads(case.body)["version"] != 1
    else:
        assert genuine
        assert (found.body is None) == (found.problem is not None)


@settings(max_examples=100)
@given(doubled=st.sampled_from([b"X-Encord-Signature", b"x-encord-timestamp"]), first=st.booleans())
def test_a_doubled_header_is_refused_even_with_the_same_value(
    *, doubled: bytes, first: bool
) -> None:
    headers = encord_headers(b"{}")
    value = {name.lower(): value for name, value in headers}[doubled.lower()]
    headers.insert(0 if first else len(headers), (doubled, value))
    assert "2 times" in refusal(ENCORD, headers, b"{}")


def test_signatures_joined_by_a_comma_are_refused() -> None:
    ((_, timestamp), (_, signature)) = encord_headers(b"{}")
    headers = [
        (b"x-encord-timestamp", timestamp),
        (b"x-encord-signature", signature + b", " + signature),
    ]
    assert "does not hold" in refusal(ENCORD, headers, b"{}")


@pytest.mark.parametrize(
    "timestamp",
    [b"+1700000000", b"1_700_000_000", b"1700000000.0", b"1.7e9", b"-1", b"0x6553F100", b"nan",
     "１７００００００００".encode(), b"9" * 5000, b"1700000000,1700000000"],
)  # fmt: skip
def test_a_time_that_is_not_written_in_digits_is_refused_though_it_is_signed(
    timestamp: bytes,
) -> None:
    reason = refusal(ENCORD, encord_headers(b"{}", timestamp), b"{}")
    assert reason == "the time is not in whole seconds since 1970"


@pytest.mark.parametrize(("now", "fresh"), [(NOW - 300, True), (NOW - 301, False),
                                            (NOW + 300, True), (NOW + 300.5, False)])  # fmt: skip
def test_a_delivery_is_taken_only_near_its_time(now: float, *, fresh: bool) -> None:
    if fresh:
        assert verify(ENCORD, encord_headers(b"{}"), b"{}", now)
        return
    with pytest.raises(RefusedDeliveryError, match="300 s are tolerated"):
        verify(ENCORD, encord_headers(b"{}"), b"{}", now)


def test_a_newer_signature_header_is_named_and_the_delivery_not_called_unsigned() -> None:
    headers = [(b"X-Encord-Signature-V2", b"a"), (b"x-encord-signature-ed25519", b"b")]
    reason = refusal(ENCORD, headers, b"{}")
    assert "x-encord-signature-ed25519, x-encord-signature-v2" in reason
    assert "upgrade" in reason
    # Beside the one that we read it changes nothing.
    assert verify(ENCORD, [*headers, *encord_headers(b"{}")], b"{}", NOW)


def test_names_of_headers_that_others_made_up_stay_short_in_the_reason() -> None:
    headers = [(b"X-Encord-Signature-" + b"v" * 60_000 + b"%d" % each, b"") for each in range(50)]
    assert len(refusal(ENCORD, headers, b"{}")) < 1000


def test_an_event_of_another_version_is_unsupported_if_anybody_reads_it() -> None:
    other = envelope(version=2, event_type="one_of_tomorrow_event")
    assert verify(ENCORD, encord_headers(other), other, NOW).event_type == "one_of_tomorrow_event"
    command = {"type": "cancel", "data": {"command_id": "body.payload.id"}}
    rule = Rule.model_validate({"name": "a", "on": "one_of_*", "command": command})
    reader = ENCORD.model_copy(update={"rules": [rule]})
    with pytest.raises(UnsupportedVersionError, match="version 2"):
        verify(reader, encord_headers(other), other, NOW)
    for name in ("submitted", "completed"):
        known = envelope(version=2, event_type=f"task_{name}_event")
        with pytest.raises(UnsupportedVersionError):
            verify(ENCORD, encord_headers(known), known, NOW)
    huge = b'{"event_type":"task_submitted_event","version":1' + b"0" * 4000 + b"}"
    with pytest.raises(UnsupportedVersionError, match="no small number"):
        verify(ENCORD, encord_headers(huge), huge, NOW)
    # Of what is not genuine nothing is told.
    assert "does not hold" in refusal(reader, encord_headers(other, secret="no"), other)


def test_the_event_that_encords_page_spells_in_two_ways_has_one_name() -> None:
    for spelling in ("task_submitted_event", "task_sumbitted_event"):
        body = envelope(event_type=spelling)
        assert verify(ENCORD, encord_headers(body), body, NOW).event_type == "task_submitted_event"


@pytest.mark.parametrize(
    ("body", "said"),
    [(b"", "not JSON"), (b"{", "not JSON"), (b"\xff", "not JSON"), (b"[]", "no JSON object"),
     (b'"a"', "no JSON object"), (b'{"a":1,"a":2}', "not JSON"), (b'{"a":NaN}', "not JSON"),
     (b'{"a":' + b"[" * 5000, "not JSON"), (b'{"a":"\\ud800"}', "not JSON")],
)  # fmt: skip
def test_a_signed_body_that_is_no_object_is_a_delivery_that_is_unreadable(
    body: bytes, said: str
) -> None:
    found = verify(ENCORD, encord_headers(body), body, NOW)
    assert found.body is None
    assert said in (found.problem or "")
    assert found == verify(ENCORD, encord_headers(body, b"%d" % (NOW + 9)), body, NOW)


def test_a_delivery_is_named_by_its_uid_and_without_a_usable_one_by_its_body() -> None:
    first = envelope()
    assert verify(ENCORD, encord_headers(first), first, NOW).delivery_id.startswith("0b1e9a4e-")
    ids = set()
    uids: list[object] = [None, "", "a\nb", 7, "x" * 300, {}]
    for uid in uids:
        body = envelope(uid=uid)
        again = encord_headers(body, b"%d" % (NOW + 60))
        found = verify(ENCORD, again, body, NOW)
        assert found.delivery_id == verify(ENCORD, encord_headers(body), body, NOW).delivery_id
        ids.add(found.delivery_id)
    assert len(ids) == 6


# Standard Webhooks.


def standard_headers(
    signature: str, *, family: str = "webhook", timestamp: int = NOW, message: str = "msg_1"
) -> Headers:
    values = {"id": message, "timestamp": str(timestamp), "signature": signature}
    return [(f"{family}-{name}".encode(), value.encode()) for name, value in values.items()]


@pytest.mark.parametrize("library", [standardwebhooks.Webhook, svix.Webhook])
@pytest.mark.parametrize("family", ["webhook", "Webhook", "svix"])
def test_what_the_libraries_sign_is_taken(library: Any, family: str) -> None:
    body = '{"type":"user.created","data":{"name":"Wal 鯨"}}'
    signature = library(STANDARD.reveal()).sign("msg_1", datetime.fromtimestamp(NOW, UTC), body)
    several = f"v1,{base64.b64encode(b'0' * 32).decode()} v1a,AAAA {signature} v2,x"
    for given_signature in (signature, several):
        headers = standard_headers(given_signature, family=family)
        found = verify(STANDARD_SOURCE, headers, body.encode(), NOW)
        assert found == Verified("msg_1", "user.created", json.loads(body))


@settings(max_examples=300)
@given(
    body=st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
    message=st.text("abcdef_.-0123456789", min_size=1, max_size=20),
    shift=st.sampled_from([0, 0, -290, 290, -310, 310]),
    flipped=st.none() | st.integers(0, 10_000),
)
def test_the_library_agrees_on_every_delivery_of_standard_webhooks(
    body: dict[str, int], message: str, shift: int, flipped: int | None
) -> None:
    text = json.dumps(body)
    at = int(time.time()) + shift
    library = standardwebhooks.Webhook(STANDARD.reveal())
    signature = library.sign(message, datetime.fromtimestamp(at, UTC), text)
    if flipped is not None:
        # ASCII stays ASCII: the library decodes the body before it looks at it.
        changed = bytearray(text.encode())
        changed[flipped % len(changed)] ^= 1 << flipped % 7
        text = changed.decode()
    headers = standard_headers(signature, timestamp=at, message=message)
    told = {name.decode(): value.decode() for name, value in headers}
    try:
        library.verify(text, told, json_parse=False)
    except standardwebhooks.WebhookVerificationError:
        with pytest.raises(RefusedDeliveryError):
            verify(STANDARD_SOURCE, headers, text.encode(), time.time())
    else:
        assert verify(STANDARD_SOURCE, headers, text.encode(), time.time()).delivery_id == message


def test_a_doubled_header_of_standard_webhooks_is_refused() -> None:
    library = standardwebhooks.Webhook(STANDARD.reveal())
    signature = library.sign("msg_1", datetime.fromtimestamp(NOW, UTC), "{}")
    headers = standard_headers(signature)
    assert verify(STANDARD_SOURCE, headers, b"{}", NOW)
    for header in headers:
        assert "2 times" in refusal(STANDARD_SOURCE, [*headers, header], b"{}")
        missing = [each for each in headers if each != header]
        assert "missing" in refusal(STANDARD_SOURCE, missing, b"{}")


# GitHub.


def github_headers(body: bytes, **others: str) -> Headers:
    signature = b"sha256=" + hexadecimal("It's a Secret to Everybody", body)
    more = [(name.replace("_", "-").encode(), value.encode()) for name, value in others.items()]
    return [(b"X-Hub-Signature-256", signature), *more]


def test_the_vector_of_githubs_documentation_has_its_signature() -> None:
    signature = b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    found = verify(GITHUB, [(b"x-hub-signature-256", signature)], b"Hello, World!", NOW)
    assert found.problem is not None
    for changed in (signature[7:], signature.replace(b"sha256", b"sha1"), signature.upper()):
        headers = [(b"x-hub-signature-256", changed)]
        assert "does not hold" in refusal(GITHUB, headers, b"Hello, World!")


def test_a_delivery_of_github_is_named_by_what_is_signed() -> None:
    body = b'{"ref":"refs/heads/main"}'
    found = [
        verify(GITHUB, github_headers(body, X_GitHub_Event=event, X_GitHub_Delivery=name), body, 0)
        for event, name in (("push", "1"), ("ping", "2"))
    ]
    # Neither header is signed: a replay under another name is the same delivery.
    assert found[0].delivery_id == found[1].delivery_id
    assert [each.event_type for each in found] == ["push", "ping"]
    other = b'{"ref":"refs/heads/next"}'
    assert verify(GITHUB, github_headers(other), other, 0).delivery_id != found[0].delivery_id


def test_github_may_send_its_json_in_a_form_as_it_does_unless_told_otherwise() -> None:
    body = b"payload=%7B%22ref%22%3A%22refs%2Fheads%2Fmain%22%7D"
    form = {"Content_Type": "application/x-www-form-urlencoded; charset=utf-8"}
    assert verify(GITHUB, github_headers(body, **form), body, 0).body == {"ref": "refs/heads/main"}
    for wrong in (b"", b"payload=", b"a=1", b"payload=%5B%5D", b"payload=%ff", b"a&" * 90):
        assert verify(GITHUB, github_headers(wrong, **form), wrong, 0).problem is not None


# Any other sender.


def other(secret: str = SECRET, **fields: Any) -> HmacSource:
    """A source of the scheme hmac."""
    given_fields = {
        "scheme": "hmac",
        "name": "shop",
        "header": "X-Shop-Signature",
        "secrets": [{"env": "SECRET"}],
        **fields,
    }
    around = Surroundings({"SECRET": secret}, Path())
    found = HmacSource.model_validate(given_fields, context=around)
    assert list(found.problems()) == []
    return found


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha384", "sha512"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
def test_any_sender_that_signs_by_hmac_can_be_described(algorithm: str, encoding: str) -> None:
    source = other(
        algorithm=algorithm,
        encoding=encoding,
        prefix=f"{algorithm}=",
        signed="v0:{timestamp}:{id}:{body}",
        timestamp_header="X-Time",
        id_header="X-Id",
        on_field="meta.kind",
    )
    body = b'{"meta":{"kind":"order.paid"}}'
    digest = hmac.new(SECRET.encode(), b"v0:%d:7:" % NOW + body, algorithm)
    written = (
        digest.hexdigest().encode() if encoding == "hex" else base64.b64encode(digest.digest())
    )
    headers = [
        (b"x-shop-signature", algorithm.encode() + b"=" + written),
        (b"x-time", b"%d" % NOW),
        (b"x-id", b"7"),
    ]
    assert verify(source, headers, body, NOW) == Verified("7", "order.paid", json.loads(body))
    for at in range(3):
        missing = headers[:at] + headers[at + 1 :]
        assert "missing" in refusal(source, missing, body)
        assert "2 times" in refusal(source, [*headers, headers[at]], body)
    assert "tolerated" in refusal(source, [headers[0], (b"x-time", b"1"), headers[2]], body)
    assert "does not hold" in refusal(source, [*headers[:2], (b"x-id", b"8")], body)


def test_braces_in_a_body_are_no_template() -> None:
    source = other(signed="{timestamp}.{body}", timestamp_header="X-Time", on_header="X-Event")
    body = b'{"a":"{timestamp}{body}{id}"}'
    signature = hexadecimal(SECRET, b"%d." % NOW + body)
    headers = [(b"X-Shop-Signature", signature), (b"X-Time", b"%d" % NOW), (b"X-Event", b"paid")]
    assert verify(source, headers, body, NOW).event_type == "paid"


def test_an_id_that_is_not_signed_names_no_delivery() -> None:
    source = other(id_header="X-Id")
    body = b"{}"
    signature = (b"X-Shop-Signature", hexadecimal(SECRET, body))
    names = {
        verify(source, [signature, (b"X-Id", name)], body, NOW).delivery_id for name in (b"1", b"2")
    }
    assert names == {f"sha256-{hashlib.sha256(body).hexdigest()}"}


# By `openssl dgst -sha256 -hmac whsec_test_secret`, of what Stripe's page says that it signs.
STRIPE_AT = 1_492_774_577
STRIPE_BODY = b'{"id":"evt_test","type":"charge.succeeded"}'
STRIPE_V1 = b"a20c03e4b5610ebe700b6165721191b3c53ed14fde1ad65a5371f189eae89927"
# Source: https://docs.slack.dev/authentication/verifying-requests-from-slack
SLACK_AT = 1_531_420_618
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow"
    b"&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner"
    b"&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands"
    b"%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
SLACK_V0 = b"v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"


def stripe(separator: str = ",") -> HmacSource:
    """A source whose header holds the time, too."""
    return other(
        header="Stripe-Signature",
        header_format=f"t={{timestamp}}{separator}v1={{signature}}",
        signed="{timestamp}.{body}",
        on_field="type",
        secret="whsec_test_secret",
    )


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_header_may_hold_the_time_and_several_signatures(separator: str) -> None:
    source = stripe(separator)
    time_, v1, wrong = b"t=%d" % STRIPE_AT, b"v1=" + STRIPE_V1, b"v1=" + STRIPE_V1[::-1]
    for pairs in (
        [time_, v1],
        [v1, time_],
        [time_, wrong, v1, b"v0=abc"],
        [time_ + b" ", b" " + v1],
    ):
        headers = [(b"Stripe-Signature", separator.encode().join(pairs))]
        verified = verify(source, headers, STRIPE_BODY, STRIPE_AT + 10)
        assert verified.event_type == "charge.succeeded"
        assert "does not hold" in refusal(source, headers, STRIPE_BODY + b" ", STRIPE_AT)
        assert "tolerated" in refusal(source, headers, STRIPE_BODY, STRIPE_AT + 301)
    for pairs, said in (
        ([time_], "0 signatures"),
        ([v1], "0 values for the timestamp"),
        ([time_, time_, v1], "2 values for the timestamp"),
        ([time_, *[v1] * 9], "9 signatures"),
        ([time_, wrong], "does not hold"),
        ([time_, b"v0=" + STRIPE_V1], "0 signatures"),
        ([b"t=%d" % (STRIPE_AT + 1), v1], "does not hold"),
        ([b"t=", v1], "0 values for the timestamp"),
    ):
        headers = [(b"Stripe-Signature", separator.encode().join(pairs))]
        assert said in refusal(source, headers, STRIPE_BODY, STRIPE_AT)


def test_slacks_own_example_is_taken() -> None:
    source = other(
        header="X-Slack-Signature",
        prefix="v0=",
        signed="v0:{timestamp}:{body}",
        timestamp_header="X-Slack-Request-Timestamp",
        secret="8f742231b10e8888abcd99yyyzzz85a5",
    )
    headers = [
        (b"X-Slack-Signature", SLACK_V0),
        (b"X-Slack-Request-Timestamp", b"%d" % SLACK_AT),
    ]
    assert verify(source, headers, SLACK_BODY, SLACK_AT).delivery_id.startswith("sha256-")
    assert "does not hold" in refusal(source, headers, SLACK_BODY[1:], SLACK_AT)


def test_our_own_events_are_not_taken_over_http() -> None:
    source = EventsSource.model_construct(name="follow-up", rules=[], scheme="events")
    assert "takes no deliveries" in refusal(source, [], b"{}")


@pytest.mark.parametrize("source", [ENCORD, GITHUB, STANDARD_SOURCE, other()])
def test_odd_bytes_in_headers_are_refused_without_an_error(source: Source) -> None:
    names = [b"x-encord-signature", b"x-encord-timestamp", b"x-hub-signature-256", b"webhook-id",
             b"webhook-signature", b"webhook-timestamp", b"x-shop-signature"]  # fmt: skip
    for value in (b"", b"\xff\xfe", b"\x00", "ü鯨".encode(), b"v1," * 30_000, b"1700000000"):
        refusal(source, [(name, value) for name in names], b"{}")


def test_a_body_of_next_to_nothing_but_values_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'{"event_type": [' + b"[]," * 2_000_000 + b"[]]}"

    def read(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("jiter.from_json", read)
    monkeypatch.setattr("orjson.loads", read)
    verified = read_unverified(ENCORD, [], body)
    assert verified.body is None
    assert "2,000,000 values" in str(verified.problem)
    assert shown_body(body) == body.decode()


FORM = (b"content-type", b"application/x-www-form-urlencoded; charset=utf-8")
HMAC_FIELD = made(HmacSource, b"k", on_header=None, on_field="event.kind")
HMAC_HEADER = made(HmacSource, b"k", on_header="x-kind", on_field=None)


@pytest.mark.parametrize(
    ("source", "headers", "body", "event_type", "delivery_id"),
    [
        (ENCORD, [], b'{"uid":"u1","event_type":"task_sumbitted_event"}', "task_submitted_event",
         "u1"),
        (ENCORD, [], b'{"event_type":7}', None, None),
        (STANDARD_SOURCE, [], b'{"uid":"u1","type":"invoice.paid"}', "invoice.paid", None),
        (GITHUB, [(b"X-GitHub-Event", b"push")], b'{"type":"x"}', "push", None),
        (GITHUB, [(b"X-GitHub-Event", b"push"), FORM], b"payload=%7B%22a%22%3A1%7D", "push", None),
        (HMAC_FIELD, [(b"x-kind", b"no")], b'{"event":{"kind":"a"}}', "a", None),
        (HMAC_FIELD, [], b'{"event":"a"}', None, None),
        (HMAC_HEADER, [(b"X-Kind", b"b")], b'{"event":{"kind":"a"}}', "b", None),
    ],
)  # fmt: skip
def test_what_was_verified_before_is_read_as_its_scheme_names_it(
    source: Source, headers: Headers, body: bytes, event_type: str | None, delivery_id: str | None
) -> None:
    found = read_unverified(source, headers, body)
    assert (found.event_type, found.problem) == (event_type, None)
    assert found.body == ({"a": 1} if FORM in headers else json.loads(body))
    assert found.delivery_id == (delivery_id or f"sha256-{hashlib.sha256(body).hexdigest()}")


@pytest.mark.parametrize("name", ["webhook-id", "webhook-signature"])
def test_a_standard_header_that_is_no_ascii_is_refused(name: str) -> None:
    headers = [
        (b"webhook-id", b"msg_1"),
        (b"webhook-timestamp", b"%d" % NOW),
        (b"webhook-signature", b"v1,x"),
    ]
    odd = [(each, value + b"\xe9" if each == name.encode() else value) for each, value in headers]
    assert refusal(STANDARD_SOURCE, odd, b"{}") == "a header is not ASCII"
