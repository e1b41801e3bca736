"""The counters: the second reader of the runs table's stream. They count what the statistics show.

No hint waits for them, and what they cannot count now, they count later. A DynamoDB stream serves
two readers well, and the relay is the other: there is no room for a third.
"""

from aws_cdk import Duration
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_lambda as lambda_
from aws_cdk.aws_lambda_event_sources import DynamoEventSource
from constructs import Construct

from infra.lambdas import Lambdas
from infra.names import Names
from infra.relay import ENDED, OPEN, change

#: Where runs come one at a time, several changes share a batch, and so their cost.
GATHER = Duration.seconds(10)

#: With a tumbling window Lambda says which shard a batch comes from, and the counters need that.
#: Nothing else of it is used. At its end the function is invoked once more, so it is long.
TUMBLING_WINDOW = Duration.minutes(15)

#: The changes that count: a run was created or ended, or an attempt failed.
CHANGES = (
    {"eventName": ["INSERT"]},
    change(old=["running"], new=["scheduled"]),
    change(old=OPEN, new=ENDED),
    change(old=ENDED, new=["enqueued", "scheduled"]),
)


class Counters(Construct):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        names: Names,
        lambdas: Lambdas,
        runs: dynamodb.Table,
    ) -> None:
        super().__init__(scope, construct_id)
        self.function = lambdas.function(
            self,
            name=names.part("counters"),
            handler="handlers.counters.handler",
            description="Counts the changes of runs for the statistics",
            timeout_seconds=60,
        )
        self.function.add_event_source(
            DynamoEventSource(
                runs,
                starting_position=lambda_.StartingPosition.TRIM_HORIZON,
                batch_size=1000,
                max_batching_window=GATHER,
                tumbling_window=TUMBLING_WINDOW,
                filters=[lambda_.FilterCriteria.filter(it) for it in CHANGES],
                # The counters know each change, so a batch may be cut. What is given up in the
                # end only makes the statistics wrong: windows pass, and the sweeper corrects the
                # pending runs. Before that, the alarm counters-lag has gone off.
                bisect_batch_on_error=True,
                retry_attempts=100,
            )
        )
