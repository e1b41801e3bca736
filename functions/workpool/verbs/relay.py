"""Relay changes of the runs table as hints: a queue message, a Retrier execution, an event.

The relay function, which calls this, reads the table's stream. `relay` looks at nothing but the
change from the old to the new state. It writes nothing to the table and repeats nothing itself: if
it cannot send a hint now, it puts the run's key on the relay's retry queue, so that `look` repeats
the hint later. Then it goes on with the batch, so that trouble in one pool does not delay others.

The services are called in parallel, and all in bounded time, so that one that accepts calls and
never answers delays no hint that does not need it. The times fit into the function's, which is
checked by a test: to send, to hand over what was not sent, and one longest call after each.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from typing import Any

from workpool.aws import bus, logs, payloads, queues, retrier
from workpool.core import clock
from workpool.core.changes import Change
from workpool.core.hints import Hints
from workpool.core.run import Run

PARALLEL = 8
"""How many Retrier executions are started or stopped in parallel."""

SEND_MS = 10_000
"""In this time the requests begin that send hints. What has not begun then is not sent."""

Lane = Sequence[tuple[Callable[[list[Any]], list[Any]], list[Any]]]
"""Calls that are made in turn: each takes a list, and returns those that AWS refused."""


def relay(changes: Iterable[Change], *, look_again: Sequence[str] = ()) -> None:
    """Send every hint that the changes call for. The keys `look_again` go to the retry queue.

    Raises only if neither a hint nor its run's key could be sent. Then Lambda repeats the batch, or
    its halves; repeated hints are harmless.
    """
    until_ms = clock.now_ms() + SEND_MS
    hints = Hints()
    unsent: list[Run] = []
    for change in changes:
        try:
            hints.add_change(change)
        except Exception as error:  # Trouble with one change must not delay the hints of others.
            logs.log_error("change-not-relayed", error, key=change.run.key)
            unsent.append(change.run)
    unsent += send(hints)
    hand_over([*look_again, *(run.key for run in unsent)])
    # The rest only saves money. An execution that goes on finds that its run has ended, and the
    # sweeper finds objects that no run names. So it comes last, and only if there is time.
    optional = [*_lanes(_stop, hints.stop), [(_delete, hints.delete)]]
    left = _work(optional, until_ms=until_ms)
    logs.log(
        "relayed",
        delivered=len(hints.deliver),
        started=len(hints.start),
        stopped=len(hints.stop),
        announced=len(hints.announce),
        deleted=len(hints.delete),
        later=len(unsent),
        left=len(left),
    )


def send(hints: Hints) -> list[Run]:
    """Send the hints. Returns the runs whose hint AWS did not accept, or did not answer in time."""
    pool_of: Callable[[Run], str] = lambda run: run.pool  # noqa: E731
    by_pool = groupby(sorted(hints.deliver, key=pool_of), pool_of)
    lanes: list[Lane] = [_tens(queues.deliver, list(runs)) for _, runs in by_pool]
    lanes.append(_tens(bus.announce, hints.announce))
    lanes += _lanes(_start, hints.start)
    return _work(lanes, until_ms=clock.now_ms() + SEND_MS)


def hand_over(keys: Sequence[str]) -> None:
    """Ask for another look at these runs. All requests are made in parallel, so that this takes no
    longer than one."""
    lanes = [[request] for request in _tens(queues.relay_later, keys)]
    refused = _work(lanes, until_ms=None)
    if refused:
        accepted = len(keys) - len(refused)
        raise RuntimeError(f"the relay's retry queue took only {accepted} of {len(keys)} keys")


def _work(lanes: Sequence[Lane], *, until_ms: int | None) -> list[Any]:
    """Make the calls of all lanes, the lanes in parallel. Begins no call after `until_ms`. Returns
    what was refused or not begun."""

    def work(lane: Lane) -> list[Any]:
        refused: list[Any] = []
        for call, given in lane:
            in_time = until_ms is None or clock.now_ms() < until_ms
            refused += call(given) if in_time else given
        return refused

    lanes = [lane for lane in lanes if any(given for _, given in lane)]
    if not lanes:
        return []
    with ThreadPoolExecutor(len(lanes)) as threads:
        return [one for refused in threads.map(work, lanes) for one in refused]


def _tens(call: Callable[[list[Any]], list[Any]], given: Sequence[Any]) -> Lane:
    """One request per ten."""
    return [(call, list(given[at : at + 10])) for at in range(0, len(given), 10)]


def _lanes(call: Callable[[list[Any]], list[Any]], given: Sequence[Run]) -> list[Lane]:
    """One request per run, in several lanes."""
    return [[(call, [run]) for run in given[at::PARALLEL]] for at in range(PARALLEL)]


def _each(act: Callable[[Run], None], runs: list[Run]) -> list[Run]:
    refused = []
    for run in runs:
        try:
            act(run)
        except Exception as error:
            logs.log_error("relay-refused", error, key=run.key)
            refused.append(run)
    return refused


_start = partial(_each, retrier.start)
_stop = partial(_each, retrier.stop)


def _delete(names: list[str]) -> list[str]:
    payloads.delete(names)
    return []
