"""Who may do what: every right of every function and state machine of a workpool, on one page.

The parts grant nothing themselves but a function's own log and what comes with an event source.
Called by `infra/workpool.py`, once all parts exist.
"""

from collections.abc import Sequence

from aws_cdk import Annotations, Aws
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_

from infra.api import Api
from infra.completion import Completion
from infra.counters import Counters
from infra.dead_letters import DeadLetters
from infra.deployment import Deployment
from infra.names import Names, executions_arn, mappings_arn
from infra.pool import Pool
from infra.relay import Relay
from infra.stats import Stats
from infra.storage import OPEN_INDEX, Storage
from infra.submit import Submit
from infra.sweeper import Sweeper

READ_RUN = ["dynamodb:GetItem"]
READ_RUNS = ["dynamodb:GetItem", "dynamodb:BatchGetItem"]
CREATE_RUN = [*READ_RUN, "dynamodb:PutItem"]
WRITE_RUN = [*READ_RUNS, "dynamodb:PutItem", "dynamodb:UpdateItem"]
WRITE_OBJECT = ["s3:PutObject"]
READ_OBJECT = ["s3:GetObject"]
READ_STATS = ["dynamodb:GetItem", "dynamodb:Query"]
#: It also deletes the rows of old shards.
COUNT = ["dynamodb:Query", "dynamodb:UpdateItem", "dynamodb:DeleteItem"]
WRITE_SETTINGS = ["dynamodb:GetItem", "dynamodb:UpdateItem"]
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
#: Lambda uses them to connect a function to a VPC.
CONNECT_TO_VPC = [
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
]
#: DynamoDB asks for all of these from whoever reads and writes an encrypted table.
USE_KEY = [
    "kms:Decrypt",
    "kms:DescribeKey",
    "kms:Encrypt",
    "kms:GenerateDataKey*",
    "kms:ReEncrypt*",
]
#: SQS asks for these from whoever sends to an encrypted queue.
SEND_ENCRYPTED = ["kms:Decrypt", "kms:GenerateDataKey"]


def grant_parts(
    *,
    names: Names,
    storage: Storage,
    submit: Submit,
    api: Api,
    relay: Relay,
    counters: Counters,
    pools: Sequence[Pool],
    completion: Completion,
    dead_letters: DeadLetters,
    sweeper: Sweeper,
    stats: Stats,
    deployment: Deployment,
) -> None:
    # Runs: who may write them, and who may only read them.
    runs = storage.runs.table_arn
    users = (api.function, completion.function, *(pool.consumer for pool in pools))
    # TransactWriteItems needs the rights of its entries, and no right of its own.
    _allow(submit.function, CREATE_RUN, runs)
    for writing in users:
        _allow(writing, WRITE_RUN, runs)
    _allow(stats.function, ["dynamodb:BatchGetItem"], runs)

    # Payloads: whoever submits or attempts a run writes them; whoever removes a run deletes them.
    # S3 answers that an object is missing, and not denied, only to those who may list the bucket.
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

    # Lists and statistics: also for the functions whose user code may call the client.
    statistics = storage.stats.table_arn
    for reading in (*users, stats.function, sweeper.function):
        _allow(reading, ["dynamodb:Query"], f"{runs}/index/{OPEN_INDEX}")
        _allow(reading, READ_STATS, statistics)
    _allow(counters.function, COUNT, statistics)

    # Operating a pool: its settings, its limits, its dead letters, cancelAll.
    operators = (api.function, sweeper.function)
    consumers = [pool.consumer.function_arn for pool in pools]
    for operating in operators:
        _allow(operating, ["dynamodb:UpdateItem"], statistics)
    _allow(deployment.function, WRITE_SETTINGS, statistics)
    for operating in (*operators, deployment.function):
        _allow(
            operating,
            ["lambda:PutFunctionConcurrency", "lambda:GetFunctionConcurrency"],
            *consumers,
        )
        # The id of a mapping is not known before it is listed.
        _allow(operating, ["lambda:ListEventSourceMappings"], "*")
        operating.add_to_role_policy(
            iam.PolicyStatement(
                actions=["lambda:UpdateEventSourceMapping"],
                resources=[mappings_arn()],
                conditions={"ArnEquals": {"lambda:FunctionArn": consumers}},
            )
        )
    # A deploy removes the bound if the configuration says so, and looks whether a pool that it
    # removes has open runs.
    _allow(deployment.function, ["lambda:DeleteFunctionConcurrency"], *consumers)
    _allow(deployment.function, ["dynamodb:Query"], f"{runs}/index/{OPEN_INDEX}")
    _allow(api.function, ["lambda:InvokeFunction"], sweeper.function.function_arn)
    _allow(api.function, ["events:PutEvents"], completion.bus.event_bus_arn)
    _allow(
        api.function,
        ["sqs:GetQueueAttributes"],
        *(queue.queue_arn for pool in pools for queue in (pool.dead_letters, pool.parked)),
    )

    # Hints: these four functions send the hint that a run's state calls for, which is a message, an
    # execution or an event. The relay knows the state from the stream; the others read the run.
    hinting_functions = (
        relay.function,
        relay.retry_function,
        dead_letters.function,
        sweeper.function,
    )
    for hinting in hinting_functions:
        if hinting is not relay.function:
            _allow(hinting, READ_RUN, runs)
        _allow(hinting, ["sqs:SendMessage"], *(pool.work.queue_arn for pool in pools))
        _allow(
            hinting,
            ["states:StartExecution"],
            *(pool.retrier.state_machine.state_machine_arn for pool in pools),
        )
        _allow(hinting, ["events:PutEvents"], completion.bus.event_bus_arn)
    # The sweeper finds runs in the index, notes which hints it repeated, and cancels runs. In the
    # other table it keeps notes of its own.
    _allow(sweeper.function, ["dynamodb:Scan"], f"{runs}/index/{OPEN_INDEX}")
    _allow(sweeper.function, ["dynamodb:PutItem", "dynamodb:DeleteItem"], statistics)
    _allow(sweeper.function, ["dynamodb:BatchGetItem", "dynamodb:UpdateItem"], runs)
    # The relay queues what it cannot send now. It also stops the execution of a canceled run: the
    # name of an execution is made of the run's id, so it is not known here.
    _allow(relay.function, ["sqs:SendMessage"], relay.retry_queue.queue_arn)
    _allow(
        relay.function,
        ["states:StopExecution"],
        *(executions_arn(names.retrier(pool.config.name)) for pool in pools),
    )

    # Messages: whoever reads a pool's messages moves unreadable ones to the parked queue, for a
    # person to look at, and answers task tokens. The relay and the sweeper do so with the keys of
    # unreadable items. IAM knows no resource for a token: whoever has
    # the token may answer it.
    for pool in pools:
        _allow(pool.consumer, ["sqs:SendMessage"], pool.parked.queue_arn)
        _allow(pool.consumer, ANSWER_TOKEN, "*")
        _allow(dead_letters.function, ["sqs:SendMessage"], pool.parked.queue_arn)
    _allow(dead_letters.function, ANSWER_TOKEN, "*")
    parking_functions = (
        relay.function,
        relay.retry_function,
        completion.function,
        dead_letters.function,
        sweeper.function,
    )
    for parking in parking_functions:
        _allow(parking, ["sqs:SendMessage"], dead_letters.parked.queue_arn)

    # Each Retrier sends to the queue of its own pool.
    for pool in pools:
        pool.retrier.state_machine.role.add_to_principal_policy(
            iam.PolicyStatement(actions=["sqs:SendMessage"], resources=[pool.work.queue_arn])
        )

    # What deployers allow to their own code.
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


