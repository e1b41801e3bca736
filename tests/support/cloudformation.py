"""CloudFormation, as far as the deployment function sees it: it sends events and gets answers."""

import json
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest

from handlers import deployment
from tests.support.invocations import context_with

Pools = dict[str, int]
"""The maxParallelism of each pool that a template has."""


@dataclass
class CloudFormation:
    """The stack's custom resource, and what it answered."""

    deployed: Pools | None = None
    answers: list[dict[str, Any]] = field(default_factory=list)
    unreachable: int = 0
    """How many of the next answers do not arrive."""

    def deploy(
        self, pools: Pools, *, reserved: bool = True, milliseconds: tuple[int, ...] = (180_000,)
    ) -> dict[str, Any]:
        """Deploy a template with these pools. Returns the function's answer."""
        before = (
            {} if self.deployed is None else {"OldResourceProperties": _properties(self.deployed)}
        )
        answer = self.send(
            "Create" if self.deployed is None else "Update",
            {"ResourceProperties": _properties(pools, reserved), **before},
            milliseconds,
        )
        if answer["Status"] == "SUCCESS":
            self.deployed = pools
        return answer

    def destroy(self) -> dict[str, Any]:
        """Delete the stack. Returns the function's answer."""
        return self.send("Delete", {"ResourceProperties": _properties(self.deployed or {})})

    def send(
        self, kind: str, more: dict[str, Any], milliseconds: tuple[int, ...] = (180_000,)
    ) -> dict[str, Any]:
        """Invoke the function with an event. Returns its answer."""
        event = {
            "RequestType": kind,
            "ResponseURL": "https://cloudformation.test/answer",
            "StackId": "the stack",
            "RequestId": "the request",
            "LogicalResourceId": "the resource",
            **more,
        }
        deployment.handler(event, context_with(*milliseconds))
        return self.answers[-1]

    def receive(self, request: Any, timeout: float) -> Any:
        """Stands in for urllib.request.urlopen."""
        assert request.full_url == "https://cloudformation.test/answer"
        assert (request.method, request.headers["Content-type"]) == ("PUT", "")
        if self.unreachable:
            self.unreachable -= 1
            raise TimeoutError
        assert len(request.data) <= 4096
        self.answers.append(json.loads(request.data))
        return nullcontext()


def _properties(pools: Pools, reserved: bool = True) -> dict[str, str]:
    said = {
        name: {"maxParallelism": limit, "reservedConcurrency": reserved}
        for name, limit in pools.items()
    }
    return {"ServiceToken": "the function", "Pools": json.dumps(said)}


@pytest.fixture
def cloudformation(world: Any, monkeypatch: pytest.MonkeyPatch) -> CloudFormation:
    """A stack that is not deployed yet. Its consumers are as the template creates them: closed."""
    here = CloudFormation()
    monkeypatch.setattr("urllib.request.urlopen", here.receive)
    return here
