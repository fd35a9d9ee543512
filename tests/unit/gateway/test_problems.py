"""Problems: what every error of the app ends in, and what the log has of it."""

from __future__ import annotations

import httpx
import orjson
import pytest
import structlog
from fastapi import FastAPI
from redis.exceptions import OutOfMemoryError
from redis.exceptions import TimeoutError as RedisTimeoutError

from schemas.claim_check import parse_message
from schemas.events import Problem
from schemas.parsing import InvalidCommandError
from trainmaster_client import RedisTroubleError
from worker.gateway.problems import (
    ErrorResponses,
    ProblemError,
    add_handlers,
    invalid_body,
    invalid_parameters,
    problem_response,
    redis_away,
    status_of,
)


async def test_requests_while_redis_is_away_do_not_fill_the_log() -> None:
    app = FastAPI()
    add_handlers(app, ErrorResponses())

    @app.get("/")
    async def fail() -> None:
        raise ConnectionError("Redis is away")

    transport = httpx.ASGITransport(app)
    with structlog.testing.capture_logs() as lines:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answers = [await client.get("/") for _ in range(100)]

    assert {answer.status_code for answer in answers} == {503}
    assert {answer.json()["code"] for answer in answers} == {"redis_unavailable"}
    assert 0 < len(lines) < 50


def test_a_problem_is_told_as_the_rfc_has_it() -> None:
    error = ProblemError(
        422,
        "wrong",
        "It is wrong.",
        problems=[Problem(path="data.a", message="is missing")],
        headers={"Retry-After": "5"},
    )
    response = problem_response(error)
    assert response.status_code == 422
    assert response.media_type == "application/problem+json"
    assert response.headers["retry-after"] == "5"
    assert orjson.loads(bytes(response.body)) == {
        "type": "about:blank",
        "title": "The request is wrong",
        "status": 422,
        "code": "wrong",
        "detail": "It is wrong.",
        "problems": [{"path": "data.a", "message": "is missing"}],
    }
    assert "problems" not in ProblemError(404, "none", "There is none.").body()
    assert ProblemError(418, "tea", "No coffee.").body()["title"] == "Error"


@pytest.mark.parametrize(
    ("raw", "status"),
    [(b"{", 400), (b"[]", 422), (b'{"type":"trian"}', 422), (b" " * 1_048_577, 413)],
)
def test_what_is_no_command_is_answered_by_what_is_wrong(raw: bytes, status: int) -> None:
    with pytest.raises(InvalidCommandError) as refused:
        parse_message(raw)
    assert status_of(refused.value) == status
    assert invalid_body(refused.value)["status"] == status
    assert invalid_body(refused.value)["code"] == refused.value.code


def test_the_first_wrong_field_leads_the_detail() -> None:
    error = invalid_parameters([
        Problem(path="limit", message="Input should be greater than 0"),
        Problem(path="", message="Value error, say either"),
    ])
    assert (error.status, error.code) == (422, "invalid_parameters")
    assert error.detail == "limit must be greater than 0"
    assert [each.message for each in error.problems] == ["must be greater than 0", "say either"]
    assert invalid_parameters([Problem(path="", message="odd")]).detail == "odd"


def test_a_redis_that_refuses_is_told_from_one_that_is_away() -> None:
    away, full = redis_away(ConnectionError()), redis_away(OutOfMemoryError("OOM used memory"))
    for each in (away, full, redis_away()):
        assert (each.status, each.code) == (503, "redis_unavailable")
        assert each.headers == {"Retry-After": "2"}
    assert "can't be reached" in away.detail
    assert "refuses" in full.detail
    assert "doctor" in full.detail


def test_who_asked_for_nothing_to_be_done_is_not_told_that_it_may_have_been() -> None:
    for error in (ConnectionError(), OutOfMemoryError("OOM used memory")):
        assert "done once" in redis_away(error).detail
        assert "done" not in redis_away(error, is_read=True).detail


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ProblemError(404, "none", "There is none."), 404, "none"),
        (ConnectionError("s3cret"), 503, "redis_unavailable"),
        (RedisTimeoutError("s3cret"), 503, "redis_unavailable"),
        (RedisTroubleError("s3cret"), 503, "redis_unavailable"),
        (ValueError("s3cret"), 500, "internal_error"),
    ],
)
def test_every_error_has_its_answer_and_only_defects_are_logged_as_such(
    error: Exception, status: int, code: str
) -> None:
    with structlog.testing.capture_logs() as lines:
        response = ErrorResponses().response_to(error)
    told = orjson.loads(bytes(response.body))
    assert (response.status_code, told["code"]) == (status, code)
    assert b"s3cret" not in bytes(response.body)
    events = {404: [], 503: ["gateway.redis_unavailable"], 500: ["gateway.failed"]}
    assert [each["event"] for each in lines] == events[status]


def test_trouble_that_the_client_tells_of_is_told_by_its_cause() -> None:
    error = RedisTroubleError("no")
    error.__cause__ = OutOfMemoryError("OOM used memory")
    told = orjson.loads(bytes(ErrorResponses().response_to(error).body))
    assert "refuses" in told["detail"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Extra inputs are not permitted", "order is unknown"),
        ("Field required", "order is required"),
        ("Input should have timezone info", "order must have an offset, like 2026-01-31T12:00:00Z"),
        ("Input should be less than or equal to 60", "order must be less than or equal to 60"),
        ("Value error, must be a time", "order must be a time"),
    ],
)
def test_what_is_wrong_with_a_parameter_is_a_sentence_about_it(said: str, told: str) -> None:
    error = invalid_parameters([Problem(path="order", message=said)])
    assert error.detail == told
