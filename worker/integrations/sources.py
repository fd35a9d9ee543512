"""Sources of webhooks in: a scheme of signing, secrets and rules; and our own events."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, StringConstraints

from schemas.events import Problem
from worker.integrations.expressions import Expression
from worker.integrations.patterns import fits_no_event
from worker.integrations.rules import FilePart, Name, Rule
from worker.integrations.secrets import (
    SigningSecrets,
    StandardSecrets,
)
from worker.integrations.templates import ROOTS

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_TOLERANCE_SECONDS: Final = 86_400
_PLACEHOLDER: Final = re.compile(r"\{([a-z]*)\}")
_PAIR: Final = re.compile(r"\s*([A-Za-z0-9_.-]{1,50})=\{(signature|timestamp|id)\}\s*")

HeaderName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$", to_lower=True)
]


def _tolerance() -> Any:
    return Field(
        300.0,
        ge=1,
        le=_MAX_TOLERANCE_SECONDS,
        description="How far the signed time may be from now, in seconds.",
    )


class Source(FilePart):
    """What all sources have."""

    project: ClassVar[str | None] = None
    scheme: str
    name: Name
    rules: list[Rule] = Field(default=[], description="See below.")

    def model_post_init(self, _context: Any, /) -> None:
        """Has rules that name no project take the scheme's."""
        if self.project is None:
            return
        known = Expression(self.project, ROOTS)
        self.rules[:] = [
            rule if rule.project else rule.model_copy(update={"project": known})
            for rule in self.rules
        ]

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the source, seen as a whole, but for its rules."""
        return iter(())

    def problems_of(self, rule: Rule) -> Iterator[Problem]:
        """Yields what is wrong with one of its rules."""
        return rule.problems()


class EncordSource(Source):
    """Encord signs `{timestamp}.{body}`, in `X-Encord-Signature` and `X-Encord-Timestamp`."""

    project = "body.payload.project_hash"
    scheme: Literal["encord"]
    secrets: SigningSecrets = Field(description="One secret, or two while one replaces the other.")
    tolerance_seconds: float = _tolerance()


class StandardWebhooksSource(Source):
    """Standard Webhooks signs `{id}.{timestamp}.{body}`, in `webhook-signature`; so does Svix."""

    scheme: Literal["standard-webhooks"]
    secrets: StandardSecrets = Field(description="One secret or two, like `whsec_…`.")
    tolerance_seconds: float = _tolerance()


class GithubSource(Source):
    """GitHub signs the body alone, in `X-Hub-Signature-256`."""

    scheme: Literal["github"]
    secrets: SigningSecrets = Field(description="One secret, or two while one replaces the other.")


class HmacSource(Source):
    """Any other sender that signs with a shared secret."""

    scheme: Literal["hmac"]
    secrets: SigningSecrets = Field(description="One secret, or two while one replaces the other.")
    header: HeaderName = Field(description="The header with the signature.")
    header_format: Annotated[str, StringConstraints(max_length=1000)] | None = Field(
        None,
        description="Where the header holds more than the signature: its pairs, like "
        "`t={timestamp},v1={signature}`; there may be {id} too, and `;` between them.",
    )
    algorithm: Literal["sha256", "sha384", "sha512", "sha1"] = Field(
        "sha256", description="The hash of the HMAC."
    )
    encoding: Literal["hex", "base64"] = Field("hex", description="How the signature is written.")
    prefix: Annotated[str, StringConstraints(max_length=100)] = Field(
        "", description="What stands before the signature, like `sha256=`."
    )
    signed: Annotated[str, StringConstraints(max_length=1000)] = Field(
        "{body}", description="What is signed: text with {body}, {timestamp} and {id}."
    )
    timestamp_header: HeaderName | None = Field(
        None, description="The header with the time in seconds since 1970."
    )
    tolerance_seconds: float = _tolerance()
    id_header: HeaderName | None = Field(None, description="The header with the delivery's id.")
    on_header: HeaderName | None = Field(None, description="The header with the type of event.")
    on_field: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = Field(
        None, description="The field of the body with the type of event; dots lead further down."
    )

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the source, seen as a whole, but for its rules."""
        used = _PLACEHOLDER.findall(self.signed)
        named = {"timestamp": self.timestamp_header, "id": self.id_header}
        if self.header_format is not None:
            yield from self._problems_of_format(named)
        in_header = set(self.pairs.values()) - {"signature"}
        named |= dict.fromkeys(in_header, self.header)
        if used.count("body") != 1:
            yield Problem(
                path="signed", message="must hold {body} once: what is not signed is open"
            )
        for name in used:
            if name not in {"body", *named}:
                told = f"holds {{{name}}}; there is {{body}}, {{timestamp}} and {{id}}"
                yield Problem(path="signed", message=told)
            elif name != "body" and named[name] is None:
                yield Problem(
                    path=f"{name}_header", message=f"is required: signed holds {{{name}}}"
                )
        if named["timestamp"] is not None and "timestamp" not in used:
            path = "timestamp_header" if self.timestamp_header is not None else "header_format"
            told = "names a time that is not signed: add {timestamp} to signed, or remove it"
            yield Problem(path=path, message=told)
        if self.on_header is not None and self.on_field is not None:
            yield Problem(path="on_field", message="set on_header or on_field, not both")

    @property
    def pairs(self) -> dict[str, str]:
        """What each name in the header holds, where `header_format` says so."""
        found = (_PAIR.fullmatch(each) for each in self._parts())
        return {each[1]: each[2] for each in found if each is not None}

    @property
    def separator(self) -> str:
        """What stands between the pairs of the header."""
        return ";" if ";" in (self.header_format or "") else ","

    def _parts(self) -> list[str]:
        return [] if self.header_format is None else self.header_format.split(self.separator)

    def _problems_of_format(self, named: dict[str, str | None]) -> Iterator[Problem]:
        held = list(self.pairs.values())
        if len(held) != len(self._parts()) or len(set(held)) != len(held):
            told = (
                "must be pairs like t={timestamp},v1={signature}, each name and each of "
                "{signature}, {timestamp} and {id} once"
            )
            yield Problem(path="header_format", message=told)
        elif "signature" not in held:
            yield Problem(path="header_format", message="must hold {signature}")
        for name in held:
            if named.get(name) is not None:
                told = f"names what header_format holds already: {{{name}}}; remove one"
                yield Problem(path=f"{name}_header", message=told)
        if self.prefix:
            told = "is for a header that holds the signature alone: remove it"
            yield Problem(path="prefix", message=told)


class EventsSource(Source):
    """Our own events: what follows on them."""

    scheme: Literal["events"]

    def problems_of(self, rule: Rule) -> Iterator[Problem]:
        """Yields what is wrong with one of its rules, and patterns that no event of ours has."""
        yield from rule.problems()
        for text in rule.on.texts if rule.on else ():
            if told := fits_no_event(text):
                yield Problem(path="on", message=told)


SOURCE_CLASSES: Final[dict[str, type[Source]]] = {
    "encord": EncordSource,
    "standard-webhooks": StandardWebhooksSource,
    "github": GithubSource,
    "hmac": HmacSource,
    "events": EventsSource,
}
