"""How every queue of a workpool is made: retention, encryption, how long a message is hidden.

The only module that declares a queue. Called by the parts that own one.
"""

from aws_cdk import Duration
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sqs as sqs
from constructs import Construct

RETENTION = Duration.days(14)

#: Allowed from a message's arrival to the start of its invocation. No rule depends on it.
MARGIN_SECONDS = 30

#: How often a message of a pool may be received. A message often goes back to the queue in a
#: run's normal life (it is throttled, or its twin still runs), so the receive count says nothing
#: about a run. This only stops a message that comes back forever, after a day or more.
POOL_RECEIVES = 1000

#: The same for the shared queues, where an outage of hours costs this many: their dead letters
#: only cause another look at the run.
SHARED_RECEIVES = 100


def queue(
    scope: Construct,
    construct_id: str,
    *,
    name: str,
    encryption_key: kms.IKey | None,
    function_timeout_seconds: int | None = None,
    dead_letters: sqs.IQueue | None = None,
    max_receives: int = SHARED_RECEIVES,
) -> sqs.Queue:
    """A queue. `function_timeout_seconds` is the timeout of the function that consumes it, if any.

    A message becomes visible again half a minute after its function must have ended. AWS advises
    six times the timeout because of throttling. But our mappings pull no more than may run, a copy
    that comes too soon is sent back because of the run's lease, and a shorter time finds a dead
    worker sooner.
    """
    return sqs.Queue(
        scope,
        construct_id,
        queue_name=name,
        retention_period=RETENTION,
        visibility_timeout=Duration.seconds((function_timeout_seconds or 0) + MARGIN_SECONDS),
        encryption=sqs.QueueEncryption.KMS if encryption_key else sqs.QueueEncryption.SQS_MANAGED,
        encryption_master_key=encryption_key,
        # On the emulator, too: it checks policies only with AUTH=true, and then it can serve TLS
        # with USE_SSL=1. An exception for it would open the queue to plain HTTP on AWS.
        enforce_ssl=True,
        dead_letter_queue=None
        if dead_letters is None
        else sqs.DeadLetterQueue(queue=dead_letters, max_receive_count=max_receives),
    )
