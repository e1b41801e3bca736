"""The trace that a run belongs to: X-Ray's header, kept on the item and sent on with every hint, so
that submit, attempts and completion are one picture. AWS does the rest; no SDK is needed.
"""

import os

_PARTS = ("Root=", "Parent=", "Sampled=")
"""What the header is; Lambda adds parts of its own, for which others have no room."""


def header() -> str | None:
    """The header of the invocation that this is part of; None outside of one."""
    parts = os.environ.get("_X_AMZN_TRACE_ID", "").split(";")
    return ";".join(part for part in parts if part.startswith(_PARTS)) or None
