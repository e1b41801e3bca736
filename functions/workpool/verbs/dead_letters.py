"""What to do with a dead letter: never a verdict by itself, always another look at the run.

A letter of a work queue is judged by the message table, token and all: where the consumer would
act, it goes back to the consumer. A letter of any other hop names a run, and the run is looked at.
"""

from workpool.aws import logs, queues, retrier, store
from workpool.core import clock
from workpool.core.message import Verdict, judge, key_of, parse
from workpool.verbs.look import look


def from_work_queue(pool: str, body: str) -> bool:
    """True: nothing is left to do for the letter; False: keep it, its run's worker still lives.

    Raises UnknownShape, as the others do.
    """
    message = parse(body)
    run = store.read(message.run)
    verdict = judge(run, message, clock.now_ms())
    if verdict is Verdict.BACK:
        return False
    if run is not None and verdict in (Verdict.LOSE, Verdict.CLAIM):
        queues.deliver_again(pool, body, run)
    else:
        retrier.answer_dropped(run, message, verdict)
    logs.log("dead-letter", run, verdict=verdict.name)
    return True


def from_elsewhere(body: str) -> None:
    """A letter of the relay's retry queue, the rule or the completion queue.

    Raises UnknownShape when it names no run.
    """
    key = key_of(body)
    look(key)
    logs.log("dead-letter", run=None, key=key)
