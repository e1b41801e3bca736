"""The stage of a chaos run: an emulator of its own with the stack deployed, and ways to talk to it.

It deploys a copy of the project with the chaos run's own code. It causes no faults and judges
nothing. Every other module of chaos that does I/O goes through it.
"""

import http.client
import json
import shutil
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
from local.project import copy_project

DIRECTORY = CHECKOUT / ".local" / "chaos"
STACK = "WorkpoolChaos"
LEDGER = "workpool-chaos-ledger"
EVENTS = "workpool-chaos-events"
HERE = Path(__file__).parent


class Stage:
    """One deployed stack. `name` in the methods is that of a pool or of a shared part."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self.directory = directory
        for name in ("state", "project", "cdk.out"):
            shutil.rmtree(directory / name, ignore_errors=True)
        for log in directory.glob("emulator-*.log"):
            log.unlink()
        self.emulator = Emulator(directory=directory, port=0, environment=restart.PERSIST)
        self.emulator.stop()  # Stop an emulator that a killed chaos run left behind.
        self.client = self.emulator.client
        self._restarts = 0

    def open(self) -> None:
        """Start, deploy, and create the chaos run's own table and queue."""
        self.emulator.start()
        project = copy_project(self.directory / "project", code=HERE)
        self.deployment: Deployment = deploy(
            project=project, emulator=self.emulator, context=context()
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

    # Names of what was deployed

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
        return self.url_of(f"{STACK}-{name}-work" if name in POOLS else f"{STACK}-{name}")

    def url_of(self, queue: str) -> str:
        """The URL of a queue by its full name."""
        return f"{self.emulator.endpoint}/000000000000/{queue}"

    def list_queues(self) -> list[str]:
        """The full names of all of the stack's queues."""
        answer = self.client("sqs").list_queues(QueueNamePrefix=f"{STACK}-")
        return sorted(url.rpartition("/")[2] for url in answer.get("QueueUrls", []))

    def retrier(self, pool: str) -> str:
        return self.outputs[f"{pool.capitalize()}RetrierArn"]

    @cached_property
    def events_queue_url(self) -> str:
        """The chaos run's own queue, which gets every ended event."""
        return self.url_of(EVENTS)

    @cached_property
    def relay_mapping(self) -> str:
        """The UUID of the event source mapping between the runs table's stream and the relay."""
        [mapping] = self.client("lambda").list_event_source_mappings(FunctionName=f"{STACK}-relay")[
            "EventSourceMappings"
        ]
        return str(mapping["UUID"])

    # Calls

    def invoke(self, function: str, event: Any) -> Any:
        """Invoke a function and return its answer. Raises RuntimeError with its errorMessage."""
        answer = self.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event))
        with answer["Payload"] as stream:
            shape = json.loads(stream.read() or b"null")
        if "FunctionError" in answer:
            raise RuntimeError(str((shape or {}).get("errorMessage")))
        return shape

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send a signed request to the HTTP API. Return the status code and the JSON.

        Raises ConnectionError or OSError if no answer comes.
        """
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
        except (http.client.HTTPException, ValueError) as error:  # The answer was cut off.
            raise ConnectionError(f"no answer to {method} {path}: {error!r}") from error
        finally:
            connection.close()

    def read_status(self, pool: str, run_id: str, *, include: str = "") -> dict[str, Any]:
        """Read a run's status from the HTTP API. Raises ConnectionError if it answers none."""
        query = f"?include={include}" if include else ""
        code, shape = self.request("GET", f"/pools/{pool}/runs/{run_id}{query}")
        if code not in (200, 404) or not isinstance(shape, dict) or "kind" not in shape:
            raise ConnectionError(f"HTTP {code}: {shape}")
        return shape

    # Restart

    def save_and_stop(self) -> None:
        """Have the emulator save its state, then stop it."""
        restart.save_and_stop(self.emulator)

    def start_again(self) -> int:
        """Start with the saved state. Return how many executions were started again."""
        self._restarts += 1
        shutil.copy(self.emulator.log, self.directory / f"emulator-{self._restarts}.log")
        return restart.start_again(self.emulator, runs_table=self.runs_table)

    # State

    def read_item(self, key: str) -> dict[str, Any] | None:
        """A run's item without DynamoDB's type names."""
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
    """An item without DynamoDB's type names. Numbers stay text."""
    return {name: next(iter(value.values())) for name, value in item.items()}


def context() -> dict[str, Any]:
    """What the chaos run's stack is configured with, as in `cdk.json`."""
    pools = {name: {**pool, "tables": [LEDGER]} for name, pool in POOLS.items()}
    return {"stackName": STACK, "pools": pools, "completions": COMPLETIONS}
