"""A queue message and what it may do to the run it names: the message table, as code.

Pure. `attempt` (the consumer) and `dead_letters` act on the verdict. A message only says "look at
this run": it may be late, doubled or lost. It is judged by the first line that fits, and one
that holds a token is acknowledged only after the token was answered or found closed.

| The run is | The message | Verdict |
|---|---|---|
| unknown or ended | any | ENDED: answer how it ended, drop |
| scheduled for another due | with a token | AGAIN: answer with the due (repeats a lost answer) |
| at another due | any other | STALE: answer the token if any, drop |
| running, lease alive | same due | BACK: acknowledging this copy could delete the other's |
| running, lease over | same due | LOSE: a failed attempt |
| enqueued or scheduled | same due | CLAIM; without a token and early: BACK |
"""

import json
from dataclasses import dataclass
from enum import Enum, auto

from workpool.core.clock import from_timestamp, timestamp
from workpool.core.run import VERSION, Run
from workpool.errors import UnknownShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What travels on a work queue. The relay's holds no token; the Retrier's holds the token of
    its waiting task and the name of its execution."""

    run: str  # "<pool>#<runId>"
    due: int
    token: str | None = None
    execution: str | None = None

    def body(self) -> str:
        """The message as it is sent."""
        shape: dict[str, object] = {"v": VERSION, "run": self.run, "due": timestamp(self.due)}
        if self.token is not None:
            shape |= {"token": self.token, "execution": self.execution}
        return json.dumps(shape)


def read(body: str) -> Message:
    """The message of a body. Raises UnknownShape for what no version can be trusted to handle."""
    try:
        shape = json.loads(body)
        version = shape["v"]
        if type(version) is not int or not 1 <= version <= VERSION:
            raise UnknownShape(f"a message of version {version}; this code reads up to {VERSION}")
        message = Message(
            run=shape["run"],
            due=from_timestamp(shape["due"]),
            token=shape.get("token"),
            execution=shape.get("execution"),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnknownShape(f"not a message of a work queue: {error!r}") from error
    if not isinstance(message.run, str) or "#" not in message.run:
        raise UnknownShape(f"not the key of a run: {message.run!r}")
    handed_over = {type(message.token), type(message.execution)}
    if handed_over not in ({str}, {type(None)}):
        raise UnknownShape("a token and the name of its execution are strings and come together")
    return message


def key_of(body: str) -> str:
    """The run's key in a relay message, an event's detail, or a whole event: of any version, since
    it only says which run to look at."""
    try:
        shape = json.loads(body)
        key = shape["run"] if "run" in shape else shape["detail"]["run"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnknownShape(f"names no run: {error!r}") from error
    if not isinstance(key, str) or "#" not in key:
        raise UnknownShape(f"not the key of a run: {key!r}")
    return key


class Verdict(Enum):
    """What a message may do; the table above."""

    ENDED = auto()
    AGAIN = auto()
    STALE = auto()
    BACK = auto()
    LOSE = auto()
    CLAIM = auto()


def judge(run: Run | None, message: Message, now_ms: int) -> Verdict:
    """The table's first line that fits, top to bottom."""
    if run is None or run.ended:
        return Verdict.ENDED
    if run.due != message.due:
        if run.kind == "scheduled" and message.token is not None:
            return Verdict.AGAIN
        return Verdict.STALE
    if run.kind == "running":
        return Verdict.BACK if now_ms < (run.lease or 0) else Verdict.LOSE
    if message.token is None and now_ms < message.due:
        return Verdict.BACK  # The run's own timer needs no clock: it is the proof that it is due.
    return Verdict.CLAIM
