"""The one place that reads the time, so that a test can move the clock. Imports no other module of
the library.
"""

import time
from datetime import UTC, datetime


def now_ms() -> int:
    """Epoch milliseconds."""
    return time.time_ns() // 1_000_000


def monotonic() -> float:
    """Seconds on a clock that is never set back: for measuring how long something takes."""
    return time.monotonic()


def sleep(seconds: float) -> None:
    """Wait. A test replaces this with a move of its clock."""
    time.sleep(seconds)


def ceil_to_second(ms: float) -> int:
    """`ms` rounded up to a whole second: Step Functions' Wait ignores milliseconds, and a timer
    must never fire early."""
    return -int(-ms // 1000) * 1000


def timestamp(ms: int) -> str:
    """RFC 3339 in UTC, as messages and executions carry a `due`. Milliseconds are written only if
    they are not zero."""
    text = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z").replace(".000Z", "Z")


def from_timestamp(text: str) -> int:
    """The epoch milliseconds of a timestamp. Raises ValueError for any other text, and for a
    timestamp without a time zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a timestamp without a time zone: {text!r}")
    return round(moment.timestamp() * 1000)
