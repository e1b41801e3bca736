"""The Python client against the deployed stack, and a run inside a caller's own transaction."""

import pytest
from botocore.exceptions import ClientError

from workpool import UnknownAction

pytestmark = pytest.mark.e2e


@pytest.fixture
def pool(pool):
    return pool("default")


def test_the_client_submits_waits_reads_and_cancels(pool):
    run_id = pool.run("probe.work", {"failures": 1}, on_complete="probe.settled", context=[1])
    status = pool.wait(run_id, timeout=30)
    assert status.result == {"type": "success", "returnValue": {"attempts": 2}}
    assert status.retries == 1
    assert pool.cancel(run_id).kind == "completed"
    later = pool.run_once_after(3_600_000, "probe.work")
    assert pool.status(later).kind == "scheduled"
    assert pool.cancel(later).kind == "canceled"
    assert pool.status("nobody").kind == "unknown"
    with pytest.raises(UnknownAction, match=r"probe\.nothing"):
        pool.run("probe.nothing")


def test_the_client_finds_the_deployment_by_its_ssm_parameter(stack, pool, monkeypatch):
    monkeypatch.delenv("WORKPOOL_RUNS_TABLE")
    _, entry = pool.transact_item("probe.work")
    assert entry["Put"]["TableName"] == stack.outputs["RunsTableName"]


def test_a_run_starts_if_its_callers_transaction_commits_and_not_otherwise(stack, pool, ledger):
    def order(run_id, entry, condition):
        put = {
            "TableName": "ledger",
            "Item": {"run": {"S": run_id}, "at": {"S": "order"}, "what": {"S": "order"}},
            "ConditionExpression": condition,
            "ExpressionAttributeNames": {"#run": "run"},
        }
        stack.client("dynamodb").transact_write_items(TransactItems=[{"Put": put}, entry])

    good, entry = pool.transact_item("probe.work", on_complete="probe.settled")
    order(good, entry, "attribute_not_exists(#run)")
    bad, entry = pool.transact_item("probe.work", on_complete="probe.settled")
    with pytest.raises(ClientError, match="TransactionCanceledException"):
        order(bad, entry, "attribute_exists(#run)")

    assert pool.wait(good, timeout=30).result["type"] == "success"
    stack.wait("default", good, until=lambda it: it.get("completion") == "done")
    assert pool.status(bad).kind == "unknown"
    assert ledger.what(bad) == []
