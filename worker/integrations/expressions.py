"""JMESPath, the one language of all rules, with bounds: others write what it is evaluated on."""

from __future__ import annotations

import math
import re
import warnings
from typing import TYPE_CHECKING, Any, Final

from jmespath.exceptions import JMESPathError, JMESPathTypeError, LexerError, ParseError
from jmespath.functions import Functions
from jmespath.parser import Parser
from jmespath.visitor import Options, TreeInterpreter

from schemas.suggestions import closest, unknown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

# A node of jmespath's tree: a dict with type, children and maybe value.
Node = Any

MAX_EXPRESSION_CHARACTERS: Final = 4096
# A third of a second of one core, in which a gateway answers nobody else; the largest command that
# is taken has some 27,000 UUIDs, and each costs about five.
MAX_STEPS: Final = 300_000
# Each level takes up to five of the thousand calls within each other that Python allows.
MAX_DEPTH: Final = 100
# Copying and searching text is so much cheaper than a step.
_CHARACTERS_A_STEP: Final = 64

_WORD: Final = re.compile(r"[\w .:/@+-]+")
# The other children of these see what the first one gives, not the root.
_NARROWING: Final = frozenset({
    "subexpression",
    "index_expression",
    "pipe",
    "projection",
    "value_projection",
    "filter_projection",
    "flatten",
})
_ROOTLESS: Final = frozenset({"literal", "current", "identity", "expref", "index", "slice"})


class ExpressionError(Exception):
    """An expression can't be read, or can't be evaluated on what it is given."""


class Expression:
    """A compiled JMESPath expression.

    Attributes:
        text: as it stands in the file.
        names: the fields of the root that it reads.
    """

    __slots__ = ("_tree", "names", "text")

    def __init__(self, text: str, roots: Collection[str] | None = None) -> None:
        """Compiles an expression.

        Args:
            text: the expression.
            roots: the fields that its root has; None where that may have any.

        Raises:
            ExpressionError: it is none, or reads what never is there.
        """
        self.text = text
        self._tree = _parse(text)
        for node in _walk(self._tree):
            if node["type"] == "function_expression":
                _check_call(node)
        self.names = frozenset(_names_at_root(self._tree))
        if roots is not None:
            for name in sorted(self.names):
                if name not in roots:
                    raise ExpressionError(_unknown_root(text, name, roots))

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    @property
    def is_literal(self) -> bool:
        """Whether it gives the same whatever it is evaluated on."""
        return bool(self._tree["type"] == "literal")

    @property
    def literal(self) -> Any:
        """What a literal gives."""
        return self._tree["value"]

    def evaluate(self, root: Any, budget: Budget | None = None) -> Any:
        """Returns what the expression gives: JSON, of bounded size.

        Args:
            root: what it is evaluated on.
            budget: shared with other expressions; one of its own unless given.

        Raises:
            ExpressionError: a function got what it does not take, or there was too much to do.
        """
        budget = budget or Budget()
        interpreter = _Interpreter(budget)
        try:
            found = interpreter.visit(self._tree, root)
            budget.charge_value(found)
        except ExpressionError:
            raise
        except RecursionError:
            raise ExpressionError("is nested too deeply") from None
        except (ValueError, ArithmeticError, AttributeError, LookupError, TypeError) as exc:
            raise ExpressionError(f"can't be evaluated: {_said(exc)}") from None
        return found


def is_true(value: Any) -> bool:
    """Tells whether a value counts as true, as JMESPath has it: 0 does."""
    return not (value is None or value is False or value in ("", [], {}))


def _parse(text: str) -> Node:
    if not text.strip():
        raise ExpressionError("is empty")
    if len(text) > MAX_EXPRESSION_CHARACTERS:
        raise ExpressionError(f"must have at most {MAX_EXPRESSION_CHARACTERS} characters")
    try:
        with warnings.catch_warnings():
            # What jmespath only warns of is JSON that is none.
            warnings.simplefilter("error")
            tree: Node = Parser().parse(text).parsed
    except RecursionError:
        raise ExpressionError("is nested too deeply") from None
    except Warning:
        raise ExpressionError("has no JSON between its backticks") from None
    except (JMESPathError, ValueError) as exc:
        raise ExpressionError(_unreadable(text, exc)) from None
    return tree


def _unreadable(text: str, exc: Exception) -> str:
    where = ""
    if isinstance(exc, (ParseError, LexerError)):
        at = exc.lex_position
        where = f" at character {at + 1}" if at >= 0 else ""
    said = f"is no JMESPath expression: can't be read{where}"
    return f"{said}; {_quoted(text)}" if _WORD.fullmatch(text) else said


def _quoted(text: str) -> str:
    return f"for the text itself write \"'{text[:80]}'\""


