"""Invoked through the SDK: one request, stored or refused. For callers trusted with every pool."""

from typing import Any

from workpool.aws import logs
from workpool.errors import Internal, WorkpoolError
from workpool.verbs.submit import submit


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Answers {"runId"}. An error's message is "<Code>: <message>": the message is all that
    survives of an exception everywhere."""
    try:
        answer = submit(event)
    except WorkpoolError as error:
        if isinstance(error, Internal):
            logs.log_error("submit-failed", error.__cause__ or error)
        else:
            logs.log("submit-refused", code=error.code)
        raise type(error)(f"{error.code}: {error}") from None
    logs.log("submitted", **answer)
    return answer
