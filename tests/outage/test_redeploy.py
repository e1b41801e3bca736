"""What was changed at run time, and a later deploy: an unchanged `cdk.json` leaves it, a changed
value wins."""

import pytest

from tests.outage.conftest import POOLS

pytestmark = pytest.mark.e2e


def limits(stack, pool):
    """What is shown, and what Lambda enforces: reserved concurrency, and the mapping's maximum."""
    functions, consumer = stack.client("lambda"), f"{stack.name}-{pool}-consumer"
    shown = {it["name"]: it for it in stack.http("GET", "/pools")[1]["pools"]}[pool]
    reserved = functions.get_function_concurrency(FunctionName=consumer)
    [mapping] = functions.list_event_source_mappings(FunctionName=consumer)["EventSourceMappings"]
    return (
        shown["maxParallelism"],
        reserved["ReservedConcurrentExecutions"],
        mapping["ScalingConfig"]["MaximumConcurrency"],
    )


def test_a_deploy_leaves_what_was_changed_at_run_time_until_cdk_json_says_otherwise(stack):
    for pool in ("left", "changed"):
        assert limits(stack, pool) == (2, 2, 2)
        assert stack.http("PATCH", f"/pools/{pool}", {"maxParallelism": 5})[0] == 200
        assert limits(stack, pool) == (5, 5, 5)

    stack.redeploy(POOLS | {"changed": POOLS["changed"] | {"maxParallelism": 4}})
    # As its schedule does every few minutes: it repairs what a deploy undid.
    stack.invoke("sweeper", {})
    assert limits(stack, "left") == (5, 5, 5)
    assert limits(stack, "changed") == (4, 4, 4)

    run_id = stack.submit({"pool": "changed", "action": "probe.work"})["runId"]
    assert stack.wait("changed", run_id)["result"]["type"] == "success"
