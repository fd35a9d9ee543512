"""Messages by chance: good commands that were changed, spelled otherwise or cut, and bytes."""

from __future__ import annotations

import copy
from typing import Any

import orjson
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from schemas.commands import COMMAND_CLASSES

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good command of which something was changed, dropped, added or cut."""
    command: dict[str, Any] = copy.deepcopy(
        COMMAND_CLASSES[draw(st.sampled_from(sorted(COMMAND_CLASSES)))].example
    )
    command["id"] = draw(st.one_of(st.uuids().map(str), st.text(min_size=1, max_size=30)))
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2, 3]))):
        target = draw(st.sampled_from([command, command["data"]]))
        if not isinstance(target, dict) or not target:
            continue
        name = draw(st.one_of(st.sampled_from(sorted(target)), st.text(max_size=12)))
        if draw(st.booleans()):
            target.pop(name, None)
            command.setdefault("data", {})
        else:
            target[name] = draw(ODD)
    try:
        text = orjson.dumps(command)
    except (TypeError, ValueError):  # an integer or a surrogate that orjson refuses
        text = repr(command).encode("utf-8", "surrogatepass")
    at = draw(st.integers(0, len(text)))
    return draw(
        st.sampled_from([
            text,
            text,
            text,
            text,
            text,
            text[:at],
            text[:at] + b"\x00" + text[at:],
            text[:at] + bytes([draw(st.integers(0, 255))]) + text[at + 1 :],
        ])
    )


@st.composite
def respelled(draw: st.DrawFn) -> bytes:
    """A good command with its keys in another order, blanks, and an extension."""
    command = COMMAND_CLASSES[draw(st.sampled_from(sorted(COMMAND_CLASSES)))].example
    whole = {**command, "id": str(draw(st.uuids())), "shop": draw(st.integers(0, 2**31 - 1))}
    names = draw(st.permutations(sorted(whole)))
    blank = draw(st.sampled_from([0, orjson.OPT_INDENT_2, orjson.OPT_APPEND_NEWLINE]))
    return orjson.dumps({name: whole[name] for name in names}, option=blank)


def generated(number: int) -> list[bytes]:
    """Returns so many messages, changed commands and random bytes, the same in every run."""
    found: list[bytes] = []

    @settings(
        max_examples=number,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(mutated(), mutated(), respelled(), st.binary(max_size=200)))
    def collect(message: bytes) -> None:
        found.append(message)

    collect()
    return found
