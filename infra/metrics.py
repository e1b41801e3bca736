"""Every metric that the alarms and the dashboard read, under the name that it is published as.

The only module that names a metric. The functions of stats.py and sweeper.py publish those of the
namespace `Workpool`, with the single dimension `Pool`; the others are AWS's own.
"""

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as stepfunctions

PERIOD = Duration.minutes(5)

#: Metrics that count within a period are summed up; of the others the highest value is shown.
_SUMS = frozenset({"HintsRepeated"})


def own(pool: str, name: str) -> cloudwatch.Metric:
    """A metric of a pool that the workpool itself publishes."""
    return cloudwatch.Metric(
        namespace="Workpool",
        metric_name=name,
        dimensions_map={"Pool": pool},
        period=PERIOD,
        statistic="Sum" if name in _SUMS else "Maximum",
    )


def waiting(queue: sqs.Queue) -> cloudwatch.Metric:
    """Messages that wait on a queue. Of a queue that a function reads this stays 0: its messages
    are in flight or hidden."""
    return queue.metric_approximate_number_of_messages_visible(period=PERIOD, statistic="Maximum")


def always_hidden(queue: sqs.Queue) -> cloudwatch.Metric:
    """Messages that a function has received and not done, at every look. Messages that are done
    at once leave a look with none."""
    return queue.metric_approximate_number_of_messages_not_visible(
        period=PERIOD, statistic="Minimum"
    )


def oldest(queue: sqs.Queue) -> cloudwatch.Metric:
    """How long the oldest message has been on a queue, in seconds. SQS leaves out messages that
    were received three times."""
    return queue.metric_approximate_age_of_oldest_message(period=PERIOD, statistic="Maximum")


def errors(function: lambda_.Function) -> cloudwatch.Metric:
    """Invocations that raised, or ran out of time or memory."""
    return function.metric_errors(period=PERIOD, statistic="Sum")


def duration(function: lambda_.Function, statistic: str) -> cloudwatch.Metric:
    """How long an invocation takes, in milliseconds."""
    return function.metric_duration(period=PERIOD, statistic=statistic, label=statistic)


def at_once(function: lambda_.Function) -> cloudwatch.Metric:
    """Invocations at the same time."""
    return function.metric("ConcurrentExecutions", period=PERIOD, statistic="Maximum")


def stream_age(function: lambda_.Function) -> cloudwatch.Metric:
    """How old the last change was when a reader of the stream got it, in milliseconds."""
    return function.metric("IteratorAge", period=PERIOD, statistic="Maximum")


def executions_started(machine: stepfunctions.StateMachine) -> cloudwatch.Metric:
    """Executions that began."""
    return machine.metric_started(period=PERIOD, statistic="Sum")


def executions_failed(machine: stepfunctions.StateMachine) -> cloudwatch.Metric:
    """Executions that ended with an error that nothing caught."""
    return machine.metric_failed(period=PERIOD, statistic="Sum")
