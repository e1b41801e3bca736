"""Faults 38 and 39: the table of the statistics is away; a service accepts calls, never answers."""

import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

from tests.faults.cloud import EFFECT, Cloud
from tests.support.failures import Died, refusal
from tests.support.mappings import LETTERS, RETRY, SECONDS, WORK
from workpool.aws import clients, counters, pools
from workpool.core.run import Payload, Run
from workpool.errors import WorkpoolError
from workpool.verbs import relay as relay_verb


def refuse_the_statistics(cloud: Cloud, world: Any, code: str) -> list[bool]:
    """Refuse the calls that name the table of the statistics, while the list holds True. The writes
    of the completion handler are rows of the same table, and are let through."""
    away = [True]
    called = cloud._called_on_tables

    def meet(operation: str, call: Any, parameters: dict[str, Any]) -> Any:
        statistics = "'stats'" in str(parameters) and EFFECT["pk"]["S"] not in str(parameters)
        if away[0] and statistics:
            raise refusal(code, operation)
        return called(operation, call, parameters)

    world.client("dynamodb")._meet = meet
    return away


@pytest.mark.fault(38)
@pytest.mark.parametrize("code", ["ResourceNotFoundException", "ThrottlingException"])
def test_fault_38_hints_go_out_once_and_on_time_while_the_statistics_are_away(
    cloud: Cloud, world: Any, code: str
) -> None:
    away = refuse_the_statistics(cloud, world, code)
    cloud.failures = 1
    began = world.now_ms
    keys = [cloud.submit() for _ in range(5)]
    for _ in range(20):
        world.tick(30)
        cloud.rest(hours=0.1)
        with pytest.raises(ClientError):
            cloud.count()
    starts = defaultdict(list)
    for run_id, _, at in cloud.attempts:
        starts[run_id].append(at - began)
    assert sorted(starts) == sorted(key.partition("#")[2] for key in keys)
    for key in keys:
        assert (cloud.run(key).result, cloud.run(key).retries) == ("success", 1)
    assert all(len(at) == 2 and at[1] < 60_000 for at in starts.values())
    away[0] = False
    cloud.count(batch=3)
    pool = pools.pool("default")
    assert counters.read_pending("default") == 0
    window = counters.read_window(pool, began + pool.stats_window_ms)
    assert (window["executions"], window["errors"], window["ended"]) == (10, 5, 5)


@pytest.mark.fault(38)
def test_fault_38_one_row_that_is_hot_keeps_no_other_pool_from_being_counted(
    cloud: Cloud, world: Any
) -> None:
    for pool in ("default", "other"):
        world.put(world.a_run(pool=pool, run_id=f"of-{pool}"))
    cloud.relay()
    called = cloud._called_on_tables

    def meet(operation: str, call: Any, parameters: dict[str, Any]) -> Any:
        if "pool#default" in str(parameters) and operation == "update_item":
            raise refusal("ThrottlingException", operation)
        return called(operation, call, parameters)

    table = world.client("dynamodb")
    table._meet = meet
    with pytest.raises(ClientError):
        cloud.count()
    assert counters.read_pending("other") == 1
    table._meet = called
    cloud.count()
    assert (counters.read_pending("default"), counters.read_pending("other")) == (1, 1)


# A service that accepts and never answers


