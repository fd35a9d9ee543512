"""Signatures of Standard Webhooks: their own libraries verify ours, and we verify theirs."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import pytest
import standardwebhooks
import svix

from worker.integrations.standard_webhooks import SigningKey, sign, signed_headers, verify

BODY = '{"type":"train.succeeded","data":{"title":"Wal – 鯨"}}'.encode()


def test_the_example_of_the_specification_has_its_signature() -> None:
    secret = SigningKey.parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_both_libraries_verify_what_we_sign_also_while_a_secret_is_rotated() -> None:
    old, new = SigningKey.new(), SigningKey.new()
    headers = signed_headers([old, new], "evt.1", int(time.time()), BODY)
    for secret in (old, new):
        assert standardwebhooks.Webhook(secret.reveal()).verify(BODY, headers) == json.loads(BODY)
        svix.Webhook(secret.reveal()).verify(BODY, headers)


@pytest.mark.parametrize(
    ("message_id", "told"),
    [
        ("night-7/succeeded", "night-7/succeeded"),
        ("train-鯨/succeeded", "train-%E9%AF%A8/succeeded"),
        ("é/0", "%C3%A9/0"),
        ("%C3%A9/0", "%25C3%25A9/0"),
        (" a b", "%20a%20b"),
        ("a\r\nx: y", "a%0D%0Ax:%20y"),
    ],
)
def test_an_id_that_no_header_carries_is_encoded_so_that_receivers_verify_it(
    message_id: str, told: str
) -> None:
    secret = SigningKey.new()
    headers = signed_headers([secret], message_id, int(time.time()), BODY)
    assert headers["webhook-id"] == told
    # As servers of Python and Node read headers, and as others do.
    for encoding in ("latin-1", "utf-8"):
        read = {name: value.encode().decode(encoding).strip() for name, value in headers.items()}
        assert standardwebhooks.Webhook(secret.reveal()).verify(BODY, read)


def test_we_verify_what_the_library_signs() -> None:
    secret = SigningKey.new()
    now = datetime.now(UTC)
    signature = standardwebhooks.Webhook(secret.reveal()).sign("msg_1", now, BODY.decode())
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": f"v1a,AAAA {signature}",
    }
    assert verify([SigningKey.new(), secret], headers, BODY, now=now.timestamp())


def test_a_message_changed_in_any_part_is_refused() -> None:
    secret = SigningKey.new()
    headers = signed_headers([secret], "msg_1", 1_000, BODY)
    assert verify([secret], headers, BODY, now=1_000)
    assert not verify([SigningKey.new()], headers, BODY, now=1_000)
    assert not verify([], headers, BODY, now=1_000)
    for place in range(len(BODY) * 8):
        changed = bytearray(BODY)
        changed[place // 8] ^= 1 << place % 8
        assert not verify([secret], headers, bytes(changed), now=1_000)
    for name in headers:
        left_out = {other: value for other, value in headers.items() if other != name}
        assert not verify([secret], left_out, BODY, now=1_000)
        assert not verify([secret], {**headers, name: headers[name] + "1"}, BODY, now=1_000)


@pytest.mark.parametrize(
    ("now", "fresh"), [(699, False), (700, True), (1_300, True), (1_301, False)]
)
def test_a_message_is_valid_only_near_its_time(now: float, *, fresh: bool) -> None:
    secret = SigningKey.new()
    headers = signed_headers([secret], "msg_1", 1_000, BODY)
    assert verify([secret], headers, BODY, now=now, tolerance_seconds=300) is fresh


@pytest.mark.parametrize("timestamp", ["", "-1", "1e3", "1_000", " 1000", "١٠٠٠", "9" * 5_000])
def test_a_time_that_is_no_plain_number_is_refused(timestamp: str) -> None:
    secret = SigningKey.new()
    headers = signed_headers([secret], "msg_1", 1_000, BODY) | {"webhook-timestamp": timestamp}
    assert not verify([secret], headers, BODY, now=1_000)


def test_a_signature_with_odd_characters_is_refused_without_an_error() -> None:
    secret = SigningKey.new()
    for signature in ("v1,ü", "\udcff", "v1", ",", "v1,a,b", " ", "v1, " * 10_000):
        headers = {"webhook-id": "1", "webhook-timestamp": "5", "webhook-signature": signature}
        assert not verify([secret], headers, BODY, now=5)
        headers = {"webhook-id": signature, "webhook-timestamp": "5", "webhook-signature": "v1,"}
        assert not verify([secret], headers, BODY, now=5)


@pytest.mark.parametrize("text", ["whsec_", "", "whsec_ü", "whsec_AAAA\n", "whsec_A", "a secret"])
def test_a_text_that_is_no_secret_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="base64") as refused:
        SigningKey.parse(text)
    key = text.removeprefix("whsec_").strip()
    assert not key or key not in str(refused.value)


def test_a_secret_is_not_shown_by_accident() -> None:
    secret = SigningKey.new()
    assert secret.reveal()[6:20] not in f"{secret!r} {secret}"
    assert "key" not in repr(secret)
    assert SigningKey.parse(secret.reveal().rstrip("=")) == secret
