"""Every error of the library, named by its consequence. Imports nothing; everyone may import it.

WorkpoolError            the caller's answer: a code, a message and an HTTP status
|- InvalidRequest        400
|- UnknownPool           404
|- UnknownAction         404
|- UnknownCompletion     404
|- IdempotencyConflict   409
|- PayloadTooLarge       413
|- Throttled             429
`- Internal              500
NonRetryableError        raised by an action: the run fails now, whatever retries are left
UnknownShape             a message or item that this version cannot read: set aside, kept
PayloadLost              an object that a run names is not there: no retry brings it back
PayloadUnavailable       an object that S3 does not give now: come again
"""


class WorkpoolError(Exception):
    """What a caller is told: the class's name is the code, the argument is the message."""

    status = 500

    @property
    def code(self) -> str:
        return type(self).__name__

    def payload(self) -> dict[str, object]:
        """The error as every door of the pool shows it."""
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
    """Arguments, context or the whole body are larger than a run, or a request, can carry."""

    status = 413


class Throttled(WorkpoolError):
    """AWS refused for load; nothing was stored; try again later."""

    status = 429


class Internal(WorkpoolError):
    """Something else failed; the same request may be tried again."""

    status = 500


class NonRetryableError(Exception):
    """Raise it (or a subclass) in an action to fail its run at once, without further retries."""


class UnknownShape(Exception):
    """A message or an item that this version cannot read: no JSON, or written by a newer one."""


class PayloadLost(Exception):
    """The bucket does not hold an object that a run names; the argument is the object's name."""

    def __str__(self) -> str:
        return f"the bucket of payloads no longer holds {self.args[0]}"


class PayloadUnavailable(Exception):
    """S3 denies an object, or is slow: come again; it costs nobody an attempt."""


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
    """The error that an answer shows; None for an answer that shows none of these."""
    error = shape.get("error") if isinstance(shape, dict) else None
    if isinstance(error, dict) and error.get("code") in BY_CODE:
        return BY_CODE[error["code"]](error.get("message", ""))
    return None
