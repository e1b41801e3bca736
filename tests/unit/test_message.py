import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workpool.core.message import Message, Verdict, judge, parse
from workpool.core.run import Run
from workpool.errors import UnknownShape

MakeRun = Callable[..., Run]

# Messages of version 1 as they lie on queues: they outlive a release, so these never change.
RELAYS = '{"v": 1, "run": "default#r1", "due": "2026-09-21T14:13:20.123Z"}'
RETRIERS = (
    '{"due":"2026-09-21T14:13:21Z","execution":"r1-1790000000123-1","run":"default#r1",'
    '"token":"AQCEAAAAKgAAAAMAAAAA","v":1}'
)


def test_the_relays_message_of_version_1_reads() -> None:
    assert parse(RELAYS, pool="default") == Message(run="default#r1", due=1_790_000_000_123)


def test_the_retriers_message_of_version_1_reads() -> None:
    assert parse(RETRIERS, pool="default") == Message(
        run="default#r1",
        due=1_790_000_001_000,
        token="AQCEAAAAKgAAAAMAAAAA",
        execution="r1-1790000000123-1",
    )


def test_the_relays_message_is_still_written_as_version_1() -> None:
    assert Message(run="default#r1", due=1_790_000_000_123).body() == RELAYS


@given(
    st.builds(
        Message,
        run=st.just("default#r1"),
        due=st.integers(0, 4_102_444_800_000),
        token=st.just("t"),
        execution=st.just("r1-1-1"),
    )
)
def test_a_message_reads_back_as_it_was_sent(message: Message) -> None:
    assert parse(message.body(), pool="default") == message


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("", id="empty"),
        pytest.param("hello", id="no JSON"),
        pytest.param("[]", id="a list"),
        pytest.param("null", id="null"),
        pytest.param('"default#r1"', id="a string"),
        pytest.param("{}", id="no field at all"),
        pytest.param('{"run": "default#r1", "due": "2026-09-21T14:13:20Z"}', id="no version"),
        pytest.param('{"v": 1, "due": "2026-09-21T14:13:20Z"}', id="no run"),
        pytest.param('{"v": 1, "run": "default#r1"}', id="no due"),
        pytest.param(RELAYS.replace('"v": 1', '"v": 2'), id="a newer version"),
        pytest.param(RELAYS.replace('"v": 1', '"v": 0'), id="version 0"),
        pytest.param(RELAYS.replace('"v": 1', '"v": "1"'), id="version as text"),
        pytest.param(RELAYS.replace('"v": 1', '"v": true'), id="version true"),
        pytest.param(RELAYS.replace('"v": 1', '"v": 1.5'), id="version with a fraction"),
        pytest.param(RELAYS.replace('"default#r1"', "7"), id="a number for a run"),
        pytest.param(RELAYS.replace("default#r1", "r1"), id="a run without its pool"),
        pytest.param('{"v": 1, "run": "default#r1", "due": 1790000000123}', id="due as number"),
        pytest.param('{"v": 1, "run": "default#r1", "due": "soon"}', id="no timestamp"),
        pytest.param('{"v": 1, "run": "default#r1", "due": "2026-09-21"}', id="only a day"),
        pytest.param('{"v": 1, "run": "default#r1", "due": null}', id="due null"),
        pytest.param(RELAYS[:-1] + ', "token": "t"}', id="a token without its execution"),
        pytest.param(RELAYS[:-1] + ', "execution": "e"}', id="an execution without its token"),
        pytest.param(RELAYS[:-1] + ', "token": 7, "execution": "e"}', id="a number for a token"),
        pytest.param("[" * 100_000, id="nested deeply"),
        pytest.param('{"v":' * 100_000, id="objects nested deeply"),
        pytest.param('{"v": 1' + "0" * 5000 + "}", id="a huge number"),
    ],
)
def test_what_no_version_can_be_trusted_to_handle_is_unreadable(body: str) -> None:
    with pytest.raises(UnknownShape):
        parse(body, pool="default")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_any_json_is_a_message_or_unreadable(shape: object) -> None:
    for body in (shape, {"v": 1, "run": shape, "due": shape, "token": shape}):
        with pytest.raises(UnknownShape):
            parse(json.dumps(body), pool="default")


DUE = 1_790_000_010_000
EARLIER, LATER = DUE - 10_000, DUE + 10_000
NOW = DUE + 500
ENDED, AGAIN, STALE = Verdict.ENDED, Verdict.AGAIN, Verdict.STALE
BACK, LOSE, CLAIM = Verdict.BACK, Verdict.LOSE, Verdict.CLAIM

# The run's due is DUE throughout. Each run is judged at its time against six messages: for an
# earlier due, for its own and for a later one, each from the relay and from the Retrier.
RUNS: dict[str, tuple[dict[str, object] | None, int]] = {
    "unknown": (None, NOW),
    "enqueued": ({"kind": "enqueued"}, NOW),
    "enqueued, clock behind": ({"kind": "enqueued"}, DUE - 1),
    "scheduled, due": ({"kind": "scheduled"}, DUE),
    "scheduled, not yet due": ({"kind": "scheduled"}, DUE - 1),
    "running, lease alive": ({"kind": "running", "lease": NOW + 1}, NOW),
    "running, lease just over": ({"kind": "running", "lease": NOW}, NOW),
    "running, lease long over": ({"kind": "running", "lease": NOW - 99_000}, NOW),
    "succeeded": ({"kind": "completed", "result": "success"}, NOW),
    "failed": ({"kind": "completed", "result": "failed"}, NOW),
    "canceled": ({"kind": "canceled", "result": "canceled"}, NOW),
}
THE_MESSAGE_TABLE = {
    # the run is                  due: earlier        the same        later
    #                              relay's Retrier's  relay's Retrier's  relay's Retrier's
    "unknown": (ENDED, ENDED, ENDED, ENDED, ENDED, ENDED),
    "enqueued": (STALE, STALE, CLAIM, CLAIM, STALE, STALE),
    "enqueued, clock behind": (STALE, STALE, BACK, CLAIM, STALE, STALE),
    "scheduled, due": (STALE, AGAIN, CLAIM, CLAIM, STALE, AGAIN),
    "scheduled, not yet due": (STALE, AGAIN, BACK, CLAIM, STALE, AGAIN),
    "running, lease alive": (STALE, STALE, BACK, BACK, STALE, STALE),
    "running, lease just over": (STALE, STALE, LOSE, LOSE, STALE, STALE),
    "running, lease long over": (STALE, STALE, LOSE, LOSE, STALE, STALE),
    "succeeded": (ENDED, ENDED, ENDED, ENDED, ENDED, ENDED),
    "failed": (ENDED, ENDED, ENDED, ENDED, ENDED, ENDED),
    "canceled": (ENDED, ENDED, ENDED, ENDED, ENDED, ENDED),
}
MESSAGES = [
    Message(run="default#r1", due=due, token=token, execution=token)
    for due in (EARLIER, DUE, LATER)
    for token in (None, "token")
]


@pytest.mark.parametrize("row", THE_MESSAGE_TABLE)
def test_a_message_may_do_what_the_message_table_says(a_run: MakeRun, row: str) -> None:
    fields, now = RUNS[row]
    run = None if fields is None else a_run(due=DUE, **fields)
    verdicts = tuple(judge(run, message, now) for message in MESSAGES)
    assert verdicts == THE_MESSAGE_TABLE[row]


def test_the_message_table_covers_every_run() -> None:
    assert THE_MESSAGE_TABLE.keys() == RUNS.keys()
