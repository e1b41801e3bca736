"""The example that ships in `functions/actions` and `functions/completions`.

It belongs to the team that uses the template. Where they have deleted it there is nothing to test.
"""

from typing import Any

import pytest

from workpool import IdempotentWorkpool, lookup
from workpool.errors import UnknownAction, UnknownCompletion


def is_shipped() -> bool:
    try:
        lookup.check("hello.greet", "action")
        lookup.check("hello.greeted", "completion")
    except (UnknownAction, UnknownCompletion):
        return False
    return True


@pytest.mark.skipif(not is_shipped(), reason="the example was deleted")
def test_the_example_that_ships_succeeds_and_its_handler_runs(
    workpool_local: Any, workpool_pools: dict[str, Any]
) -> None:
    pool = IdempotentWorkpool(next(iter(workpool_pools)))
    run_id = pool.run("hello.greet", {"name": "Ada"}, on_complete="hello.greeted")
    workpool_local.settle()
    status = pool.status(run_id)
    assert (status.succeeded, status.retries, status.completion) == (True, 0, "done")
