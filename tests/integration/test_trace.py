"""Tracing: the header of the submit stands on the item and goes along with every hint."""

from dataclasses import replace

import pytest

HEADER = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


@pytest.fixture
def submitted(world, monkeypatch):
    """Submit in a traced invocation, tracing deployed or not; the run as it is stored."""
    from workpool.verbs.submit import submit

    def submit_it(*, tracing: bool, **options):
        if tracing:
            world.redeploy(tracing=True)
        world.deploy_jobs()
        monkeypatch.setenv("_X_AMZN_TRACE_ID", f"{HEADER};Lineage=1:a87bd80c:0")
        answer = submit({"action": "jobs.work", "options": options})
        return world.run(f"default#{answer['runId']}")

    return submit_it


def sent(world, operation):
    (given,) = (given for name, given in world.calls if name == operation)
    return given


@pytest.mark.promise(
    "Alarms, dashboard, tracing",
    "With `tracing`, the header of the submit goes along with every hint",
)
def test_the_header_goes_with_the_message_the_execution_and_the_event(world, submitted) -> None:
    from handlers import relay

    run = submitted(tracing=True, onComplete="jobs.done")
    assert run.trace == HEADER
    relay.handler(world.change(None, run), None)
    (entry,) = sent(world, "send_message_batch")["Entries"]
    assert entry["MessageSystemAttributes"] == {
        "AWSTraceHeader": {"DataType": "String", "StringValue": HEADER}
    }
    canceled = replace(run, kind="canceled", result="canceled")
    relay.handler(world.change(run, canceled), None)
    (event,) = sent(world, "put_events")["Entries"]
    assert event["TraceHeader"] == HEADER
    later = submitted(tracing=True, runAfterMs=60_000)
    relay.handler(world.change(None, later), None)
    assert sent(world, "start_execution")["traceHeader"] == HEADER


def test_a_dead_letter_that_goes_back_keeps_its_trace(world, submitted) -> None:
    from workpool.core.message import Message
    from workpool.verbs import dead_letters

    run = submitted(tracing=True)
    assert dead_letters.handle_work_letter("default", Message(run=run.key, due=run.due).body())
    header = sent(world, "send_message")["MessageSystemAttributes"]["AWSTraceHeader"]
    assert header["StringValue"] == HEADER


@pytest.mark.promise("Alarms, dashboard, tracing", "Without `tracing`, no header is kept or sent")
def test_without_tracing_nothing_is_kept_and_nothing_sent(world, submitted) -> None:
    from handlers import relay

    run = submitted(tracing=False)
    assert run.trace is None
    assert "trace" not in run.to_item()
    relay.handler(world.change(None, run), None)
    (entry,) = sent(world, "send_message_batch")["Entries"]
    assert entry.keys() == {"Id", "MessageBody"}


def test_outside_of_a_traced_invocation_there_is_no_header(world, submitted, monkeypatch) -> None:
    from workpool.aws import trace

    monkeypatch.delenv("_X_AMZN_TRACE_ID", raising=False)
    assert trace.header() is None
