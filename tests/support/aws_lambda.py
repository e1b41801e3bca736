"""Lambda in memory, as far as the library uses it: the limits of consumers, and functions that it
invokes."""

import io
import json
from collections.abc import Callable
from typing import Any

from tests.support.environment import consumer_of
from tests.support.failures import refusal


class Lambda:
    """The client, and the functions behind it.

    A change of a mapping takes effect at once. While `slow`, it takes effect with `settle`, and
    until then AWS refuses the next one.
    """

    ACCOUNT_LIMIT = 1000
    UNRESERVED = 100

    def __init__(self) -> None:
        self.slow = False
        self.reserved: dict[str, int] = {}
        self.mappings: dict[str, dict[str, Any]] = {}
        self.functions: dict[str, tuple[int, Callable[[Any], Any]]] = {}
        self.invoked: list[tuple[str, Any]] = []

    def deploy(self, function: str, limit: int) -> None:
        """A consumer and its mapping, as a deploy of the stack leaves them."""
        self.reserved[function] = limit
        self.mappings[f"uuid-of-{function}"] = {
            "UUID": f"uuid-of-{function}",
            "State": "Enabled",
            "ScalingConfig": {"MaximumConcurrency": max(2, limit)},
        }

    def create_closed(self, function: str) -> None:
        """A consumer and its mapping, as the template creates them."""
        self.deploy(function, 0)
        self.mappings[f"uuid-of-{function}"]["State"] = "Disabled"

    def limits(self, pool: str = "default") -> tuple[int | None, str, int]:
        """Reserved concurrency, the mapping's state and its maximum."""
        function = consumer_of(pool)
        mapping = self.mappings[f"uuid-of-{function}"]
        maximum = mapping["ScalingConfig"]["MaximumConcurrency"]
        return self.reserved.get(function), mapping["State"], maximum

    def settle(self) -> None:
        """Apply the changes that AWS was still applying."""
        done = {"Disabling": "Disabled", "Enabling": "Enabled"}
        for mapping in self.mappings.values():
            mapping["State"] = done.get(mapping["State"], mapping["State"])

    def put_function_concurrency(
        self, *, FunctionName: str, ReservedConcurrentExecutions: int
    ) -> dict[str, Any]:
        wanted = {**self.reserved, FunctionName: ReservedConcurrentExecutions}
        if sum(wanted.values()) > self.ACCOUNT_LIMIT - self.UNRESERVED:
            raise refusal("InvalidParameterValueException", "PutFunctionConcurrency")
        self.reserved = wanted
        return {"ReservedConcurrentExecutions": ReservedConcurrentExecutions}

    def delete_function_concurrency(self, *, FunctionName: str) -> dict[str, Any]:
        self.reserved.pop(FunctionName, None)
        return {}

    def get_function_concurrency(self, *, FunctionName: str) -> dict[str, Any]:
        limit = self.reserved.get(FunctionName)
        return {} if limit is None else {"ReservedConcurrentExecutions": limit}

    def list_event_source_mappings(self, *, FunctionName: str) -> dict[str, Any]:
        mapping = self.mappings[f"uuid-of-{FunctionName}"]
        return {"EventSourceMappings": [{**mapping, "ScalingConfig": {**mapping["ScalingConfig"]}}]}

    def update_event_source_mapping(
        self, *, UUID: str, Enabled: bool, ScalingConfig: dict[str, int]
    ) -> dict[str, Any]:
        mapping = self.mappings[UUID]
        if mapping["State"] not in ("Enabled", "Disabled"):
            raise refusal("ResourceInUseException", "UpdateEventSourceMapping")
        if not 2 <= ScalingConfig["MaximumConcurrency"] <= 1000:
            raise refusal("InvalidParameterValueException", "UpdateEventSourceMapping")
        mapping |= {
            "State": "Enabling" if Enabled else "Disabling",
            "ScalingConfig": ScalingConfig,
        }
        if not self.slow:
            self.settle()
        return mapping

    def get_function_configuration(self, *, FunctionName: str) -> dict[str, Any]:
        return {"FunctionName": FunctionName, "Timeout": self.functions[FunctionName][0]}

    def invoke(
        self, *, FunctionName: str, Payload: str, InvocationType: str = "RequestResponse"
    ) -> dict[str, Any]:
        given = json.loads(Payload)
        self.invoked.append((FunctionName, given))
        if InvocationType == "Event":
            return {"StatusCode": 202, "Payload": io.BytesIO()}
        try:
            value = self.functions[FunctionName][1](given)
        except Exception as error:
            shape = {"errorMessage": str(error), "errorType": type(error).__name__}
            payload = io.BytesIO(json.dumps(shape).encode())
            return {"StatusCode": 200, "FunctionError": "Unhandled", "Payload": payload}
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        return {"StatusCode": 200, "Payload": io.BytesIO(raw)}
