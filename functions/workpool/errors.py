"""Every error of the library, named by its consequence. Imports nothing; any module may import it.

WorkpoolError            what a caller gets: a code, a message and an HTTP status
|- InvalidRequest        400
|- UnknownPool           404
|- UnknownAction         404
|- UnknownCompletion     404
|- IdempotencyConflict   409
|- PayloadTooLarge       413
|- Throttled             429
`- Internal              500
NonRetryableError        raised by an action: the run fails now, whatever retries are left
UnknownShape             a message or item that this version cannot read: a person must look at it
PayloadLost              an object that a run names does not exist: no retry brings it back
`- PayloadBroken         what a run or its object holds is not JSON
PayloadUnavailable       an object that S3 does not return now: try again later
"""


class WorkpoolError(Exception):
    """An error for the caller: the class's name is the code, the argument is the message."""

    status = 500

    @property
    def code(self) -> str:
        return type(self).__name__

    def as_json(self) -> dict[str, object]:
        """The error as every answer shows it, over HTTP and elsewhere."""
        return {"error": {"code": self.code, "message": str(self)}}


class InvalidRequest(WorkpoolError):
    """The request is malformed; the message names the field, what was given and what is allowed."""

    status = 400


class UnknownPool(WorkpoolError):
    """No pool of that name is deployed."""

    status = 404


class UnknownAction(WorkpoolError):
    """No decorated action of that name is deployed."""

    status = 404


class UnknownCompletion(WorkpoolError):
    """No decorated completion handler of that name is deployed."""

    status = 404


class IdempotencyConflict(WorkpoolError):
    """The idempotency key was used before with a different request."""

    status = 409


class PayloadTooLarge(WorkpoolError):
    """Arguments, context or the whole body are larger than a run or a request can carry."""

    status = 413


class Throttled(WorkpoolError):
    """AWS throttled the request. Nothing was stored: try again later."""

    status = 429


class Internal(WorkpoolError):
    """Something else failed. You may send the same request again."""

    status = 500


class NonRetryableError(Exception):
    """Raise this error, or a subclass, in an action to fail its run at once, without retries."""


class UnknownShape(Exception):
    """A message or item that this version cannot read: somebody else wrote it, or a newer version.
    The message names no value, since it is logged."""


def as_unknown_shape(error: Exception) -> UnknownShape:
    """The error of one item that cannot be read. The text of an unexpected error is left out: it
    may hold values, and it will be logged."""
    return error if isinstance(error, UnknownShape) else UnknownShape(type(error).__name__)


class PayloadLost(Exception):
    """The bucket does not hold an object that a run names. The argument is the object's name."""

    def __str__(self) -> str:
        return f"the bucket of payloads no longer holds {self.args[0]}"


class PayloadBroken(PayloadLost):
    """The item, or the object that it names, holds no JSON. The argument says which."""

    def __str__(self) -> str:
        return f"{self.args[0]} is not JSON"


class PayloadUnavailable(Exception):
    """S3 denies access to an object, or is slow: try again later. It costs the run no attempt."""


BY_CODE: dict[str, type[WorkpoolError]] = {
    error.__name__: error
    for error in (
        InvalidRequest,
        UnknownPool,
        UnknownAction,
        UnknownCompletion,
        IdempotencyConflict,
        PayloadTooLarge,
        Throttled,
        Internal,
    )
}


def error_of(shape: object) -> WorkpoolError | None:
    """The error that an answer shows; None if the answer shows none of the errors above."""
    error = shape.get("error") if isinstance(shape, dict) else None
    if isinstance(error, dict) and error.get("code") in BY_CODE:
        return BY_CODE[error["code"]](error.get("message", ""))
    return None
