"""Expressions: JMESPath, with an end to what a delivery can make of it."""

from __future__ import annotations

import math
from typing import Any

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.integrations.expressions import (
    MAX_DEPTH,
    MAX_STEPS,
    Budget,
    Expression,
    ExpressionError,
    is_true,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=12,
)
EXPRESSIONS = (
    "a", "a.b", "a[0].b", "a[]", "a[].b[]", "a[*].b", "*.a", "a[?b]", "a[?b == c].a", "a == b",
    "a < b", "!a", "a && b || c", "{x: a, y: b[0]}", "[a, b][]", "a | b", "a[1:]", "a[::-1]", "@",
    "not_null(a, b, c)", "type(a)", "to_array(a)", "to_string(@)", "keys(@)", "values(@)",
    "length(@)", "map(&a, values(@))", "sort_by([a], &@)", "max(to_array(a))", "contains(a, b)",
    "join('-', a)", "merge(@, {z: a})", "`[1, 2]`", "'text'",
)  # fmt: skip


@given(st.sampled_from(EXPRESSIONS), st.dictionaries(st.sampled_from("abc"), JSON, max_size=3))
def test_an_expression_gives_what_jmespath_gives(text: str, root: dict[str, Any]) -> None:
    try:
        expected = jmespath.search(text, root)
    except (ValueError, TypeError):
        with pytest.raises(ExpressionError):
            Expression(text).evaluate(root)
    else:
        assert Expression(text).evaluate(root) == expected


@pytest.mark.parametrize(
    "text",
    [
        # Lists that hold the list before twice: small in memory, endless when they are written.
        " | ".join(["[@, @]"] * 40),
        " | ".join(["{a: @, b: @}"] * 40),
        f"to_string({' | '.join(['[@, @]'] * 40)})",
        f"{' | '.join(['[@, @]'] * 40)} == {' | '.join(['[@, @]'] * 40)}",
        f"contains([{' | '.join(['[@, @]'] * 40)}], {' | '.join(['[@, @]'] * 40)})",
        # Lists and texts that are twice as long each time.
        " | ".join(["[@, @][]"] * 40),
        f"'aaaaaaaaaaaaaaaa' | {' | '.join(['join(@, [@, @])'] * 40)}",
        f"a | {' | '.join(['map(&@, [@, @][])'] * 40)}",
        # Every element with every element.
        "a[?contains(@.b, 'x')].b[] | [?length(@) > `0`]",
        "map(&map(&@, `[1, 2]`), a)" + " | [@, @][]" * 20,
    ],
)
def test_an_expression_that_gives_too_much_ends(text: str) -> None:
    root = {"a": [{"b": ["y"] * 200}] * 20_000}
    with pytest.raises(ExpressionError, match="steps"):
        Expression(text).evaluate(root)


def test_what_rules_do_with_ten_thousand_elements_is_within_bounds() -> None:
    deliveries = [{"labels": [f"{each}-{other}" for other in range(100)]} for each in range(100)]
    found = Expression("deliveries[].labels[]").evaluate({"deliveries": deliveries})
    assert len(found) == 10_000
    assert 20 * len(found) < MAX_STEPS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("a b", "at character 3; for the text itself write \"'a b'\""),
        ("0f0f-11", "write \"'0f0f-11'\""),
        ("a.", "is no JMESPath expression"),
        ("a[", "is no JMESPath expression"),
        ("'a", "is no JMESPath expression"),
        ("`{`", "backticks"),
        ("#", "is no JMESPath expression"),
        ("a\x00b", "is no JMESPath expression"),
        ("(" * 2000, "JMESPath|too deeply"),
        ("[" * 2000 + "a" + "]" * 2000, "JMESPath|too deeply"),
        # What stands in a row is nested too, to the left.
        *((f"a{link * 1200}", "too deeply") for link in ("|a", "||a", "==a", "[]", "[*]")),
        (f"{'abs(' * MAX_DEPTH}a{')' * MAX_DEPTH}", "too deeply"),
        ("nothing(a)", "Unknown function 'nothing'"),
        ("a[?lenght(@)]", "Did you mean 'length'?"),
        ("map(&keys(@, @), a)", r"keys\(\) takes 1 arguments, not 2"),
        ("not_null()", r"not_null\(\) takes 1 or more arguments, not 0"),
        ("payload.a", "did you mean body.payload?"),
        ("bodi", "did you mean body?"),
        ("bulk", "write \"'bulk'\""),
        ('"bulk"', "write \"'bulk'\""),
        ("{a: body.b, c: d}", "reads 'd'"),
        ("body.a == b", "reads 'b'"),
        ("length(b)", "reads 'b'"),
    ],
)
def test_what_is_no_expression_on_its_root_is_told(text: str, said: str) -> None:
    with pytest.raises(ExpressionError, match=said.replace("?", r"\?")):
        Expression(text, ("body", "item"))


@pytest.mark.parametrize(
    "text",
    ["body", "@", "@.body", "body.b", "body[?c].d", "body | e", "map(&f, body)", "'g'", "`1`",
     "body.*.h", "item && body.i", "sort_by(body, &j)[0].k", '"body".a'],
)  # fmt: skip
def test_only_what_is_read_of_the_root_has_to_be_there(text: str) -> None:
    assert Expression(text, ("body", "item")).names <= {"body", "item"}


def test_an_expression_of_an_expression_is_no_value() -> None:
    with pytest.raises(ExpressionError, match="not a value"):
        Expression("[&a]").evaluate({})


@pytest.mark.parametrize("value", [0.5, -1e308, [0.25, {"a": 1.5}]])
def test_a_number_of_any_size_is_a_value(value: Any) -> None:
    assert Expression("a").evaluate({"a": value}) == value


@pytest.mark.parametrize("numbers", [[1e308, 1e308], [math.inf], [math.nan]])
def test_a_number_without_an_end_is_none(numbers: list[float]) -> None:
    with pytest.raises(ExpressionError, match="not finite"):
        Expression("sum(a)").evaluate({"a": numbers})


def test_what_is_left_of_the_work_is_shared_by_all_who_are_told_to_share_it() -> None:
    budget = Budget()
    root = {"a": list(range(1_000))}
    for _ in range(50):
        Expression("a").evaluate(root, budget)
    spent = MAX_STEPS - budget.left
    assert 50 * 1_000 < spent < 50 * 5_000
    budget.left = spent // 50 - 1
    with pytest.raises(ExpressionError, match="steps"):
        Expression("a").evaluate(root, budget)
    budget.left = spent // 50
    Expression("a").evaluate(root, budget)
    assert budget.left == 0


@pytest.mark.parametrize(
    "text",
    [
        f"a{' | a' * (MAX_DEPTH - 2)}",
        f"{'not_null(' * (MAX_DEPTH - 1)}@{')' * (MAX_DEPTH - 1)}",
        f"{'{a: ' * (MAX_DEPTH // 2 - 1)}@{'}' * (MAX_DEPTH // 2 - 1)}",
    ],
)
def test_what_is_not_too_deep_to_be_read_is_not_too_deep_to_be_evaluated(text: str) -> None:
    """Or a rule that was found good would match nothing."""
    Expression(text).evaluate({"a": 1})


@pytest.mark.parametrize("value", [None, False, "", [], {}])
def test_what_is_empty_counts_as_false(value: Any) -> None:
    assert not is_true(value)


@pytest.mark.parametrize("value", [True, 0, 0.0, " ", [None], {"a": None}])
def test_all_else_counts_as_true(value: Any) -> None:
    assert is_true(value)
