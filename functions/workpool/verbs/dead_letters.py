"""Handle dead letters. A dead letter decides nothing about its run; it is a reason to look again.

A letter of a work queue is judged by the message table, like the message that it was, with its
token: where the consumer would act, the letter goes back to the work queue. A letter of any other
queue only names a run, and `look` looks at that run. Called by the dead-letters function.
"""

from workpool.aws import logs, queues, retrier, store
from workpool.core import clock
from workpool.core.message import Verdict, judge, key_of, parse
from workpool.verbs.look import look


def handle_work_letter(pool: str, body: str) -> bool:
    """Handle a letter of a pool's work queue. Returns True if the letter can be deleted, and False
    if it must stay for now, because a worker still works on the run. Raises UnknownShape."""
    message = parse(body, pool=pool)
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


def handle_other_letter(body: str) -> None:
    """Handle a letter of the relay's retry queue, of the event rule or of the completion queue.
    Raises UnknownShape if it names no run."""
    key = key_of(body)
    look(key)
    logs.log("dead-letter", run=None, key=key)
