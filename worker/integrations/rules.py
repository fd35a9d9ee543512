"""Rules: which deliveries and events become commands, and which commands."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, PlainValidator, StringConstraints
from pydantic_core import PydanticCustomError

from schemas.events import Problem
from schemas.json_text import encode_json
from worker.integrations.expressions import Budget, Expression, ExpressionError, is_true
from worker.integrations.patterns import TypePatterns
from worker.integrations.templates import ROOTS, CommandTemplate, FieldError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# All commands of a delivery are recorded in one step, while Redis does nothing else.
MAX_COMMANDS: Final = 1000
MAX_COMMANDS_BYTES: Final = 8 * 1_048_576
MAX_KEY_CHARACTERS: Final = 1024

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]


class TemplateError(Exception):
    """A rule makes no valid command of this delivery.

    Attributes:
        rule: the name of the rule.
        field: of the rule, like `command.data.epochs`.
        reason: what is wrong with it; it may quote the delivery.
    """

    def __init__(self, rule: str, field: str, reason: str) -> None:
        super().__init__(f"rule {rule}, {field}: {reason}")
        self.rule = rule
        self.field = field
        self.reason = reason


class RuleMatch(StrEnum):
    """Whether a rule is about a delivery."""

    NO_MATCH = "no_match"
    NOT_ALLOWED = "not_allowed"
    MATCH = "match"


@dataclass(frozen=True, slots=True)
class Context:
    """What expressions are evaluated on.

    Attributes:
        body: what was sent, decoded; of a source of our own events, the event.
        headers: by their names in lower case; several of one name joined by commas.
        delivery_id: the id of the delivery, or of the event.
        source: the name of the source.
        received_at: in RFC 3339.
        event_type: what `on` is compared with; None where the sender names none.
        deliveries: the bodies that a coalescing rule joined, oldest first; else this one's.
    """

    body: Any
    headers: Mapping[str, str]
    delivery_id: str
    source: str
    received_at: str
    event_type: str | None = None
    deliveries: Sequence[Any] | None = None

    def root(self, item: Any = None) -> dict[str, Any]:
        """Returns the root of expressions, for one element of `for_each` or for none."""
        return {
            "body": self.body,
            "headers": dict(self.headers),
            "delivery": {
                "id": self.delivery_id,
                "source": self.source,
                "received_at": self.received_at,
            },
            "item": item,
            "deliveries": [self.body] if self.deliveries is None else list(self.deliveries),
        }


def _compile(value: Any) -> Expression:
    if not isinstance(value, str):
        raise _wrong("must be an expression in quotes")
    try:
        return Expression(value, ROOTS)
    except ExpressionError as exc:
        raise _wrong(str(exc)) from None


def _read_command(value: Any) -> CommandTemplate:
    if not isinstance(value, dict):
        raise _wrong("must be a table with type and data")
    return CommandTemplate.read(value)


def _wrong(message: str) -> PydanticCustomError:
    return PydanticCustomError("rule", "{said}", {"said": message})


def template_problems(template: CommandTemplate) -> Iterator[Problem]:
    """Yields what is wrong with a template, each problem at its place in the rule."""
    for problem in template.problems:
        yield Problem(path=f"command.{problem.path}".rstrip("."), message=problem.message)


RuleExpression = Annotated[InstanceOf[Expression], PlainValidator(_compile)]


class FilePart(BaseModel):
    """A table of the integrations file; nothing unknown, nothing converted."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
    )


class Coalesce(FilePart):
    """Joins the deliveries of one key in a window into one command."""

    key: RuleExpression = Field(
        description="Deliveries that give the same are joined, like `body.payload.project_hash`."
    )
    window_seconds: float = Field(
        ge=1, le=86_400, description="How long after the first delivery the command is made."
    )


