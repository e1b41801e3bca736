"""One pool: its work queue, the consumer that runs its actions, its Retrier, its dead letters.

maxParallelism is enforced here and nowhere else. Built once per pool by `stack.py`.
"""

from aws_cdk.aws_lambda_event_sources import SqsEventSource
from constructs import Construct

from infra import dead_letters
from infra.config import PoolConfig
from infra.lambdas import Lambdas
from infra.names import Names
from infra.queue import POOL_RECEIVES, queue
from infra.retrier import Retrier

#: What the consumer needs beyond the action: to claim, to write the outcome, to hand it over.
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
    ) -> None:
        super().__init__(scope, construct_id)
        self.config = config
        timeout_seconds = config.action_timeout_seconds + CONSUMER_MARGIN_SECONDS

        # Nobody consumes it: what arrives here waits for a person.
        self.parked = queue(self, "Parked", name=names.parked_queue(config.name))
        self.dead_letters = queue(
            self,
            "DeadLetters",
            name=names.dead_letters(config.name),
            function_timeout_seconds=dead_letters.TIMEOUT_SECONDS,
            dead_letters=self.parked,
            max_receives=POOL_RECEIVES,
        )
        self.work = queue(
            self,
            "Work",
            name=names.work_queue(config.name),
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
            reserved_concurrency=config.max_parallelism if reserved else None,
            environment={**config.environment, "IDEMPOTENT_WORKPOOL_LOG_LEVEL": config.log_level},
            policies=config.policies,
            user_code=True,
        )
        self.consumer.add_event_source(
            SqsEventSource(
                self.work,
                batch_size=1,
                report_batch_item_failures=True,
                # So that nothing is pulled that may not run yet. Lambda's minimum is 2: in a pool
                # of one the message that is pulled too much is throttled and comes back.
                max_concurrency=max(2, config.max_parallelism),
            )
        )
        self.retrier = Retrier(
            self,
            "Retrier",
            name=names.retrier(config.name),
            work=self.work,
            tracing=tracing,
        )
