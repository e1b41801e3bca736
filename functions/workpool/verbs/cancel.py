"""Cancel a run. What has not started ends at once; what runs is asked, and is not interrupted:
its success stands, its failure becomes a cancel. The relay and the completion do the rest.
"""

from typing import Any

from workpool.aws import logs, pools, store
from workpool.core import clock
from workpool.core.run import Run
from workpool.verbs.status import find, shown


def cancel(pool: str, run_id: str) -> dict[str, Any]:
    """Cancel, and answer the status after it. An ended or unknown run stays as it is."""
    run = find(pool, run_id)
    while run is not None and not run.ended and not run.cancel_requested:
        try:
            run = _cancel(run)
        except store.Refused as refused:  # It moved on meanwhile: look again.
            run = refused.run
    return shown(run, run_id)


def _cancel(run: Run) -> Run:
    if run.kind == "running":
        return store.ask_to_cancel(run)
    now = clock.now_ms()
    canceled = store.cancel(run, finished_at=now, expires_at=pools.expiry(run.pool, now))
    logs.job_end(canceled)
    return canceled
