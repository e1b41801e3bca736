"""The sweeper: every five minutes it looks for open runs whose hint was lost, and repeats it."""

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk.aws_events_targets import LambdaFunction
from constructs import Construct

from infra.lambdas import Lambdas
from infra.names import Names

EVERY = Duration.minutes(5)
TIMEOUT_SECONDS = 240
OVERDUE_SECONDS = 900


class Sweeper(Construct):
    def __init__(
        self, scope: Construct, construct_id: str, *, names: Names, lambdas: Lambdas
    ) -> None:
        super().__init__(scope, construct_id)
        self.function = lambdas.function(
            self,
            name=names.part("sweeper"),
            handler="handlers.sweeper.handler",
            description="Repeats the hints of open runs that have waited too long for one",
            timeout_seconds=TIMEOUT_SECONDS,
        )
        events.Rule(
            self,
            "Schedule",
            description="When the open runs are swept",
            schedule=events.Schedule.rate(EVERY),
            targets=[
                LambdaFunction(
                    self.function,
                    event=events.RuleTargetInput.from_object({"overdueSeconds": OVERDUE_SECONDS}),
                    retry_attempts=0,  # the next sweep does the same work
                )
            ],
        )
