"""One pool: its work queue, the consumer that runs its actions, its Retrier, its dead letters.

Its consumer is created closed: `infra/deployment.py` opens it. `infra/workpool.py` builds one pool
per pool of the configuration.
"""

from aws_cdk import aws_kms as kms
from aws_cdk.aws_lambda_event_sources import SqsEventSource
from constructs import Construct

from infra import dead_letters
from infra.config import PoolConfig
from infra.lambdas import Lambdas
from infra.names import Names
from infra.queue import POOL_RECEIVES, queue
from infra.retrier import Retrier

#: The least that Lambda takes as the limit of a queue's mapping.
MIN_MAPPING_CONCURRENCY = 2

#: What the consumer needs beside the action's time: to claim the run and to write its outcome.
CONSUMER_MARGIN_SECONDS = 10


class Pool(Construct):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        names: Names,
        lambdas: Lambdas,
        config: PoolConfig,
        reserved: bool,
        tracing: bool,
        encryption_key: kms.IKey | None,
    ) -> None:
        super().__init__(scope, construct_id)
        self.config = config
        timeout_seconds = config.action_timeout_seconds + CONSUMER_MARGIN_SECONDS

        # No function consumes it: what arrives here waits for a person.
        self.parked = queue(
            self,
            "Parked",
            name=names.parked_queue(config.name),
            encryption_key=encryption_key,
        )
        self.dead_letters = queue(
            self,
            "DeadLetters",
            name=names.dead_letters(config.name),
            encryption_key=encryption_key,
            function_timeout_seconds=dead_letters.TIMEOUT_SECONDS,
            dead_letters=self.parked,
            max_receives=POOL_RECEIVES,
        )
        self.work = queue(
            self,
            "Work",
            name=names.work_queue(config.name),
            encryption_key=encryption_key,
            function_timeout_seconds=timeout_seconds,
            dead_letters=self.dead_letters,
            max_receives=POOL_RECEIVES,
        )
        self.consumer = lambdas.function(
            self,
            "Consumer",
            name=names.consumer(config.name),
            handler="handlers.consumer.handler",
            description=f"Runs the actions of pool {config.name}",
            timeout_seconds=timeout_seconds,
            memory_mb=config.memory_mb,
            # Closed: the deployment function opens it with the limit in force. CloudFormation sets
            # a value only when it changes in the template, so it never touches that limit.
            reserved_concurrency=0 if reserved else None,
            environment={**config.environment, "IDEMPOTENT_WORKPOOL_LOG_LEVEL": config.log_level},
            policies=config.policies,
            user_code=True,
        )
        self.consumer.add_event_source(
            SqsEventSource(
                self.work,
                batch_size=1,
                report_batch_item_failures=True,
                # Closed as well, with the least that Lambda allows.
                enabled=False,
                max_concurrency=MIN_MAPPING_CONCURRENCY,
            )
        )
        self.retrier = Retrier(
            self,
            "Retrier",
            name=names.retrier(config.name),
            work=self.work,
            tracing=tracing,
        )
