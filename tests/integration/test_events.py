"""What the pool logs: one line of JSON per event, with the fields that operators search for."""

import json
from typing import Any

import pytest

from handlers import submit as submit_function
from workpool.aws import bus, logs, queues
from workpool.aws.environment import environment
from workpool.verbs.attempt import attempt

NOW = 1_790_000_000_000
SECRETS = {"args": '{"card":"4242"}', "context": '{"pin":"pin-9876"}'}

pytestmark = pytest.mark.usefixtures("no_jitter")


def attempted(message: Any) -> None:
    attempt(message, remaining_ms=lambda: 70_000)


def fields(line: dict[str, Any]) -> dict[str, Any]:
    """A line without what Powertools adds to each."""
    added = {"level", "message", "timestamp", "service", "location"}
    return {name: value for name, value in line.items() if name not in added}


ABOUT = {"runId": "r1", "pool": "default", "action": "jobs.work", "annotation": "o1"}


@pytest.mark.promise(
    "Log events",
    "`job-start`, `job-retry` and `job-end` carry runId, pool, "
    "action, annotation and their own fields",
)
def test_a_run_that_fails_and_then_succeeds_writes_start_retry_and_end(
    world, message, logged
) -> None:
    def work(ctx: Any, args: Any) -> str:
        world.tick(2)
        if ctx.retries == 0:
            raise ValueError("boom")
        return "4242"

    world.action(work)
    run = world.put(world.a_run(annotation="o1", on_complete="jobs.done", base=3, **SECRETS))
    world.tick(1)
    attempted(message(run))
    world.tick(1)
    attempted(message(world.run(run.key)))
    lines = logged()
    job = [fields(line) for line in lines if str(line.get("event")).startswith("job-")]
    assert job == [
        {
            "event": "job-start",
            **ABOUT,
            "options": {
                "initialBackoffMs": 250,
                "base": 3,
                "maxRetries": 4,
                "onComplete": "jobs.done",
            },
        },
        {
            "event": "job-retry",
            **ABOUT,
            "retries": 1,
            "durationMs": 3000,
            "retryInMs": 1000,
            "error": "boom",
        },
        {"event": "job-end", **ABOUT, "result": "success", "retries": 1, "durationMs": 6000},
    ]
    assert {line["level"] for line in lines if line.get("event")} == {"INFO"}
    text = json.dumps(lines)
    assert "4242" not in text
    assert "pin-9876" not in text


@pytest.mark.promise(
    "Log events",
    "`job-start`, `job-retry` and `job-end` carry runId, pool, "
    "action, annotation and their own fields",
)
def test_a_failed_run_ends_with_its_error(world, message, logged) -> None:
    def work(ctx: Any, args: Any) -> None:
        raise ValueError("boom")

    world.action(work)
    attempted(message(world.put(world.a_run(annotation="o1", retries=4))))
    assert [fields(line) for line in logged("job-end")] == [
        {
            "event": "job-end",
            **ABOUT,
            "result": "failed",
            "retries": 4,
            "durationMs": 0,
            "error": "boom",
        }
    ]


@pytest.mark.promise("Retries", "A lost worker is a failed attempt, and its error says so")
def test_a_lost_worker_is_a_retry_that_says_so(world, message, logged) -> None:
    attempted(message(world.put(world.a_run(kind="running", claim="c1", lease=NOW))))
    [line] = logged("job-retry")
    assert line["error"].startswith("worker lost")


def test_a_stale_message_is_counted_by_a_line(world, message, logged) -> None:
    run = world.put(world.a_run())
    attempted(message(run, due=run.due - 1000))
    assert [line["runId"] for line in logged("message-stale")] == ["r1"]


