"""Every metric that the alarms and the dashboard read, under the name that it is published as.

Those of namespace `Workpool` are published by the functions of stats.py and sweeper.py, with the
dimension `Pool` alone; the others are AWS's own. The only place that names one.
"""

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as stepfunctions

PERIOD = Duration.minutes(5)

#: How those that are counts within a period are put together; the others show the worst.
_SUMS = frozenset({"HintsRepeated"})


def own(pool: str, name: str) -> cloudwatch.Metric:
    """What the stack itself publishes of a pool."""
    return cloudwatch.Metric(
        namespace="Workpool",
        metric_name=name,
        dimensions_map={"Pool": pool},
        period=PERIOD,
        statistic="Sum" if name in _SUMS else "Maximum",
    )


def waiting(queue: sqs.Queue) -> cloudwatch.Metric:
    """Messages that wait on a queue."""
    return queue.metric_approximate_number_of_messages_visible(period=PERIOD, statistic="Maximum")


def oldest(queue: sqs.Queue) -> cloudwatch.Metric:
    """For how long the oldest message has been on a queue, in seconds."""
    return queue.metric_approximate_age_of_oldest_message(period=PERIOD, statistic="Maximum")


def errors(function: lambda_.Function) -> cloudwatch.Metric:
    """Invocations that raised, ran out of time or of memory."""
    return function.metric_errors(period=PERIOD, statistic="Sum")


def duration(function: lambda_.Function, statistic: str) -> cloudwatch.Metric:
    """How long an invocation takes, in milliseconds."""
    return function.metric_duration(period=PERIOD, statistic=statistic, label=statistic)


def at_once(function: lambda_.Function) -> cloudwatch.Metric:
    """Invocations at the same time."""
    return function.metric("ConcurrentExecutions", period=PERIOD, statistic="Maximum")


def stream_age(function: lambda_.Function) -> cloudwatch.Metric:
    """How old the last change was that a reader of the stream was given, in milliseconds."""
    return function.metric("IteratorAge", period=PERIOD, statistic="Maximum")


def executions_started(machine: stepfunctions.StateMachine) -> cloudwatch.Metric:
    """Executions that began."""
    return machine.metric_started(period=PERIOD, statistic="Sum")


def executions_failed(machine: stepfunctions.StateMachine) -> cloudwatch.Metric:
    """Executions that ended by an error that nothing caught."""
    return machine.metric_failed(period=PERIOD, statistic="Sum")
