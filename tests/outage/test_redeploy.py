"""What was changed at run time, and a later deploy: an unchanged `cdk.json` leaves it, a changed
value wins, a pause stays. And a deploy that would leave open runs behind is refused."""

import pytest

from local.errors import LocalError
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

    assert stack.http("PATCH", "/pools/wedged", {"paused": True})[0] == 200

    four = {name: POOLS[name] | {"maxParallelism": 4} for name in ("changed", "wedged")}
    stack.redeploy(POOLS | four)
    assert limits(stack, "left") == (5, 5, 5)
    assert limits(stack, "changed") == (4, 4, 4)
    assert limits(stack, "wedged") == (4, 0, 4)
    assert stack.http("PATCH", "/pools/wedged", {"paused": False})[0] == 200
    assert limits(stack, "wedged") == (4, 4, 4)

    run_id = stack.submit({"pool": "changed", "action": "probe.work"})["runId"]
    assert stack.wait("changed", run_id)["result"]["type"] == "success"

    # A deploy that removes a pool with a run that waits.
    later = {"runAfterMs": 3_600_000}
    run_id = stack.submit({"pool": "left", "action": "probe.work", "options": later})["runId"]
    less = {name: it for name, it in (POOLS | four).items() if name != "left"}
    with pytest.raises(LocalError, match="left cannot be removed: there are open runs"):
        stack.redeploy(less)
    assert stack.status("left", run_id)["kind"] == "scheduled"
    assert limits(stack, "left") == (5, 5, 5)
