"""Every error that the sandbox answers, in one tree; the class decides the status.

::

    ApiError                     has a status and a JSON body
    ├── BadRequestError      400 the request makes no sense for what it names
    ├── NotAuthenticatedError 401 no signature or token, or a wrong one
    ├── ForbiddenError       403 an expired link, or a control route from outside
    ├── NotFoundError        404 what the path names does not exist
    ├── ConflictError        409 not in this state: a training that has not ended
    ├── TooLargeError        413 the body is over the limit
    └── InvalidRequestError  422 a body, path or query of the wrong shape
    StateError                   the state folder can't be used; ends the process

Bodies are `{"message": …}`; only `InvalidRequestError` answers as FastAPI does, with a list
below `detail`. Both shapes are what clients of the real service have to read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import ValidationError

Location: TypeAlias = Literal["body", "path", "query"]


class Detail(TypedDict):
    """One entry of a 422's `detail`, as FastAPI words it."""

    loc: list[str | int]
    msg: str
    type: str


class ApiError(Exception):
    """A refusal that the client is told of."""

    status = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def body(self) -> dict[str, object]:
        """Returns the JSON body of the answer."""
        return {"message": self.message}


class BadRequestError(ApiError):
    """The shape is right but the content does not fit what exists."""

    status = 400


class NotAuthenticatedError(ApiError):
    """The request is not signed by a known key and has no known token."""

    status = 401


class ForbiddenError(ApiError):
    """The caller may not do this."""

    status = 403


class NotFoundError(ApiError):
    """What the path or the body names does not exist."""

    status = 404


class ConflictError(ApiError):
    """What the path names is not in a state that allows this."""

    status = 409


class TooLargeError(ApiError):
    """The body is over the limit."""

    status = 413


class InvalidRequestError(ApiError):
    """A body, a path or a query of the wrong shape; tells every problem at once."""

    status = 422

    def __init__(self, details: Sequence[Detail]) -> None:
        super().__init__("; ".join(detail["msg"] for detail in details))
        self.details = list(details)

    @classmethod
    def of(cls, location: Location, name: str, message: str, kind: str) -> InvalidRequestError:
        """Returns the error for one problem at one place."""
        return cls([Detail(loc=[location, name], msg=message, type=kind)])

    @classmethod
    def from_validation(cls, location: Location, error: ValidationError) -> InvalidRequestError:
        """Returns the error for all problems that pydantic found."""
        return cls([
            Detail(loc=[location, *found["loc"]], msg=found["msg"], type=found["type"])
            for found in error.errors(include_url=False, include_context=False, include_input=False)
        ])

    def body(self) -> dict[str, object]:
        """Returns the list of problems below `detail`."""
        return {"detail": self.details}


class StateError(Exception):
    """The state folder, an imported folder or a fault file can't be used."""
