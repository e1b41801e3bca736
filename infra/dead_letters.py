"""The function that looks again at every run that is named in a dead-letter queue.

It does not share a pool's consumer, because it would take slots from the pool. A dead letter is a
lost hint; it never decides anything about a run.
"""

from collections.abc import Sequence

from aws_cdk import aws_kms as kms
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
        encryption_key: kms.IKey | None,
    ) -> None:
        super().__init__(scope, construct_id)
        self.function = lambdas.function(
            self,
            name=names.part("dead-letters"),
            handler="handlers.dead_letters.handler",
            description="Looks again at the runs named in dead-letter queues",
            timeout_seconds=TIMEOUT_SECONDS,
        )
        #: Messages of the shared queues that no function can read. No function consumes it.
        self.parked = queue(self, "Parked", name=names.parked, encryption_key=encryption_key)
        for letters in queues:
            self.function.add_event_source(
                SqsEventSource(
                    letters, batch_size=5, report_batch_item_failures=True, max_concurrency=2
                )
            )