class Rule(FilePart):
    """Which deliveries become commands, and which commands."""

    name: Name = Field(description="Stands in outcomes, and ids derive from it: keep it.")
    on: TypePatterns | None = Field(
        None, description="Types of events, one or a list; `*` stands for any text. Absent: all."
    )
    when: RuleExpression | None = Field(
        None, description="The rule is for deliveries for which it gives something."
    )
    allow: Annotated[list[str], Field(min_length=1)] | None = Field(
        None,
        description="Projects whose deliveries may become commands; others are `not_allowed`.",
    )
    project: RuleExpression | None = Field(
        None,
        description="The delivery's project, which `allow` is about. With `encord` "
        "`body.payload.project_hash`.",
    )
    for_each: RuleExpression | None = Field(
        None, description="A list: one command per element, as `item`."
    )
    key: RuleExpression | None = Field(
        None,
        description="What the commands' ids derive from instead of the delivery's id, "
        "so that deliveries that give the same become one command.",
    )
    coalesce: Coalesce | None = Field(
        None, description="Joins deliveries of one key in a window; they are `deliveries`."
    )
    command: Annotated[InstanceOf[CommandTemplate], PlainValidator(_read_command)] = Field(
        description="The template of the command."
    )

    def match(self, context: Context) -> RuleMatch:
        """Returns whether this rule makes commands of a delivery.

        Raises:
            TemplateError: `when` or `project` can't be evaluated on it.
        """
        if self.on is not None and not self.on.match(context.event_type or ""):
            return RuleMatch.NO_MATCH
        root = context.root()
        if self.when is not None and not is_true(self._evaluate("when", self.when, root)):
            return RuleMatch.NO_MATCH
        if self.allow is not None and self.project is not None:
            project = self._evaluate("project", self.project, root)
            if not isinstance(project, str) or project.lower() not in self._allowed():
                return RuleMatch.NOT_ALLOWED
        return RuleMatch.MATCH

    def key_of(self, context: Context) -> str | None:
        """Returns what the ids of the commands derive from; None for the delivery's id.

        Raises:
            TemplateError: `key` can't be evaluated, or gives nothing.
        """
        return None if self.key is None else self._key("key", self.key, context)

    def coalesce_key(self, context: Context) -> str | None:
        """Returns what the deliveries have in common that are joined; None if none are.

        Raises:
            TemplateError: `coalesce.key` can't be evaluated, or gives nothing.
        """
        if self.coalesce is None:
            return None
        return self._key("coalesce.key", self.coalesce.key, context)

    def commands(self, context: Context) -> list[dict[str, Any]]:
        """Returns the commands that a delivery becomes, each valid but for its id.

        Raises:
            TemplateError: one of them would not be valid, or there are too many.
        """
        found: list[dict[str, Any]] = []
        size = 0
        budget = Budget()
        for item in self._items(context):
            try:
                command = self.command.render(context.root(item), budget)
            except FieldError as exc:
                field = f"command.{exc.path}" if exc.path else "command"
                raise TemplateError(self.name, field, exc.message) from None
            size += len(encode_json(command))
            if size > MAX_COMMANDS_BYTES:
                reason = f"gives more than {MAX_COMMANDS_BYTES} bytes of commands"
                raise TemplateError(self.name, "command", reason)
            found.append(command)
        return found

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the rule, seen as a whole."""
        yield from template_problems(self.command)
        if self.for_each is None and "item" in self.command.names():
            yield Problem(path="command", message="reads item, which is there only with for_each")
        outside = (
            ("when", self.when),
            ("project", self.project),
            ("for_each", self.for_each),
            ("key", self.key),
            ("coalesce.key", self.coalesce.key if self.coalesce else None),
        )
        for name, expression in outside:
            if expression is not None and "item" in expression.names:
                yield Problem(path=name, message="reads item, which is there only in command")
        if self.key is not None and self.coalesce is not None:
            told = "remove it: the ids of a rule that coalesces derive from its window"
            yield Problem(path="key", message=told)
        if self.allow is not None and self.project is None:
            told = "needs project: an expression that gives the delivery's project"
            yield Problem(path="allow", message=told)

    def _allowed(self) -> frozenset[str]:
        return frozenset(each.lower() for each in self.allow or ())

    def _items(self, context: Context) -> list[Any]:
        if self.for_each is None:
            return [None]
        found = self._evaluate("for_each", self.for_each, context.root())
        if not isinstance(found, list):
            raise TemplateError(self.name, "for_each", "must give a list, and does not")
        if len(found) > MAX_COMMANDS:
            reason = f"gives {len(found)} elements; at most {MAX_COMMANDS} commands come of one"
            raise TemplateError(self.name, "for_each", reason)
        return found

    def _key(self, name: str, expression: Expression, context: Context) -> str:
        found = self._evaluate(name, expression, context.root())
        if found is None or found in ("", [], {}):
            raise TemplateError(self.name, name, "gives nothing for this delivery")
        text = found if isinstance(found, str) else encode_json(found).decode()
        if len(text) > MAX_KEY_CHARACTERS:
            reason = f"gives more than {MAX_KEY_CHARACTERS} characters"
            raise TemplateError(self.name, name, reason)
        return text

    def _evaluate(self, name: str, expression: Expression, root: Any) -> Any:
        try:
            return expression.evaluate(root)
        except ExpressionError as exc:
            raise TemplateError(self.name, name, str(exc)) from None
