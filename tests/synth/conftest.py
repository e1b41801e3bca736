"""One synth with a plain pool and one of the largest deployment, for all tests here."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

# Before the first import of the CDK, whose node process would comment on its own version.
os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "20")
os.environ.setdefault("NODE_NO_WARNINGS", "1")

from aws_cdk import App
from aws_cdk.assertions import Template

from infra.config import WorkpoolConfig
from infra.feature_flags import FEATURE_FLAGS
from infra.stack import WorkpoolStack

ROOT = Path(__file__).parents[2]

#: Bounds are met with the longest names there may be.
LONGEST_STACK_NAME = "Workpool-of-22-letters"
LARGEST = {
    "stackName": LONGEST_STACK_NAME,
    "pools": {
        f"pool-{number:02}-with-a-name-of-32-letter": {
            "maxParallelism": 1 if number == 0 else 50,
            "lambdaActions": ["my-function"],
            "tables": ["orders"],
            "environment": {"GREETING": "x" * 2900} if number == 1 else {},
            "policies": ["arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"],
        }
        for number in range(16)
    },
}


#: `cdk.json`, but for the tables that its pool may use because of the demo.
CONTEXT: dict[str, Any] = {
    **json.loads((ROOT / "cdk.json").read_text())["context"],
    "pools": {"default": {"maxParallelism": 10}},
}


def stack(changes: dict[str, Any] | None = None) -> WorkpoolStack:
    """The stack of one plain pool, with some of its context changed."""
    merged = {**CONTEXT, **(changes or {})}
    config = WorkpoolConfig.from_context(merged, log_level="INFO")
    return WorkpoolStack(App(context=FEATURE_FLAGS | merged), config.stack_name, config=config)


class Resources:
    """A template's resources, found by type and by the end of their physical name."""

    def __init__(self, template: Mapping[str, Any]) -> None:
        self.template = template
        self.all: dict[str, dict[str, Any]] = template["Resources"]

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        return {
            key: resource["Properties"]
            for key, resource in self.all.items()
            if resource["Type"] == kind
        }

    def named(self, kind: str, name: str) -> tuple[str, dict[str, Any]]:
        keys = ("QueueName", "FunctionName", "StateMachineName", "Name", "LogGroupName")
        (found,) = (
            (key, properties)
            for key, properties in self.of(kind).items()
            if name in {properties.get(key) for key in keys}
        )
        return found


@pytest.fixture
def context() -> dict[str, Any]:
    """What `cdk.json` gives to the app."""
    return dict(CONTEXT)


@pytest.fixture(scope="session")
def resources() -> Resources:
    return Resources(Template.from_stack(stack()).to_json())


@pytest.fixture(scope="session")
def largest() -> Resources:
    return Resources(Template.from_stack(stack(LARGEST)).to_json())


@pytest.fixture(scope="session")
def make_resources() -> Callable[[dict[str, Any]], Resources]:
    """For what differs from `cdk.json`: a synth of its own takes a second."""
    return lambda changes: Resources(Template.from_stack(stack(changes)).to_json())
