"""The one place that reads the time, so that a test can move it. Imports nothing of the library."""

import time
from datetime import UTC, datetime


def now_ms() -> int:
    """Epoch milliseconds."""
    return time.time_ns() // 1_000_000


def monotonic() -> float:
    """Seconds on a clock that is never set back: for measuring how long something takes."""
    return time.monotonic()


def sleep(seconds: float) -> None:
    """Let time pass."""
    time.sleep(seconds)


def ceil_to_second(ms: float) -> int:
    """The first whole second not before `ms`: Step Functions' Wait drops milliseconds, and a
    timer must never fire early."""
    return -int(-ms // 1000) * 1000


def timestamp(ms: int) -> str:
    """RFC 3339 in UTC, the form of a `due` on the wire; milliseconds only where there are any."""
    text = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z").replace(".000Z", "Z")


def from_timestamp(text: str) -> int:
    """The epoch milliseconds of `timestamp`'s form. Raises ValueError for anything else."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a timestamp without a time zone: {text!r}")
    return round(moment.timestamp() * 1000)
