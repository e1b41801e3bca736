"""The stage: an emulator of its own with the project and the chaos actions deployed, and the ways
to talk to it. It also restarts the emulator in mid-run, and undoes by name what the emulator
loses by that and AWS would not.
"""

import http.client
import json
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import psutil
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from local.chaos.plan import COMPLETIONS, POOLS
from local.deploy import Deployment, deploy
from local.emulator import REGION, Emulator
from local.errors import LocalError
from local.node import CHECKOUT

DIRECTORY = CHECKOUT / ".local" / "chaos"
STACK = "WorkpoolChaos"
LEDGER = "workpool-chaos-ledger"
EVENTS = "workpool-chaos-events"
HERE = Path(__file__).parent

#: What the emulator forgets on SIGTERM unless told otherwise.
PERSIST = {"PERSIST_STATE": "1", "S3_PERSIST": "1"}

SAVE_TIMEOUT_S = 150
SAVED = "[transfer] SFTP: stopped"
"""In the emulator's log: what it does next after its state was saved."""


class Stage:
    """One deployed stack. `name` in the methods is a pool's, or a shared part's."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self.directory = directory
        for name in ("state", "project", "cdk.out"):
            shutil.rmtree(directory / name, ignore_errors=True)
        for log in directory.glob("emulator-*.log"):
            log.unlink()
        self.emulator = Emulator(directory=directory, port=_free_port(), environment=PERSIST)
        self.emulator.stop()  # One that was left by a run that was killed.
        self._clients: dict[str, Any] = {}
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

    def client(self, service: str) -> Any:
        """A client that repeats nothing: the caller decides what a lost answer means."""
        if service not in self._clients:
            environment = self.emulator.client_environment()
            self._clients[service] = boto3.client(
                service,
                endpoint_url=environment["AWS_ENDPOINT_URL"],
                region_name=REGION,
                aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
                config=Config(
                    retries={"total_max_attempts": 1},
                    connect_timeout=5,
                    read_timeout=60,
                    max_pool_connections=40,
                ),
            )
        return self._clients[service]

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
        """SIGTERM, and wait until the emulator has saved its state. Its workers die with it."""
        self._save()
        self.emulator.stop()

    def begin_again(self) -> int:
        """Start with the state that was saved. Answers how many executions were started again."""
        self._restarts += 1
        shutil.copy(self.emulator.log, self.directory / f"emulator-{self._restarts}.log")
        self._forget_stream_positions()
        running = self._take_running_executions()
        self.emulator.start()
        for execution in running:
            self._start_again(execution)
        return len(running)

    def _save(self) -> None:
        """Have the emulator save its state. When it has, it may take long to end: it waits for the
        invocations that it began."""
        server, since = psutil.Process(self.emulator.pid), time.monotonic()
        server.terminate()
        while server.is_running() and server.status() != psutil.STATUS_ZOMBIE:
            if SAVED in self.emulator.log.read_text(errors="replace"):
                server.kill()
                return
            if time.monotonic() - since > SAVE_TIMEOUT_S:
                raise LocalError(f"the emulator did not save within {SAVE_TIMEOUT_S} s")
            time.sleep(0.2)

    def _forget_stream_positions(self) -> None:
        """The emulator saves how far a mapping has read the stream, but not the stream: it would
        skip that many new records."""
        with self._saved("lambda") as state:
            state["dynamodb_stream_positions"]["data"] = {}

    def _take_running_executions(self) -> list[dict[str, Any]]:
        """What runs would come back FAILED, and its name could not be used again."""
        with self._saved("stepfunctions") as state:
            executions = state["executions"]["data"]
            running = [key for key, it in executions.items() if it["status"] == "RUNNING"]
            return [executions.pop(key) for key in running]

    def _start_again(self, execution: Mapping[str, Any]) -> None:
        """On AWS it would still wait: the same name waits for the due that its run has now. What
        it had already sent is in the queue still, with a token that nobody holds."""
        shape = json.loads(execution["input"])
        item = self.item(shape["run"])
        if item is not None:
            shape["retry"] = {"Cause": _timestamp(int(item["due"]))}
        self.client("stepfunctions").start_execution(
            stateMachineArn=execution["stateMachineArn"],
            name=execution["name"],
            input=json.dumps(shape),
        )

    @contextmanager
    def _saved(self, service: str) -> Iterator[dict[str, Any]]:
        """The state that the emulator saved of a service, to be changed while it is down."""
        path = self.directory / "state" / f"{service}.json"
        state = json.loads(path.read_text())
        yield state["payload"]
        path.write_text(json.dumps(state))

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


def _timestamp(ms: int) -> str:
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
