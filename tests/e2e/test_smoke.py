"""The shortest way through the deployed stack."""

import pytest

pytestmark = pytest.mark.e2e


def test_a_run_is_submitted_executed_and_read_back(stack):
    run_id = stack.submit({"action": "probe.gently"})["runId"]
    assert stack.wait("default", run_id)["result"] == {"type": "success", "returnValue": "async"}
