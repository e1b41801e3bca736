"""The dashboard: for each pool its alarms and then its graphs; below them the shared parts.

It shows what `infra/alarms.py` alarms on, and what one looks at next. It reads only metrics.
"""

from collections.abc import Sequence

from aws_cdk import Aws, CfnCondition, Fn
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from infra import metrics
from infra.alarms import Alarms
from infra.completion import Completion
from infra.counters import Counters
from infra.dead_letters import DeadLetters
from infra.names import Names
from infra.pool import Pool
from infra.relay import Relay

WIDTH = 24  # of every dashboard
COLUMN = WIDTH // 4

#: By partition: the host of its console, where it is not AWS's usual one.
CONSOLES = {
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
    "aws-eusc": "console.amazonaws-eusc.eu",
}


class Dashboard(Construct):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        names: Names,
        pools: Sequence[Pool],
        relay: Relay,
        counters: Counters,
        completion: Completion,
        dead_letters: DeadLetters,
        alarms: Alarms,
    ) -> None:
        super().__init__(scope, construct_id)
        dashboard = cloudwatch.Dashboard(self, "Dashboard", dashboard_name=names.stack)
        for pool in pools:
            name = pool.config.name
            dashboard.add_widgets(_alarms(f"Pool {name}", alarms.of_pools[name]))
            dashboard.add_widgets(*_of_pool(pool))
        dashboard.add_widgets(_alarms("Shared parts", alarms.of_parts))
        dashboard.add_widgets(*_of_parts(relay, counters, completion, dead_letters))
        self.url = (
            f"https://{Aws.REGION}.{self._console()}/cloudwatch/home"
            f"?region={Aws.REGION}#dashboards/dashboard/{names.stack}"
        )

    def _console(self) -> str:
        """The host of the console of the partition that the stack is deployed to."""
        host = "console.aws.amazon.com"
        for partition, other in CONSOLES.items():
            condition = CfnCondition(
                self,
                f"Console {partition}",
                expression=Fn.condition_equals(Aws.PARTITION, partition),
            )
            host = Fn.condition_if(condition.logical_id, other, host).to_string()
        return host


def _of_pool(pool: Pool) -> list[cloudwatch.IWidget]:
    name = pool.config.name
    limit = cloudwatch.HorizontalAnnotation(
        value=pool.config.max_parallelism, label="maxParallelism, as deployed"
    )
    return [
        _graph(
            "Pending; age of the queue's oldest message (s)",
            [metrics.own(name, "Pending")],
            right=[metrics.oldest(pool.work)],
        ),
        _graph(
            "Oldest pending, oldest due (ms)",
            [metrics.own(name, "OldestPending"), metrics.own(name, "OldestDue")],
        ),
        _graph(
            "Executions; how many failed, attempts and runs",
            [metrics.own(name, "Executions")],
            right=[metrics.own(name, "ErrorRate"), metrics.own(name, "PermanentFailureRate")],
        ),
        _graph("Slots in use", [metrics.at_once(pool.consumer)], annotations=[limit]),
        _graph(
            "Duration of an attempt (ms)",
            [metrics.duration(pool.consumer, it) for it in ("p50", "p99")],
        ),
        _graph("From enqueue to end, mean (ms)", [metrics.own(name, "JobAverageMs")]),
        _graph(
            "Given up: dead letters, parked messages and completions; hints repeated",
            [
                metrics.always_hidden(pool.dead_letters),
                metrics.waiting(pool.parked),
                metrics.own(name, "Parked"),
                metrics.own(name, "HintsRepeated"),
                metrics.own(name, "Wedged"),
            ],
        ),
        _graph(
            "Retrier executions",
            [
                metrics.executions_started(pool.retrier.state_machine),
                metrics.executions_failed(pool.retrier.state_machine),
            ],
        ),
    ]


def _of_parts(
    relay: Relay, counters: Counters, completion: Completion, dead_letters: DeadLetters
) -> list[cloudwatch.IWidget]:
    return [
        _graph("Completion lag (s)", [metrics.oldest(completion.queue)]),
        _graph(
            "Relay lag, counters' lag (ms)",
            [metrics.stream_age(it) for it in (relay.function, counters.function)],
        ),
        _graph(
            "Errors",
            [metrics.errors(it) for it in (relay.function, completion.function)],
        ),
        _graph(
            "Dead letters; parked messages",
            [
                *(
                    metrics.always_hidden(it)
                    for it in (
                        relay.dead_letters,
                        completion.rule_dead_letters,
                        completion.dead_letters,
                    )
                ),
                *(metrics.waiting(it) for it in (relay.failures, dead_letters.parked)),
            ],
        ),
    ]


def _alarms(title: str, alarms: Sequence[cloudwatch.Alarm]) -> cloudwatch.IWidget:
    return cloudwatch.AlarmStatusWidget(title=title, width=WIDTH, height=2, alarms=list(alarms))


def _graph(
    title: str,
    left: Sequence[cloudwatch.IMetric],
    *,
    right: Sequence[cloudwatch.IMetric] = (),
    annotations: Sequence[cloudwatch.HorizontalAnnotation] = (),
) -> cloudwatch.IWidget:
    return cloudwatch.GraphWidget(
        title=title,
        width=COLUMN,
        left=list(left),
        right=list(right),
        left_annotations=list(annotations),
        left_y_axis=cloudwatch.YAxisProps(min=0),
    )
