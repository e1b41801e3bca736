"""The alarms: each watches one plain metric, and each means that a person should look.

docs/runbooks.md says what each alarm means and what to do, under the heading that the alarm's
description names. Alarms are sent to the topic of `alarmTopicArn`, if there is one.
"""

from collections.abc import Mapping, Sequence

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from aws_cdk.aws_cloudwatch_actions import SnsAction
from constructs import Construct

from infra import metrics
from infra.names import Names
from infra.pool import Pool

LAG_MS = 15 * 60 * 1000

#: A dead letter is normally looked at within seconds.
UNREAD_SECONDS = 900


class Alarms(Construct):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        names: Names,
        pools: Sequence[Pool],
        dead_letters: Mapping[str, sqs.Queue],
        stream: sqs.Queue,
        counters: lambda_.Function,
        parked: sqs.Queue,
        functions: Mapping[str, lambda_.Function],
        topic_arn: str | None,
    ) -> None:
        """`dead_letters`: the dead-letter queue of each shared part. `functions`: the function of
        each shared part. `stream`: the queue of the positions that the relay gave up. `counters`:
        the other reader of the stream. `parked`: the queue of the messages of the shared queues
        that no function can read."""
        super().__init__(scope, construct_id)
        self._names = names
        self._topic = sns.Topic.from_topic_arn(self, "Topic", topic_arn) if topic_arn else None
        self.of_pools = {pool.config.name: self._of_pool(pool) for pool in pools}
        self.of_parts = [
            *(
                alarm
                for part, queue in dead_letters.items()
                for alarm in self._of_letters(
                    f"dead-letters-of-{part}", "dead-letters-of-parts", f"of {part}", queue
                )
            ),
            self._alarm(
                "parked-messages-of-parts",
                "parked-messages",
                "The shared queues got messages that this version cannot read",
                metrics.waiting(parked),
            ),
            self._alarm(
                "relay-stream",
                "relay-stream",
                "The relay gave up on a part of the stream of changes",
                metrics.waiting(stream),
            ),
            self._alarm(
                "counters-lag",
                "counters-lag",
                "The statistics are more than 15 minutes behind",
                metrics.stream_age(counters),
                LAG_MS,
            ),
            *(
                self._alarm(
                    f"{part}-errors",
                    "errors",
                    f"The function {names.part(part)} failed",
                    metrics.errors(function),
                )
                for part, function in functions.items()
            ),
        ]

    def _of_pool(self, pool: Pool) -> list[cloudwatch.Alarm]:
        name, limits = pool.config.name, pool.config.alarms
        letters = self._of_letters(
            f"{name}-dead-letters", "dead-letters", f"of pool {name}", pool.dead_letters
        )
        return letters + [
            self._alarm(f"{name}-{what}", what, f"Pool {name}: {meaning}", metric, threshold)
            for what, meaning, metric, threshold in (
                ("wedged", "runs are due, but none ends", metrics.own(name, "Wedged"), 0),
                (
                    "oldest-due",
                    f"a run has been due for more than {limits.oldest_due_ms} ms",
                    metrics.own(name, "OldestDue"),
                    limits.oldest_due_ms,
                ),
                (
                    "permanent-failures",
                    f"the share of ended runs that failed is above {limits.permanent_failure_rate}",
                    metrics.own(name, "PermanentFailureRate"),
                    limits.permanent_failure_rate,
                ),
                (
                    "parked-completions",
                    "completion handlers kept raising, and are parked",
                    metrics.own(name, "Parked"),
                    0,
                ),
                (
                    "hints-repeated",
                    "hints were lost, and the sweeper repeated them",
                    metrics.own(name, "HintsRepeated"),
                    0,
                ),
                (
                    "parked-messages",
                    "the pool's queue got messages that this version cannot read",
                    metrics.waiting(pool.parked),
                    0,
                ),
                (
                    "retrier-failed",
                    "executions of the Retrier failed, which only a fault can cause",
                    metrics.executions_failed(pool.retrier.state_machine),
                    0,
                ),
            )
        ]

    def _of_letters(
        self, name: str, runbook: str, whose: str, queue: sqs.Queue
    ) -> list[cloudwatch.Alarm]:
        """Two, because no single metric shows a letter both when its function fails and when its
        function is not invoked at all."""
        return [
            self._alarm(
                name,
                runbook,
                f"Dead letters {whose}: the function that looks at them keeps failing",
                metrics.always_hidden(queue),
                periods=2,
            ),
            self._alarm(
                f"{name}-unread",
                runbook,
                f"Dead letters {whose}: no function has looked at one for minutes",
                metrics.oldest(queue),
                UNREAD_SECONDS,
            ),
        ]

    def _alarm(
        self,
        name: str,
        runbook: str,
        meaning: str,
        metric: cloudwatch.Metric,
        threshold: float = 0,
        periods: int = 1,
    ) -> cloudwatch.Alarm:
        """It goes off when so many periods in a row are above the threshold. A missing value is
        not a breach."""
        alarm = cloudwatch.Alarm(
            self,
            name,
            alarm_name=self._names.part(name),
            alarm_description=f"{meaning}. See docs/runbooks.md#{runbook}",
            metric=metric,
            threshold=threshold,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=periods,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        if self._topic is not None:
            alarm.add_alarm_action(SnsAction(self._topic))
        return alarm
