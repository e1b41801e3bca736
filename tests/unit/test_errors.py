import pytest

from workpool import errors


@pytest.mark.promise("HTTP API", "Each error has its code and its HTTP status")
def test_every_error_of_a_caller_has_its_code_and_its_status() -> None:
    assert {code: error.status for code, error in errors.BY_CODE.items()} == {
        "InvalidRequest": 400,
        "UnknownPool": 404,
        "UnknownAction": 404,
        "UnknownCompletion": 404,
        "IdempotencyConflict": 409,
        "PayloadTooLarge": 413,
        "Throttled": 429,
        "Internal": 500,
    }


@pytest.mark.promise("HTTP API", "Every error has the same shape: a code and a message")
def test_every_door_shows_an_error_in_one_shape() -> None:
    assert errors.UnknownPool("no pool 'x'").as_json() == {
        "error": {"code": "UnknownPool", "message": "no pool 'x'"}
    }


def test_no_error_of_a_caller_is_missing_from_the_table() -> None:
    assert set(errors.WorkpoolError.__subclasses__()) == set(errors.BY_CODE.values())


@pytest.mark.parametrize("error", [errors.NonRetryableError, errors.UnknownShape])
def test_what_concerns_no_caller_is_no_workpool_error(error: type[Exception]) -> None:
    assert not issubclass(error, errors.WorkpoolError)
