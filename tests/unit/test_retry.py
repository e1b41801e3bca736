from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workpool.core.retry import (
    MAX_BACKOFF_MS,
    Failure,
    Finish,
    Policy,
    Reschedule,
    Success,
    backoff_ms,
    decide,
    next_due,
    printable,
)
from workpool.core.run import Payload, Run

MakeRun = Callable[..., Run]

NOW_MS = 1_790_000_000_500
JITTER = st.floats(0.5, 1.5, exclude_max=True)
POLICIES = st.builds(
    Policy,
    initial_backoff_ms=st.floats(25, 2.0 * MAX_BACKOFF_MS),
    base=st.floats(1, MAX_BACKOFF_MS),
    max_retries=st.integers(0, 1000),
)


@pytest.mark.promise(
    "Retries",
    "The delay before retry n is `initialBackoffMs * base^(n-1) "
    "* u`, with a random u in [0.5, 1.5)",
)
@pytest.mark.parametrize(
    ("retry", "nominal_ms"), [(1, 250), (2, 500), (3, 1000), (4, 2000), (5, 4000)]
)
def test_the_default_backoff_doubles_from_a_quarter_of_a_second(
    retry: int, nominal_ms: int
) -> None:
    assert backoff_ms(Policy(), retry=retry, u=1) == nominal_ms


@pytest.mark.promise(
    "Options", "`base` is a number of at least 1, possibly a fraction; the default is 2"
)
def test_the_base_may_be_fractional() -> None:
    policy = Policy(initial_backoff_ms=100, base=2.71)
    delays = [backoff_ms(policy, retry=retry, u=1) for retry in (1, 2, 3)]
    assert delays == pytest.approx([100, 271, 734.41])


def test_a_base_of_one_keeps_the_backoff_constant() -> None:
    assert backoff_ms(Policy(base=1), retry=1000, u=1) == 250


@pytest.mark.promise(
    "Retries",
    "The delay before retry n is `initialBackoffMs * base^(n-1) "
    "* u`, with a random u in [0.5, 1.5)",
)
@given(st.integers(1, 12), JITTER)
def test_jitter_is_half_to_one_and_a_half_times_the_nominal_backoff(retry: int, u: float) -> None:
    nominal = 250 * 2 ** (retry - 1)
    assert backoff_ms(Policy(), retry=retry, u=u) == pytest.approx(nominal * u)
    assert 0.5 * nominal <= backoff_ms(Policy(), retry=retry, u=u) < 1.5 * nominal


@pytest.mark.promise("Retries", "A backoff is at most 30 days and is computed without overflow")
@pytest.mark.parametrize("base", [10, 10.0, 1.5, MAX_BACKOFF_MS])
def test_a_backoff_is_capped_at_30_days_without_overflow(base: float) -> None:
    assert backoff_ms(Policy(base=base, max_retries=1000), retry=1000, u=1.49) == 2_592_000_000


@pytest.mark.parametrize(
    ("nominal", "u", "share"), [(0.9, 1.4, 1.0), (0.9, 1.0, 0.9), (1.5, 0.5, 0.75), (3.0, 0.5, 1.0)]
)
def test_the_cap_holds_for_the_backoff_with_its_jitter(
    nominal: float, u: float, share: float
) -> None:
    policy = Policy(initial_backoff_ms=nominal * MAX_BACKOFF_MS, base=1)
    assert backoff_ms(policy, retry=1, u=u) == pytest.approx(share * MAX_BACKOFF_MS)


@pytest.mark.promise("Retries", "A backoff is at most 30 days and is computed without overflow")
@given(POLICIES, st.integers(1, 1000), JITTER)
def test_no_policy_overflows_or_exceeds_30_days(policy: Policy, retry: int, u: float) -> None:
    delay = backoff_ms(policy, retry=retry, u=u)
    assert 12.5 <= delay <= MAX_BACKOFF_MS * (1 + 1e-9)


@pytest.mark.promise(
    "Retries", "The time of a retry is rounded up to a whole second and is never early"
)
def test_a_due_is_a_whole_second_never_early() -> None:
    assert next_due(NOW_MS + 250, after=0) == 1_790_000_001_000
    assert next_due(1_790_000_001_000, after=0) == 1_790_000_001_000


def test_a_due_is_later_than_the_last_even_if_the_clock_went_back() -> None:
    assert next_due(1000, after=60_000) == 61_000
    assert next_due(1000, after=60_001) == 61_000


