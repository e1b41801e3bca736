"""A queue message and what it may do to the run it names: the message table, as code.

Pure. `attempt` (the consumer) and `dead_letters` act on the verdict. A message only says "look at
this run": it may be late, doubled or lost. The first line that fits decides. A message that holds
a token is acknowledged only after the token was answered or found closed.

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
from workpool.core.run import VERSION, Run, names_execution, run_key, split_key
from workpool.errors import UnknownShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What travels on a work queue. A message of the relay holds no token. A message of the Retrier
    holds the token of its waiting task and the name of its execution."""

    run: str
    """The run's key, "<pool>#<runId>"."""
    due: int
    """The due of the attempt that the message is about, in epoch milliseconds."""
    token: str | None = None
    execution: str | None = None

    def body(self) -> str:
        """The message as text, as it is sent."""
        shape: dict[str, object] = {"v": VERSION, "run": self.run, "due": timestamp(self.due)}
        if self.token is not None:
            shape |= {"token": self.token, "execution": self.execution}
        return json.dumps(shape)


def parse(body: str, *, pool: str | None) -> Message:
    """The message in a body, which came from the queue of this pool. Raises UnknownShape if this
    version cannot handle it safely, or if it names a run or an execution that is not its own."""
    try:
        shape = json.loads(body)
        version = shape["v"]
        if type(version) is not int or not 1 <= version <= VERSION:
            got = version if type(version) is int else "no number"
            raise UnknownShape(f"a message of version {got}; this code reads up to {VERSION}")
        message = Message(
            run=shape["run"],
            due=from_timestamp(shape["due"]),
            token=shape.get("token"),
            execution=shape.get("execution"),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnknownShape(f"not a message of a work queue: {_reason(error)}") from error
    owner, run_id = split_key(message.run)
    if owner != pool:
        raise UnknownShape(f"a message on the queue of pool {pool!r} for a run of pool {owner!r}")
    types = {type(message.token), type(message.execution)}
    if types not in ({str}, {type(None)}):
        raise UnknownShape("a token and the name of its execution are strings and come together")
    if message.execution is not None and not names_execution(run_id, message.execution):
        raise UnknownShape("a message with the execution of another run")
    return message


def key_of(body: str) -> str:
    """The run's key in a relay message, in an event's detail or in a whole event. Any version will
    do, since the key only says which run to look at."""
    try:
        shape = json.loads(body)
        key = shape["run"] if "run" in shape else shape["detail"]["run"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnknownShape(f"names no run: {_reason(error)}") from error
    pool, run_id = split_key(key)
    return run_key(pool, run_id)


def _reason(error: Exception) -> str:
    """Why a body cannot be read, without the values in it: reasons are logged."""
    return str(error) if isinstance(error, json.JSONDecodeError) else type(error).__name__


class Verdict(Enum):
    """What a message may do: see the table above."""

    ENDED = auto()
    AGAIN = auto()
    STALE = auto()
    BACK = auto()
    LOSE = auto()
    CLAIM = auto()


def judge(run: Run | None, message: Message, now_ms: int) -> Verdict:
    """The verdict of the table's first line that fits, from top to bottom."""
    if run is None or run.ended:
        return Verdict.ENDED
    if run.due != message.due:
        if run.kind == "scheduled" and message.token is not None:
            return Verdict.AGAIN
        return Verdict.STALE
    if run.kind == "running":
        return Verdict.BACK if now_ms < (run.lease or 0) else Verdict.LOSE
    # A token needs no look at the clock: the run's own timer sent it, so the run is due.
    if message.token is None and now_ms < message.due:
        return Verdict.BACK
    return Verdict.CLAIM
