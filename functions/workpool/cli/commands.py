"""The command `workpool`: the client's verbs for a person at a terminal, and for scripts.

Says what each command does; what it reads and how it looks is `terminal/`. Nothing that runs in
Lambda imports it, or typer, or rich.

Exit codes: 0 done, 1 refused or failed, 2 mistyped, 3 a run that was waited for did not succeed,
4 the time was up, 130 Ctrl-C.
"""

import sys
import time
from collections.abc import Sequence
from itertools import count, islice
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from workpool.cli import arguments, failures, tables
from workpool.cli.failures import NOT_SUCCEEDED, TIMED_OUT, Stop
from workpool.cli.options import Call, app, command
from workpool.cli.tables import progress
from workpool.cli.tail import Tail
from workpool.client import POLL_SECONDS, RunStatus
from workpool.core import clock
from workpool.errors import WorkpoolError

CHUNK = 100
"""Runs in one request, where progress is shown."""

RunIds = Annotated[
    list[str], Argument(metavar="RUN_ID...", help="`-` reads them from standard input.")
]
Timeout = Annotated[
    str | None, Option(metavar="DURATION", help="Give up after so long: 90s, 10m, 2h.")
]


@command
def run(
    call: Call,
    action: Annotated[
        str | None, Argument(metavar="ACTION", help="<module>.<function>, or lambda:<name>.")
    ] = None,
    args: Annotated[
        str, Argument(metavar="ARGS", help="A JSON object, @file, or - for standard input.")
    ] = "{}",
    max_retries: Annotated[int | None, Option(help="Attempts after the first.")] = None,
    initial_backoff_ms: Annotated[float | None, Option(help="Before the first retry.")] = None,
    base: Annotated[float | None, Option(help="By which each backoff grows.")] = None,
    on_complete: Annotated[str | None, Option(help="A completion handler.")] = None,
    context: Annotated[str | None, Option(metavar="JSON", help="What the handler gets.")] = None,
    after: Annotated[str | None, Option(metavar="DURATION", help="Start later: 90s, 2h.")] = None,
    at: Annotated[str | None, Option(metavar="TIME", help="Start then: ISO 8601.")] = None,
    annotation: Annotated[str | None, Option(help="Shown in status and logs.")] = None,
    idempotency_key: Annotated[str | None, Option(help="The same key, the same run.")] = None,
    fairness_key: Annotated[str | None, Option(help="Keys are served in turn.")] = None,
    batch: Annotated[
        str | None,
        Option(metavar="FILE", help="Many requests, in JSON, an array or one a line; - is stdin."),
    ] = None,
    wait: Annotated[bool, Option("--wait", help="Wait for its end.")] = False,
    timeout: Timeout = None,
) -> None:
    """Submit a run, or many; prints the run id."""
    if batch is not None:
        if action is not None or wait:
            raise arguments.Mistake("--batch goes with neither an ACTION nor --wait")
        return _run_batch(call, arguments.requests(batch))
    if action is None:
        raise arguments.Mistake("say which ACTION, or give --batch")
    run_id = call.pool.run(
        action,
        arguments.value(args, "ARGS"),
        max_retries=max_retries,
        initial_backoff_ms=initial_backoff_ms,
        base=base,
        on_complete=on_complete,
        context=None if context is None else arguments.value(context, "--context"),
        run_after_ms=None if after is None else arguments.duration_ms(after),
        run_at=None if at is None else arguments.moment(at),
        annotation=annotation,
        idempotency_key=idempotency_key,
        fairness_key=fairness_key,
    )
    if wait:
        return _wait(call, [run_id], timeout)
    call.answer({"runId": run_id}, run_id)


def _run_batch(call: Call, requests: Sequence[Any]) -> None:
    answers: list[str | WorkpoolError] = []
    with progress("submitted", len(requests)) as advance:
        for start in range(0, len(requests), CHUNK):
            answers += call.pool.run_batch(requests[start : start + CHUNK])
            advance(len(answers))
    refused = [(n, it) for n, it in enumerate(answers, 1) if isinstance(it, WorkpoolError)]
    results = [it.as_json() if isinstance(it, WorkpoolError) else {"runId": it} for it in answers]
    call.answer({"results": results}, *[it for it in answers if isinstance(it, str)])
    if refused:
        number, error = refused[0]
        raise Stop("Refused", f"{len(refused)} of {len(answers)} refused, first {number}: {error}")


