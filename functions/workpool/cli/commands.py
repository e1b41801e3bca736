"""The command `workpool`: the client's verbs, for people at a terminal and for scripts.

Each function here is a command. `arguments` reads what was typed, `tables` and `tail` show the
answers, `failures` explains errors. Nothing that runs in Lambda imports this module, typer or rich.

The exit codes are in `options.EPILOG`, which `workpool --help` prints.
"""

import sys
import time
from collections.abc import Sequence
from io import TextIOWrapper
from itertools import count, islice
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from workpool.cli import arguments, failures, tables
from workpool.cli.executions import count_waiting
from workpool.cli.failures import NOT_SUCCEEDED, TIMED_OUT, Stop
from workpool.cli.options import Session, app, command
from workpool.cli.tables import progress
from workpool.cli.tail import Tail
from workpool.client import RunStatus, polls
from workpool.core import clock
from workpool.errors import WorkpoolError

CHUNK = 100
"""How many runs one request holds. Small, so that the progress bar moves."""

DRAIN_SECONDS = 2
"""How long `drain` waits between two looks."""

RunIds = Annotated[
    list[str], Argument(metavar="RUN_ID", help="Run ids, or - to read them from standard input.")
]
Timeout = Annotated[
    str | None,
    Option(metavar="DURATION", help="Wait at most this long: 90s, 10m, 2h. Default: no limit."),
]


@command
def run(
    session: Session,
    action: Annotated[
        str | None,
        Argument(metavar="ACTION", help="The action: <module>.<function>, or lambda:<name>."),
    ] = None,
    args: Annotated[
        str,
        Argument(
            metavar="ARGS",
            help="The action's arguments: a JSON object, @FILE, or - for standard input.",
        ),
    ] = "{}",
    max_retries: Annotated[
        int | None, Option(help="Retries after the first attempt. Default: the pool's setting.")
    ] = None,
    initial_backoff_ms: Annotated[
        float | None,
        Option(help="Milliseconds before the first retry. Default: the pool's setting."),
    ] = None,
    base: Annotated[
        float | None,
        Option(help="Each further backoff is longer by this factor. Default: the pool's setting."),
    ] = None,
    on_complete: Annotated[
        str | None,
        Option(help="The completion handler to call after the run's end: <module>.<function>."),
    ] = None,
    context: Annotated[
        str | None,
        Option(
            metavar="JSON",
            help="A value for the completion handler: JSON, @FILE, or - for standard input.",
        ),
    ] = None,
    after: Annotated[
        str | None, Option(metavar="DURATION", help="Start after this time: 90s, 10m, 2h, 7d.")
    ] = None,
    at: Annotated[
        str | None,
        Option(metavar="TIME", help="Start at this time: ISO 8601, or epoch milliseconds."),
    ] = None,
    annotation: Annotated[
        str | None, Option(help="A note that the status and the logs show.")
    ] = None,
    idempotency_key: Annotated[
        str | None,
        Option(help="If this key already has a run, print that run's id and do not start another."),
    ] = None,
    fairness_key: Annotated[
        str | None,
        Option(
            help="Whose work this is, for example a tenant's name. Runs with different keys take "
            "turns in the queue."
        ),
    ] = None,
    batch: Annotated[
        str | None,
        Option(
            metavar="FILE",
            help="Submit the requests in this file, or - to read them from standard input: a JSON "
            "array, or one request per line.",
        ),
    ] = None,
    idempotency_prefix: Annotated[
        str | None,
        Option(
            metavar="PREFIX",
            help="With --batch: start each run only once, even if the file is submitted again with "
            "this prefix. Each idempotency key is made of the prefix and the request's content.",
        ),
    ] = None,
    wait: Annotated[bool, Option("--wait", help="Wait until the run has ended.")] = False,
    timeout: Timeout = None,
) -> None:
    """Submit a run of an action, or many runs with --batch.

    Prints the run id. With --batch, prints one run id per line. With --wait, prints the status of
    the run after its end.

    Exit code 1 if a request was refused. With --wait, also 3 if the run did not succeed, and 4 if
    --timeout was reached.
    """
    if batch is not None:
        if action is not None or wait:
            raise arguments.Mistake("--batch cannot be combined with an ACTION or with --wait")
        return _run_batch(session, arguments.read_requests(batch), idempotency_prefix)
    if idempotency_prefix is not None:
        raise arguments.Mistake("--idempotency-prefix needs --batch; a run has --idempotency-key")
    if action is None:
        raise arguments.Mistake("give an ACTION, or --batch")
    run_id = session.pool.run(
        action,
        arguments.read_json(args, "ARGS"),
        max_retries=max_retries,
        initial_backoff_ms=initial_backoff_ms,
        base=base,
        on_complete=on_complete,
        context=None if context is None else arguments.read_json(context, "--context"),
        run_after_ms=None if after is None else arguments.duration_ms(after),
        run_at=None if at is None else arguments.point_in_time(at),
        annotation=annotation,
        idempotency_key=idempotency_key,
        fairness_key=fairness_key,
    )
    if wait:
        return _wait(session, [run_id], timeout)
    session.print_answer({"runId": run_id}, run_id)


