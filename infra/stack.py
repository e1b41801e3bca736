"""The stack: joins the parts in the order in which a run flows through them.

Every grant and every output stands here, so that who may do what can be read on one page; the
parts themselves grant nothing but what comes with an event source. Built by `app.py`.
"""

from pathlib import Path

from aws_cdk import Aws, CfnOutput, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from infra.alarms import Alarms
from infra.api import Api
from infra.completion import Completion
from infra.config import WorkpoolConfig, pascal_case
from infra.dashboard import Dashboard
from infra.dead_letters import DeadLetters
from infra.lambdas import FUNCTIONS, Lambdas
from infra.names import ANY_POOL, Names, executions_arn, mappings_arn, queue_url, retrier_arn
from infra.pool import Pool
from infra.relay import Relay
from infra.stats import Stats
from infra.storage import OPEN_INDEX, Storage
from infra.submit import Submit
from infra.sweeper import Sweeper

READ_RUN = ["dynamodb:GetItem"]
READ_RUNS = ["dynamodb:GetItem", "dynamodb:BatchGetItem"]
WRITE_RUN = [*READ_RUNS, "dynamodb:PutItem", "dynamodb:UpdateItem"]
WRITE_OBJECT = ["s3:PutObject"]
READ_OBJECT = ["s3:GetObject"]
READ_STATS = ["dynamodb:GetItem", "dynamodb:Query"]
COUNT = ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"]
#: What TransactWriteItems asks for: the rights of its entries.
WRITE_IN_TRANSACTION = [*WRITE_RUN, "dynamodb:ConditionCheckItem"]
ANSWER_TOKEN = ["states:SendTaskFailure", "states:SendTaskSuccess"]
#: A deployer's own tables, in actions and in the transactions of completion handlers.
USE_TABLE = [
    "dynamodb:BatchGetItem",
    "dynamodb:BatchWriteItem",
    "dynamodb:ConditionCheckItem",
    "dynamodb:DeleteItem",
    "dynamodb:GetItem",
    "dynamodb:PutItem",
    "dynamodb:Query",
    "dynamodb:Scan",
    "dynamodb:UpdateItem",
]


