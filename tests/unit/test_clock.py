import pytest
from hypothesis import given
from hypothesis import strategies as st

from workpool.core import clock

UNTIL_2100 = st.integers(0, 4_102_444_800_000)


@pytest.mark.parametrize(
    ("ms", "second"),
    [
        (0, 0),
        (1, 1000),
        (999, 1000),
        (1000, 1000),
        (1000.0001, 2000),
        (1001, 2000),
        (1_790_000_000_000, 1_790_000_000_000),
        (1_790_000_000_001, 1_790_000_001_000),
    ],
)
def test_a_time_is_rounded_up_to_a_whole_second(ms: float, second: int) -> None:
    assert clock.ceil_to_second(ms) == second


@given(UNTIL_2100 | st.floats(0, 4e12))
def test_rounding_is_never_early_and_less_than_a_second_late(ms: float) -> None:
    second = clock.ceil_to_second(ms)
    assert isinstance(second, int)
    assert second % 1000 == 0
    assert second - 1000 < ms <= second


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (1_790_000_001_000, "2026-09-21T14:13:21Z"),
        (1_790_000_001_050, "2026-09-21T14:13:21.050Z"),
        (0, "1970-01-01T00:00:00Z"),
    ],
)
def test_a_timestamp_shows_milliseconds_only_where_there_are_any(ms: int, text: str) -> None:
    assert clock.timestamp(ms) == text
    assert clock.from_timestamp(text) == ms


@given(UNTIL_2100)
def test_a_timestamp_reads_back_to_the_same_millisecond(ms: int) -> None:
    assert clock.from_timestamp(clock.timestamp(ms)) == ms


@pytest.mark.parametrize("text", ["", "soon", "2026-09-21", "2026-09-21T14:13:21", "1790000001000"])
def test_what_is_no_timestamp_with_a_zone_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        clock.from_timestamp(text)


def test_a_timestamp_of_another_zone_is_the_same_moment() -> None:
    assert clock.from_timestamp("2026-09-21T16:13:21+02:00") == 1_790_000_001_000


def test_the_clock_reads_epoch_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 1_790_000_000_123_999_999)
    assert clock.now_ms() == 1_790_000_000_123
