"""Fault 38: the table of the statistics is away, or a row of it takes no more writes."""

from collections import defaultdict
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.faults.cloud import EFFECT, Cloud
from tests.support.failures import refusal
from workpool.aws import counters, pools
from workpool.core.run import Run


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
        run: Run = world.a_run(pool=pool, run_id=f"of-{pool}")
        cloud.world.put(run)
        cloud.changed(run.key)
    cloud.relay()
    world.on("update_item")
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