def _run_batch(session: Session, placed: dict[str, Any], prefix: str | None) -> None:
    requests = list(placed.values())
    if prefix is not None:
        requests = arguments.add_idempotency_keys(requests, prefix)
    answers: list[str | WorkpoolError] = []
    try:
        with progress("submitted", len(requests)) as advance:
            for start in range(0, len(requests), CHUNK):
                answers += session.pool.run_batch(requests[start : start + CHUNK])
                advance(len(answers))
    finally:
        # Also if something ends this early, such as Ctrl-C: what was submitted is not lost.
        if answers:
            _show_batch(session, answers)
    refused = [
        (place, error)
        for place, error in zip(placed, answers, strict=True)
        if not isinstance(error, str)
    ]
    if not refused:
        return
    if not session.as_json and len(refused) > 1:
        for place, error in refused:
            failures.print_line(f"{place}: {error.code}: {error}")
    place, error = refused[0]
    raise Stop(
        "Refused",
        f"{len(refused)} of {len(answers)} requests were refused; the first is {place}: {error}",
    )


def _show_batch(session: Session, answers: Sequence[str | WorkpoolError]) -> None:
    results = [{"runId": it} if isinstance(it, str) else it.as_json() for it in answers]
    run_ids = [answer for answer in answers if isinstance(answer, str)]
    session.print_answer({"results": results}, *run_ids)


@command
def status(
    session: Session,
    run_ids: RunIds,
    include: Annotated[
        str | None,
        Option(
            help="Show more fields. Only with one RUN_ID. One or more of these, with commas "
            "between them: args,context,attempts."
        ),
    ] = None,
) -> None:
    """Show the status of runs.

    Prints all fields of one run, or a table of several runs.

    Exit code 1 if the pool does not know one of the runs, or no longer knows it.
    """
    ids = arguments.read_run_ids(run_ids)
    included = [name for name in (include or "").split(",") if name]
    if included and len(ids) > 1:
        raise arguments.Mistake("--include works with one RUN_ID only")
    if len(ids) == 1:
        statuses = [session.pool.status(ids[0], include=included)]
    else:
        statuses = session.pool.status_batch(ids)
    _show(session, statuses)


@command
def wait(session: Session, run_ids: RunIds, timeout: Timeout = None) -> None:
    """Wait until runs have ended, then show their status.

    Prints what `workpool status` prints.

    Exit code 0 if all runs succeeded, 1 if the pool does not know one of them, 3 if one did not
    succeed, 4 if --timeout was reached.
    """
    _wait(session, arguments.read_run_ids(run_ids), timeout)


def _wait(session: Session, run_ids: Sequence[str], timeout: str | None) -> None:
    seconds = None if timeout is None else arguments.duration_ms(timeout) / 1000
    ended: dict[str, RunStatus] = {}
    remaining = list(run_ids)

    def read(left: float | None) -> list[RunStatus]:
        return session.pool.status_batch(remaining, timeout=left)

    statuses: list[RunStatus] = []
    with progress("ended", len(run_ids)) as advance:
        try:
            for statuses in polls(read, seconds):
                ended |= {
                    status.run_id: status
                    for status in statuses
                    if status.ended or status.kind == "unknown"
                }
                advance(len(ended))
                remaining = [run_id for run_id in run_ids if run_id not in ended]
                if not remaining:
                    break
        except TimeoutError as error:
            raise Stop("TimedOut", str(error), exit_code=TIMED_OUT) from error
    if remaining:
        kinds = {status.run_id: status.kind for status in statuses}
        first = remaining[0]
        raise Stop(
            "TimedOut",
            f"{len(remaining)} of {len(run_ids)} runs have not ended after {timeout}; {first} is "
            f"{kinds[first]}: see workpool status {first} -p {session.pool.pool}",
            exit_code=TIMED_OUT,
        )
    _show(session, [ended[run_id] for run_id in run_ids])
    if not all(ended[run_id].succeeded for run_id in run_ids):
        raise typer.Exit(NOT_SUCCEEDED)


def _show(session: Session, statuses: Sequence[RunStatus]) -> None:
    """Print one run with all its fields, or several as a table. An unknown run is an error."""
    now = clock.now_ms()
    if len(statuses) == 1:
        session.print_answer(statuses[0].shape(), tables.run_details(statuses[0], now))
    else:
        session.print_answer(
            {"statuses": [status.shape() for status in statuses]},
            tables.runs(statuses, now, expand=session.out.is_terminal),
        )
    unknown = [status.run_id for status in statuses if status.kind == "unknown"]
    if unknown:
        raise Stop("UnknownRun", f"pool {session.pool.pool!r} has no run {unknown[0]!r} (any more)")


