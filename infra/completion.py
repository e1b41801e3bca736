"""What happens after a run has ended: bus, rule, queue, and the function that calls the handlers.

The rule passes only ended runs that have an `onComplete`. Each hop has its own dead-letter queue,
and the function of `infra/dead_letters.py` looks at the runs that are named there.
"""

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_kms as kms
from aws_cdk.aws_events_targets import SqsQueue
from aws_cdk.aws_lambda_event_sources import SqsEventSource
from constructs import Construct

from infra import dead_letters
from infra.config import CompletionsConfig
from infra.lambdas import Lambdas
from infra.names import Names
from infra.queue import queue

#: What the function needs beside the time of one handler: to read its payloads, to write its mark,
#: and for the handlers before it in its batch.
MARGIN_SECONDS = 20


class Completion(Construct):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        names: Names,
        lambdas: Lambdas,
        config: CompletionsConfig,
        encryption_key: kms.IKey | None,
    ) -> None:
        super().__init__(scope, construct_id)
        timeout_seconds = config.timeout_seconds + MARGIN_SECONDS
        # A queue with a key of the deployer's then takes events from this account alone, also in
        # an app that does not carry this feature flag.
        self.node.set_context("@aws-cdk/aws-events:eventsTargetQueueSameAccount", True)
        self.bus = events.EventBus(self, "Bus", event_bus_name=names.part("events"))
        self.rule_dead_letters = queue(
            self,
            "RuleDeadLetters",
            name=names.dead_letters_of("rule"),
            encryption_key=encryption_key,
            function_timeout_seconds=dead_letters.TIMEOUT_SECONDS,
        )
        self.dead_letters = queue(
            self,
            "DeadLetters",
            name=names.dead_letters_of("completions"),
            encryption_key=encryption_key,
            function_timeout_seconds=dead_letters.TIMEOUT_SECONDS,
        )
        self.queue = queue(
            self,
            "Queue",
            name=names.part("completions"),
            encryption_key=encryption_key,
            function_timeout_seconds=timeout_seconds,
            dead_letters=self.dead_letters,
        )
        events.Rule(
            self,
            "Rule",
            event_bus=self.bus,
            description="Ended runs that have an onComplete",
            event_pattern=events.EventPattern(
                source=["workpool"],
                detail_type=["Run Ended"],
                detail={"onComplete": events.Match.exists()},
            ),
            targets=[
                SqsQueue(
                    self.queue,
                    message=events.RuleTargetInput.from_event_path("$.detail"),
                    dead_letter_queue=self.rule_dead_letters,
                    # EventBridge's maxima: to give up earlier would gain nothing.
                    max_event_age=Duration.hours(24),
                    retry_attempts=185,
                )
            ],
        )
        self.function = lambdas.function(
            self,
            name=names.part("completion"),
            handler="handlers.completion.handler",
            description="Calls the completion handlers, each once in effect",
            timeout_seconds=timeout_seconds,
            memory_mb=config.memory_mb,
            user_code=True,
        )
        self.function.add_event_source(
            SqsEventSource(
                self.queue,
                batch_size=10,
                report_batch_item_failures=True,
                max_concurrency=config.max_concurrency,
            )
        )