def _unknown_root(text: str, name: str, roots: Collection[str]) -> str:
    said = f"reads {name[:80]!r}, and there is only {', '.join(roots)}"
    if text.strip() in {name, f'"{name}"'} and closest(name, roots) is None:
        return f"{said}; {_quoted(name)}"
    meant = closest(name, roots)
    return f"{said}; did you mean {meant}?" if meant else f"{said}; did you mean body.{name[:80]}?"


def _walk(node: Node) -> Iterator[Node]:
    stack = [(node, 1)]
    while stack:
        found, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise ExpressionError("is nested too deeply")
        yield found
        stack += [(child, depth + 1) for child in found["children"] if isinstance(child, dict)]


def _names_at_root(node: Node) -> Iterator[str]:
    kind = node["type"]
    if kind == "field":
        yield node["value"]
    elif kind not in _ROOTLESS:
        children = node["children"]
        for child in children[:1] if kind in _NARROWING else children:
            yield from _names_at_root(child)


def _check_call(node: Node) -> None:
    name, given = node["value"], len(node["children"])
    table = Functions.FUNCTION_TABLE
    if name not in table:
        raise ExpressionError(unknown("function", name, table))
    signature = table[name]["signature"]
    least = len(signature)
    variadic = bool(signature) and signature[-1].get("variadic", False)
    if given < least or (given > least and not variadic):
        more = " or more" if variadic else ""
        raise ExpressionError(f"{name}() takes {least}{more} arguments, not {given}")


def _said(exc: Exception) -> str:
    """Returns what went wrong, without values: they may be of any size, and are others'."""
    if isinstance(exc, JMESPathTypeError):
        takes = " or ".join(exc.expected_types)
        return f"{exc.function_name}() takes {takes}, and gets {exc.actual_type}"
    if isinstance(exc, TypeError):
        return "it compares or sorts what has no order, like a number and a text"
    if isinstance(exc, ArithmeticError):
        return "a number is out of range"
    return "a value is none that JMESPath can work with"


def _literal(value: Any) -> Node:
    return {"type": "literal", "value": value, "children": []}


class Budget:
    """What is left of the work that evaluations may do."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_STEPS

    def charge(self, steps: int) -> None:
        """Takes steps off.

        Raises:
            ExpressionError: nothing is left.
        """
        self.left -= steps
        if self.left < 0:
            raise ExpressionError(f"takes more than {MAX_STEPS:,} steps, or gives that much")

    def charge_value(self, value: Any) -> None:
        """Charges for each part of a value; lists that share their elements count them anew."""
        stack = [value]
        while stack:
            found = stack.pop()
            self.charge(1)
            if isinstance(found, str):
                self.charge(len(found) // _CHARACTERS_A_STEP)
            elif isinstance(found, dict):
                self.charge(len(found))
                stack += found.values()
            elif isinstance(found, list):
                self.charge(len(found))
                stack += found
            elif isinstance(found, float):
                if not math.isfinite(found):
                    raise ExpressionError("gives a number that is not finite")
            elif not (found is None or isinstance(found, int)):
                raise ExpressionError("gives an expression, not a value")


def _is_join(arguments: list[Any]) -> bool:
    return isinstance(arguments[0], str) and isinstance(arguments[1], list)


class _Functions(Functions):
    """JMESPath's functions, charged for what they read and make."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def call_function(self, function_name: str, resolved_args: Iterable[Any]) -> Any:
        arguments = list(resolved_args)
        for argument in arguments:
            if isinstance(argument, (list, dict)):
                if function_name in {"to_string", "join", "contains"}:
                    self._budget.charge_value(argument)
                else:
                    self._budget.charge(len(argument))
            elif isinstance(argument, str):
                self._budget.charge(len(argument) // _CHARACTERS_A_STEP)
        if function_name == "join" and _is_join(arguments):
            between = len(arguments[0]) * len(arguments[1])
            self._budget.charge(between // _CHARACTERS_A_STEP)
        return super().call_function(function_name, arguments)


class _Interpreter(TreeInterpreter):
    """Evaluates within a budget."""

    def __init__(self, budget: Budget) -> None:
        super().__init__(Options(custom_functions=_Functions(budget)))
        self._budget = budget

    def visit(self, node: Node, *args: Any, **kwargs: Any) -> Any:
        self._budget.charge(1)
        return super().visit(node, *args, **kwargs)

    def visit_flatten(self, node: Node, value: Any) -> Any:
        found = super().visit_flatten(node, value)
        if found is not None:
            self._budget.charge(len(found))
        return found

    def visit_comparator(self, node: Node, value: Any) -> Any:
        left, right = (self.visit(child, value) for child in node["children"])
        for side in (left, right):
            if isinstance(side, (list, dict)):
                self._budget.charge_value(side)
        compared: Node = {"value": node["value"], "children": [_literal(left), _literal(right)]}
        return super().visit_comparator(compared, value)
