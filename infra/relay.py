"""The relay, a reader of the runs table's stream, and its retry queue.

It turns a change of a run's state into the hint that the new state calls for. If it cannot send a
hint now, it puts the run's key into the retry queue, whose function looks at the run again.
"""

from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk.aws_lambda_event_sources import DynamoEventSource, SqsDlq, SqsEventSource
from constructs import Construct

from infra import dead_letters
from infra.lambdas import Lambdas
from infra.names import Names
from infra.queue import queue

TIMEOUT_SECONDS = 60

OPEN = ["enqueued", "scheduled", "running"]
ENDED = ["completed", "canceled"]


def change(*, old: list[str], new: list[str]) -> dict[str, object]:
    """A filter of the stream: changes of a run from one of these states to one of those."""
    images = {"OldImage": {"kind": {"S": old}}, "NewImage": {"kind": {"S": new}}}
    return {"eventName": ["MODIFY"], "dynamodb": images}


#: The changes that the relay is invoked for. A claim (to running) calls for no hint, and neither
#: do writes to an ended run. An ended run that becomes open again had expired and was overwritten.
#: A removed run takes its objects along, if it has any.
CHANGES = (
    {"eventName": ["INSERT"]},
    change(old=OPEN, new=["enqueued", "scheduled", *ENDED]),
    change(old=ENDED, new=["enqueued", "scheduled"]),
    {"eventName": ["REMOVE"], "dynamodb": {"OldImage": {"large": {"S": ["yes"]}}}},
)


class Relay(Construct):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        names: Names,
        lambdas: Lambdas,
        runs: dynamodb.Table,
        encryption_key: kms.IKey | None,
    ) -> None:
        super().__init__(scope, construct_id)
        self.dead_letters = queue(
            self,
            "DeadLetters",
            name=names.dead_letters_of("relay-retry"),
            encryption_key=encryption_key,
            function_timeout_seconds=dead_letters.TIMEOUT_SECONDS,
        )
        self.retry_queue = queue(
            self,
            "RetryQueue",
            name=names.part("relay-retry"),
            encryption_key=encryption_key,
            function_timeout_seconds=TIMEOUT_SECONDS,
            dead_letters=self.dead_letters,
        )
        self.function = lambdas.function(
            self,
            name=names.part("relay"),
            handler="handlers.relay.handler",
            description="Turns a run's change of state into its next hint",
            timeout_seconds=TIMEOUT_SECONDS,
        )
        self.retry_function = lambdas.function(
            self,
            "RetryFunction",
            name=names.part("relay-retry"),
            handler="handlers.relay_retry.handler",
            description="Looks again at runs whose hint the relay could not send",
            timeout_seconds=TIMEOUT_SECONDS,
        )
        #: Positions in the stream that the relay gave up, for a person to read.
        self.failures = queue(
            self,
            "Failures",
            name=names.part("relay-failures"),
            encryption_key=encryption_key,
        )
        self.function.add_event_source(
            DynamoEventSource(
                runs,
                starting_position=lambda_.StartingPosition.TRIM_HORIZON,
                batch_size=100,
                filters=[lambda_.FilterCriteria.filter(change) for change in CHANGES],
                # A batch fails only if nothing could be sent, not even to the retry queue. Then it
                # is cut in two, so that a record that fails, whatever it holds, is soon alone.
                # After 100 retries its position in the stream goes to a queue that a person reads.
                bisect_batch_on_error=True,
                retry_attempts=100,
                on_failure=SqsDlq(self.failures),
            )
        )
        self.retry_function.add_event_source(
            SqsEventSource(
                self.retry_queue,
                batch_size=10,
                report_batch_item_failures=True,
                max_concurrency=2,  # it repeats what was throttled: more would be throttled again
            )
        )
