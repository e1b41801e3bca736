"""Invoked by callers through the SDK: submits one request. Only for callers that are trusted with
every pool, since nothing here checks rights per pool."""

from collections import Counter
from typing import Any

from workpool.aws import logs
from workpool.errors import Internal, WorkpoolError
from workpool.verbs.submit import submit


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Returns {"runId"}. Raises errors with the message "<Code>: <message>", since some callers get
    nothing but the message of an exception."""
    try:
        answer = submit(event)
    except WorkpoolError as error:
        if isinstance(error, Internal):
            logs.log_error("submit-failed", error.__cause__ or error)
        else:
            logs.log("submit-refused", code=error.code)
        raise type(error)(f"{error.code}: {error}") from None
    logs.log("submitted", **_summary(answer))
    return answer


def _summary(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without the messages of its errors, which may quote values of the request."""
    if "results" not in answer:
        return answer
    results = answer["results"]
    refused = Counter(result["error"]["code"] for result in results if "error" in result)
    return {"count": len(results) - refused.total(), "refused": dict(refused)}
