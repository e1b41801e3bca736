"""A pool's Retrier: the state machine that wraps a run's action from its first failure on.

Backoff waits until the run is due. Attempt puts the run into the pool's queue and waits for its
token. The consumer answers with how the run ended, or with `Workpool.Retry`, whose cause is the
next due time. The relay starts executions; the Retrier itself reads and writes no run.
"""

import json
from typing import Any

from aws_cdk import Aws
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as stepfunctions
from constructs import Construct

from infra.queue import RETENTION

#: JSONPath, because the local emulators run no JSONata. Input:
#: {"v": 1, "run": "<pool>#<run id>", "group": "<fairness key, else run id>",
#:  "retry": {"Cause": "<due, ISO 8601, whole second>"}}
DEFINITION: dict[str, Any] = {
    "QueryLanguage": "JSONPath",
    "StartAt": "Backoff",
    "States": {
        "Backoff": {
            "Type": "Wait",
            "TimestampPath": "$.retry.Cause",
            "Next": "Attempt",
        },
        "Attempt": {
            "Type": "Task",
            "Resource": "arn:${Partition}:states:::sqs:sendMessage.waitForTaskToken",
            "Parameters": {
                "QueueUrl": "${WorkQueueUrl}",
                "MessageGroupId.$": "$.group",
                "MessageBody": {
                    "v": 1,
                    "run.$": "$.run",
                    "due.$": "$.retry.Cause",
                    "token.$": "$$.Task.Token",
                    "execution.$": "$$.Execution.Name",
                },
            },
            # After that the message is gone from the queue, and no answer can come.
            "TimeoutSeconds": RETENTION.to_seconds(),
            # SQS may be unreachable for days. Its errors are not named, since AWS may rename them.
            # Retriers come before catchers: the first one leaves Workpool.Retry to the catcher.
            # States.TaskFailed is every error but States.Timeout.
            "Retry": [
                {"ErrorEquals": ["Workpool.Retry"], "MaxAttempts": 0},
                {
                    "ErrorEquals": ["States.TaskFailed"],
                    "IntervalSeconds": 2,
                    "BackoffRate": 2,
                    "MaxDelaySeconds": 300,
                    "MaxAttempts": 1000,
                    "JitterStrategy": "FULL",
                },
            ],
            # {"Error", "Cause"} becomes $.retry, which is the shape of the input again.
            "Catch": [
                {
                    "ErrorEquals": ["Workpool.Retry"],
                    "ResultPath": "$.retry",
                    "Next": "Backoff",
                }
            ],
            "End": True,
        },
    },
}


class Retrier(Construct):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name: str,
        work: sqs.Queue,
        tracing: bool,
    ) -> None:
        super().__init__(scope, construct_id)
        self.state_machine = stepfunctions.StateMachine(
            self,
            "StateMachine",
            state_machine_name=name,
            definition_body=stepfunctions.DefinitionBody.from_string(
                json.dumps(DEFINITION, indent=1)
            ),
            definition_substitutions={
                "Partition": Aws.PARTITION,
                "WorkQueueUrl": work.queue_url,
            },
            tracing_enabled=tracing or None,
        )
