"""The stack under test as a caller sees it: by the SDK, by HTTP, and by its tables and logs.

It only calls the emulator that `deploy` started, and knows nothing of the project's code.
"""

import http.client
import json
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urlsplit

import psutil
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local import Deployment, restart
from local.emulator import REGION

T = TypeVar("T")
ENDED = ("completed", "canceled")


class Deployed:
    def __init__(self, deployment: Deployment, *, redeploy: Callable[..., Deployment]) -> None:
        """`redeploy` deploys with the pools that are given to it."""
        self.redeploy = redeploy
        self.name = deployment.stack
        self.outputs = deployment.outputs
        self.region = REGION
        self.endpoint = deployment.emulator.endpoint
        self.api_url = deployment.api_url
        self.environment = deployment.environment()
        self._emulator = deployment.emulator
        self.client = self._emulator.client

    def submit(self, payload: dict[str, Any]) -> Any:
        """What the submit function answers. Raises RuntimeError with its errorMessage."""
        return self._invoke(self.outputs["SubmitFunctionName"], payload)

    def sweep(self) -> int:
        """Call the sweeper, for which a run is overdue after one second. Answers how many hints it
        repeated."""
        return sum(self.invoke("sweeper", {"overdueSeconds": 1}).values())

    def invoke(self, part: str, payload: dict[str, Any]) -> Any:
        """What the function `<stack>-<part>` answers. Raises RuntimeError with its errorMessage."""
        return self._invoke(f"{self.name}-{part}", payload)

    def restart(self) -> None:
        """Stop the emulator while everything runs, and start it again with its state."""
        restart.save_and_stop(self._emulator)
        restart.start_again(self._emulator, runs_table=self.outputs["RunsTableName"])

    def _invoke(self, function: str, payload: dict[str, Any]) -> Any:
        answer = self.client("lambda").invoke(FunctionName=function, Payload=json.dumps(payload))
        with answer["Payload"] as stream:
            shape = json.loads(stream.read())
        if "FunctionError" in answer:
            raise RuntimeError(shape["errorMessage"])
        return shape

    def http(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send a signed request. Answers the status and the JSON. Bytes are sent as they are."""
        return self._http(method, path, body, signed=True)

    def unsigned(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        return self._http(method, path, body, signed=False)

    def status(self, pool: str, run_id: str) -> dict[str, Any]:
        _, shape = self.http("GET", f"/pools/{pool}/runs/{run_id}")
        return dict(shape)

    def wait(
        self,
        pool: str,
        run_id: str,
        timeout: float = 30,
        until: Callable[[dict[str, Any]], bool] = lambda status: status["kind"] in ENDED,
    ) -> dict[str, Any]:
        """Wait for a status that `until` accepts. Default: the run has ended."""
        return self.until(lambda: self.status(pool, run_id), until, timeout)

    def until(self, read: Callable[[], T], good: Callable[[T], bool], timeout: float = 30) -> T:
        """Read until the value is good. Between two reads, rest for twice as long as a read takes,
        but at most a second."""
        deadline = time.monotonic() + timeout
        while True:
            began = time.monotonic()
            if good(value := read()):
                return value
            if time.monotonic() > deadline:
                raise TimeoutError(f"still {value!r} after {timeout} s")
            time.sleep(min(1, max(0.2, 2 * (time.monotonic() - began))))

    def item(self, pool: str, run_id: str) -> dict[str, Any]:
        """The run's item as DynamoDB holds it."""
        answer = self.client("dynamodb").get_item(
            TableName=self.outputs["RunsTableName"],
            Key={"run": {"S": f"{pool}#{run_id}"}},
            ConsistentRead=True,
        )
        return dict(answer["Item"])

    def count_runs(self) -> int:
        pages = self.client("dynamodb").get_paginator("scan")
        table = self.outputs["RunsTableName"]
        return sum(page["Count"] for page in pages.paginate(TableName=table, Select="COUNT"))

    def depth(self, queue_url: str) -> int:
        """How many messages wait, without those that are in flight or hidden."""
        name = "ApproximateNumberOfMessages"
        answer = self.client("sqs").get_queue_attributes(QueueUrl=queue_url, AttributeNames=[name])
        return int(answer["Attributes"][name])

    def settled(self, pool: str, run_id: str) -> None:
        """Wait until for a second no message waits in the pool's queues and the run's item does not
        change."""
        queues = [self._queue(f"{self.name}-{pool}-work"), self._queue(f"{self.name}-completions")]
        seen: list[tuple[int, dict[str, Any]]] = []

        def look() -> int:
            now = (sum(map(self.depth, queues)), self.item(pool, run_id))
            if now[0] or seen[-1:] != [now]:
                seen.clear()
            seen.append(now)
            return len(seen)

        self.until(look, lambda same: same > 10)

    def logs(self, function_name: str) -> list[dict[str, Any]]:
        """What the function printed as JSON, oldest first."""
        about = self.client("lambda").get_function_configuration(FunctionName=function_name)
        group = about.get("LoggingConfig", {}).get("LogGroup") or f"/aws/lambda/{function_name}"
        pages = self.client("logs").get_paginator("filter_log_events")
        events = [it for page in pages.paginate(logGroupName=group) for it in page["events"]]
        lines = [it["message"] for it in sorted(events, key=lambda it: it["timestamp"])]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def kill(self, part: str) -> None:
        """Kill the worker processes of the function `<stack>-<part>`."""
        server = psutil.Process(self._emulator.pid)
        its = f"ministack-lambda-{self.name}-{part}-"
        for worker in server.children():
            if any(its in word for word in worker.cmdline()):
                worker.kill()

    def _queue(self, name: str) -> str:
        return str(self.client("sqs").get_queue_url(QueueName=name)["QueueUrl"])

    @cached_property
    def _signer(self) -> SigV4Auth:
        return SigV4Auth(Credentials("local", "local"), "execute-api", self.region)

    def _http(self, method: str, path: str, body: Any, *, signed: bool) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body)
        request = AWSRequest(method, self.api_url + path, data=data)
        request.headers["Content-Type"] = "application/json"
        if signed:
            self._signer.add_auth(request)
        url = urlsplit(self.api_url + path)
        connection = http.client.HTTPConnection(url.netloc, timeout=60)
        try:
            target = f"{url.path}?{url.query}" if url.query else url.path
            connection.request(method, target, data, dict(request.headers.items()))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()
