"""What an action returned, as the outcome of its attempt. Pure.

It is the same for an action that is Python and for one that is a Lambda function: `attempt` and
`lambda_actions` call this with the value.
"""

import json
from typing import Any

from workpool.core.raised import error_text
from workpool.core.request import MAX_DEPTH, is_too_deep
from workpool.core.retry import Failure, Outcome, Success
from workpool.core.run import Payload


def outcome_of(value: Any) -> Outcome:
    """The value as JSON; a Failure without retries if JSON cannot hold it. Raises nothing: the
    classes of the value may be the user's, and raise whatever they like while they are encoded."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        text.encode()
        too_deep = is_too_deep(value)
    except BaseException as error:
        return not_json(error)
    if too_deep:
        reason = f"the return value must be nested at most {MAX_DEPTH} deep"
        return Failure(reason, retryable=False)
    return Success(Payload(text))


def not_json(error: BaseException) -> Failure:
    return Failure(f"the return value is not JSON: {error_text(error)}", retryable=False)
