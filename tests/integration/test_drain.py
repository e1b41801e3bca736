"""`workpool drain`: it ends when a pool may be removed."""

from types import SimpleNamespace
from typing import Any

import pytest

from workpool import IdempotentWorkpool
from workpool.aws import retrier
from workpool.cli import commands
from workpool.cli.failures import Stop
from workpool.verbs import cancel, control


@pytest.fixture
def drain(world: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command, in this process. `drain.answers` is what it printed; each function of
    `drain.meanwhile` is called between two looks."""
    here = SimpleNamespace(answers=[], meanwhile=[])
    session = SimpleNamespace(
        pool=IdempotentWorkpool("default"),
        stack="Test",
        profile=None,
        region="us-east-1",
        print_answer=lambda shape, *texts: here.answers.append(shape),
    )

    def sleep(seconds: float) -> None:
        world.tick(seconds)
        if here.meanwhile:
            here.meanwhile.pop(0)()

    monkeypatch.setattr(
        commands, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: world.now_ms / 1000)
    )
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    here.run = lambda **options: commands.drain(session, **options)
    return here


def end(world: Any, run: Any) -> None:
    world.client("dynamodb").delete_item(TableName="runs", Key={"run": {"S": run.key}})


@pytest.mark.promise(
    "The command workpool",
    "`workpool drain` ends when no run of the pool is open and no execution waits",
)
def test_it_waits_for_open_runs_and_then_for_executions(world, drain) -> None:
    run = world.put(world.a_run(kind="scheduled"))
    retrier.start(run)
    ((name, _),) = world.executions().items()
    arn = f"arn:aws:states:us-east-1:123456789012:execution:Test-default-retrier:{name}"

    def stop() -> None:
        world.client("stepfunctions").stop_execution(executionArn=arn)

    drain.meanwhile += [lambda: end(world, run), stop]
    began = world.now_ms
    drain.run()
    assert drain.answers == [{"drained": True}]
    assert world.now_ms - began == 3 * 1000 * commands.DRAIN_SECONDS


def test_one_look_that_finds_nothing_is_not_enough(world, drain) -> None:
    """The index showed a run late."""
    run = world.a_run()
    drain.meanwhile += [lambda: world.put(run), lambda: end(world, run)]
    began = world.now_ms
    drain.run()
    assert world.now_ms - began == 3 * 1000 * commands.DRAIN_SECONDS


@pytest.mark.promise("The command workpool", "`workpool drain --cancel` cancels what is open first")
def test_it_cancels_what_is_open(world, drain) -> None:
    run = world.put(world.a_run())
    world.tick(1)
    drain.meanwhile += [lambda: cancel.cancel("default", run.run_id), lambda: end(world, run)]
    drain.run(cancel=True)
    assert world.lambdas.invoked == [("Test-sweeper", {"cancel": "default"})]


def test_a_paused_pool_does_not_drain_by_itself(world, drain) -> None:
    world.put(world.a_run())
    control.change("default", {"paused": True})
    with pytest.raises(Stop, match=r"is paused .* workpool resume -p default"):
        drain.run()


def test_parked_completions_are_named(world, drain) -> None:
    world.put(
        world.a_run(
            kind="completed",
            result="success",
            on_complete="jobs.done",
            completion="parked",
            open="default#parked#3",
        )
    )
    with pytest.raises(Stop, match="workpool redrive -p default"):
        drain.run()


def test_a_time_out_says_what_is_left(world, drain) -> None:
    world.put(world.a_run())
    with pytest.raises(Stop, match="not drained after 10s: runs are open") as stopped:
        drain.run(timeout="10s")
    assert stopped.value.exit_code == 4


def test_a_caller_who_may_not_list_executions_is_told_the_right_that_is_missing(
    world, drain, monkeypatch
) -> None:
    import botocore.client

    from tests.support.failures import refusal

    call = botocore.client.BaseClient._make_api_call

    def refusing(self: Any, operation: str, parameters: Any) -> Any:
        if operation == "ListExecutions":
            raise refusal("AccessDeniedException")
        return call(self, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", refusing)
    with pytest.raises(Stop, match="these credentials need states:ListExecutions"):
        drain.run()
