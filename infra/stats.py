"""The statistics of every pool: each minute one log line and the CloudWatch metrics."""

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk.aws_events_targets import LambdaFunction
from constructs import Construct

from infra.lambdas import Lambdas
from infra.names import Names

EVERY = Duration.minutes(1)


class Stats(Construct):
    def __init__(
        self, scope: Construct, construct_id: str, *, names: Names, lambdas: Lambdas
    ) -> None:
        super().__init__(scope, construct_id)
        self.function = lambdas.function(
            self,
            name=names.part("stats"),
            handler="handlers.stats.handler",
            description="Logs each pool's statistics and publishes them as metrics",
            timeout_seconds=50,
        )
        events.Rule(
            self,
            "Schedule",
            description="When the pools' statistics are published",
            schedule=events.Schedule.rate(EVERY),
            targets=[LambdaFunction(self.function, retry_attempts=0)],
        )
