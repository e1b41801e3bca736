"""Recount a pool's pending runs, and put its counter right where that went astray.

The counter follows the table by its stream, a little later, and a walk over the runs takes a
while. So a difference is put right only when two walks in a row found the same one and nothing was
counted between them. The sweeper calls it when it has seen every open run.
"""

from workpool.aws import counters, logs


def recount(pool: str, pending: int) -> None:
    """Compare: `pending` runs were seen."""
    counted = counters.pending(pool)
    drift = pending - counted
    if drift == 0:
        return
    finding = f"{drift} beside {counted}, after {counters.newest_window(pool)}"
    if counters.correct_pending(pool, drift, finding=finding):
        logs.log("pending-corrected", pool=pool, counted=counted, by=drift)
    else:
        counters.note_drift(pool, finding)