@pytest.mark.promise(
    "Retries", "The time of a retry is rounded up to a whole second and is never early"
)
@given(POLICIES, st.integers(0, 999), JITTER, st.integers(-600_000, 600_000))
def test_a_retry_is_never_early_and_always_at_a_later_whole_second(
    a_run: MakeRun, policy: Policy, retries: int, u: float, skew_ms: int
) -> None:
    run = a_run(kind="running", retries=retries, due=NOW_MS + skew_ms)
    decided = decide(run, Failure("boom"), policy=policy, now_ms=NOW_MS, u=u)
    if retries >= policy.max_retries:
        assert decided == Finish(result="failed", error="boom")
    else:
        assert isinstance(decided, Reschedule)
        assert decided.error == "boom"
        assert decided.due % 1000 == 0
        assert decided.due > run.due
        assert decided.due >= NOW_MS + backoff_ms(policy, retry=retries + 1, u=u)
        latest = max(run.due, NOW_MS + MAX_BACKOFF_MS * (1 + 1e-9))
        assert decided.due <= latest + 1000


SUCCESS = Success(Payload('{"a":1}'))
FAILED = Failure("boom")
FATAL = Failure("boom", retryable=False)
SUCCEEDED = Finish(result="success", return_value=Payload('{"a":1}'))
ENDS_FAILED = Finish(result="failed", error="boom")
CANCELED = Finish(result="canceled")
AGAIN = Reschedule(due=1_790_000_005_000, error="boom")


@pytest.mark.promise(
    "Retries",
    "`retries` is 0 on the first attempt; a failure ends the run when `retries >= maxRetries`",
)
@pytest.mark.promise(
    "Cancel", "A cancel does not interrupt an action that runs, and its success stays a success"
)
@pytest.mark.promise(
    "Cancel", "After a cancel, a failed attempt ends the run as canceled, even the last attempt"
)
@pytest.mark.parametrize(
    ("outcome", "retries", "asked_to_cancel", "decided"),
    [
        (SUCCESS, 0, False, SUCCEEDED),
        (SUCCESS, 2, False, SUCCEEDED),
        (SUCCESS, 0, True, SUCCEEDED),
        (SUCCESS, 2, True, SUCCEEDED),
        (FAILED, 0, False, AGAIN),
        (FAILED, 1, False, AGAIN),
        (FAILED, 2, False, ENDS_FAILED),
        (FAILED, 3, False, ENDS_FAILED),
        (FAILED, 0, True, CANCELED),
        (FAILED, 2, True, CANCELED),
        (FATAL, 0, False, ENDS_FAILED),
        (FATAL, 2, False, ENDS_FAILED),
        (FATAL, 0, True, CANCELED),
    ],
)
def test_an_outcome_continues_or_ends_the_run(
    a_run: MakeRun,
    outcome: Success | Failure,
    retries: int,
    asked_to_cancel: bool,
    decided: Finish | Reschedule,
) -> None:
    run = a_run(kind="running", retries=retries, cancel_requested=asked_to_cancel)
    policy = Policy(initial_backoff_ms=4000, base=1, max_retries=2)
    assert decide(run, outcome, policy=policy, now_ms=NOW_MS, u=1) == decided


@pytest.mark.promise(
    "Retries",
    "`retries` is 0 on the first attempt; a failure ends the run when `retries >= maxRetries`",
)
def test_without_retries_the_first_failure_ends_the_run(a_run: MakeRun) -> None:
    run = a_run(kind="running")
    decided = decide(run, FAILED, policy=Policy(max_retries=0), now_ms=NOW_MS, u=1)
    assert decided == ENDS_FAILED


@pytest.mark.promise("Results and completion", "An error message is cut at 4096 characters")
def test_an_error_is_cut_at_4096_characters(a_run: MakeRun) -> None:
    long = Failure("x" * 5000)
    ended = decide(a_run(), long, policy=Policy(max_retries=0), now_ms=NOW_MS, u=1)
    again = decide(a_run(), long, policy=Policy(), now_ms=NOW_MS, u=1)
    assert ended.error == again.error == "x" * 4096


@given(st.text(st.characters(), max_size=50))
def test_any_error_text_can_be_written_as_utf_8(error: str) -> None:
    assert len(printable(error).encode()) >= len(error)
    assert printable("\ud800!") == "?!"
