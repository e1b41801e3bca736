"""Known defects, each pinned by the test that it fails. Whoever mends one removes its mark: a test
that passes while it is marked fails."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.faults.cloud import WORK, Cloud


@pytest.mark.xfail(strict=True, raises=ClientError, reason="a refused note ends the walk")
@pytest.mark.parametrize("code", ["ProvisionedThroughputExceededException", "ValidationException"])
def test_fault_24_one_note_that_is_refused_holds_up_no_other_runs_hint(
    cloud: Cloud, world: Any, code: str
) -> None:
    """The sweeper notes a hint on each item of a page, and sends the page's hints then. When a note
    is refused, those noted before it are never sent and wait twice as long, and those behind it
    are not looked at: not by the next sweep either, which begins at the same place."""
    keys = {cloud.submit() for _ in range(3)}
    cloud.stream.clear()
    world.tick(3600)
    world.pass_by("update_item")
    world.refuse("update_item", code)
    cloud.sweep()
    assert len({json.loads(it)["run"] for it in cloud.bodies(WORK)} & keys) == 2