def level(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("IDEMPOTENT_WORKPOOL_LOG_LEVEL", name)
    environment.cache_clear()
    logs.logger.cache_clear()


@pytest.mark.promise(
    "Log events", "Job events are logged at INFO and DEBUG, but not at WARN or ERROR"
)
@pytest.mark.parametrize(
    ("name", "seen"), [("DEBUG", True), ("INFO", True), ("WARN", False), ("ERROR", False)]
)
def test_jobs_are_logged_at_info_and_below(
    world, message, logged, monkeypatch, name: str, seen: bool
) -> None:
    level(monkeypatch, name)
    world.action(lambda ctx, args: None)
    attempted(message(world.put(world.a_run())))
    found = {line.get("event") for line in logged()}
    assert ({"job-start", "job-end"} <= found) is seen
    assert bool(found) is seen


@pytest.mark.promise(
    "Log events", "Values of arguments, contexts and results are logged at DEBUG only"
)
def test_values_are_logged_at_debug(world, message, logged, monkeypatch) -> None:
    level(monkeypatch, "DEBUG")
    world.action(lambda ctx, args: "4343")
    attempted(message(world.put(world.a_run(**SECRETS))))
    lines = {line["event"]: line for line in logged() if "event" in line}
    assert lines["job-args"]["arguments"] == SECRETS["args"]
    assert lines["job-args"]["context"] == SECRETS["context"]
    assert lines["job-result"]["returnValue"] == '"4343"'
    assert lines["job-args"]["level"] == lines["job-result"]["level"] == "DEBUG"


def test_user_code_logs_lines_that_name_its_run(world, message, logged) -> None:
    world.action(lambda ctx, args: ctx.logger.info("charging", extra={"amount": 7}))
    for run_id in ("r1", "r2"):
        attempted(message(world.put(world.a_run(run_id=run_id, annotation="o1"))))
    lines = logged()
    users = [line for line in lines if line["message"] == "charging"]
    assert [(it["runId"], it["pool"], it["action"], it["amount"]) for it in users] == [
        ("r1", "default", "jobs.work", 7),
        ("r2", "default", "jobs.work", 7),
    ]


def test_keys_that_user_code_adds_stay_off_the_pools_own_lines(world, message, logged) -> None:
    world.action(lambda ctx, args: ctx.logger.append_keys(card="4242"))
    attempted(message(world.put(world.a_run())))
    assert [line.get("card") for line in logged("job-end")] == [None]


def test_a_missing_environment_names_all_that_is_missing(world, monkeypatch) -> None:
    monkeypatch.delenv("WORKPOOL_RETRIER")
    monkeypatch.delenv("WORKPOOL_EVENT_BUS")
    environment.cache_clear()
    with pytest.raises(KeyError, match="WORKPOOL_EVENT_BUS, WORKPOOL_RETRIER"):
        environment()


def test_half_a_surrogate_pair_in_an_error_loses_no_line(world, message, logged) -> None:
    def work(ctx: Any, args: Any) -> None:
        ctx.logger.info("grüße \ud800")
        raise ValueError("\ud800")

    world.action(work)
    world.put(world.a_run())
    attempted(message(world.run("default#r1")))
    lines = {it["message"]: it for it in logged()}
    assert {"grüße \ud800", "the action raised", "job-retry"} <= set(lines)
    assert lines["job-retry"]["error"] == "?"


@pytest.mark.promise("Log events", "A refused batch is logged by counts and codes, without values")
def test_a_refused_batch_is_logged_by_counts_and_codes(world, logged) -> None:
    world.action(lambda ctx, args: None)
    submit_function.handler(
        {
            "runs": [
                {"action": "jobs.work", "args": {"to": "ada@example.org"}},
                {"action": "jobs.work", "options": {"base": "ada@example.org"}},
                {"action": "ada@example.org"},
            ]
        },
        None,
    )
    lines = logged()
    (line,) = [line for line in lines if line["event"] == "submitted"]
    assert (line["count"], line["refused"]) == (1, {"InvalidRequest": 1, "UnknownAction": 1})
    assert "ada@" not in json.dumps(lines)


def test_what_user_code_raises_is_logged_without_its_traceback(world, logged, message) -> None:
    def fails(ctx: Any, args: Any) -> None:
        secret = "ada@example.org"
        raise ValueError(f"no such person: {secret}")

    world.action(fails)
    run = world.put(world.a_run())
    attempt(message(run), remaining_ms=lambda: 70_000)
    lines = logged()
    told = [line.get("event") for line in lines if "ada@" in json.dumps(line)]
    assert told == ["job-retry"], "the error's text, where it is said to be"
    (raised,) = [line for line in lines if line["message"] == "the action raised"]
    assert raised["errorType"] == "ValueError"
    assert not any("exception" in line for line in lines)


@pytest.mark.parametrize(
    ("operation", "event"),
    [("send_message_batch", "messages-refused"), ("put_events", "events-refused")],
)
def test_why_aws_refused_hints_is_logged(world, logged, operation: str, event: str) -> None:
    world.refuse(operation, "AccessDeniedException")
    run = world.a_run(kind="completed", result="success", on_complete="jobs.done")
    assert (bus.announce if operation == "put_events" else queues.deliver)([run]) == [run]
    (line,) = logged(event)
    assert (line["errorType"], line["count"]) == ("ClientError (AccessDeniedException)", 1)
