"""Invoked through the SDK: one request, stored or refused. For callers trusted with every pool."""

from typing import Any

from workpool import clients, events
from workpool.errors import Internal, WorkpoolError
from workpool.submit import submit


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Answers {"runId"}. An error's message is "<Code>: <message>": the message is all that
    survives of an exception everywhere."""
    try:
        with clients.told():
            answer = submit(event)
    except WorkpoolError as error:
        if isinstance(error, Internal):
            events.failed("submit-failed", error.__cause__ or error)
        else:
            events.log("submit-refused", code=error.code)
        raise type(error)(f"{error.code}: {error}") from None
    events.log("submitted", **answer)
    return answer