def grant_vpc(names: Names, functions: Sequence[lambda_.Function]) -> None:
    """Lambda connects a function to a VPC with the rights of the function's own role.

    These rights cannot be bound to one VPC, so the code itself is denied them, as AWS advises.
    """
    own = f"arn:{Aws.PARTITION}:lambda:{Aws.REGION}:{Aws.ACCOUNT_ID}:function:{names.part('*')}"
    for function in functions:
        _allow(function, CONNECT_TO_VPC, "*")
        function.add_to_role_policy(
            iam.PolicyStatement(
                effect=iam.Effect.DENY,
                actions=CONNECT_TO_VPC,
                resources=["*"],
                conditions={"ArnLike": {"lambda:SourceFunctionArn": own}},
            )
        )


def grant_key(
    key: kms.IKey, names: Names, functions: Sequence[lambda_.Function], pools: Sequence[Pool]
) -> None:
    """The key encrypts tables, bucket, queues and logs: whoever uses these uses the key."""
    for function in functions:
        key.grant(function, *USE_KEY)
    for pool in pools:
        key.grant(pool.retrier.state_machine, *SEND_ENCRYPTED)

    logs = f"arn:{Aws.PARTITION}:logs:{Aws.REGION}:{Aws.ACCOUNT_ID}:log-group"
    services = [
        # Without a condition on the source, as AWS's pages show it: EventBridge's calls of KMS
        # carry none. Which rules may send is bound by the policies of the queues.
        iam.PolicyStatement(
            principals=[iam.ServicePrincipal("events.amazonaws.com")],
            actions=SEND_ENCRYPTED,
            resources=["*"],
        ),
        iam.PolicyStatement(
            principals=[iam.ServicePrincipal(f"logs.{Aws.REGION}.{Aws.URL_SUFFIX}")],
            actions=USE_KEY,
            resources=["*"],
            conditions={
                "ArnLike": {
                    "kms:EncryptionContext:aws:logs:arn": [
                        f"{logs}:/aws/lambda/{names.part('*')}",
                        f"{logs}:/aws/vendedlogs/{names.part('*')}",
                    ]
                }
            },
        ),
    ]
    added = [key.add_to_resource_policy(statement).statement_added for statement in services]
    if not all(added):
        Annotations.of(key).add_warning_v2(
            "workpool:key-policy",
            "This key's policy is not part of the app. It must let events.amazonaws.com use "
            "kms:Decrypt and kms:GenerateDataKey, and CloudWatch Logs use the key, or no "
            "completion handler is called.",
        )


def _allow(function: lambda_.Function, actions: list[str], *resources: str) -> None:
    function.add_to_role_policy(iam.PolicyStatement(actions=actions, resources=list(resources)))
