from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workpool.core.run import (
    OPEN_SHARDS,
    Payload,
    Run,
    open_partition,
    open_partitions,
    run_key,
)
from workpool.errors import UnknownShape

MakeRun = Callable[..., Run]

# An item of version 1 with every attribute, as it lies in tables: it never changes here.
FULL_ITEM = {
    "run": {"S": "emails#r1"},
    "v": {"N": "1"},
    "kind": {"S": "completed"},
    "action": {"S": "mail.send"},
    "args": {"S": '{"to":"a@example.com"}'},
    "enqueuedAt": {"N": "1790000000123"},
    "due": {"N": "1790000001000"},
    "retries": {"N": "2"},
    "initialBackoffMs": {"N": "250.5"},
    "base": {"N": "2.71"},
    "maxRetries": {"N": "7"},
    "onComplete": {"S": "mail.sent"},
    "context": {"S": "[1]"},
    "annotation": {"S": "order o1"},
    "fairnessKey": {"S": "tenant-7"},
    "request": {"S": "d1"},
    "creation": {"S": "c0"},
    "open": {"S": "emails#3"},
    "execution": {"S": "r1-1790000000123-1"},
    "claim": {"S": "c1"},
    "lease": {"N": "1790000070000"},
    "cancelRequested": {"BOOL": True},
    "result": {"S": "success"},
    "returnValue": {"S": "null"},
    "error": {"S": "boom"},
    "finishedAt": {"N": "1790000002000"},
    "completion": {"S": "parked"},
    "completionClaim": {"S": "h1"},
    "completionLease": {"N": "1790000080000"},
    "completionTries": {"N": "8"},
    "completionError": {"S": "bang"},
    "expiresAt": {"N": "1790086402"},
}
FULL_RUN = Run(
    pool="emails",
    run_id="r1",
    kind="completed",
    action="mail.send",
    args=Payload('{"to":"a@example.com"}'),
    enqueued_at=1_790_000_000_123,
    due=1_790_000_001_000,
    retries=2,
    initial_backoff_ms=250.5,
    base=2.71,
    max_retries=7,
    on_complete="mail.sent",
    context=Payload("[1]"),
    annotation="order o1",
    fairness_key="tenant-7",
    request="d1",
    creation="c0",
    open="emails#3",
    execution="r1-1790000000123-1",
    claim="c1",
    lease=1_790_000_070_000,
    cancel_requested=True,
    result="success",
    return_value=Payload("null"),
    error="boom",
    finished_at=1_790_000_002_000,
    completion="parked",
    completion_claim="h1",
    completion_lease=1_790_000_080_000,
    completion_tries=8,
    completion_error="bang",
    expires_at=1_790_086_402,
)
# What is different where payloads are objects.
LARGE_ITEM = {
    **{
        name: value for name, value in FULL_ITEM.items() if name not in ("args", "context", "error")
    },
    "argsAt": {"S": "emails/r1/w1-args"},
    "contextAt": {"S": "emails/r1/w1-context"},
    "returnValueAt": {"S": "emails/r1/c1-result"},
    "returnValueBytes": {"N": "16000000"},
    "large": {"S": "yes"},
}
del LARGE_ITEM["returnValue"]
LARGE_RUN = replace(
    FULL_RUN,
    error=None,
    args=Payload(at="emails/r1/w1-args"),
    context=Payload(at="emails/r1/w1-context"),
    return_value=Payload(at="emails/r1/c1-result", size=16_000_000),
    large="yes",
)
LEAST_ITEM = {
    "run": {"S": "default#r1"},
    "v": {"N": "1"},
    "kind": {"S": "enqueued"},
    "action": {"S": "jobs.work"},
    "args": {"S": "{}"},
    "enqueuedAt": {"N": "1790000000123"},
    "due": {"N": "1790000000123"},
    "retries": {"N": "0"},
}


def test_an_item_of_version_1_reads() -> None:
    assert Run.from_item(FULL_ITEM) == FULL_RUN


def test_a_run_is_still_written_as_version_1() -> None:
    assert FULL_RUN.to_item() == FULL_ITEM


def test_a_run_names_the_objects_of_its_large_payloads() -> None:
    assert Run.from_item(LARGE_ITEM) == LARGE_RUN
    assert LARGE_RUN.to_item() == LARGE_ITEM
    assert LARGE_RUN.objects == [
        "emails/r1/w1-args",
        "emails/r1/w1-context",
        "emails/r1/c1-result",
    ]
    assert FULL_RUN.objects == []


def test_a_new_run_stores_only_what_it_has(a_run: MakeRun) -> None:
    assert a_run().to_item() == LEAST_ITEM
    assert Run.from_item(LEAST_ITEM) == a_run()