def test_fault_39_a_client_gives_up_within_the_longest_call() -> None:
    """On a real socket. Only the time-outs are shorter: they are multiplied out."""
    assert clients.CONFIG.connect_timeout == clients.CONNECT_SECONDS
    assert clients.CONFIG.read_timeout == clients.READ_SECONDS
    with socket.create_server(("127.0.0.1", 0)) as silent:
        taken: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    taken.append(silent.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        client = boto3.client(
            "events",
            endpoint_url=f"http://127.0.0.1:{silent.getsockname()[1]}",
            region_name="us-east-1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
            config=clients.CONFIG.merge(Config(read_timeout=0.2)),
        )
        began = time.monotonic()
        with pytest.raises(ReadTimeoutError):
            client.put_events(Entries=[{"Source": "a", "DetailType": "b", "Detail": "{}"}])
        took = time.monotonic() - began
        silent.shutdown(socket.SHUT_RDWR)
    assert len(taken) == clients.ATTEMPTS
    pauses = took - 0.2 * clients.ATTEMPTS
    rest = clients.CONNECT_SECONDS + clients.READ_SECONDS
    assert pauses + rest * clients.ATTEMPTS < clients.LONGEST_CALL_SECONDS + 0.5
    for connection in taken:
        connection.close()


def test_fault_39_each_function_has_time_for_its_longest_calls() -> None:
    longest = clients.LONGEST_CALL_SECONDS
    assert longest < min(it for function, it in SECONDS.items() if function != "counters")
    # The relay sends, and then hands over what it could not send.
    assert relay_verb.SEND_MS / 1000 + 2 * longest < SECONDS["relay"]
    # These read a run, and then do one thing for it.
    assert 2 * longest < min(SECONDS["relay-retry"], SECONDS["dead-letters"], SECONDS["consumer"])


@contextmanager
def hanging(
    cloud: Cloud, world: Any, function: str, service: str, *, pause: float = 0
) -> Iterator[None]:
    """The service accepts the function's calls and never answers. The world's clock moves on by the
    longest call, once for calls that are made at the same time: during `pause` (real seconds) the
    others do what they can. Without it, they may find that their time is gone."""
    client = world.client(service)
    answers = client._meet

    def meet(operation: str, call: Any, parameters: dict[str, Any]) -> Any:
        if cloud._function != function:
            return answers(operation, call, parameters)
        until = world.now_ms + clients.LONGEST_CALL_SECONDS * 1000
        time.sleep(pause)
        world.now_ms = max(world.now_ms, until)
        raise ReadTimeoutError(endpoint_url=service)

    client._meet = meet
    try:
        yield
    finally:
        client._meet = answers


def in_time(cloud: Cloud, world: Any, function: str, act: Any) -> Any:
    """What the function does, which must not take longer than it may run."""
    deadline = world.now_ms + SECONDS[function] * 1000
    try:
        return act()
    finally:
        assert world.now_ms < deadline, f"{function} ran out of time"


NEEDS = {"sqs": "starts", "stepfunctions": "waits", "events": "ends"}
"""By service: the run that needs it for its hint."""


def three_runs(cloud: Cloud, world: Any) -> dict[str, Run]:
    """A run for each hint; and what the relay does beside, stopping and deleting."""
    waiting = {"kind": "scheduled", "due": world.now_ms + 86_400_000}
    runs = {
        "starts": world.put(world.a_run(run_id="starts", on_complete="jobs.done")),
        "waits": world.put(world.a_run(run_id="waits", on_complete="jobs.done", **waiting)),
        "ends": cloud.put(run_id="ends", **waiting),
    }
    world.put(replace(runs["ends"], kind="canceled", result="canceled", completion="pending"))
    large = {"large": "yes", "args": Payload(at="default/gone/a", size=9)}
    gone = world.a_run(run_id="gone", kind="completed", result="success", **large)
    cloud.stream.append((gone.to_item(), None))
    return runs


def hinted(cloud: Cloud) -> set[str]:
    """Which of the three runs got their hint."""
    on_work = {body for body in cloud.bodies(WORK) if "default#starts" in body}
    started = {it for it in cloud.steps.executions if it.startswith("waits-")}
    announced = {body for body in cloud.bodies("Test-completions") if "default#ends" in body}
    found = {"starts": on_work, "waits": started, "ends": announced}
    return {name for name, seen in found.items() if seen}


@pytest.mark.fault(39)
@pytest.mark.parametrize("service", [*NEEDS, "s3"])
def test_fault_39_the_relay_sends_what_does_not_need_the_service_and_hands_over_the_rest(
    cloud: Cloud, world: Any, service: str
) -> None:
    runs = three_runs(cloud, world)
    needs = {NEEDS[service]} if service in NEEDS else set()
    with hanging(cloud, world, "relay", service, pause=1):
        if service == "sqs":  # The retry queue is away as well, so the batch comes again.
            with pytest.raises(RuntimeError, match="took only 0 of 1 keys"):
                in_time(cloud, world, "relay", cloud.relay)
            assert hinted(cloud) == set(runs) - needs
        else:
            in_time(cloud, world, "relay", cloud.relay)
            assert hinted(cloud) == set(runs) - needs
            assert len(cloud.bodies(RETRY)) == len(needs)
    while cloud.stream or cloud.bodies(RETRY):
        assert cloud.stream == [] or service == "sqs"
        cloud.relay() if cloud.stream else cloud.deliver(RETRY)
    assert hinted(cloud) == set(runs)


@pytest.mark.fault(39)
@pytest.mark.parametrize("service", NEEDS)
@pytest.mark.parametrize(("queue", "function"), [(RETRY, "relay-retry"), (LETTERS, "dead-letters")])
def test_fault_39_a_batch_of_keys_is_not_held_up_by_those_that_need_the_service(
    cloud: Cloud, world: Any, queue: str, function: str, service: str
) -> None:
    runs = three_runs(cloud, world)
    cloud.stream.clear()
    queue = queue if function == "relay-retry" else "Test-dead-letters-relay-retry"
    for _ in range(3):
        for run in runs.values():
            cloud.queues.put(queue, f'{{"v": 1, "run": "{run.key}"}}')
    with hanging(cloud, world, function, service, pause=1):
        done = in_time(cloud, world, function, lambda: cloud.deliver_all(queue))
    assert done == 6
    assert hinted(cloud) == set(runs) - {NEEDS[service]}
    world.tick(120)
    assert cloud.deliver_all(queue) == 3
    assert hinted(cloud) == set(runs)


TABLE = {
    "submit": ["dynamodb"],
    "relay": ["sqs", "events", "stepfunctions", "s3"],
    "relay-retry": ["dynamodb", "sqs", "events", "stepfunctions"],
    "consumer": ["dynamodb", "stepfunctions"],
    "completion": ["dynamodb"],
    "dead-letters": ["dynamodb", "sqs", "events", "stepfunctions"],
    "sweeper": ["dynamodb", "sqs", "events", "stepfunctions"],
}
"""By function: the services that it calls."""


@pytest.mark.fault(39)
@pytest.mark.parametrize(
    ("function", "service"), [(f, service) for f, services in TABLE.items() for service in services]
)
def test_fault_39_what_needs_the_service_is_repeated_and_nothing_is_lost(
    cloud: Cloud, world: Any, function: str, service: str
) -> None:
    cloud.failures = 1

    def submit(key: str, **options: Any) -> str | None:
        try:
            return cloud.submit(idempotencyKey=key, **options)
        except (WorkpoolError, BotoCoreError):
            return None

    def go_on(minutes: int) -> None:
        until = world.now_ms + minutes * 60_000
        while world.now_ms < until:
            try:
                moved = cloud.step()
            except (Died, RuntimeError, ClientError, BotoCoreError):
                moved = False  # Whatever invoked the function comes again.
            if not moved:
                world.tick(20)

    with hanging(cloud, world, function, service):
        keys = {key: submit(key) for key in ("a", "b")}
        keys["c"] = submit("c", runAfterMs=60_000)
        go_on(20)
        try:
            cloud.sweep()
        except (ClientError, BotoCoreError):
            assert (function, service) == ("sweeper", "dynamodb")
        go_on(5)
    for key in keys:
        run_key = submit(key, **({"runAfterMs": 60_000} if key == "c" else {}))
        assert keys[key] in (None, run_key)
        keys[key] = run_key
    cloud.sweep_until_rest()
    for run_key in keys.values():
        assert run_key is not None
        run = cloud.run(run_key)
        assert (run.result, run.completion, cloud.effects(run_key)) == ("success", "done", 1)
