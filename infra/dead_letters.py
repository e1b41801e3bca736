"""The function that looks again at every run named in a dead-letter queue.

A function of its own: sharing a pool's consumer would take slots from it. A dead letter is a
hint that went astray and never a verdict about a run.
"""

from collections.abc import Sequence

from aws_cdk import aws_sqs as sqs
from aws_cdk.aws_lambda_event_sources import SqsEventSource
from constructs import Construct

from infra.lambdas import Lambdas
from infra.names import Names
from infra.queue import queue

TIMEOUT_SECONDS = 60


class DeadLetters(Construct):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        names: Names,
        lambdas: Lambdas,
        queues: Sequence[sqs.Queue],
    ) -> None:
        super().__init__(scope, construct_id)
        self.function = lambdas.function(
            self,
            name=names.part("dead-letters"),
            handler="handlers.dead_letters.handler",
            description="Looks again at the runs named in dead-letter queues",
            timeout_seconds=TIMEOUT_SECONDS,
        )
        #: What nobody can read, of the queues that all pools share. Nobody consumes it.
        self.parked = queue(self, "Parked", name=names.parked)
        for letters in queues:
            self.function.add_event_source(
                SqsEventSource(
                    letters, batch_size=5, report_batch_item_failures=True, max_concurrency=2
                )
            )
