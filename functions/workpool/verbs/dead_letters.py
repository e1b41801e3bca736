"""What to do with a dead letter: never a verdict by itself, always another look at the run.

A letter of a work queue is judged by the message table, token and all: where the consumer would
act, it goes back to the consumer. A letter of any other hop names a run, and the run is looked at.
"""

import json

from workpool.aws import logs, queues, store
from workpool.core import clock
from workpool.core.message import Verdict, judge, read
from workpool.errors import UnknownShape
from workpool.verbs.attempt import drop
from workpool.verbs.look import look


def from_work_queue(pool: str, body: str) -> bool:
    """True: nothing is left to do for the letter; False: keep it, its run's worker still lives.

    Raises UnknownShape, as the others do.
    """
    message = read(body)
    run = store.read(message.run)
    verdict = judge(run, message, clock.now_ms())
    if verdict is Verdict.BACK:
        return False
    if run is not None and verdict in (Verdict.LOSE, Verdict.CLAIM):
        queues.deliver_again(pool, body, run)
    else:
        drop(run, message, verdict)
    logs.log("dead-letter", run, verdict=verdict.name)
    return True


def from_elsewhere(body: str) -> None:
    """A letter of the relay's retry queue, the rule or the completion queue.

    Raises UnknownShape when it names no run.
    """
    key = key_of(body)
    look(key)
    logs.log("dead-letter", run=None, key=key)


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