@command
def status(
    call: Call,
    run_ids: RunIds,
    include: Annotated[
        str | None, Option(help="Also these of one run: args,context,attempts.")
    ] = None,
) -> None:
    """Show runs.

    Exit code 1 if the pool does not know one (any more).
    """
    ids = arguments.run_ids(run_ids)
    asked = [it for it in (include or "").split(",") if it]
    if asked and len(ids) > 1:
        raise arguments.Mistake("--include goes with one run")
    if len(ids) == 1:
        found = [call.pool.status(ids[0], include=asked)]
    else:
        found = call.pool.status_batch(ids)
    _show(call, found)


@command
def wait(call: Call, run_ids: RunIds, timeout: Timeout = None) -> None:
    """Wait until runs have ended.

    Exit code 3 if one did not succeed, 4 if the time was up.
    """
    _wait(call, arguments.run_ids(run_ids), timeout)


def _wait(call: Call, run_ids: Sequence[str], timeout: str | None) -> None:
    give_up = None if timeout is None else time.monotonic() + arguments.duration_ms(timeout) / 1000
    ended: dict[str, RunStatus] = {}
    left, (pause, longest) = list(run_ids), POLL_SECONDS
    with progress("ended", len(run_ids)) as advance:
        while True:
            looked = call.pool.status_batch(left)
            ended |= {it.run_id: it for it in looked if it.ended or it.kind == "unknown"}
            advance(len(ended))
            left = [it for it in run_ids if it not in ended]
            over = give_up is not None and time.monotonic() + pause > give_up
            if not left or over:
                break
            time.sleep(pause)
            pause = min(pause * 1.5, longest)
    if left:
        kinds = {it.run_id: it.kind for it in looked}
        raise Stop(
            "TimedOut",
            f"{len(left)} of {len(run_ids)} not ended after {timeout}; "
            f"{left[0]} is {kinds[left[0]]}: workpool status {left[0]} -p {call.pool.pool}",
            exit_code=TIMED_OUT,
        )
    found = [ended[it] for it in run_ids]
    _show(call, found)
    if not all(it.succeeded for it in found):
        raise typer.Exit(NOT_SUCCEEDED)


def _show(call: Call, found: Sequence[RunStatus]) -> None:
    """One run by itself, many as a table. What is unknown is an error."""
    now = clock.now_ms()
    if len(found) == 1:
        call.answer(found[0].shape(), tables.about(found[0], now))
    else:
        call.answer(
            {"statuses": [it.shape() for it in found]},
            tables.runs(found, now, expand=call.out.is_terminal),
        )
    unknown = [it.run_id for it in found if it.kind == "unknown"]
    if unknown:
        raise Stop("UnknownRun", f"pool {call.pool.pool!r} knows no run {unknown[0]!r} (any more)")


@command
def cancel(call: Call, run_ids: RunIds) -> None:
    """Cancel runs, and show them after it.

    An action that runs is not interrupted.
    """
    ids = arguments.run_ids(run_ids)
    found = []
    with progress("canceled", len(ids)) as advance:
        for run_id in ids:
            found.append(call.pool.cancel(run_id))
            advance(len(found))
    _show(call, found)


@command
def cancel_all(
    call: Call,
    yes: Annotated[bool, Option("--yes", "-y", help="Do not ask, as a terminal is.")] = False,
    wait: Annotated[bool, Option("--wait", help="Until all of them have ended.")] = False,
) -> None:
    """Cancel every run that is open now.

    None that is submitted later, and no action that runs is interrupted.
    """
    pending = call.pool.stats()["pending"]
    if sys.stdin.isatty() and not yes:
        typer.confirm(f"Cancel the {pending} open runs of pool {call.pool.pool}?", abort=True)
    call.pool.cancel_all()
    if wait:
        with progress("canceled", pending) as advance:
            before = _pool(call).get("cancelingBefore", clock.now_ms())
            while any(it.enqueued_at < before for it in islice(call.pool.runs(fetch=False), 1)):
                advance(max(0, pending - call.pool.stats()["pending"]))
                time.sleep(1)
    said = "canceled" if wait else "being canceled: workpool tail shows it"
    call.answer({"canceling": not wait}, f"The open runs of pool {call.pool.pool} are {said}")