TEXT = st.text(min_size=1, max_size=8)
TIMES = st.integers(1, 4_102_444_800_000)
OBJECTS = st.from_regex("default/r1/[0-9A-Za-z_-]{1,8}", fullmatch=True)
SIZES = st.none() | st.integers(0, 16_000_000)
PAYLOADS = st.builds(Payload, TEXT) | st.builds(Payload, at=OBJECTS, size=SIZES)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "kind": st.sampled_from(["enqueued", "scheduled", "completed", "canceled"]),
            "due": TIMES,
            "retries": st.integers(0, 1000),
            "initial_backoff_ms": st.integers(25, 10**6) | st.floats(25, 1e9),
            "base": st.integers(1, 100) | st.floats(1, 1e9),
            "max_retries": st.integers(0, 1000),
            "on_complete": TEXT,
            "context": PAYLOADS,
            "annotation": TEXT,
            "fairness_key": st.from_regex("[!-~]{1,8}", fullmatch=True),
            "open": st.sampled_from(open_partitions("default")),
            "execution": st.from_regex("r1-[0-9]{1,13}-[0-9]{1,4}", fullmatch=True),
            "claim": TEXT,
            "lease": TIMES,
            "cancel_requested": st.booleans(),
            "result": st.sampled_from(["success", "failed", "canceled"]),
            "return_value": PAYLOADS,
            "error": TEXT,
            "finished_at": TIMES,
            "completion_lease": TIMES,
            "completion_tries": st.integers(0, 9),
            "expires_at": TIMES,
        },
    )
)
def test_a_run_reads_back_as_it_was_written(a_run: MakeRun, fields: dict[str, Any]) -> None:
    run = a_run(**fields)
    assert Run.from_item(run.to_item()) == run


def test_no_retries_are_kept_apart_from_the_pools_number_of_retries(a_run: MakeRun) -> None:
    assert Run.from_item(a_run(max_retries=0).to_item()).max_retries == 0
    assert Run.from_item(a_run(max_retries=None).to_item()).max_retries is None


@pytest.mark.parametrize("version", ["2", "0", "-1"])
def test_an_item_of_another_version_is_unreadable(version: str) -> None:
    with pytest.raises(UnknownShape, match=f"version {version}"):
        Run.from_item(FULL_ITEM | {"v": {"N": version}})


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"v": None}, id="no version"),
        pytest.param({"v": {"S": "1"}}, id="version as text"),
        pytest.param({"kind": None}, id="no kind"),
        pytest.param({"args": None}, id="no args"),
        pytest.param({"enqueuedAt": None}, id="no creation time"),
        pytest.param({"due": None}, id="no due"),
        pytest.param({"due": {"S": "soon"}}, id="due as text"),
        pytest.param({"due": {"NULL": True}}, id="due null"),
        pytest.param({"due": {"N": "1.5"}}, id="due between milliseconds"),
        pytest.param({"due": {"N": "1e30"}}, id="due beyond the calendar"),
        pytest.param({"args": {"M": {}}}, id="args as a map"),
    ],
)
def test_an_item_that_no_version_wrote_is_unreadable(change: dict[str, Any]) -> None:
    item = {name: value for name, value in (LEAST_ITEM | change).items() if value is not None}
    with pytest.raises(UnknownShape):
        Run.from_item(item)


def test_attributes_of_a_later_minor_release_are_left_alone() -> None:
    assert Run.from_item(LEAST_ITEM | {"traceHeader": {"S": "x"}}) == Run.from_item(LEAST_ITEM)


def test_the_key_begins_with_the_pool(a_run: MakeRun) -> None:
    assert a_run().key == run_key("default", "r1") == "default#r1"


def test_an_execution_is_named_by_run_creation_and_retry(a_run: MakeRun) -> None:
    assert a_run(retries=3).execution_name() == "r1-1790000000123-3"


def test_a_run_that_an_execution_took_along_keeps_that_executions_name(a_run: MakeRun) -> None:
    assert a_run(execution="r1-1790000000123-0", retries=2).execution_name() == (
        "r1-1790000000123-0"
    )


def test_the_longest_execution_name_fits_into_80_characters(a_run: MakeRun) -> None:
    assert len(a_run(run_id="f" * 32, retries=1000).execution_name()) <= 80


@pytest.mark.parametrize(
    ("expires_at", "now_ms", "expired"),
    [(None, 5_000, False), (5, 4_999, False), (5, 5_000, True), (5, 5_001, True)],
)
def test_a_run_counts_as_absent_from_its_expiry_on(
    a_run: MakeRun, expires_at: int | None, now_ms: int, expired: bool
) -> None:
    assert a_run(expires_at=expires_at).expired(now_ms) is expired


@pytest.mark.parametrize(
    ("kind", "ended"),
    [
        ("enqueued", False),
        ("scheduled", False),
        ("running", False),
        ("completed", True),
        ("canceled", True),
    ],
)
def test_a_run_has_ended_when_it_is_completed_or_canceled(
    a_run: MakeRun, kind: str, ended: bool
) -> None:
    assert a_run(kind=kind).ended is ended


@pytest.mark.promise(
    "Results and completion",
    "A result is success with its return value, failed with its error, or canceled",
)
@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        (
            {"result": "success", "return_value": Payload("[1]")},
            {"type": "success"},  # Its value is read and added by who shows it.
        ),
        ({"result": "failed", "error": "boom"}, {"type": "failed", "error": "boom"}),
        ({"result": "canceled"}, {"type": "canceled"}),
    ],
)
def test_the_outcome_has_the_shape_that_statuses_show(
    a_run: MakeRun, fields: dict[str, Any], outcome: dict[str, Any]
) -> None:
    assert a_run(kind="completed", **fields).reported_result() == outcome


def test_open_runs_spread_over_all_partitions_of_their_pool() -> None:
    partitions = {open_partition("default", f"r{n}") for n in range(1000)}
    assert partitions == {f"default#{shard}" for shard in range(OPEN_SHARDS)}


@given(TEXT)
def test_a_run_always_belongs_to_the_same_partition(run_id: str) -> None:
    assert open_partition("default", run_id) == open_partition("default", run_id)
    assert open_partition("other", run_id).startswith("other#")
