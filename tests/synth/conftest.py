"""One synth with a plain pool and one of the largest deployment, for all tests here.

They take nothing from a team's own files: `cdk.json` and its code in `functions/`.
"""

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
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
from local import copy_project

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


CONTEXT: dict[str, Any] = {
    "stackName": "Workpool",
    "pools": {"default": {"maxParallelism": 10}},
}


@cache
def project_without_code() -> Path:
    """The template without actions and completion handlers, for as long as this process lives."""
    directory = Path(tempfile.mkdtemp(prefix="workpool-synth-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    for folder in ("actions", "completions"):
        (directory / "code" / folder).mkdir(parents=True)
    return copy_project(directory / "project", code=directory / "code")


def stack(changes: dict[str, Any] | None = None) -> WorkpoolStack:
    """The stack of one plain pool, with some of its context changed."""
    merged = {**CONTEXT, **(changes or {})}
    config = WorkpoolConfig.from_context(merged, log_level="INFO")
    functions = project_without_code() / "functions"
    app = App(context=FEATURE_FLAGS | merged)
    return WorkpoolStack(app, config.stack_name, config=config, functions=functions)


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
    """What a `cdk.json` gives to the app."""
    return dict(CONTEXT)


@pytest.fixture(scope="session")
def project() -> Path:
    """A project whose `app.py` and `functions/` are the template's alone."""
    return project_without_code()


@pytest.fixture(scope="session")
def resources() -> Resources:
    return Resources(Template.from_stack(stack()).to_json())


@pytest.fixture(scope="session")
def largest() -> Resources:
    return Resources(Template.from_stack(stack(LARGEST)).to_json())


@pytest.fixture(scope="session")
def make_resources() -> Callable[[dict[str, Any]], Resources]:
    """For a context that differs: a synth of its own takes a second."""
    return lambda changes: Resources(Template.from_stack(stack(changes)).to_json())
