"""`GET /v1/me`: each caller is told who they are and what they may do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from worker.gateway.access.tokens import Scope

if TYPE_CHECKING:
    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import MakeToken

PROJECT = "0b8b8b8a-1111-4222-8333-444455556666"


def test_whoever_is_on_this_machine_may_do_all_while_there_is_no_token(
    gateway: GatewayServer,
) -> None:
    assert gateway.http.get("/v1/me").json() == {
        "name": "this machine",
        "scopes": ["submit", "read", "operate"],
        "types": None,
        "projects": None,
        "needs_token": False,
        "docs_url": None,
    }


@pytest.mark.parametrize(
    ("scopes", "limits"),
    [
        ([Scope.SUBMIT], {"types": None, "projects": [PROJECT]}),
        ([Scope.READ], {"types": ["get_model", "train"], "projects": None}),
        ([Scope.READ, Scope.OPERATE], {"types": None, "projects": None}),
    ],
)
def test_a_token_of_any_scope_is_told_its_own(
    gateway: GatewayServer, make_token: MakeToken, scopes: list[Scope], limits: dict[str, Any]
) -> None:
    secret = make_token(*scopes, types=limits["types"] or (), projects=limits["projects"] or ())
    with gateway.client(secret) as http:
        answer = http.get("/v1/me")
    assert answer.status_code == 200
    assert answer.json() == {
        "name": "test",
        "scopes": scopes,
        **limits,
        "needs_token": True,
        "docs_url": None,
    }
    assert secret not in answer.text


def test_who_has_no_token_where_one_is_needed_is_told_nothing(
    gateway: GatewayServer, make_token: MakeToken
) -> None:
    make_token(Scope.READ)
    answer = gateway.http.get("/v1/me")
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
