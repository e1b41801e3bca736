"""The trace that a run belongs to: X-Ray's header. The item keeps it and every hint sends it on, so
that submit, attempts and completion form one trace. AWS does the rest; no SDK is needed.
"""

import os

_PARTS = ("Root=", "Parent=", "Sampled=")
"""The parts to keep. Lambda adds parts of its own, for which other services have no room."""


def header() -> str | None:
    """The trace header of the current invocation; None outside of an invocation, or without one."""
    parts = os.environ.get("_X_AMZN_TRACE_ID", "").split(";")
    return ";".join(part for part in parts if part.startswith(_PARTS)) or None
