"""The sweeper and a table that refuses its notes."""

import json
from typing import Any

import pytest

from tests.faults.cloud import Cloud
from tests.support.mappings import WORK


@pytest.mark.parametrize("code", ["ProvisionedThroughputExceededException", "ValidationException"])
def test_fault_24_one_note_that_is_refused_holds_up_no_other_runs_hint(
    cloud: Cloud, world: Any, code: str
) -> None:
    """One run's trouble holds up no other's hint."""
    keys = {cloud.submit() for _ in range(3)}
    cloud.stream.clear()
    world.tick(3600)
    world.pass_by("update_item")
    world.refuse("update_item", code)
    cloud.sweep()
    assert len({json.loads(it)["run"] for it in cloud.bodies(WORK)} & keys) == 2