@command
def stats(call: Call) -> None:
    """Show the pool's statistics."""
    shape = call.pool.stats()
    call.answer(shape, tables.stats(shape))


@command
def runs(
    call: Call,
    kind: Annotated[
        str | None,
        Option(
            help="enqueued, scheduled, running, or parked: ended, its handler kept raising.",
            autocompletion=lambda: ["enqueued", "scheduled", "running", "parked"],
        ),
    ] = None,
    limit: Annotated[int, Option(min=0, help="At most so many; 0 is all.")] = 20,
) -> None:
    """List open runs, oldest first, or those of a kind."""
    found = list(islice(call.pool.runs(kind), limit or None))
    table = tables.runs(found, clock.now_ms(), expand=call.out.is_terminal)
    call.answer({"runs": [it.shape() for it in found]}, table if found else "none")


@command
def pools(call: Call) -> None:
    """List the pools.

    Their limits, whether they are paused, and how many messages were given up.
    """
    found = call.pool.pools()
    call.answer({"pools": found}, tables.pools(found))


@command
def pause(call: Call) -> None:
    """Start no more actions; those that run go on."""
    _changed(call, call.pool.pause())


@command
def resume(call: Call) -> None:
    """Start actions again."""
    _changed(call, call.pool.resume())


@command
def scale(
    call: Call, max_parallelism: Annotated[int, Argument(metavar="N", help="1 to 1000.")]
) -> None:
    """Change maxParallelism, until cdk.json's value changes.

    Nothing that runs is interrupted.
    """
    _changed(call, call.pool.scale(max_parallelism))


def _changed(call: Call, pool: dict[str, Any]) -> None:
    call.answer(pool, tables.pools([pool]))


@command
def redrive(
    call: Call,
    run_ids: Annotated[
        list[str] | None, Argument(metavar="RUN_ID...", help="`-` reads them; none is all.")
    ] = None,
) -> None:
    """Call the completion handlers of parked runs again."""
    ids = arguments.run_ids(run_ids or [])
    redriven = 0
    with progress("redriven", len(ids) or None) as advance:
        if ids:
            for start in range(0, len(ids), CHUNK):
                redriven += call.pool.redrive(ids[start : start + CHUNK])
                advance(start + CHUNK)
        else:
            while more := call.pool.redrive():
                redriven += more
                advance(redriven)
    call.answer({"redriving": redriven}, f"{redriven} handlers are called again")


@command
def tail(
    call: Call,
    interval: Annotated[float, Option(min=0.2, help="Seconds between two looks.")] = 2,
    looks: Annotated[int | None, Option(min=1, help="End after so many.")] = None,
    picture: Annotated[
        Path | None, Option(metavar="FILE", help="Where to save the last look as an SVG.")
    ] = None,
) -> None:
    """Watch a pool.

    Live on a terminal, a line a look elsewhere, an object a look with --json.
    """
    its = Tail(call.pool)
    with its.shown(call.out, as_json=call.as_json) as show:
        for number in count(1):
            show(look := its.look())
            if number == looks:
                break
            time.sleep(interval)
    if picture is not None:
        its.save(look, picture)


def _pool(call: Call) -> dict[str, Any]:
    return next(it for it in call.pool.pools() if it["name"] == call.pool.pool)


def main() -> None:
    """The console script."""
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="workpool", standalone_mode=False)
    except Exception as error:
        told = failures.told(error)
        if told is None:
            raise
        failures.say(told, as_json="--json" in sys.argv)
        code = told.exit_code
    sys.exit(code if isinstance(code, int) else 0)
