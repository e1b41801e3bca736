"""The construct `Workpool`: all parts, joined in the order in which a run flows through them.

`infra/stack.py` puts one into the standalone stack; a team may put one into a stack of its own CDK
app. `infra/grants.py` holds the rights of the parts.
"""

from pathlib import Path

from aws_cdk import Aws, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from infra.alarms import Alarms
from infra.api import Api
from infra.asset import FUNCTIONS
from infra.completion import Completion
from infra.config import WorkpoolConfig
from infra.counters import Counters
from infra.dashboard import Dashboard
from infra.dead_letters import DeadLetters
from infra.deployment import Deployment
from infra.grants import grant_key, grant_parts, grant_vpc
from infra.lambdas import Lambdas
from infra.names import ANY_POOL, Names, queue_url, retrier_arn
from infra.pool import Pool
from infra.relay import Relay
from infra.stats import Stats
from infra.storage import Storage
from infra.submit import Submit
from infra.sweeper import Sweeper


class Workpool(Construct):
    """A whole workpool inside any stack:

        jobs = Workpool(
            self,
            "Jobs",
            config=WorkpoolConfig.from_context(
                {"stackName": "Jobs", "pools": {"emails": {"maxParallelism": 5}}}
            ),
            functions=Path("functions"),
        )
        jobs.grant_submit(my_function)
        my_bucket.grant_read(jobs.pools["emails"].consumer)

    Every physical name begins with `config.stack_name`, by which clients find the workpool:
    `IdempotentWorkpool("emails", stack="Jobs")`. So workpools in one account and region need
    different names. A workpool `Jobs` with a pool `mails` also collides with a workpool
    `Jobs-mails`. Within one stack a collision raises ValueError; between stacks CloudFormation
    refuses the second deploy.

    The construct writes no outputs of the stack.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: WorkpoolConfig,
        functions: Path = FUNCTIONS,
        vpc: ec2.IVpc | None = None,
        encryption_key: kms.IKey | None = None,
        permissions_boundary: iam.IManagedPolicy | None = None,
    ) -> None:
        """`functions`: the folder with workpool/, handlers/, actions/ and completions/.

        `vpc`: all functions run in its private subnets, in one security group, `security_group`,
        which allows all outbound traffic. From there they must reach DynamoDB, S3, SQS, Step
        Functions, EventBridge and Lambda: by a NAT gateway, or by gateway endpoints for DynamoDB
        and S3 and interface endpoints for `sqs`, `states`, `events` and `lambda`, which must
        accept traffic from the security group. Actions may need more.

        `encryption_key`: a symmetric KMS key. It encrypts both tables, the bucket, all queues and
        all logs. AWS's own keys still encrypt the event bus (small results of runs pass through
        it), the Retriers and the functions' environments. If the key belongs to this app, its
        policy gets the statements that AWS's services need. If it is imported, its policy must
        already have them: `grant_key` in infra/grants.py lists them, and synth warns. Callers that
        write into `runs_table` themselves need rights on the key, too.

        `permissions_boundary`: set on every role of the workpool.
        """
        super().__init__(scope, construct_id)
        _claim_names(self, config)
        if permissions_boundary is not None:
            iam.PermissionsBoundary.of(self).apply(permissions_boundary)
        names = Names(config.stack_name)

        storage = Storage(self, "Storage", encryption_key=encryption_key)
        lambdas = Lambdas(
            self,
            "Lambdas",
            source=functions,
            pools=config.pools,
            reserved=config.reserved_concurrency,
            tracing=config.tracing,
            vpc=vpc,
            encryption_key=encryption_key,
            environment={
                "WORKPOOL_STACK": config.stack_name,
                "WORKPOOL_RUNS_TABLE": storage.runs.table_name,
                "WORKPOOL_STATS_TABLE": storage.stats.table_name,
                "WORKPOOL_PAYLOADS_BUCKET": storage.payloads.bucket_name,
                "WORKPOOL_EVENT_BUS": names.part("events"),
                "WORKPOOL_WORK_QUEUE": queue_url(names.work_queue(ANY_POOL)),
                "WORKPOOL_DEAD_LETTER_QUEUE": queue_url(names.dead_letters(ANY_POOL)),
                "WORKPOOL_PARKED_QUEUE": queue_url(names.parked_queue(ANY_POOL)),
                "WORKPOOL_SHARED_PARKED_QUEUE": queue_url(names.parked),
                "WORKPOOL_RELAY_RETRY_QUEUE": queue_url(names.part("relay-retry")),
                "WORKPOOL_RETRIER": retrier_arn(names.retrier(ANY_POOL)),
                "WORKPOOL_CONSUMER": names.consumer(ANY_POOL),
                "WORKPOOL_COMPLETION_TIMEOUT_SECONDS": str(config.completions.timeout_seconds),
                "IDEMPOTENT_WORKPOOL_LOG_LEVEL": config.log_level,
            },
        )
        submit = Submit(self, "Submit", names=names, lambdas=lambdas)
        api = Api(self, "Api", names=names, lambdas=lambdas, encryption_key=encryption_key)
        relay = Relay(
            self,
            "Relay",
            names=names,
            lambdas=lambdas,
            runs=storage.runs,
            encryption_key=encryption_key,
        )
        counters = Counters(self, "Counters", names=names, lambdas=lambdas, runs=storage.runs)
        pools = [
            Pool(
                self,
                f"Pool-{pool.name}",
                names=names,
                lambdas=lambdas,
                config=pool,
                reserved=config.reserved_concurrency,
                tracing=config.tracing,
                encryption_key=encryption_key,
            )
            for pool in config.pools
        ]
        completion = Completion(
            self,
            "Completion",
            names=names,
            lambdas=lambdas,
            config=config.completions,
            encryption_key=encryption_key,
        )
        dead_letters = DeadLetters(
            self,
            "DeadLetters",
            names=names,
            lambdas=lambdas,
            queues=[
                *(pool.dead_letters for pool in pools),
                relay.dead_letters,
                completion.rule_dead_letters,
                completion.dead_letters,
            ],
            encryption_key=encryption_key,
        )
        sweeper = Sweeper(self, "Sweeper", names=names, lambdas=lambdas)
        stats = Stats(self, "Stats", names=names, lambdas=lambdas)
        deployment = Deployment(
            self,
            "Deployment",
            names=names,
            lambdas=lambdas,
            pools=config.pools,
            reserved=config.reserved_concurrency,
        )
        alarms = Alarms(
            self,
            "Alarms",
            names=names,
            pools=pools,
            dead_letters={
                "relay-retry": relay.dead_letters,
                "rule": completion.rule_dead_letters,
                "completions": completion.dead_letters,
            },
            stream=relay.failures,
            counters=counters.function,
            parked=dead_letters.parked,
            functions={
                "relay": relay.function,
                "relay-retry": relay.retry_function,
                "counters": counters.function,
                "completion": completion.function,
                "dead-letters": dead_letters.function,
                "sweeper": sweeper.function,
                "stats": stats.function,
            },
            topic_arn=config.alarm_topic_arn,
        )
        dashboard = Dashboard(
            self,
            "Dashboard",
            names=names,
            pools=pools,
            relay=relay,
            counters=counters,
            completion=completion,
            dead_letters=dead_letters,
            alarms=alarms,
        )

        grant_parts(
            names=names,
            storage=storage,
            submit=submit,
            api=api,
            relay=relay,
            counters=counters,
            pools=pools,
            completion=completion,
            dead_letters=dead_letters,
            sweeper=sweeper,
            stats=stats,
            deployment=deployment,
        )
        if vpc is not None:
            grant_vpc(names, lambdas.functions)
        if encryption_key is not None:
            grant_key(encryption_key, names, lambdas.functions, pools)

        # Clients find the workpool by this parameter.
        parameter = ssm.StringParameter(
            self,
            "Parameter",
            parameter_name=names.parameter,
            description="Where the clients of this workpool find it",
            string_value=Stack.of(self).to_json_string(
                {
                    "apiUrl": api.url,
                    "runsTable": storage.runs.table_name,
                    "submitFunction": submit.function.function_name,
                    "region": Aws.REGION,
                }
            ),
        )

        # It refuses to let a stack with open runs be deleted, before any part is deleted.
        deployment.come_after(*(it for it in self.node.children if it is not deployment))

        #: The function that other services invoke to submit runs.
        self.submit_function = submit.function
        #: Where a caller may put runs in transactions of its own.
        self.runs_table = storage.runs
        self.stats_table = storage.stats
        self.payloads_bucket = storage.payloads
        self.api_url = api.url
        #: Announces each run that ended: source `workpool`, detail type `Run Ended`.
        self.event_bus = completion.bus
        #: By name. Grant `pools[name].consumer` what the pool's actions need.
        self.pools = {pool.config.name: pool for pool in pools}
        #: Grant it what the completion handlers need.
        self.completion_function = completion.function
        #: Of all functions; None without a VPC.
        self.security_group = lambdas.security_group
        self.dashboard_url = dashboard.url
        self._submit_arn = api.submit_arn
        self._parameter = parameter

    def grant_submit(self, grantee: iam.IGrantable) -> iam.Grant:
        """Allow to submit runs to every pool: by the function, or by the HTTP API.

        The Python client uses the API, whose address it reads from the SSM parameter.
        """
        grant = self.submit_function.grant_invoke(grantee)
        for action, arn in (
            ("execute-api:Invoke", self._submit_arn),
            ("ssm:GetParameter", self._parameter.parameter_arn),
        ):
            grant = grant.combine(
                iam.Grant.add_to_principal(grantee=grantee, actions=[action], resource_arns=[arn])
            )
        return grant


def _claim_names(workpool: Workpool, config: WorkpoolConfig) -> None:
    """Raise ValueError if another workpool of the stack has some of the same physical names.

    They begin with the workpool's name, or with this and a pool's name. An empty construct in the
    stack marks each beginning as taken.
    """
    stack = Stack.of(workpool)
    name = config.stack_name
    for beginning in (name, *(f"{name}-{pool.name}" for pool in config.pools)):
        marker = f"Workpool names: {beginning}"
        if stack.node.try_find_child(marker):
            raise ValueError(
                f"stack {stack.node.id} has another workpool with names that begin with "
                f"{beginning!r}: give one of them another stackName"
            )
        Construct(stack, marker)