@command
def cancel(session: Session, run_ids: RunIds) -> None:
    """Cancel runs, then show their status.

    A run that waits (enqueued or scheduled) ends at once. A running action is not interrupted: if
    it succeeds, the run succeeds; if it fails, the run is canceled. Prints what `workpool status`
    prints.

    Exit code 1 if the pool does not know one of the runs.
    """
    ids = arguments.read_run_ids(run_ids)
    statuses = []
    with progress("canceled", len(ids)) as advance:
        for run_id in ids:
            statuses.append(session.pool.cancel(run_id))
            advance(len(statuses))
    _show(session, statuses)


@command
def cancel_all(
    session: Session,
    yes: Annotated[bool, Option("--yes", "-y", help="Skip the confirmation prompt.")] = False,
    wait: Annotated[bool, Option("--wait", help="Wait until all these runs have ended.")] = False,
) -> None:
    """Cancel all open runs of the pool.

    On a terminal, it asks for confirmation first. Without --wait, it does not wait until the runs
    are canceled. Running actions are not interrupted. Runs that are submitted later are not
    canceled.
    """
    pending = _cancel_all(session, yes)
    if wait:
        with progress("canceled", pending) as advance:
            before = _read_pool(session).get("cancelingBefore", clock.now_ms())
            while any(
                oldest.enqueued_at < before for oldest in islice(session.pool.runs(fetch=False), 1)
            ):
                advance(max(0, pending - session.pool.stats()["pending"]))
                time.sleep(1)
    outcome = "canceled" if wait else "being canceled: workpool tail shows the progress"
    session.print_answer(
        {"canceling": not wait}, f"The open runs of pool {session.pool.pool} are {outcome}"
    )


def _cancel_all(session: Session, yes: bool) -> int:
    """Start to cancel all open runs, after a confirmation. Returns how many there are."""
    pending: int = session.pool.stats()["pending"]
    if sys.stdin.isatty() and not yes:
        typer.confirm(f"Cancel the {pending} open runs of pool {session.pool.pool}?", abort=True)
    session.pool.cancel_all()
    return pending


@command
def drain(
    session: Session,
    cancel: Annotated[
        bool, Option("--cancel", help="Cancel all open runs instead of letting them go on.")
    ] = False,
    yes: Annotated[bool, Option("--yes", "-y", help="Skip the confirmation prompt.")] = False,
    timeout: Timeout = None,
) -> None:
    """Wait until the pool has no open runs and no waiting Step Functions executions.

    Do this before you remove a pool or the stack, and do not submit runs meanwhile. It lists
    executions with your own credentials, which need states:ListExecutions.

    Exit code 1 if the pool cannot become empty by itself, because it is paused or has parked
    completions; 4 if --timeout was reached.
    """
    deadline = None if timeout is None else time.monotonic() + arguments.duration_ms(timeout) / 1000
    name = session.pool.pool
    pending = _cancel_all(session, yes) if cancel else session.pool.stats()["pending"]
    with progress("ended", pending) as advance:
        empty = 0
        # The index of open runs follows with a delay, so look twice.
        while (empty := 0 if (left := _what_is_left(session, cancel)) else empty + 1) < 2:
            if deadline is not None and time.monotonic() + DRAIN_SECONDS > deadline:
                raise Stop(
                    "TimedOut",
                    f"pool {name} is not drained after {timeout}: {left or 'look again'}",
                    exit_code=TIMED_OUT,
                )
            time.sleep(DRAIN_SECONDS)
            advance(max(0, pending - session.pool.stats()["pending"]))
    session.print_answer(
        {"drained": True}, f"Pool {name} is drained: nothing is open, and no execution waits"
    )


def _what_is_left(session: Session, canceling: bool) -> str | None:
    """What of the pool is still open, in words; None if nothing is. Raises Stop if the pool cannot
    become empty by itself."""
    name = session.pool.pool
    if any(islice(session.pool.runs(fetch=False), 1)):
        if _read_pool(session)["paused"] and not canceling:
            raise Stop(
                "Paused",
                f"pool {name} is paused and has open runs: workpool resume -p {name}, or "
                f"workpool drain --cancel -p {name}",
            )
        return "runs are open"
    if any(islice(session.pool.runs("parked", fetch=False), 1)):
        raise Stop(
            "Parked",
            f"pool {name} has parked completions: repair their handlers, then workpool redrive "
            f"-p {name}",
        )
    waiting = count_waiting(
        name, stack=session.stack, profile=session.profile, region=session.region
    )
    return f"{waiting} executions wait" if waiting else None


