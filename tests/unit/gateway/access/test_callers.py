"""What a token lets its holder do, and whether one is needed at all."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import orjson
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from starlette.requests import Request

from schemas.claim_check import parse_message
from worker.gateway.access import callers as module
from worker.gateway.access.callers import Access, Caller, is_loopback, projects_of
from worker.gateway.access.tokens import Scope, Token
from worker.gateway.problems import ProblemError

if TYPE_CHECKING:
    from schemas.claim_check import ClaimCheck
    from schemas.commands import Command
    from worker.gateway.access.tokens import Tokens

MINE, OTHER, THIRD = (str(UUID(int=number)) for number in (1, 2, 3))
TRAIN: dict[str, Any] = {"model_uuid": MINE, "batch_size": 1, "epochs": 1, "labels_uuids": [MINE]}


def token(*scopes: Scope, **limits: Any) -> Token:
    told = {"types": (), "projects": (), **limits}
    return Token(
        "a" * 12,
        "ci",
        frozenset(scopes or (Scope.SUBMIT,)),
        frozenset(told["types"]),
        frozenset(told["projects"]),
        1,
    )


def command(command_type: str, **told: Any) -> Command | ClaimCheck:
    return parse_message(orjson.dumps({"type": command_type, **told})).command


def train(*projects: str) -> Command | ClaimCheck:
    features = {project: {"a": ["b"]} for project in projects}
    return command("train", data={**TRAIN, "features_mapping": features})


LIST_MODELS = command("list_models", data={})
LISTING = command("list_attachments", data={"project_uuid": MINE})
FOREIGN = command("list_attachments", data={"project_uuid": OTHER})
ELSEWHERE = command("list_attachments", dataref="/data/one.json")
CANCEL = command("cancel", data={"command_id": "x"})


@pytest.mark.parametrize(
    ("holder", "sent", "said"),
    [
        (None, CANCEL, None),
        (token(), LIST_MODELS, None),
        (token(), CANCEL, "scope operate"),
        (token(Scope.SUBMIT, Scope.OPERATE), CANCEL, None),
        (token(types=["train", "attach"]), LIST_MODELS, "may send attach, train, not list_models"),
        (token(types=["list_models"]), LIST_MODELS, None),
        (token(projects=[MINE]), LISTING, None),
        (token(projects=[MINE]), FOREIGN, f"may not use the project {OTHER}"),
        (token(projects=[MINE]), LIST_MODELS, "list_models names none"),
        # Where the data lie elsewhere nobody has looked at them.
        (token(projects=[MINE]), ELSEWHERE, "names none"),
        (token(projects=[MINE]), train(MINE), None),
        (token(projects=[MINE]), train(MINE, THIRD, OTHER), f"may not use the project {OTHER}"),
    ],
)
def test_a_caller_sends_what_their_token_is_for(
    holder: Token | None, sent: Command | ClaimCheck, said: str | None
) -> None:
    caller = Caller(holder)
    if said is None:
        caller.check_command(sent)
    else:
        with pytest.raises(ProblemError, match=said) as refused:
            caller.check_command(sent)
        assert (refused.value.status, refused.value.code) == (403, "forbidden")


def test_the_projects_of_a_command_are_all_that_it_names() -> None:
    assert projects_of(LISTING) == {MINE}
    assert projects_of(train(MINE, OTHER)) == {MINE, OTHER}
    assert projects_of(LIST_MODELS) == projects_of(ELSEWHERE) == frozenset()


@pytest.mark.parametrize(
    ("holder", "train_is_seen", "attach_is_seen", "is_unlimited"),
    [
        (None, True, True, True),
        (token(), True, True, True),
        (token(types=["train"]), True, False, False),
    ],
)
def test_a_caller_who_is_limited_to_types_knows_of_no_others(
    holder: Token | None, *, train_is_seen: bool, attach_is_seen: bool, is_unlimited: bool
) -> None:
    caller = Caller(holder)
    assert (caller.sees("train"), caller.sees("attach")) == (train_is_seen, attach_is_seen)
    # What a worker has not read has no type that they might know.
    assert caller.sees(None) == is_unlimited
    if is_unlimited:
        caller.check_unlimited()
    else:
        with pytest.raises(ProblemError, match="every type"):
            caller.check_unlimited()


def test_a_caller_is_named_by_their_token() -> None:
    assert (Caller(token()).name, Caller().name) == ("ci", "this machine")


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("LocalHost", True),
        ("0.0.0.0", False),  # noqa: S104 - it is all of its addresses
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
        ("", False),
    ],
)
def test_only_an_address_that_nobody_else_reaches_is_this_machines_own(
    host: str, *, is_own: bool
) -> None:
    assert is_loopback(host) == is_own


class Register:
    """The tokens of a namespace, as far as `Access` asks for them."""

    def __init__(self) -> None:
        self.has_any = False
        self.is_away = False
        self.valid = {"a" * 12}
        self.asked = 0

    async def any_exist(self) -> bool:
        self.asked += 1
        return self.has_any

    async def is_valid(self, token: Token) -> bool:
        if self.is_away:
            raise RedisConnectionError
        return token.id in self.valid


def access_to(register: Register, *, is_open: bool = True) -> Access:
    return Access(cast("Tokens", register), is_open=is_open)


def request(*headers: tuple[str, str], scheme: str = "http") -> Request:
    told = {"host": "127.0.0.1:8080", **dict(headers)}
    raw = [(name.encode(), value.encode()) for name, value in told.items()]
    return Request({"type": "http", "scheme": scheme, "headers": raw})


async def test_whether_a_token_is_needed_is_asked_once_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    register = Register()
    access = access_to(register)
    for _ in range(3):
        assert (await access.caller(request(), Scope.READ)).token is None
    assert register.asked == 1
    register.has_any = True
    now += 1.01
    for _ in range(3):
        with pytest.raises(ProblemError, match="needs a token") as refused:
            await access.caller(request(), Scope.READ)
        assert refused.value.status == 401
        assert refused.value.headers == {"WWW-Authenticate": "Bearer"}
    # However it came that there is none by now.
    register.has_any = False
    now += 10
    with pytest.raises(ProblemError):
        await access.caller(request(), Scope.READ)
    assert register.asked == 2


async def test_who_listens_for_other_machines_asks_for_a_token_whatever_there_is() -> None:
    register = Register()
    with pytest.raises(ProblemError, match="needs a token"):
        await access_to(register, is_open=False).caller(request(), None)
    assert register.asked == 0


@pytest.mark.parametrize(
    ("headers", "is_let_in"),
    [
        ([], True),
        ([("host", "localhost")], True),
        ([("host", "[::1]")], True),
        ([("host", "[::1]:8080")], True),
        ([("host", "gateway.example.com:8080")], False),
        ([("host", "")], False),
        ([("origin", "http://127.0.0.1:8080")], True),
        ([("origin", "https://127.0.0.1:8080")], False),
        ([("origin", "http://127.0.0.1:9090")], False),
        ([("origin", "null")], False),
        ([("sec-fetch-site", "none")], True),
        ([("sec-fetch-site", "same-origin")], True),
        ([("sec-fetch-site", "same-site")], False),
        ([("sec-fetch-site", "cross-site")], False),
    ],
)
async def test_without_a_token_only_programs_and_the_own_page_are_let_in(
    headers: list[tuple[str, str]], *, is_let_in: bool
) -> None:
    access = access_to(Register())
    if is_let_in:
        assert await access.caller(request(*headers), Scope.OPERATE) == Caller()
    else:
        with pytest.raises(ProblemError, match="programs on this machine only") as refused:
            await access.caller(request(*headers), Scope.OPERATE)
        assert refused.value.status == 403


async def test_the_own_page_may_be_behind_tls() -> None:
    at = request(("origin", "https://127.0.0.1:8080"), scheme="https")
    assert await access_to(Register()).caller(at, None) == Caller()


async def test_who_was_let_in_goes_on_only_for_as_long_as_they_may() -> None:
    register = Register()
    access = access_to(register)
    await access.check_still(Caller())
    await access.check_still(Caller(token()))
    register.valid.clear()
    with pytest.raises(ProblemError, match="revoked") as refused:
        await access.check_still(Caller(token()))
    assert refused.value.status == 401
    closed = access_to(register, is_open=False)
    with pytest.raises(ProblemError, match="by now"):
        await closed.check_still(Caller())


async def test_an_answer_that_takes_long_is_given_up_with_the_token_and_not_with_redis(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    register = Register()
    access = access_to(register)
    ends: list[str] = []

    async def answer(seconds: float) -> str:
        try:
            await asyncio.sleep(seconds)
        finally:
            ends.append(f"{seconds}")
        return "done"

    caller = Caller(token())
    assert await access.while_allowed(caller, answer(0.05)) == "done"
    register.is_away = True
    assert await access.while_allowed(caller, answer(0.04)) == "done"
    register.is_away = False
    register.valid.clear()
    with pytest.raises(ProblemError, match="revoked"):
        await access.while_allowed(caller, answer(60))
    assert ends == ["0.05", "0.04", "60"], "what nobody waits for any more goes on"
    with pytest.raises(ProblemError, match="revoked"):
        await access.while_allowed(caller, answer(0))


async def test_an_answer_that_fails_is_that_failure() -> None:
    async def fail() -> None:
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        await access_to(Register()).while_allowed(Caller(token()), fail())