class WorkpoolStack(Stack):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: WorkpoolConfig,
        functions: Path = FUNCTIONS,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            stack_name=config.stack_name,
            description="Idempotent Workpool: runs actions until they complete",
        )
        names = Names(config.stack_name)

        storage = Storage(self, "Storage")
        lambdas = Lambdas(
            self,
            "Lambdas",
            source=functions,
            pools=config.pools,
            reserved=config.reserved_concurrency,
            tracing=config.tracing,
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
                "IDEMPOTENT_WORKPOOL_LOG_LEVEL": config.log_level,
            },
        )
        submit = Submit(self, "Submit", names=names, lambdas=lambdas)
        api = Api(self, "Api", names=names, lambdas=lambdas)
        relay = Relay(self, "Relay", names=names, lambdas=lambdas, runs=storage.runs)
        pools = [
            Pool(
                self,
                f"Pool-{pool.name}",
                names=names,
                lambdas=lambdas,
                config=pool,
                reserved=config.reserved_concurrency,
                tracing=config.tracing,
            )
            for pool in config.pools
        ]
        completion = Completion(
            self, "Completion", names=names, lambdas=lambdas, config=config.completions
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
        )

        sweeper = Sweeper(self, "Sweeper", names=names, lambdas=lambdas)
        stats = Stats(self, "Stats", names=names, lambdas=lambdas)
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
            parked=dead_letters.parked,
            functions={
                "relay": relay.function,
                "relay-retry": relay.retry_function,
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
            completion=completion,
            dead_letters=dead_letters,
            alarms=alarms,
        )

        # Grants. Runs first: who may write them, who may only read.
        runs = storage.runs.table_arn
        users = (api.function, completion.function, *(pool.consumer for pool in pools))
        _allow(submit.function, WRITE_RUN, runs)
        _allow(api.function, WRITE_RUN, runs)
        for pool in pools:
            _allow(pool.consumer, WRITE_RUN, runs)
        _allow(completion.function, WRITE_IN_TRANSACTION, runs)
        _allow(stats.function, READ_RUNS, runs)

        # Payloads: whoever submits or attempts a run writes them, whoever forgets it deletes them.
        # That an object is missing, and not denied, S3 tells only to those who may list.
        bucket = storage.payloads.bucket_arn
        objects = storage.payloads.arn_for_objects("*")
        for writing in (submit.function, *users):
            _allow(writing, WRITE_OBJECT, objects)
        for reading in users:
            _allow(reading, READ_OBJECT, objects)
            _allow(reading, ["s3:ListBucket"], bucket)
        for deleting in (relay.function, sweeper.function):
            _allow(deleting, ["s3:DeleteObject"], objects)
        _allow(sweeper.function, ["s3:ListBucket"], bucket)

        # Lists and statistics: also for those that use the pool from inside.
        counters = storage.stats.table_arn
        for reading in (*users, stats.function, sweeper.function):
            _allow(reading, ["dynamodb:Query"], f"{runs}/index/{OPEN_INDEX}")
            _allow(reading, READ_STATS, counters)
        _allow(relay.function, COUNT, counters)

        # Operating a pool: its row, its limits, its given-up messages, cancelAll.
        operators = (api.function, sweeper.function)
        consumers = [pool.consumer.function_arn for pool in pools]
        for operating in operators:
            _allow(operating, COUNT, counters)
            _allow(
                operating,
                ["lambda:PutFunctionConcurrency", "lambda:GetFunctionConcurrency"],
                *consumers,
            )
            # A mapping's id is known only when it is looked for.
            _allow(operating, ["lambda:ListEventSourceMappings"], "*")
            operating.add_to_role_policy(
                iam.PolicyStatement(
                    actions=["lambda:UpdateEventSourceMapping"],
                    resources=[mappings_arn()],
                    conditions={"ArnEquals": {"lambda:FunctionArn": consumers}},
                )
            )
        _allow(api.function, ["lambda:InvokeFunction"], sweeper.function.function_arn)
        _allow(api.function, ["events:PutEvents"], completion.bus.event_bus_arn)
        _allow(
            api.function,
            ["sqs:GetQueueAttributes"],
            *(queue.queue_arn for pool in pools for queue in (pool.dead_letters, pool.parked)),
        )

        # The four that read a run and send the hint that its state calls for: a message, an
        # execution, an event.
        hinting_functions = (
            relay.function,
            relay.retry_function,
            dead_letters.function,
            sweeper.function,
        )
        for hinting in hinting_functions:
            _allow(hinting, READ_RUN, runs)
            _allow(hinting, ["sqs:SendMessage"], *(pool.work.queue_arn for pool in pools))
            _allow(
                hinting,
                ["states:StartExecution"],
                *(pool.retrier.state_machine.state_machine_arn for pool in pools),
            )
            _allow(hinting, ["events:PutEvents"], completion.bus.event_bus_arn)
        # The sweeper finds runs by the index, notes what it repeats, and cancels.
        _allow(sweeper.function, ["dynamodb:Scan"], f"{runs}/index/{OPEN_INDEX}")
        _allow(sweeper.function, ["dynamodb:DeleteItem"], counters)  # Of its own notes.
        _allow(sweeper.function, ["dynamodb:BatchGetItem", "dynamodb:UpdateItem"], runs)
        # What the relay cannot send waits here; and it alone sees that a waiting run was canceled
        # (an execution's name is its run's, so it is known only then).
        _allow(relay.function, ["sqs:SendMessage"], relay.retry_queue.queue_arn)
        _allow(
            relay.function,
            ["states:StopExecution"],
            *(executions_arn(names.retrier(pool.name)) for pool in config.pools),
        )

        # Those that read a pool's messages: what nobody can read is moved to where a person
        # looks; a token is answered. IAM knows no resource for that: the token is the authority.
        for pool in pools:
            _allow(pool.consumer, ["sqs:SendMessage"], pool.parked.queue_arn)
            _allow(pool.consumer, ANSWER_TOKEN, "*")
            _allow(dead_letters.function, ["sqs:SendMessage"], pool.parked.queue_arn)
        _allow(dead_letters.function, ANSWER_TOKEN, "*")
        for parking in (relay.retry_function, completion.function, dead_letters.function):
            _allow(parking, ["sqs:SendMessage"], dead_letters.parked.queue_arn)

        # Each Retrier sends to its own pool.
        for pool in pools:
            pool.retrier.state_machine.role.add_to_principal_policy(
                iam.PolicyStatement(actions=["sqs:SendMessage"], resources=[pool.work.queue_arn])
            )

        # What deployers allow their own code.
        for pool in pools:
            functions_arn = f"arn:{Aws.PARTITION}:lambda:{Aws.REGION}:{Aws.ACCOUNT_ID}:function"
            for name in pool.config.lambda_actions:
                _allow(
                    pool.consumer,
                    ["lambda:InvokeFunction", "lambda:GetFunctionConfiguration"],
                    f"{functions_arn}:{name}",
                )
            for table in pool.config.tables:
                arn = f"arn:{Aws.PARTITION}:dynamodb:{Aws.REGION}:{Aws.ACCOUNT_ID}:table/{table}"
                for user in (pool.consumer, completion.function):
                    _allow(user, USE_TABLE, arn, f"{arn}/index/*")

        # Where clients find it all.
        ssm.StringParameter(
            self,
            "Parameter",
            parameter_name=names.parameter,
            description="Where the clients of this workpool find it",
            string_value=self.to_json_string(
                {
                    "apiUrl": api.url,
                    "runsTable": storage.runs.table_name,
                    "submitFunction": submit.function.function_name,
                    "region": Aws.REGION,
                }
            ),
        )
        CfnOutput(self, "ApiUrl", value=api.url)
        CfnOutput(self, "SubmitFunctionName", value=submit.function.function_name)
        CfnOutput(self, "RunsTableName", value=storage.runs.table_name)
        CfnOutput(self, "StatsTableName", value=storage.stats.table_name)
        CfnOutput(self, "PayloadsBucketName", value=storage.payloads.bucket_name)
        CfnOutput(self, "EventBusName", value=completion.bus.event_bus_name)
        CfnOutput(self, "DashboardUrl", value=dashboard.url)
        for pool in pools:
            prefix = pascal_case(pool.config.name)
            CfnOutput(self, f"{prefix}QueueUrl", value=pool.work.queue_url)
            CfnOutput(self, f"{prefix}ConsumerFunctionName", value=pool.consumer.function_name)
            CfnOutput(
                self, f"{prefix}RetrierArn", value=pool.retrier.state_machine.state_machine_arn
            )


def _allow(function: lambda_.Function, actions: list[str], *resources: str) -> None:
    function.add_to_role_policy(iam.PolicyStatement(actions=actions, resources=list(resources)))
