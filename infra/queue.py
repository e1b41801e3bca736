"""How every queue of the stack is made: retention, encryption, who waits how long for a message.

The only place that declares one. Called by the parts that own a queue.
"""

from aws_cdk import Duration
from aws_cdk import aws_sqs as sqs
from constructs import Construct

RETENTION = Duration.days(14)

#: Between a message's arrival and the start of its invocation; no rule depends on it.
MARGIN_SECONDS = 30

#: How often a message of a pool may be received. Going back to the queue is part of a run's
#: normal life (throttled, or its twin still runs), so a receive count says nothing about a run:
#: this is a backstop against a message that comes back for ever, a day and more away.
POOL_RECEIVES = 1000

#: The same for the queues in between, where an outage of hours costs this many: their dead
#: letters only make somebody look at the run again.
SHARED_RECEIVES = 100


def queue(
    scope: Construct,
    construct_id: str,
    *,
    name: str,
    function_timeout_seconds: int | None = None,
    dead_letters: sqs.IQueue | None = None,
    max_receives: int = SHARED_RECEIVES,
) -> sqs.Queue:
    """A queue; with the timeout of the function that consumes it, if one does.

    A message shows again half a minute after its function must have ended. AWS advises six times
    the timeout because of throttling; our mappings pull no more than may run, a copy that comes
    too soon goes back by the run's lease, and a shorter time finds a dead worker sooner.
    """
    return sqs.Queue(
        scope,
        construct_id,
        queue_name=name,
        retention_period=RETENTION,
        visibility_timeout=Duration.seconds((function_timeout_seconds or 0) + MARGIN_SECONDS),
        encryption=sqs.QueueEncryption.SQS_MANAGED,
        # Also for the emulator, which checks policies only with AUTH=true and then serves TLS
        # with USE_SSL=1: a queue open to plain HTTP on AWS would be the dearer price.
        enforce_ssl=True,
        dead_letter_queue=None
        if dead_letters is None
        else sqs.DeadLetterQueue(queue=dead_letters, max_receive_count=max_receives),
    )
