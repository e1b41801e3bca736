"""AWS's rules of good practice (cdk-nag), and why some do not apply here.

Checked here and not in `app.py`, so that nobody's synth waits for it.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App, Validations
from cdk_nag import AwsSolutionsChecks

from infra.config import WorkpoolConfig
from infra.feature_flags import FEATURE_FLAGS
from infra.stack import WorkpoolStack

RUNTIME = "python3.13 is pinned: newer ones are taken on purpose, with the tests run on them"
POSITIONS = "holds positions in the stream, which nothing consumes: a person reads them"
LAST_HOP = "is itself the dead-letter queue of the event rule"
HISTORY = "a Standard execution keeps its whole history for 90 days: a log would repeat it"
TRACING = "ids and due times are in every message and log line; tracing is the deployer's option"
TOKEN = "SendTask* has no resource type in IAM: the token is the authority"
STREAM = "ListStreams has no resource type in IAM; what Lambda's poller asks for"
EXECUTIONS = "an execution's name is its run's and known only when it is stopped"
MAPPING = "ListEventSourceMappings has no resource type in IAM; it is how the id is found"
OBJECTS = "an object's name is its run's and known only when it is written"
READERS = "the stack's own functions alone use it; a log would be a second bucket without a reader"
MAPPINGS = "a mapping's id is Lambda's own and known only when it is looked for"

_MAPPINGS = "arn:<AWS::Partition>:lambda:<AWS::Region>:<AWS::AccountId>:event-source-mapping:*"
_OBJECTS = "IAM5[Resource::<StoragePayloadsCE68CCE3.Arn>/*]"
_RETRIER = "arn:<AWS::Partition>:states:<AWS::Region>:<AWS::AccountId>:execution"

#: (rule, where it does not apply): why.
EXCEPTIONS = {
    ("L1", "Submit/Function"): RUNTIME,
    ("L1", "Api/Function"): RUNTIME,
    ("L1", "Relay/Function"): RUNTIME,
    ("L1", "Relay/RetryFunction"): RUNTIME,
    ("L1", "Counters/Function"): RUNTIME,
    ("L1", "Pool-default/Consumer"): RUNTIME,
    ("L1", "Completion/Function"): RUNTIME,
    ("L1", "DeadLetters/Function"): RUNTIME,
    ("L1", "Sweeper/Function"): RUNTIME,
    ("L1", "Stats/Function"): RUNTIME,
    ("L1", "Deployment/Function"): RUNTIME,
    ("S1", "Storage/Payloads"): READERS,
    (_OBJECTS, "Submit/FunctionRole/DefaultPolicy"): OBJECTS,
    (_OBJECTS, "Api/FunctionRole/DefaultPolicy"): OBJECTS,
    (_OBJECTS, "Relay/FunctionRole/DefaultPolicy"): OBJECTS,
    (_OBJECTS, "Pool-default/ConsumerRole/DefaultPolicy"): OBJECTS,
    (_OBJECTS, "Completion/FunctionRole/DefaultPolicy"): OBJECTS,
    (_OBJECTS, "Sweeper/FunctionRole/DefaultPolicy"): OBJECTS,
    ("SQS3", "Relay/Failures"): POSITIONS,
    ("SQS3", "Completion/RuleDeadLetters"): LAST_HOP,
    ("SQS3", "DeadLetters/Parked"): LAST_HOP,
    ("SF1", "Pool-default/Retrier/StateMachine"): HISTORY,
    ("SF2", "Pool-default/Retrier/StateMachine"): TRACING,
    ("IAM5[Resource::*]", "Pool-default/ConsumerRole/DefaultPolicy"): TOKEN,
    ("IAM5[Resource::*]", "DeadLetters/FunctionRole/DefaultPolicy"): TOKEN,
    ("IAM5[Resource::*]", "Relay/FunctionRole/DefaultPolicy"): STREAM,
    ("IAM5[Resource::*]", "Counters/FunctionRole/DefaultPolicy"): STREAM,
    (
        f"IAM5[Resource::{_RETRIER}:Workpool-default-retrier:*]",
        "Relay/FunctionRole/DefaultPolicy",
    ): EXECUTIONS,
    ("IAM5[Resource::*]", "Api/FunctionRole/DefaultPolicy"): MAPPING,
    ("IAM5[Resource::*]", "Sweeper/FunctionRole/DefaultPolicy"): MAPPING,
    (f"IAM5[Resource::{_MAPPINGS}]", "Api/FunctionRole/DefaultPolicy"): MAPPINGS,
    (f"IAM5[Resource::{_MAPPINGS}]", "Sweeper/FunctionRole/DefaultPolicy"): MAPPINGS,
    ("IAM5[Resource::*]", "Deployment/FunctionRole/DefaultPolicy"): MAPPING,
    (f"IAM5[Resource::{_MAPPINGS}]", "Deployment/FunctionRole/DefaultPolicy"): MAPPINGS,
}


def test_aws_solutions_rules_hold_but_for_the_exceptions_with_a_reason(
    tmp_path: Path, context: dict[str, Any], project: Path
) -> None:
    app = App(context=FEATURE_FLAGS | context, outdir=str(tmp_path))
    config = WorkpoolConfig.from_context(context, log_level="INFO")
    WorkpoolStack(app, config.stack_name, config=config, functions=project / "functions")
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    with pytest.raises(RuntimeError, match="ValidationFailed"):  # because of the exceptions
        app.synth()
    (report,) = json.loads((tmp_path / "validation-report.json").read_text())["pluginReports"]
    found = {
        (
            violation["ruleName"].removeprefix("AwsSolutions-"),
            construct["constructPath"].removeprefix("Workpool/Default/").removesuffix("/Resource"),
        )
        for violation in report["violations"]
        for construct in violation["violatingConstructs"]
    }
    assert found == set(EXCEPTIONS)
