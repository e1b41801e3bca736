"""The stage: an emulator of its own with the project and the chaos actions deployed, and the ways
to talk to it.
"""

import http.client
import json
import shutil
import socket
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from chaos.plan import COMPLETIONS, POOLS
from local import restart
from local.deploy import Deployment, deploy
from local.emulator import REGION, Emulator
from local.node import CHECKOUT

DIRECTORY = CHECKOUT / ".local" / "chaos"
STACK = "WorkpoolChaos"
LEDGER = "workpool-chaos-ledger"
EVENTS = "workpool-chaos-events"
HERE = Path(__file__).parent


class Stage:
    """One deployed stack. `name` in the methods is a pool's, or a shared part's."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self.directory = directory
        for name in ("state", "project", "cdk.out"):
            shutil.rmtree(directory / name, ignore_errors=True)
        for log in directory.glob("emulator-*.log"):
            log.unlink()
        self.emulator = Emulator(
            directory=directory, port=_free_port(), environment=restart.PERSIST
        )
        self.emulator.stop()  # One that was left by a run that was killed.
        self.client = self.emulator.client
        self._restarts = 0

    def open(self) -> None:
        """Start, deploy, and make the chaos run's own table and queue."""
        self.emulator.start()
        pools = {name: {**pool, "tables": [LEDGER]} for name, pool in POOLS.items()}
        context = {"stackName": STACK, "pools": pools, "completions": COMPLETIONS}
        project = self.directory / "project"
        copy_project(project)
        self.deployment: Deployment = deploy(
            project=project, emulator=self.emulator, context=context
        )
        self.client("dynamodb").create_table(
            TableName=LEDGER,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": "S"} for name in ("run", "at")
            ],
            KeySchema=[
                {"AttributeName": "run", "KeyType": "HASH"},
                {"AttributeName": "at", "KeyType": "RANGE"},
            ],
        )
        self._listen_to_events()

    def close(self) -> None:
        self.emulator.stop()

    # Names

    @property
    def outputs(self) -> Mapping[str, str]:
        return self.deployment.outputs

    @property
    def runs_table(self) -> str:
        return self.outputs["RunsTableName"]

    def function(self, name: str) -> str:
        """The function that consumes the queue of this name."""
        if name in POOLS:
            return f"{STACK}-{name}-consumer"
        return f"{STACK}-completion" if name == "completions" else f"{STACK}-{name}"

    def queue_url(self, name: str) -> str:
        whole = f"{STACK}-{name}-work" if name in POOLS else f"{STACK}-{name}"
        return self.url_of(whole)

    def url_of(self, queue: str) -> str:
        return f"{self.emulator.endpoint}/000000000000/{queue}"

    def queues(self) -> list[str]:
        """The names of all of the stack's queues."""
        answer = self.client("sqs").list_queues(QueueNamePrefix=f"{STACK}-")
        return sorted(url.rpartition("/")[2] for url in answer.get("QueueUrls", []))

    def retrier(self, pool: str) -> str:
        return self.outputs[f"{pool.capitalize()}RetrierArn"]

    @cached_property
    def events_queue_url(self) -> str:
        """A queue of the chaos run's own that gets every ended event."""
        return self.url_of(EVENTS)

    @cached_property
    def relay_mapping(self) -> str:
        """The event source mapping of the runs table's stream."""
        [mapping] = self.client("lambda").list_event_source_mappings(FunctionName=f"{STACK}-relay")[
            "EventSourceMappings"
        ]
        return str(mapping["UUID"])

    # Calls

    def invoke(self, function: str, event: Any) -> Any:
        """A function's answer; RuntimeError with its errorMessage."""
        answer = self.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event))
        with answer["Payload"] as stream:
            shape = json.loads(stream.read() or b"null")
        if "FunctionError" in answer:
            raise RuntimeError(str((shape or {}).get("errorMessage")))
        return shape

    def http(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """A signed request to the HTTP API: status code and JSON."""
        url = urlsplit(self.deployment.api_url + path)
        data = b"" if body is None else json.dumps(body).encode()
        request = AWSRequest(method, self.deployment.api_url + path, data=data)
        request.headers["Content-Type"] = "application/json"
        SigV4Auth(Credentials("local", "local"), "execute-api", REGION).add_auth(request)
        connection = http.client.HTTPConnection(url.netloc, timeout=60)
        try:
            target = url.path + (f"?{url.query}" if url.query else "")
            connection.request(method, target, data, dict(request.headers.items()))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (http.client.HTTPException, ValueError) as error:  # It was cut off.
            raise ConnectionError(f"no answer to {method} {path}: {error!r}") from error
        finally:
            connection.close()

    def status(self, pool: str, run_id: str, *, include: str = "") -> dict[str, Any]:
        """A run's status as the HTTP API tells it; ConnectionError if it tells none."""
        query = f"?include={include}" if include else ""
        code, shape = self.http("GET", f"/pools/{pool}/runs/{run_id}{query}")
        if code not in (200, 404) or not isinstance(shape, dict) or "kind" not in shape:
            raise ConnectionError(f"HTTP {code}: {shape}")
        return shape

    # Restart

    def end(self) -> None:
        """Stop the emulator, its state saved."""
        restart.end(self.emulator)

    def begin_again(self) -> int:
        """Start with the state that was saved. Answers how many executions were started again."""
        self._restarts += 1
        shutil.copy(self.emulator.log, self.directory / f"emulator-{self._restarts}.log")
        return restart.begin_again(self.emulator, runs_table=self.runs_table)

    # State

    def item(self, key: str) -> dict[str, Any] | None:
        """A run's item, its values bare."""
        answer = self.client("dynamodb").get_item(
            TableName=self.runs_table, Key={"run": {"S": key}}, ConsistentRead=True
        )
        return bare(answer["Item"]) if "Item" in answer else None

    def _listen_to_events(self) -> None:
        sqs, events = self.client("sqs"), self.client("events")
        sqs.create_queue(QueueName=EVENTS)
        arn = f"arn:aws:sqs:{REGION}:000000000000:{EVENTS}"
        bus = self.outputs["EventBusName"]
        pattern = json.dumps({"source": ["workpool"]})
        events.put_rule(Name="chaos", EventBusName=bus, EventPattern=pattern)
        events.put_targets(
            Rule="chaos",
            EventBusName=bus,
            Targets=[{"Id": "chaos", "Arn": arn, "InputPath": "$.detail"}],
        )


def bare(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item without DynamoDB's type names; numbers stay text."""
    return {name: next(iter(value.values())) for name, value in item.items()}


def copy_project(to: Path) -> None:
    """The project as it is deployed, with the chaos action and handler where a user's would be."""
    to.mkdir(parents=True)
    for name in ("app.py", "cdk.json"):
        shutil.copy(CHECKOUT / name, to)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("infra", "functions"):
        shutil.copytree(CHECKOUT / name, to / name, ignore=ignored)
    for kind in ("actions", "completions"):
        shutil.copy(HERE / f"{kind}.py", to / "functions" / kind / "chaos.py")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
