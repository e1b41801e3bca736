"""Reads what the HTTP API answered: a status and bytes in, JSON or one of the library's errors out.

Pure: it sends nothing. Whoever sends requests to the API calls it, whatever he sends them with.
"""

import json
from typing import Any

from workpool._verbs import Json
from workpool.core.request import is_too_deep
from workpool.errors import Internal, PayloadTooLarge, Throttled, WorkpoolError, error_of

SHOWN_CHARACTERS = 200
"""How much of an unexpected answer an error shows."""


def read_answer(url: str, status: int, content: bytes) -> Json:
    """The JSON of an answer. Raises the error that the answer shows, and Internal if the answer is
    none of the API's."""
    if 300 <= status < 400:
        raise Internal(
            f"{url} answered with a redirect (HTTP {status}), which the client does not follow: "
            f"is this the address of the stack?"
        )
    try:
        shape = json.loads(content or b"null")
    except (ValueError, RecursionError):
        if status < 300:
            raise Internal(
                f"{url} answered what is not JSON (HTTP {status}): {_shown(content)}; is this the "
                f"address of the stack?"
            ) from None
        shape = None
    # A 404 with a kind is the status of an unknown run, not an error.
    is_status = isinstance(shape, dict) and "kind" in shape
    if status < 300 or (status == 404 and is_status):
        return shape
    raise _error_from(url, status, shape, content)


def expect(shape: Json, url: str, /, **fields: type) -> dict[str, Json]:
    """The object, if its fields have these types. Raises Internal if not: then it is no answer of
    the API."""
    wrong = not isinstance(shape, dict) or any(
        not isinstance(shape.get(name), expected) for name, expected in fields.items()
    )
    if wrong:
        raise Internal(
            f"{url} answered what no workpool answers: {_shown(json.dumps(shape).encode())}; is "
            f"this the address of the stack?"
        )
    return dict(shape)


def expect_list(shape: Json, url: str, name: str, *, length: int | None = None) -> list[Any]:
    """The list of objects in this field of the answer. Raises Internal as `expect` does."""
    found = expect(shape, url, **{name: list})[name]
    if length not in (None, len(found)) or not all(isinstance(it, dict) for it in found):
        expect(None, url)
    return list(found)


def expect_status(shape: Json, url: str) -> dict[str, Json]:
    """The status of a run. Raises Internal as `expect` does."""
    expect(shape, url, runId=str, kind=str)
    if shape.get("result") is not None:
        expect(shape["result"], url, type=str)
    return dict(shape)


def read_value(url: str, status: int, content: bytes) -> Json:
    """The return value that an object of the bucket holds. Raises Internal if it holds none."""
    if status != 200:
        raise Internal(f"HTTP {status} for the return value at {url}")
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Internal(f"the return value at {url} is not JSON") from error
    if is_too_deep(value):
        raise Internal(f"the return value at {url} is nested too deeply")
    return value


def _error_from(url: str, status: int, shape: Json, content: bytes) -> WorkpoolError:
    error = error_of(shape)
    if error is not None:
        return error
    reason = _reason(shape) or _shown(content)
    if status == 403:
        return WorkpoolError(
            f"AWS refused the request (HTTP 403): {reason}; check the credentials, the clock, the "
            f"region and the right to execute-api:Invoke"
        )
    # API Gateway refuses these requests itself, with a body of its own.
    by_status = {413: PayloadTooLarge, 429: Throttled}
    error_class = by_status.get(status, Internal if status >= 500 else WorkpoolError)
    return error_class(f"HTTP {status} from {url}: {reason}")


def _reason(shape: Json) -> str | None:
    """The message in an answer of AWS, which has it under either of two names."""
    if not isinstance(shape, dict):
        return None
    error = shape.get("error")
    message = error.get("message") if isinstance(error, dict) else None
    found = message or shape.get("message") or shape.get("Message")
    return found if isinstance(found, str) else None


def _shown(content: bytes) -> str:
    text = " ".join(content.decode("utf-8", "replace").split())
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."
