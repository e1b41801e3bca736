"""The alarms: each on one plain metric, and each means that a person should look.

A hop that gives something up has one, and so has the sweeper for whatever it had to repeat.
Sent to the topic of `alarmTopicArn`, if there is one.
"""

from collections.abc import Mapping

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from aws_cdk.aws_cloudwatch_actions import SnsAction
from constructs import Construct

PERIOD = Duration.minutes(5)


class Alarms(Construct):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        dead_letters: Mapping[str, sqs.Queue],
        pools: list[str],
        topic_arn: str | None,
    ) -> None:
        """`dead_letters`: by what it means that something lies there."""
        super().__init__(scope, construct_id)
        topic = sns.Topic.from_topic_arn(self, "Topic", topic_arn) if topic_arn else None
        for number, (meaning, queue) in enumerate(dead_letters.items()):
            self._alarm(
                f"DeadLetters{number}",
                meaning,
                queue.metric_approximate_number_of_messages_visible(
                    period=PERIOD, statistic="Maximum"
                ),
                topic,
            )
        for pool in pools:
            self._alarm(
                f"HintsRepeated-{pool}",
                f"Pool {pool}: hints were lost, and the sweeper repeated them",
                cloudwatch.Metric(
                    namespace="Workpool",
                    metric_name="HintsRepeated",
                    dimensions_map={"Pool": pool},
                    period=PERIOD,
                    statistic="Sum",
                ),
                topic,
            )

    def _alarm(
        self, construct_id: str, meaning: str, metric: cloudwatch.Metric, topic: sns.ITopic | None
    ) -> None:
        alarm = cloudwatch.Alarm(
            self,
            construct_id,
            alarm_description=meaning,
            metric=metric,
            threshold=0,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=1,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        if topic is not None:
            alarm.add_alarm_action(SnsAction(topic))
