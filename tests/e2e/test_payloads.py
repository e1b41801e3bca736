"""Payloads of megabytes on the deployed stack, and the bucket after them."""

import json

import pytest

from workpool import PayloadTooLarge

pytestmark = pytest.mark.e2e

RUNS = 50
ARGS, CONTEXT, RESULT = 1_000_000, 1_000_000, 16_000_000


@pytest.fixture
def pool(pool):
    return pool("large")


def of_bytes(size, **fields):
    """An object of so many bytes of JSON."""
    least = len(json.dumps({**fields, "x": ""}, separators=(",", ":")))
    return {**fields, "x": "x" * (size - least)}


def objects(stack):
    """Bytes by name of what lies in the bucket."""
    bucket = stack.outputs["PayloadsBucketName"]
    pages = stack.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {it["Key"]: it["Size"] for page in pages for it in page.get("Contents", [])}


def forget(stack, run_id):
    """What DynamoDB does when a run has expired, of which the emulator's does nothing."""
    stack.client("dynamodb").delete_item(
        TableName=stack.outputs["RunsTableName"], Key={"run": {"S": f"large#{run_id}"}}
    )


def swept(stack, **event):
    answer = stack.client("lambda").invoke(
        FunctionName=f"{stack.name}-sweeper", Payload=json.dumps(event)
    )
    assert "FunctionError" not in answer


@pytest.mark.promise(
    "Large payloads",
    "50 runs complete with arguments and contexts of 1,000,000 "
    "bytes and return values of 16,000,000 bytes",
)
@pytest.mark.fault(22)
def test_the_largest_payloads_complete_and_are_gone_when_their_runs_are_forgotten(
    stack, pool, ledger
):
    request = {
        "action": "probe.swell",
        "args": of_bytes(ARGS, bytes=RESULT),
        "options": {"onComplete": "probe.weighed", "context": "x" * (CONTEXT - 2)},
    }
    run_ids = pool.run_batch([request] * RUNS)

    def statuses():
        return pool.status_batch(run_ids, fetch=False)

    done = stack.until(statuses, lambda them: all(it.completion == "done" for it in them), 120)
    assert {tuple(it.result) for it in done} == {("type", "returnValueUrl")}
    for run_id in run_ids:
        assert ledger.what(run_id) == [f"{CONTEXT - 2} {RESULT - 2}"]
    assert sorted(objects(stack).values()) == [ARGS] * RUNS + [CONTEXT] * RUNS + [RESULT] * RUNS
    value = pool.wait(run_ids[0]).result["returnValue"]
    assert value == "x" * (RESULT - 2)

    swept(stack, orphanSeconds=0)
    assert len(objects(stack)) == 3 * RUNS
    for run_id in run_ids:
        forget(stack, run_id)
    stack.until(lambda: objects(stack), lambda left: left == {})


@pytest.mark.promise(
    "Large payloads",
    "A payload one byte above its limit is refused, or fails its run, and leaves nothing behind",
)
@pytest.mark.fault(22)
def test_one_byte_more_is_refused_or_fails_and_leaves_nothing(stack, pool):
    before = stack.count_runs()
    for request in (
        {"action": "probe.swell", "args": of_bytes(ARGS + 1)},
        {"action": "probe.swell", "options": {"context": "x" * (CONTEXT - 1)}},
    ):
        with pytest.raises(RuntimeError, match=r"PayloadTooLarge: .* at most 1000000 .* 1000001"):
            stack.submit({"pool": "large", **request})
        (refused,) = pool.run_batch([request])
        assert isinstance(refused, PayloadTooLarge)
    assert stack.count_runs() == before
    run_id = pool.run("probe.swell", {"bytes": RESULT + 1})
    failed = pool.wait(run_id, timeout=30)
    assert failed.result == {
        "type": "failed",
        "error": "the return value must be at most 16000000 bytes of JSON, got 16000001",
    }
    assert failed.retries == 0
    assert objects(stack) == {}


@pytest.mark.promise(
    "Large payloads", "A healthy run with payloads of a kilobyte makes no request to S3"
)
def test_small_runs_leave_nothing_in_the_bucket_and_orphans_are_collected(stack, pool):
    bucket = stack.outputs["PayloadsBucketName"]
    small = pool.run("probe.swell", of_bytes(1000, bytes=1000))
    assert len(pool.wait(small, timeout=30).result["returnValue"]) == 998
    assert objects(stack) == {}
    run_id = pool.run("probe.swell", of_bytes(10_000, bytes=10_000))
    assert len(pool.wait(run_id, timeout=30).result["returnValue"]) == 9_998
    named = objects(stack)
    assert sorted(named.values()) == [10_000, 10_000]
    for orphan in (f"large/{run_id}/never-args", "large/nobody/never-result"):
        stack.client("s3").put_object(Bucket=bucket, Key=orphan, Body=b"1")
    swept(stack)
    assert len(objects(stack)) == 4  # A day has not passed.
    swept(stack, orphanSeconds=0)
    assert objects(stack) == named
    forget(stack, run_id)
    stack.until(lambda: objects(stack), lambda left: left == {})
