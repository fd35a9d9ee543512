"""Validation that ends early: of each list, and of each object of any keys, one problem is enough.

pydantic keeps what it found of every entry, about a kilobyte for each problem: half a million of
them, which a message of a megabyte has room for, are more memory than a small worker has.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from pydantic_core import SchemaValidator

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import TypeAdapter
    from pydantic_core import CoreSchema

T = TypeVar("T")

# What is no larger is looked through to its end.
THOROUGH_BYTES: Final = 65_536

_OF_MANY: Final = ("list", "dict")


def first_problems(adapter: TypeAdapter[T], *, strict: bool | None = None) -> Callable[[bytes], T]:
    """Returns what `adapter.validate_json` is, but for the problems that it tells of."""
    schema = cast("CoreSchema", _ending_early(adapter.core_schema))
    try:
        # Else the classes' own validators would be taken, which tell of everything.
        validator = SchemaValidator(schema, None, _use_prebuilt=False)
    except TypeError:
        # An older pydantic, which can't be told so.
        validator = cast("SchemaValidator", adapter.validator)
    return cast("Callable[[bytes], T]", partial(validator.validate_json, strict=strict))


def _ending_early(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_ending_early(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _ending_early(each) for name, each in schema.items()}
    if schema.get("type") in _OF_MANY:
        found["fail_fast"] = True
    return found
