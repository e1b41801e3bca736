"""The time that user code was promised: it is left when the code begins, or the message comes back.

An action was promised `actionTimeoutSeconds` of its pool, a completion handler `timeoutSeconds`.
What comes before may be slow, above all reading payloads, and the messages of a batch share the
time of one invocation. So `attempt` and `complete` ask here before they claim a run or lease a
completion: until then a message costs no attempt and no try.
"""

BACK_SECONDS = 1
"""A message comes back after this time if its user code cannot begin in this invocation."""


def is_kept(promised_ms: int, *, margin_ms: int, remaining_ms: int) -> bool:
    """Whether the promised time is left of the invocation, and beside it the margin that the
    caller needs to write what user code did."""
    return remaining_ms >= promised_ms + margin_ms