@command
def stats(session: Session) -> None:
    """Show the pool's statistics.

    Prints how many runs have not ended and how old the oldest of them is. For a recent window of
    time (the pool's setting, 5 minutes by default), also prints attempts, error rates, and the mean
    time from submission to end.
    """
    shape = session.pool.stats()
    session.print_answer(shape, tables.stats(shape))


@command
def runs(
    session: Session,
    kind: Annotated[
        str | None,
        Option(
            help="Only runs of this kind: enqueued, scheduled, running, or parked. Parked runs "
            "have ended, but their completion handler kept failing.",
            autocompletion=lambda: ["enqueued", "scheduled", "running", "parked"],
        ),
    ] = None,
    limit: Annotated[int, Option(min=0, help="List at most this many runs; 0 lists all.")] = 20,
) -> None:
    """List the pool's open runs, oldest first, or the runs of one kind.

    Prints a table, one line per run.
    """
    statuses = list(islice(session.pool.runs(kind), limit or None))
    table = tables.runs(statuses, clock.now_ms(), expand=session.out.is_terminal)
    session.print_answer(
        {"runs": [status.shape() for status in statuses]}, table if statuses else "no runs"
    )


@command
def pools(session: Session) -> None:
    """List all pools of the stack.

    Prints for each pool whether it is paused, its maxParallelism, and its number of dead letters
    (messages that were received too often).
    """
    shapes = session.pool.pools()
    session.print_answer({"pools": shapes}, tables.pools(shapes))


@command
def pause(session: Session) -> None:
    """Pause the pool: start no more actions.

    Running actions go on. Prints the pool as `workpool pools` shows it.
    """
    _show_pool(session, session.pool.pause())


@command
def resume(session: Session) -> None:
    """Resume the pool: start actions again.

    Prints the pool as `workpool pools` shows it.
    """
    _show_pool(session, session.pool.resume())


@command
def scale(
    session: Session,
    max_parallelism: Annotated[
        int, Argument(metavar="N", help="The new maxParallelism: 1 to 1000.")
    ],
) -> None:
    """Change the pool's maxParallelism. This holds until you deploy a changed value in cdk.json.

    Running actions are not interrupted. Prints the pool as `workpool pools` shows it.
    """
    _show_pool(session, session.pool.scale(max_parallelism))


def _show_pool(session: Session, pool: dict[str, Any]) -> None:
    session.print_answer(pool, tables.pools([pool]))


@command
def redrive(
    session: Session,
    run_ids: Annotated[
        list[str] | None,
        Argument(
            metavar="RUN_ID",
            help="Run ids, or - to read them from standard input. Default: all parked runs.",
        ),
    ] = None,
) -> None:
    """Call the completion handlers of parked runs again.

    Prints how many handlers are called. Runs that are not parked are skipped.
    """
    ids = arguments.read_run_ids(run_ids or [])
    if not ids:
        ids = [status.run_id for status in session.pool.runs("parked", fetch=False)]
    redriven = 0
    with progress("redriven", len(ids)) as advance:
        for start in range(0, len(ids), CHUNK):
            redriven += session.pool.redrive(ids[start : start + CHUNK])
            advance(start + CHUNK)
    session.print_answer(
        {"redriving": redriven}, f"{redriven} completion handlers are called again"
    )


@command
def tail(
    session: Session,
    interval: Annotated[float, Option(min=0.2, help="Seconds between two refreshes.")] = 2,
    looks: Annotated[
        int | None, Option(min=1, help="End after this many refreshes. Default: run until Ctrl-C.")
    ] = None,
    picture: Annotated[
        Path | None, Option(metavar="FILE", help="Save the last refresh as an SVG picture.")
    ] = None,
) -> None:
    """Watch the pool: its slots, its oldest open runs, and the runs that have just ended.

    On a terminal, shows a live view. Elsewhere, prints one line per refresh, or with --json one
    JSON object per refresh.
    """
    watched = Tail(session.pool)
    with watched.display(session.out, as_json=session.as_json) as show:
        for number in count(1):
            show(snapshot := watched.take_snapshot())
            if number == looks:
                break
            time.sleep(interval)
    if picture is not None:
        watched.save_picture(snapshot, picture)


def _read_pool(session: Session) -> dict[str, Any]:
    return next(pool for pool in session.pool.pools() if pool["name"] == session.pool.pool)


def main() -> None:
    """The entry point of the command `workpool`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # Show `?` for what the terminal cannot show.
            stream.reconfigure(errors="replace")
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="workpool", standalone_mode=False)
    except Exception as error:
        explanation = failures.explain(error)
        if explanation is None:
            raise
        failures.print_error(explanation, as_json="--json" in sys.argv)
        code = explanation.exit_code
    sys.exit(code if isinstance(code, int) else 0)
